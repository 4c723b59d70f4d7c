"""The cost of checking a large roster, compared with reading the same file with pandas.

    python tests/benchmarks/rosters.py [--rows N]

Ratios are medians of alternating pairs, with the least and the greatest. Needs XlsxWriter.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import platform
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import xlsxwriter
from figures import Pairs, timed

sys.path.append(str(Path(__file__).parents[1]))
from corpus.make import HEAD, number, row, workbook

from batch_issuer import Roster
from batch_issuer.errors import RosterError

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = 7
HEADER = ("ID", "Driver Name", "Username", "Phone", "License Number", "License State", "Tags", "Notes")

# Files with many repetitions of one thing, by size: text, or the rows of a sheet.
SHAPES: dict[str, Callable[[int], bytes]] = {
    "quoted cells with quotation marks": lambda n: b"Driver ID,b\n" + b'"a""b",x\n' * n,
    "separators in the header": lambda n: b"ID" + b",;" * n + b"\n1\n",
    "blank lines": lambda n: b"Driver ID,b\n1,2\n" + b"\n" * n + b"2,3\n",
    "old Mac line ends": lambda n: b"Username\r" + b"abcd\r" * n,
    "one username with many driver IDs": lambda n: b"ID,Username\n" + b"".join(b"%d,ann\n" % i for i in range(1, n)),
    "chains of identifiers": lambda n: (
        b"External ID,Username\n" + b"".join(b"k:%d,u%d\nk:%d,u%d\n" % (i, i, i + 1, i) for i in range(1, n))
    ),
    "one driver repeated": lambda n: b"Username\n" + b"ann.x\n" * n,
    "the header repeated": lambda n: b"Username,x\n" * n,
    "IDs with decimals": lambda n: b"Driver ID\n" + b"".join(b"%d.0\n" % (i + 10**6) for i in range(n)),
    "one byte at the end that is not UTF-8": lambda n: b"Username,x\n" + b"a,b\n" * n + b"\xff,x\n",
    "many gzip members": lambda n: gzip.compress(b"Username\n") + gzip.compress(b"ann.x\n") * (n // 10),
    "texts shared by the sheets of a workbook": lambda n: workbook(HEAD, shared="<si><t>a</t></si>" * n),
    "elements within elements": lambda n: workbook(HEAD + '<row r="2">' + "<a>" * n + "</a>" * n + "</row>"),
    "a long number format": lambda n: workbook(HEAD + row(2, number("7", 1)), formats=["0" * n]),
}
LARGE, SMALL = 100_000, 10_000


# The kernel's high-water mark; that of getrusage includes the parent's.
PEAK = r"""
import re
{imports}
result = {action}
print(int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def drivers(count: int, odd: int = 0) -> list[list[str]]:
    """Drivers as the dashboard exports them; with ``odd``, each ``odd``-th one is wrong or unusual."""
    found = []
    for n in range(count):
        tags = "North, Depot 7" if n % 3 else "South"
        driver_id, username = str(281474977000000 + n), f"driver.{n}"
        match n // odd % 5 if odd and not n % odd else None:
            case 0:
                driver_id = "2.81475E+14"
            case 1:
                driver_id = f"{281474977000000 + n:,}"
            case 2:
                driver_id = username = ""
            case 3:
                username = f"driver.{n}@example.com"
            case 4:
                driver_id = str(281474977000000 + n - 1)
        found.append(
            [driver_id, f"Driver {n}", username, f"+1555{n:07}", f"D{n * 7919 % 10**8}", "CA", tags, f"note {n % 97}"]
        )
    return found


def write_csv(path: Path, body: list[list[str]], delimiter: str = ",", encoding: str = "utf-8") -> Path:
    with path.open("w", newline="", encoding=encoding) as file:
        csv.writer(file, delimiter=delimiter).writerows([HEADER, *body])
    return path


def write_workbook(path: Path, body: list[list[str]]) -> Path:
    with xlsxwriter.Workbook(path, {"constant_memory": True}) as book:
        sheet = book.add_worksheet()
        for position, cells in enumerate([HEADER, *body]):
            sheet.write_row(position, 0, cells)
    return path


def checked(data: bytes) -> Callable[[], object]:
    def check() -> object:
        try:
            return Roster.from_bytes(data, "x")
        except RosterError as error:
            return error

    return check


def ratios(one: Callable[[], object], other: Callable[[], object]) -> str:
    timed(one), timed(other)
    return str(Pairs(lambda: timed(one), lambda: timed(other), PAIRS))


def peak(action: str, imports: str = "") -> int:
    """The peak memory of a new process in MiB."""
    script = PEAK.format(imports=imports, action=action)
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def main(count: int, folder: Path) -> None:
    body = drivers(count)
    clean = write_csv(folder / "clean.csv", body)
    few = write_csv(folder / "few.csv", body[: count // 10])
    odd = write_csv(folder / "odd.csv", drivers(count, odd=100))
    other = write_csv(folder / "other.csv", body, ";", "utf-16")
    strict = write_csv(folder / "strict.csv", [[*body[0][:-1], 'a 5" pipe'], *body[1:]])
    strict.write_bytes(strict.read_bytes().replace(b'"a 5"" pipe"', b'a 5" pipe'))
    book = write_workbook(folder / "clean.xlsx", body)

    def pandas(path: Path, **options: str) -> Callable[[], object]:
        return lambda: pd.read_csv(path, dtype=str, keep_default_na=False, **options)

    def ours(path: Path) -> Callable[[], object]:
        return lambda: Roster.from_path(path)

    print(f"{count} rows x {len(HEADER)} columns, Python {platform.python_version()}, pandas {pd.__version__}\n")
    print("| roster | time / pandas alone |\n|---|---|")
    print(f"| clean | {ratios(ours(clean), pandas(clean))} |")
    print(f"| one row in 100 wrong or unusual | {ratios(ours(odd), pandas(odd))} |")
    print(f"| semicolons, UTF-16 | {ratios(ours(other), pandas(other, sep=';', encoding='utf-16'))} |")
    print(f"| a stray quotation mark, so only the strict reader | {ratios(ours(strict), pandas(strict))} |")
    print(f"| a workbook (pandas reads the CSV) | {ratios(ours(book), pandas(clean))} |")
    print(f"\nten times the rows: {ratios(ours(clean), ours(few))} times as long", end="; ")
    print(f"pandas alone: {ratios(pandas(clean), pandas(few))}\n")
    print(f"| shape | {LARGE} / {SMALL} of it |\n|---|---|")
    for shape, made in SHAPES.items():
        print(f"| {shape} | {ratios(checked(made(LARGE)), checked(made(SMALL)))} |")
    imports = "import pandas as pd"
    alone = peak(f"pd.read_csv({str(clean)!r}, dtype=str, keep_default_na=False)", imports)
    print("\n| peak memory | MiB |\n|---|---|")
    print(f"| pandas alone, CSV | {alone} |")
    for path in (clean, book):
        needed = peak(f"Roster.from_path({str(path)!r})", "from batch_issuer import Roster")
        print(f"| checked, {path.suffix} | {needed} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    with tempfile.TemporaryDirectory() as name:
        main(parser.parse_args().rows, Path(name))

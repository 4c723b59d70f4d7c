"""What checking a large roster costs, next to what pandas alone needs to read the same file.

    python tests/benchmarks/rosters.py [--rows N]

Ratios are taken pair by pair in one run and given as their median, with the least and the greatest. Needs XlsxWriter.
"""

from __future__ import annotations

import argparse
import csv
import gc
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import xlsxwriter

from batch_issuer import Roster

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS = 7
HEADER = ("ID", "Driver Name", "Username", "Phone", "License Number", "License State", "Tags", "Notes")

# The kernel's own high-water mark; that of getrusage is no less than what the parent had.
PEAK = r"""
import re
{imports}
result = {action}
print(int(re.search(r"VmHWM:\s*(\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def rows(number: int, odd: int = 0) -> list[list[str]]:
    """Drivers as the dashboard exports them; with ``odd``, each so many-th has something wrong or unusual."""
    found = []
    for n in range(number):
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
        for number, cells in enumerate([HEADER, *body]):
            sheet.write_row(number, 0, cells)
    return path


def seconds(action: Callable[[], object]) -> float:
    gc.collect()
    start = time.perf_counter()
    result = action()
    took = time.perf_counter() - start
    del result
    return took


def ratios(one: Callable[[], object], other: Callable[[], object]) -> str:
    seconds(one), seconds(other)
    found = sorted(seconds(one) / seconds(other) for _ in range(PAIRS))
    return f"{statistics.median(found):.2f} ({found[0]:.2f} to {found[-1]:.2f})"


def peak(action: str, imports: str = "") -> int:
    """MiB that a process of its own needs."""
    script = PEAK.format(imports=imports, action=action)
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


def main(number: int, folder: Path) -> None:
    body = rows(number)
    clean = write_csv(folder / "clean.csv", body)
    few = write_csv(folder / "few.csv", body[: number // 10])
    odd = write_csv(folder / "odd.csv", rows(number, odd=100))
    other = write_csv(folder / "other.csv", body, ";", "utf-16")
    strict = write_csv(folder / "strict.csv", [[*body[0][:-1], 'a 5" pipe'], *body[1:]])
    strict.write_bytes(strict.read_bytes().replace(b'"a 5"" pipe"', b'a 5" pipe'))
    book = write_workbook(folder / "clean.xlsx", body)

    def pandas(path: Path, **options: str) -> Callable[[], object]:
        return lambda: pd.read_csv(path, dtype=str, keep_default_na=False, **options)

    def ours(path: Path) -> Callable[[], object]:
        return lambda: Roster.from_path(path)

    print(f"{number} rows x {len(HEADER)} columns, Python {platform.python_version()}, pandas {pd.__version__}\n")
    print("| roster | time / pandas alone |\n|---|---|")
    print(f"| clean | {ratios(ours(clean), pandas(clean))} |")
    print(f"| one row in 100 wrong or unusual | {ratios(ours(odd), pandas(odd))} |")
    print(f"| semicolons, UTF-16 | {ratios(ours(other), pandas(other, sep=';', encoding='utf-16'))} |")
    print(f"| a stray quotation mark, so the strict reader alone | {ratios(ours(strict), pandas(strict))} |")
    print(f"| a workbook (next to pandas with the CSV) | {ratios(ours(book), pandas(clean))} |")
    print(f"\nten times the rows: {ratios(ours(clean), ours(few))} times as long", end="; ")
    print(f"pandas alone: {ratios(pandas(clean), pandas(few))}\n")
    imports = "import pandas as pd"
    alone = peak(f"pd.read_csv({str(clean)!r}, dtype=str, keep_default_na=False)", imports)
    print("| peak memory | MiB |\n|---|---|")
    print(f"| pandas alone, CSV | {alone} |")
    for path in (clean, book):
        checked = peak(f"Roster.from_path({str(path)!r})", "from batch_issuer import Roster")
        print(f"| checked, {path.suffix} | {checked} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    with tempfile.TemporaryDirectory() as name:
        main(parser.parse_args().rows, Path(name))

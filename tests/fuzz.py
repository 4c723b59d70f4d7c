"""A coverage-guided fuzzer of the roster reader.

    python tests/fuzz.py [SECONDS]      60 by default

Whatever the bytes, `Roster.from_bytes` gives a roster or raises one of our errors, soon. Where it gives one, every row
is a driver or a refused outcome, and what is sent reads back as itself. Needs the extra ``fuzz`` (Linux, macOS).
"""

from __future__ import annotations

import csv
import gzip
import io
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SECONDS = 60
MAX_LENGTH = 20_000  # bytes of an input
HANG = 10  # seconds for one input
MEMORY = 4096  # MiB

HERE = Path(__file__).parent
OOXML = "http://schemas.openxmlformats.org"
SPREADSHEET = f'xmlns="{OOXML}/spreadsheetml/2006/main"'
RELATION = f"{OOXML}/officeDocument/2006/relationships"

# A workbook without its parts that are fuzzed.
FIXED = {
    "_rels/.rels": f'<Relationships><Relationship Id="r" Type="{RELATION}/officeDocument" Target="xl/workbook.xml"/>'
    "</Relationships>",
    "xl/workbook.xml": f'<workbook {SPREADSHEET} xmlns:r="{RELATION}"><sheets><sheet name="a" r:id="s1"/></sheets>'
    "</workbook>",
    "xl/_rels/workbook.xml.rels": "<Relationships>"
    f'<Relationship Id="s1" Type="{RELATION}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="s2" Type="{RELATION}/sharedStrings" Target="sharedStrings.xml"/>'
    f'<Relationship Id="s3" Type="{RELATION}/styles" Target="styles.xml"/></Relationships>',
    "xl/sharedStrings.xml": "<sst><si><t>Driver ID</t></si><si><r><t>us</t></r><r><t>er.1</t></r></si></sst>",
    "xl/styles.xml": '<styleSheet><numFmts><numFmt numFmtId="170" formatCode="00000"/></numFmts>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="170"/><xf numFmtId="14"/></cellXfs></styleSheet>',
    "xl/worksheets/sheet1.xml": '<worksheet><sheetData><row r="1"><c r="A1" t="s"><v>0</v></c>'
    '<c r="B1" t="inlineStr"><is><t>Username</t></is></c></row><row r="2" hidden="1"><c r="A2" s="1">'
    '<v>281474977075805</v></c><c r="B2" t="s"><v>1</v></c></row><row><c><f>A2</f><v>2.5E+14</v></c>'
    '<c t="e"><v>#N/A</v></c></row></sheetData></worksheet>',
}
PARTS = [name for name in FIXED if name.startswith("xl/")]

OPTIONS = (
    {},
    {"encoding": "windows-1252"},
    {"encoding": "utf-16-le"},
    {"encoding": "shift_jis"},
    {"external_key": "payrollId"},
    {"columns": {"DRIVER_ID": "Name"}},
    {"columns": {"EXTERNAL_ID": "Name", "USERNAME": ""}, "external_key": "k"},
    {"identify_by": ("USERNAME",)},
    {"sheet": "a"},
)

SEEDS = (
    b"Driver ID,Username\r\n281474977075805,ann\r\n2.81475E+14,bob\r\n",
    b'sep=;\nID;"Driver\nName";External ID\n="281474977075805";a;payrollId:A1\n;;k:1, l:2\n"281,474,977";x""y;\n',
    b"\xef\xbb\xbf\xef\xbb\xbfUsername\tPassword\nNA\tx\n007\ty\n\xc2\xa0ann@x\tz\nTotal: 3\t\n",
    "\ufeffSamsara ID|Login\r+281474977075805.0|\u200bann\r\uff11\uff12|b c\r".encode("utf-16"),
    b"payrollId,Name\nABFS1,a\npayrollId,Name\nm:1,b\n",
    b"Driver ID,Username\n1,ann\n2,ann\n,ann\n,bob\n3,bob\n",
)

TOKENS = """
"," ";" "\\x0d\\x0a" "\\x22\\x22" "Driver ID" "Username" "External ID" "payrollId:" "sep=;" "E+14" ".0" "#N/A"
"Total" "\\xef\\xbb\\xbf" "\\xff\\xfe" "PK\\x03\\x04" "\\x1f\\x8b\\x08" "\\xc2\\xa0" "xl/worksheets/" "<row r=\\x22"
"<c r=\\x22" "t=\\x22s\\x22" "t=\\x22inlineStr\\x22" "<v>" "</v>" "<is><t>" "<f/>" "hidden=\\x22true\\x22" "_x000D_"
"<rPh>" "formatCode=\\x22" "XFD1048576"
"""


def workbook(part: str, content: bytes) -> bytes:
    """A workbook with that content of one part; nothing is packed, so that the fuzzer sees through it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, text in FIXED.items():
            archive.writestr(name, content if name == part else text)
    return file.getvalue()


def judged(data: bytes) -> None:
    """What holds for any bytes; the first one chooses what else is said about them and how they are wrapped."""
    from batch_issuer.errors import RosterError, SettingsError
    from batch_issuer.model import IdentifierKind, Status
    from batch_issuer.roster import Roster, named
    from batch_issuer.roster.csv_reader import read_columns
    from batch_issuer.settings.roster_options import RosterOptions

    choice, data = (data[:1] or b"\0")[0], data[1:]
    wrapping, choice = choice % 8, choice // 8
    if wrapping < len(PARTS):
        data = workbook(PARTS[wrapping], data)
    elif wrapping == len(PARTS):
        data = gzip.compress(data, 1)
    options = dict(OPTIONS[choice % len(OPTIONS)])
    options["columns"] = {IdentifierKind[kind]: name for kind, name in options.get("columns", {}).items()}
    options["identify_by"] = tuple(IdentifierKind[kind] for kind in options.get("identify_by", ()))
    try:
        roster = Roster.from_bytes(data, "fuzz", RosterOptions(**options))
    except (RosterError, SettingsError) as error:
        assert error.hint, "an error without a fix"
        assert len(error.message.splitlines()) == 1, "a message of several lines"
        return
    rows = [*(driver.row for driver in roster.drivers), *(outcome.row for outcome in roster.refused)]
    assert sorted(rows) == list(roster.row_numbers()), "a row is lost or counted twice"
    assert len({driver.identifier for driver in roster.drivers}) == len(roster.drivers), "a driver is sent twice"
    for driver in roster.drivers:
        who = driver.identifier
        assert who.value.isprintable(), "an invisible character is sent"
        assert named(who.kind, who.value) == who, "what is sent reads back as something else"
    for outcome in roster.refused:
        assert outcome.hint, "a row without a fix"
        assert outcome.error.isprintable(), "an error that is not one line"
        assert outcome.status in (Status.INVALID, Status.DUPLICATE)
    text = data.decode("latin-1").replace("\0", "")
    try:
        header, frame = read_columns(text, ",", "fuzz")
    except RosterError:
        return
    rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    while not any(cell.strip() for cell in rows[-1]):
        rows.pop()
    assert [header, *frame.to_numpy().tolist()] == [cells or [""] * len(header) for cells in rows], "cells are changed"


def fuzz(arguments: list[str]) -> None:
    """The child: never returns."""
    import atheris
    import pandas as pd  # noqa: F401 - not to be instrumented

    with atheris.instrument_imports(include=["batch_issuer"]):
        import batch_issuer.roster  # noqa: F401

    atheris.Setup([sys.argv[0], *arguments], judged)
    atheris.Fuzz()


def seeds(folder: Path) -> None:
    """Put what the fuzzer begins with into a folder: each seed in each wrapping, and the sample rosters."""
    files = [*(HERE.parent / "sample_inputs").glob("depot*.csv"), *(HERE / "corpus").glob("files/*/*")]
    contents = [*SEEDS, *(file.read_bytes() for file in files if file.stat().st_size < MAX_LENGTH)]
    plain = len(PARTS) + 1
    for number, content in enumerate(contents):
        for option in range(len(OPTIONS) if number < len(SEEDS) else 1):
            (folder / f"plain-{number}-{option}").write_bytes(bytes([8 * option + plain]) + content)
    for number, content in enumerate(SEEDS):
        (folder / f"gzip-{number}").write_bytes(bytes([len(PARTS)]) + content)
    for number, part in enumerate(PARTS):
        (folder / f"part-{number}").write_bytes(bytes([number]) + FIXED[part].encode())


def main(seconds: int) -> int:
    """Fuzz for so long; 0 if nothing was found."""
    try:
        import atheris  # noqa: F401
    except ModuleNotFoundError:
        print("the fuzzer needs the extra fuzz: pip install '.[fuzz]'")
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, found = folder / "corpus", folder / "found"
        corpus.mkdir()
        found.mkdir()
        seeds(corpus)
        (folder / "tokens").write_text("\n".join(re.findall(r'"[^"]*"', TOKENS)))
        arguments = [
            *("--child", str(corpus), f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-timeout={HANG}"),
            *(f"-rss_limit_mb={MEMORY}", f"-dict={folder / 'tokens'}", f"-artifact_prefix={found}/"),
            *("-print_final_stats=1", "-use_value_profile=1"),
        ]
        with (folder / "log").open("w+", encoding="utf-8", errors="replace") as log:
            ran = subprocess.run(
                [sys.executable, __file__, *arguments], stdout=log, stderr=subprocess.STDOUT, check=False
            )
            log.seek(0)
            output = log.read()
        findings = sorted(found.iterdir())
        for finding in findings:
            print(f"{finding.name}: {finding.read_bytes()!r}")
        if ran.returncode or findings:
            print(output[-5000:])
            return 1
        executions = re.search(r"number_of_executed_units:\s*(\d+)", output)
        coverage = re.findall(r"cov: (\d+)", output)
        print(
            f"{executions[1] if executions else '?'} inputs in {seconds} s, {coverage[-1] if coverage else '?'} places "
            "of the code met, no crash, no hang, no foreign exception"
        )
    return 0


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["--child", *arguments]:
            fuzz(arguments)
        case []:
            sys.exit(main(SECONDS))
        case [text] if text.isascii() and text.isdigit():
            sys.exit(main(int(text)))
        case _:
            sys.exit(__doc__)

"""Small rosters as real programs write them, and the expected result of each.

    python tests/corpus/make.py              write all files except the exports of LibreOffice
    python tests/corpus/make.py libreoffice  write these, too, with the installed LibreOffice

The folder of a file in ``files/`` names the program that would write such a one. All people are invented.
"""

from __future__ import annotations

import csv
import io
import struct
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Sequence

FILES = Path(__file__).parent / "files"

ID, EXTERNAL, USER = "driverId=", "externalId=", "username="
A, B, C = "281474977075805", "281474977075806", "281474977075807"


@dataclass(frozen=True)
class Case:
    """A roster file.

    Attributes:
        path: in ``files/``; the folder is the program.
        content: its bytes; None for a file that LibreOffice wrote.
        rows: for each row what is sent, or ``invalid HINT``, or ``duplicate``.
        refused: part of the message if the whole file is refused.
        fix: part of the hint in that case.
        options: of `RosterOptions`, by name, as flags have them.
        notes: parts of the notes about the roster.
        warnings: numbers of rows that are sent with a warning.
    """

    path: str
    content: bytes | None
    rows: Sequence[str] = ()
    refused: str = ""
    fix: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    warnings: Sequence[int] = ()


def text(*lines: str, end: str = "\r\n", encoding: str = "utf-8") -> bytes:
    return "".join(line + end for line in lines).encode(encoding)


def quoted(rows: Sequence[Sequence[str]], delimiter: str = ",", end: str = "\r\n") -> bytes:
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL).writerows(rows)
    return file.getvalue().encode()


# --- workbooks, as plain XML

NAMESPACE = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
CONTENT = "application/vnd.openxmlformats-officedocument.spreadsheetml"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
STRICT_RELATIONS = "http://purl.oclc.org/ooxml/officeDocument/relationships"


def zipped(members: dict[str, str | bytes]) -> bytes:
    """A reproducible archive."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # stored, since compressors differ
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.create_system = 3
            archive.writestr(member, content)
    return file.getvalue()


def gzipped(content: bytes) -> bytes:
    """A reproducible gzip file (RFC 1952)."""
    stored = zlib.compressobj(0, wbits=-15)
    data = stored.compress(content) + stored.flush()
    return b"\x1f\x8b\x08" + bytes(6) + b"\x03" + data + struct.pack("<II", zlib.crc32(content), len(content))


def workbook(
    *sheets: str,
    names: Sequence[str] = ("Drivers", "Other", "Third"),
    states: Sequence[str] = ("visible",) * 3,
    shared: str = "",
    formats: Sequence[str] = (),
    about: str = "",
    strict: bool = False,
) -> bytes:
    """Sheets as the XML of their rows; style N of a cell is the N-th of ``formats``, counted from 1."""
    space, relations = (STRICT, STRICT_RELATIONS) if strict else (NAMESPACE, RELATIONS)
    entries = "".join(
        f'<sheet name="{name}" sheetId="{number}" state="{state}" r:id="rId{number}"/>'
        for number, (name, state, _) in enumerate(zip(names, states, sheets, strict=False), 1)
    )
    related = "".join(
        f'<Relationship Id="rId{number}" Type="{relations}/worksheet" Target="worksheets/sheet{number}.xml"/>'
        for number in range(1, len(sheets) + 1)
    )
    own = "".join(f'<numFmt numFmtId="{163 + n}" formatCode="{code}"/>' for n, code in enumerate(formats, 1))
    styles = '<xf numFmtId="0"/>' + "".join(f'<xf numFmtId="{163 + n}"/>' for n in range(1, len(formats) + 1))
    kinds = {"workbook": "sheet.main", "styles": "styles", "sharedStrings": "sharedStrings"}
    kinds |= {f"worksheets/sheet{number}": "worksheet" for number in range(1, len(sheets) + 1)}
    overrides = "".join(
        f'<Override PartName="/xl/{part}.xml" ContentType="{CONTENT}.{kind}+xml"/>' for part, kind in kinds.items()
    )
    members: dict[str, str | bytes] = {
        "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="rId1" Type="{relations}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{space}" xmlns:r="{relations}">{about}<sheets>{entries}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'{related}<Relationship Id="rId98" Type="{relations}/styles" Target="styles.xml"/>'
        f'<Relationship Id="rId99" Type="{relations}/sharedStrings" Target="/xl/sharedStrings.xml"/></Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{space}"><numFmts>{own}</numFmts><cellStyleXfs><xf numFmtId="9"/>'
        f"</cellStyleXfs><cellXfs>{styles}</cellXfs></styleSheet>",
        "xl/sharedStrings.xml": f'<sst xmlns="{space}">{shared}</sst>',
    }
    for number, rows in enumerate(sheets, 1):
        members[f"xl/worksheets/sheet{number}.xml"] = (
            f'<worksheet xmlns="{space}"><sheetData>{rows}</sheetData></worksheet>'
        )
    return zipped(members)


def row(number: int, *cells: str, attributes: str = "") -> str:
    return f'<row r="{number}"{attributes}>{"".join(cells)}</row>'


def words(*texts: str) -> str:
    """Cells with inline texts."""
    return "".join(f'<c t="inlineStr"><is><t xml:space="preserve">{one}</t></is></c>' for one in texts)


def number(value: str, style: int = 0) -> str:
    return f'<c s="{style}"><v>{value}</v></c>'


HEAD = row(1, words("ID", "Username"))
TWO = HEAD + row(2, number(A), words("ann.example")) + row(3, number(B), words("bob.example"))
BOTH = (ID + A, ID + B)

DASHBOARD = "ID,Driver Name,Username,Password,Phone Number,Driver License Number,Driver License State,Tags,Notes"


def dashboard(*ids: str) -> list[str]:
    people = ("Ann Example", "Bob Sample", "Cid Specimen")
    return [
        DASHBOARD,
        *(
            f'{one},{name},{name.split()[0].lower()}.{n},,+1555010000{n},D000{n},CA,"Depot, North",'
            for n, (one, name) in enumerate(zip(ids, people, strict=False))
        ),
    ]


CASES = [
    # --- Samsara
    Case(
        "samsara-dashboard/download-drivers-list.csv",
        text(*dashboard(A, B, C), end="\n"),
        [ID + A, ID + B, ID + C],
        notes=["'Password'"],
    ),
    Case(
        "samsara-dashboard/blank-template-with-new-drivers.csv",
        text(*dashboard("", B), end="\n"),
        [USER + "ann.0", ID + B],
        notes=["'Password'"],
    ),
    Case(
        "samsara-dashboard/opened-and-saved-by-excel.csv",
        text(*dashboard("2.81475E+14", "2.81475E+14")),
        ["invalid ROUNDED_DRIVER_ID"] * 2,
        notes=["'Password'"],
    ),
    Case(
        "samsara-dashboard/the-same-by-username.csv",
        text(*dashboard("2.81475E+14", "2.81475E+14")),
        [USER + "ann.0", USER + "bob.1"],
        options={"identify_by": "username"},
        notes=["'Password'"],
    ),
    Case(
        "samsara-api/drivers-flattened.csv",
        text(
            "id,name,username,externalIds.payrollId,driverActivationStatus",
            f"{A},Ann Example,ann.example,ABFS1,active",
            ",Bob Sample,bob.sample,ABFS2,active",
            end="\n",
        ),
        [ID + A, EXTERNAL + "payrollId:ABFS2"],
    ),
    Case(
        "samsara-api/request-fields.csv",
        text("driverId,externalId,username", f"{A},,", ",payrollId:ABFS18600,", ",,ann.example", end="\n"),
        [ID + A, EXTERNAL + "payrollId:ABFS18600", USER + "ann.example"],
    ),
    # --- Excel, CSV
    Case("excel/csv-utf8.csv", text("\ufeffDriver ID,Name", f"{A},Ann Example", f"{B},Jörg Muster"), BOTH),
    Case(
        "excel/csv-german.csv",
        text("Driver ID;Name", f"{A};Jörg Muster", f"{B};Zoë Beispiel", encoding="cp1252"),
        BOTH,
        options={"encoding": "windows-1252"},
    ),
    Case(
        "excel/csv-german-without-word.csv",
        text("Driver ID;Name", f"{A};Jörg Muster", encoding="cp1252"),
        refused="line 2: not UTF-8",
        fix="--encoding windows-1252",
    ),
    Case(
        "excel/csv-polish.csv",
        text("Driver ID;Name", f"{A};Łucja Przykład", encoding="cp1250"),
        [ID + A],
        options={"encoding": "windows-1250"},
    ),
    Case(
        "excel/unicode-text.txt",
        text("\ufeffDriver ID\tName", f"{A}\tJörg Muster", f"{B}\t=1+1", encoding="utf-16-le"),
        BOTH,
    ),
    Case(
        "excel/csv-macintosh.csv",
        text("Driver ID;Name", f"{A};J\u00f6rg Muster", f"{B};Ann", end="\r", encoding="mac-roman"),
        BOTH,
        options={"encoding": "mac-roman"},
    ),
    Case(
        "excel/csv-macintosh-without-word.csv",
        text("Driver ID;Name", f"{A};J\u00f6rg Muster", end="\r", encoding="mac-roman"),
        refused="line 2: not UTF-8",
        fix="--encoding mac-roman",
    ),
    Case(
        "excel/csv-msdos.csv",
        text("Driver ID;Name", f"{A};J\u00f6rg Muster", encoding="cp850"),
        [ID + A],
        options={"encoding": "cp850"},
    ),
    Case("excel/ids-destroyed-german.csv", text("Driver ID;Name", "2,81475E+14;Ann"), ["invalid ROUNDED_DRIVER_ID"]),
    Case(
        "excel/ids-with-all-digits-in-scientific-format.csv",
        text("Driver ID,Name", "2.81474977075805E+14,Ann"),
        [ID + A],
        warnings=[2],
    ),
    Case(
        "excel/ids-over-15-digits-rounded.csv",
        text("Driver ID,Name", "281474977075805000,Ann"),
        [ID + "281474977075805000"],
        warnings=[2],
    ),
    Case(
        "excel/ids-with-separators.csv",
        text("Driver ID,Name", '"281,474,977,075,805",Ann', '"281,474,977,075,806.00",Bob'),
        BOTH,
        warnings=[2, 3],
    ),
    Case(
        "excel/ids-with-separators-german.csv",
        text("Driver ID;Name", "281.474.977.075.805;Ann", "281.474.977.075.806,00;Bob"),
        BOTH,
        warnings=[2, 3],
    ),
    Case(
        "excel/ids-with-separators-swiss.csv",
        text("Driver ID;Name", "281\u2019474\u2019977\u2019075\u2019805;Ann", "281'474'977'075'806;Bob"),
        BOTH,
        warnings=[2, 3],
    ),
    Case(
        "excel/ids-with-separators-french.csv",
        text(
            "Driver ID;Name",
            "281\u202f474\u202f977\u202f075\u202f805;Ann",
            "281\u00a0474\u00a0977\u00a0075\u00a0806;Bob",
        ),
        BOTH,
        warnings=[2, 3],
    ),
    Case(
        "excel/an-amount-that-may-be-two.csv",
        text("Driver ID;Name", "123.456;Ann", "1,234;Bob"),
        ["invalid DRIVER_ID"] * 2,
    ),
    Case(
        "excel/texts-as-formulas.csv",
        text("Driver ID,Username", f'"=""{A}""",ann', '"=""00123""",cid'),
        [ID + A, "invalid DRIVER_ID"],
        warnings=[2],
    ),
    Case("excel/blank-rows-at-the-end.csv", text("Driver ID,Name", f"{A},Ann", f"{B},Bob", ",", ",", ""), BOTH),
    Case(
        "excel/blank-row-in-the-middle.csv",
        text("Driver ID,Name", f"{A},Ann", ",", f"{B},Bob"),
        [ID + A, "invalid NO_IDENTIFIER", ID + B],
    ),
    Case("excel/separator-line.csv", text("sep=;", "Driver ID;Name", f"{A};Ann, Bob & Co", f"{B};x"), BOTH),
    Case(
        "excel/cell-errors.csv",
        text("Username,Name", "#N/A,Ann", "#REF!,Bob", "#NAME?,Cid"),
        ["invalid CELL_ERROR"] * 3,
    ),
    Case(
        "excel/usernames-destroyed.csv",
        text("Username,Name", "1.55501E+10,Ann", "ann.example,Bob"),
        ["invalid ROUNDED_TEXT", USER + "ann.example"],
    ),
    Case(
        "excel/line-breaks-in-cells.csv",
        text('"Driver\nID",Name,Note', f'{A},Ann,"first\nsecond"', f'{B},Bob,"a ""quoted"" word"'),
        BOTH,
    ),
    # --- Excel, workbooks
    Case("excel/numbers.xlsx", workbook(TWO), BOTH),
    Case(
        "excel/scientific-as-stored.xlsx",
        workbook(HEAD + row(2, number("2.81474977075805E14")) + row(3, number(B))),
        BOTH,
    ),
    Case(
        "excel/over-15-digits.xlsx",
        workbook(HEAD + row(2, number("2.8147497707580501E+17")) + row(3, number("281474977075805123"))),
        ["invalid ROUNDED_DRIVER_ID"] * 2,
    ),
    Case(
        "excel/shared-strings.xlsx",
        workbook(
            row(1, '<c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c>')
            + row(2, '<c r="A2"><v></v></c><c r="B2" t="s"><v>2</v></c>')
            + row(3, '<c r="B3" t="s"><v>3</v></c>'),
            shared='<si><t>ID</t></si><si><t>Username</t></si><si><r><t>ann</t></r><r><rPr><b/></rPr><t>.example</t></r><rPh sb="0" eb="1"><t>アン</t></rPh></si><si><t xml:space="preserve"> bob.example </t></si>',
        ),
        [USER + "ann.example", USER + "bob.example"],
    ),
    Case(
        "excel/escaped-characters.xlsx",
        workbook(
            row(1, words("Username", "Note"))
            + row(2, words("ann.example", "first_x000D_\nsecond"))
            + row(3, words("a_x005F_x0041_b", "-"))
        ),
        [USER + "ann.example", USER + "a_x0041_b"],
    ),
    Case(
        "excel/leading-zeros-by-format.xlsx",
        workbook(
            row(1, words("Username", "External ID"))
            + row(2, number("7", 1))
            + row(3, number("12", 2))
            + row(4, words("", "payrollId:A1")),
            formats=["00000", "&quot;D-&quot;0000"],
        ),
        [USER + "00007", USER + "D-0012", EXTERNAL + "payrollId:A1"],
    ),
    Case(
        "excel/dates-and-amounts.xlsx",
        workbook(
            row(1, words("ID", "Start", "Share")) + row(2, number(A), number("45000", 1), number("0.5", 2)),
            formats=["dd\\.mm\\.yyyy", "0.00%"],
        ),
        [ID + A],
    ),
    Case(
        "excel/a-date-for-an-id.xlsx",
        workbook(row(1, words("ID", "Name")) + row(2, number("45000", 1), words("Ann")), formats=["yyyy-mm-dd"]),
        ["invalid DRIVER_ID"],
    ),
    Case(
        "excel/calendar-of-1904.xlsx",
        workbook(
            row(1, words("Username")) + row(2, number("1", 1)),
            formats=["yyyy-mm-dd"],
            about='<workbookPr date1904="1"/>',
        ),
        [USER + "1904-01-02"],
    ),
    Case(
        "excel/formulas.xlsx",
        workbook(
            row(1, words("ID", "Username"))
            + row(2, f"<c><f>A1+1</f><v>{A}</v></c>", '<c t="str"><f>LOWER(&quot;Ann&quot;)</f><v>ann.example</v></c>')
            + row(3, '<c t="str"><f>IF(1,&quot;&quot;)</f><v></v></c>', words("bob.example"))
        ),
        [ID + A, USER + "bob.example"],
    ),
    Case(
        "excel/formula-errors.xlsx",
        workbook(
            row(1, words("ID"))
            + row(2, '<c t="e"><f>VLOOKUP(1,B:C,2,0)</f><v>#N/A</v></c>')
            + row(3, '<c t="b"><v>1</v></c>')
        ),
        ["invalid CELL_ERROR", "invalid DRIVER_ID"],
    ),
    Case(
        "excel/filtered-rows.xlsx",
        workbook(HEAD + row(2, number(A), attributes=' hidden="1"') + row(3, number(B))),
        BOTH,
        notes=["Hidden rows", "2"],
    ),
    Case(
        "excel/two-sheets.xlsx",
        workbook(row(1, words("Month", "Total")) + row(2, words("May", "3")), TWO, names=("Summary", "Drivers")),
        BOTH,
        notes=["'Drivers' is read, not 'Summary'"],
    ),
    Case(
        "excel/two-rosters.xlsx",
        workbook(TWO, TWO, names=("North", "South")),
        refused="'North', 'South' could all be the roster",
        fix="--sheet",
    ),
    Case(
        "excel/two-rosters-one-named.xlsx",
        workbook(TWO, HEAD + row(2, number(C)), names=("North", "South")),
        [ID + C],
        options={"sheet": "south"},
        notes=["'South' is read, not 'North'"],
    ),
    Case(
        "excel/hidden-roster.xlsx",
        workbook(TWO, HEAD + row(2, number(C)), names=("Drivers", "Old"), states=("visible", "hidden")),
        BOTH,
        notes=["not 'Old'"],
    ),
    Case(
        "excel/no-such-sheet.xlsx",
        workbook(TWO),
        refused="no sheet 'Nord'",
        fix="'Drivers'",
        options={"sheet": "Nord"},
    ),
    Case(
        "excel/gaps-and-formatted-blanks.xlsx",
        workbook(
            '<row r="1">'
            '<c r="A1" t="inlineStr"><is><t>ID</t></is></c><c r="C1" t="inlineStr"><is><t>Note</t></is></c></row>'
            f'<row r="2"><c r="A2"><v>{A}</v></c></row><row r="5"><c r="A5"><v>{B}</v></c><c r="C5" s="0"/></row><row r="9"><c r="A9" s="0"/></row>'
        ),
        [ID + A, "invalid NO_IDENTIFIER", "invalid NO_IDENTIFIER", ID + B],
    ),
    Case(
        "excel/a-cell-beyond-the-header.xlsx",
        workbook(HEAD + row(2, number(A), words("ann", "stray"))),
        refused="row 2: column C has no name in the header",
        fix="add the name",
    ),
    Case(
        "excel/title-above-the-header.xlsx",
        workbook(row(1, words("Drivers of depot North")) + row(2, words("ID")) + row(3, number(A))),
        refused="no column that identifies drivers",
        fix="the first row must be the header",
    ),
    Case("excel/strict-open-xml.xlsx", workbook(TWO, strict=True), BOTH),
    Case(
        "excel/with-password.xlsx",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64),
        refused="with a password",
        fix="save it as .xlsx",
    ),
    Case(
        "excel/97-2003.xls",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(64),
        refused="an old Excel workbook (.xls)",
        fix="save it as .xlsx",
    ),
    Case("excel/cut-short.xlsx", workbook(TWO)[:-40], refused="a damaged workbook", fix="save it as"),
    Case(
        "excel/web-page-called.xls",
        b"<html><body><table><tr><td>ID</td></tr></table>",
        refused="a web page or XML",
        fix="CSV UTF-8",
    ),
    # --- other spreadsheets
    Case(
        "openpyxl/formulas-never-computed.xlsx",
        workbook(row(1, words("ID", "Username")) + row(2, number(A), "<c><f>LOWER(A1)</f><v></v></c>")),
        refused="row 2, column B: formula without a result",
        fix="open the file in the spreadsheet program and save it",
    ),
    Case("google-sheets/download.csv", text("Driver ID,Name", f"{A},Ann", f"{B},Jörg").rstrip(), BOTH),
    Case("google-sheets/download.tsv", text("Driver ID\tName", f"{A}\tAnn", f"{B}\tBob, Jr.").rstrip(), BOTH),
    Case("apple-numbers/export.csv", text("Driver ID,Name", f"{A},Ann", f"{B},Jörg", end="\n"), BOTH),
    Case("apple-numbers/export-semicolons.csv", text("Driver ID;Name", f"{A};Ann", f"{B};Jörg", end="\n"), BOTH),
    Case(
        "libreoffice/spreadsheet.ods",
        zipped({"mimetype": "application/vnd.oasis.opendocument.spreadsheet", "content.xml": "<office/>"}),
        refused="a workbook that is not .xlsx",
        fix="save it as .xlsx",
    ),
    # --- programs and databases
    Case(
        "pandas/index-and-floats.csv",
        text(",driver_id,name", f"0,{A}.0,Ann", f"1,{B}.0,Bob", "2,,Cid", end="\n"),
        [ID + A, ID + B, "invalid NO_IDENTIFIER"],
        warnings=[2, 3],
    ),
    Case(
        "pandas/floats-that-lost-digits.csv",
        text("driver_id", "2.81474977075805e+17", "9007199254740993.0", end="\n"),
        ["invalid ROUNDED_DRIVER_ID"] * 2,
    ),
    Case(
        "pandas/missing-as-nan.csv",
        text("username", "nan", "None", "ann.example", end="\n"),
        [USER + "nan", USER + "None", USER + "ann.example"],
        warnings=[2],
    ),
    Case("r/write-csv.csv", quoted([["", "driver_id", "username"], ["1", A, "NA"], ["2", B, "bob"]], end="\n"), BOTH),
    Case(
        "sql-server/pipes.txt",
        text("DriverID|FullName|Login", f"{A}|Ann Example|ann.example", "||NULL"),
        [ID + A, USER + "NULL"],
    ),
    Case("postgresql/copy-csv.csv", text("samsara_id,full_name", f'{A},"Ann ""A."" Example"', f"{B},", end="\n"), BOTH),
    Case(
        "powershell/export-csv.csv", "\ufeff".encode() + quoted([["DriverId", "Name"], [A, "Ann"], [B, "Jörg"]]), BOTH
    ),
    Case(
        "powershell/export-csv-unicode.csv",
        ("\ufeff" + quoted([["DriverId", "Name"], [A, "Ann"], [B, "Jörg"]]).decode()).encode("utf-16-le"),
        BOTH,
    ),
    Case(
        "powershell/type-line.csv",
        text("#TYPE System.Management.Automation.PSCustomObject", '"DriverId","Name"', f'"{A}","Ann"'),
        refused="row 2: 2 cells instead of 1",
        fix="separator",
    ),
    Case(
        "sap/totals-at-the-bottom.csv",
        text(
            "Personal-Nr.;Fahrer-Nr.;Name",
            f"0007;{A};Jörg Muster",
            f"0008;{B};Zoë Beispiel",
            "Summe;2;",
            encoding="cp1252",
        ),
        [ID + A, ID + B, "invalid TOTALS"],
        options={"encoding": "cp1252", "map": ["driver_id=fahrer nr"]},
    ),
    Case(
        "sap/header-on-every-page.csv",
        text("payrollId;Name", "ABFS1;Ann", "payrollId;Name", "ABFS2;Bob"),
        [EXTERNAL + "payrollId:ABFS1", "invalid REPEATED_HEADER", EXTERNAL + "payrollId:ABFS2"],
    ),
    Case(
        "workday/payroll-id.csv",
        text("Payroll ID,Worker", "ABFS1,Ann", "ABFS2,Bob"),
        [EXTERNAL + "payrollId:ABFS1", EXTERNAL + "payrollId:ABFS2"],
    ),
    Case(
        "workday/payroll-id-beside-username.csv",
        text("Payroll ID,Username", "ABFS1,ann.example", "ABFS2,bob.sample"),
        [USER + "ann.example", USER + "bob.sample"],
    ),
    Case(
        "workday/employee-number.csv",
        text("Employee Number,Worker", "ABFS1,Ann", "k:2,Bob"),
        [EXTERNAL + "employeeId:ABFS1", "invalid EXTERNAL_ID"],
        options={"map": ["external_id=Employee Number"], "external_key": "employeeId"},
    ),
    Case(
        "adp/external-ids.csv",
        text(
            "External ID,Name",
            "payrollId:ABFS1,Ann",
            "ABFS2,Bob",
            '"payrollId:A, maintenanceId:B",Cid',
            "maintenanceId:9,Dee",
        ),
        [
            EXTERNAL + "payrollId:ABFS1",
            "invalid EXTERNAL_ID",
            "invalid SEVERAL_EXTERNAL_IDS",
            EXTERNAL + "maintenanceId:9",
        ],
    ),
    Case(
        "adp/external-ids-with-key.csv",
        text("External ID,Name", "payrollId:ABFS1,Ann", "ABFS2,Bob", '"payrollId:A, maintenanceId:B",Cid'),
        [EXTERNAL + "payrollId:ABFS1", EXTERNAL + "payrollId:ABFS2", EXTERNAL + "payrollId:A"],
        options={"external_key": "payrollId"},
    ),
    Case(
        "bamboohr/totals.csv",
        text("Employee,Username", "Ann,ann.example", "Bob,bob.sample", "Total: 2,"),
        [USER + "ann.example", USER + "bob.sample", "invalid TOTALS"],
    ),
    Case(
        "bamboohr/count.csv",
        text("Username,Employee", "ann.example,Ann", "bob.sample,Bob", "2,"),
        [USER + "ann.example", USER + "bob.sample", "invalid TOTALS"],
    ),
    Case("rest-api/answer.json", b'{"data": [{"driverId": 1}]}', refused="is JSON", fix="export the table"),
    Case("python-gzip/nightly.csv.gz", gzipped(text("Driver ID,Name", f"{A},Ann", f"{B},Bob")), BOTH),
    Case(
        "python-gzip/cut-short.csv.gz",
        gzipped(text("Driver ID,Name", f"{A},Ann"))[:-9],
        refused="a damaged gzip file",
        fix="copy it again",
    ),
    # --- people
    Case(
        "typed-by-hand/usernames-like-missing-values.csv",
        text("Username", "NA", "null", "None", "007"),
        [USER + "NA", USER + "null", USER + "None", USER + "007"],
        warnings=[2, 5],
    ),
    Case(
        "typed-by-hand/usernames-samsara-forbids.csv",
        text("Username", "ann example", "bob@example.com"),
        [USER + "ann example", USER + "bob@example.com"],
        warnings=[2, 3],
    ),
    Case(
        "typed-by-hand/signs-and-zeros.csv",
        text("Driver ID", f"+{A}", "-5", "0281474977075805", "9223372036854775808", f"'{B}"),
        [ID + A, "invalid DRIVER_ID", "invalid DRIVER_ID", "invalid DRIVER_ID", ID + B],
        warnings=[2, 6],
    ),
    Case(
        "typed-by-hand/full-width.csv",
        text("Driver ID", "".join(chr(ord(digit) + 0xFEE0) for digit in A)),
        [ID + A],
        warnings=[2],
    ),
    Case(
        "typed-by-hand/one-driver-twice.csv",
        text("Driver ID,Username", f"{A},ann.example", f"{B},bob.sample", ",ann.example", f"{A},", f"{C},bob.sample"),
        [ID + A, ID + B, "duplicate", "duplicate", ID + C],
        warnings=[3, 6],
    ),
    Case(
        "typed-by-hand/two-columns.csv",
        text("ID,Samsara ID", f"1,{A}"),
        refused="'ID' and 'Samsara ID' could both be the driver ID",
        fix="--map driver_id=",
    ),
    Case(
        "typed-by-hand/two-columns-decided.csv",
        text("ID,Samsara ID", f"1,{A}"),
        [ID + A],
        options={"map": ["driver_id=samsara id"]},
    ),
    Case(
        "typed-by-hand/no-header.csv",
        text(f"{A},ann.example,hunter2", f"{B},bob.sample,hunter3"),
        refused="(not shown: the first row looks like a driver",
        fix="the first row must be the header",
    ),
    Case(
        "typed-by-hand/other-columns.csv",
        text("Name,Depot", "Ann,North"),
        refused="its columns are: Name, Depot",
        fix="--map",
    ),
    Case(
        "typed-by-hand/a-cell-short.csv",
        text("Driver ID,Name", A),
        refused="row 2: 1 cell instead of 2",
        fix="separator",
    ),
    Case(
        "typed-by-hand/every-row-a-cell-too-long.csv",
        text("Driver ID,Name", f"North,{A},Ann", f"South,{B},Bob"),
        refused="row 2: 3 cells instead of 2",
        fix="separator",
    ),
    Case(
        "typed-by-hand/open-quote.csv",
        text("Driver ID,Name", f'{A},"Ann', f"{B},Bob"),
        refused="not valid CSV",
        fix="quotation mark",
    ),
    Case("typed-by-hand/empty.csv", b"", refused="is empty", fix="header row"),
    Case("typed-by-hand/header-only.csv", text("Driver ID,Name"), refused="a header but no rows", fix="add a row"),
    Case(
        "copied-from-a-web-page/invisible-characters.csv",
        text(
            "Driver ID,Username",
            f"\u00a0{A}\u200b,ann",
            "281474\u200b977075806,",
            ",bob\u00a0sample",
            ",\u200ecid.example\u202c",
        ),
        [ID + A, "invalid DRIVER_ID", "invalid CHARACTERS", USER + "cid.example"],
        warnings=[2, 5],
    ),
    Case(
        "two-programs/two-byte-order-marks.csv",
        b"\xef\xbb\xbf\xef\xbb\xbf" + text("Driver ID,Name", f"{A},Ann", f"{B},Bob"),
        BOTH,
    ),
    Case(
        "windows-notepad/utf-16-big-endian.txt",
        text("\ufeffDriver ID\tName", f"{A}\tAnn", encoding="utf-16-be"),
        [ID + A],
    ),
    Case(
        "mainframe/utf-16-without-mark.txt",
        text("Driver ID,Name", f"{A},Ann", encoding="utf-16-le"),
        refused="NUL characters",
        fix="--encoding utf-16-le",
    ),
    # --- more that is refused, or read, as it should be
    Case(
        "excel/web-page-called.csv",
        text("<html xmlns:x='urn:schemas-microsoft-com:office:excel'>", "<table><tr><td>ID</td></tr></table>"),
        refused="a web page or XML",
        fix="CSV UTF-8",
    ),
    Case("excel/symbolic-link.slk", text("ID;PWXL;N;E", "P;PGeneral"), refused="row 2: 2 cells", fix="separator"),
    Case(
        "excel/separator-line-tab.csv",
        text("\ufeffsep=\t", "Driver ID\tName", f"{A}\tAnn; or, Anna", f"{B}\tBob", encoding="utf-16-le"),
        BOTH,
    ),
    Case(
        "excel/very-hidden-roster.xlsx",
        workbook(TWO, HEAD + row(2, number(C)), names=("Drivers", "Lookup"), states=("visible", "veryHidden")),
        BOTH,
        notes=["not 'Lookup'"],
    ),
    Case("excel/an-empty-sheet-first.xlsx", workbook("", TWO, names=("Sheet1", "Drivers")), BOTH),
    Case(
        "psql/aligned.txt",
        text("", " driver_id       | username", "-----------------+---------", f" {A} | ann", end="\n"),
        refused="the first row is blank",
        fix="the first row must be the header",
    ),
    Case(
        "sqlcmd/rows-affected.txt",
        text("Username|Name", "ann.example|Ann", "", "(1 rows affected)"),
        refused="row 4: 1 cell instead of 2",
        fix="separator",
    ),
    Case(
        "mysql/outfile-nulls.tsv",
        text("driver_id\tname", f"{A}\tAnn", "\\N\tBob", end="\n"),
        [ID + A, "invalid DRIVER_ID"],
    ),
    # --- found by looking for what goes wrong
    Case(
        "libreoffice/leading-zeros-of-a-locale.xlsx",  # the format code as LibreOffice 7.4 writes it for German cells
        workbook(
            row(1, words("Username", "Name")) + row(2, number("12345", 1), words("Ann")), formats=["[$-407]000000"]
        ),
        [USER + "012345"],
    ),
    Case(
        "excel/leading-zeros-in-a-colour-or-with-a-gap.xlsx",
        workbook(
            row(1, words("Username", "Name"))
            + row(2, number("12345", 1), words("Ann"))
            + row(3, number("23456", 2), words("Bob")),
            formats=["[Red]000000", "000000_);(000000)"],
        ),
        [USER + "012345", USER + "023456"],
    ),
    Case(
        "excel/payroll-ids-destroyed.csv",
        text("payrollId,Name", "1.23457E+11,Ann", "1.23457E+11,Bob"),
        ["invalid ROUNDED_TEXT"] * 2,
    ),
    Case(
        "excel/payroll-ids-over-15-digits.xlsx",
        workbook(row(1, words("payrollId", "Name")) + row(2, number("1234567890123456"), words("Ann"))),
        ["invalid ROUNDED_TEXT"],
    ),
    Case(
        "pandas/usernames-as-floats.csv",
        text("username,name", "15550100001.0,Ann", ",Bob", end="\n"),
        [USER + "15550100001.0", "invalid NO_IDENTIFIER"],
        warnings=[2],
    ),
    Case(
        "pandas/payroll-ids-as-floats.csv",
        text("payrollId,name", "1007.0,Ann", ",Bob", end="\n"),
        [EXTERNAL + "payrollId:1007.0", "invalid NO_IDENTIFIER"],
        warnings=[2],
    ),
    Case(
        "excel/cell-errors-in-other-languages.csv",
        text("Username,Name", "#N/D,Ann", "#N/D,Bob", "#NOM?,Cid", "#VALEUR!,Dee", "#RIF!,Eve", "########,Fay"),
        ["invalid CELL_ERROR"] * 6,
    ),
    Case("google-sheets/errors.csv", text("Username,Name", "#ERROR!,Ann").rstrip(), ["invalid CELL_ERROR"]),
    Case(
        "excel/errors-of-newer-kinds.xlsx",
        workbook(row(1, words("Username", "Name")) + row(2, '<c t="e"><v>#FIELD!</v></c>', words("Ann"))),
        ["invalid CELL_ERROR"],
    ),
    Case(
        "sap/totals-and-a-line-below.csv",
        text("Personal-Nr.;Driver ID;Name", f"7;{A};Ann", f"8;{B};Bob", "Summe;2;", "Stand 26.11.2026;;"),
        [ID + A, ID + B, "invalid TOTALS", "invalid NO_IDENTIFIER"],
    ),
    Case(
        "excel/subtotals.csv",
        text("Depot,Driver ID", f"North,{A}", "North Total,1", f"South,{B}", "South Total,1", "Grand Total,2"),
        [ID + A, "invalid TOTALS", ID + B, "invalid TOTALS", "invalid TOTALS"],
    ),
    Case(
        "sqlcmd/ruled-header.txt",
        text("Username   |Name", "-----------|----", "ann.example|Ann"),
        ["invalid REPEATED_HEADER", USER + "ann.example"],
    ),
    Case(
        "javascript/comma-and-space.csv",
        text('"Name", "Username"', '"Ann", "ann.example"', end="\n"),
        [USER + "ann.example"],
        warnings=[2],
    ),
    Case(
        "xlsxwriter/formulas-never-computed.xlsx",
        workbook(
            row(1, words("payrollId", "Name")) + row(2, "<c><f>B2</f><v>0</v></c>", words("Ann")),
            about='<calcPr calcId="124519" fullCalcOnLoad="1"/>',
        ),
        refused="row 2, column A: formula without a result",
        fix="open the file in the spreadsheet program and save it",
    ),
    Case(
        "samsara-api/two-keys-flattened.csv",
        text("id,username,externalIds.payrollId,externalIds.maintenanceId", f"{A},ann.example,P1,M1", end="\n"),
        [ID + A],
        options={"identify_by": "driver_id"},
    ),
    Case(
        "sap/utf-16-web-page.xls",
        text("\ufeff<html>", "<table><tr><td>ID</td></tr></table>", encoding="utf-16-le"),
        refused="a web page or XML",
        fix="CSV UTF-8",
    ),
    Case(
        "google-sheets/read-as-windows-1252.csv",
        text("Username,Name", "j\u00f6rg.muster,J\u00f6rg").rstrip(),
        [USER + "j\u00c3\u00b6rg.muster"],
        options={"encoding": "windows-1252"},
        notes=["UTF-8"],
    ),
]

# --- what LibreOffice itself writes

SOURCE = [
    ["Driver ID", "Username", "External ID", "Note"],
    [A, "ann.example", "payrollId:0007", "comma, semicolon; pipe | tab\t"],
    ["9223372036854775807", "jörg.muster", "", 'a "quoted" word\nand a second line'],
    ["", "007", "", "=1+1"],
    ["", "", "payrollId:ABFS18600", "-x"],
]
SOURCE_ROWS = [ID + A, ID + "9223372036854775807", USER + "007", EXTERNAL + "payrollId:ABFS18600"]

DELIMITERS = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}
ENCODINGS = {"utf-8": (76, {}), "utf-16": (65535, {}), "windows-1252": (1, {"encoding": "windows-1252"})}
"""By name: LibreOffice's number of it, and the options for reading."""


def exports() -> dict[str, tuple[str, dict[str, Any]]]:
    """The exports by file name: the target for LibreOffice, and the options for reading."""
    found: dict[str, tuple[str, dict[str, Any]]] = {"roster.xlsx": ("xlsx", {})}
    for separator, character in DELIMITERS.items():
        for encoding, (number_of, options) in ENCODINGS.items():
            target = f"csv:Text - txt - csv (StarCalc):{ord(character)},34,{number_of},1,,0,false,true,false"
            found[f"roster-{separator}-{encoding}.csv"] = (target, options)
    return found


CASES += [
    Case(f"libreoffice/{name}", None, SOURCE_ROWS, options=options, warnings=[4])
    for name, (_, options) in exports().items()
]


def export_all(folder: Path) -> None:
    """Export `SOURCE` with LibreOffice into a folder."""
    from support import libreoffice  # noqa: PLC0415 - of the tests

    source = folder / "source.xlsx"
    sheet = "".join(row(number_of, words(*map(escape, cells))) for number_of, cells in enumerate(SOURCE, 1))
    source.write_bytes(workbook(sheet))
    for name, (target, _) in exports().items():
        made = libreoffice.convert(source, target, folder / "made")
        made.replace(folder / name)


def main(arguments: Sequence[str]) -> None:
    for case in CASES:
        if case.content is not None:
            path = FILES / case.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(case.content)
    if arguments:
        with tempfile.TemporaryDirectory() as name:
            export_all(Path(name))
            for file in exports():
                (FILES / "libreoffice" / file).write_bytes(Path(name, file).read_bytes())


if __name__ == "__main__":
    sys.path.append(str(Path(__file__).parents[1]))
    main(sys.argv[1:])

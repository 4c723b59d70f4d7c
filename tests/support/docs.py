"""What the documentation promises, taken out of it: commands, outputs, hints, examples, help texts.

python tests/support/docs.py command main     prints a command, for .ci/run
python tests/support/docs.py --write          updates outputs, hints, events and the snapshots of the help texts

A comment in front of a code block marks it: ``<!-- command: main -->``. Lists that the program has itself are between
``<!-- hints -->`` and ``<!-- end -->``.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
MANUAL = ROOT / "batch_issuer" / "manual"
BENCHMARKS = ROOT / "tests" / "benchmarks" / "README.md"
HELP = ROOT / "tests" / "cli" / "help"
"""A file for each command's help, and one for the program's."""

WIDTH = 79
"""Of a line outside code blocks, so that it can be read in a terminal."""

_BLOCK = r"```\w*\n(.*?)```\n"


def manual() -> list[Path]:
    return sorted(MANUAL.glob("*.md"))


def pages() -> list[Path]:
    """README, manual and the pages for developers."""
    return [README, *manual(), ROOT / "tests" / "README.md", BENCHMARKS]


def text(page: Path = README) -> str:
    return page.read_text(encoding="utf-8")


def everything() -> str:
    """All pages for users, one after the other."""
    return "\n".join(map(text, [README, *manual()]))


def block(mark: str) -> str:
    """The content of the code block that is marked so, wherever it is."""
    found = [
        match[1] for page in pages() for match in re.finditer(rf"<!-- {mark} -->\n{_BLOCK}", text(page), re.DOTALL)
    ]
    assert len(found) == 1, f"{len(found)} blocks are marked {mark!r}"
    return found[0]


def command(name: str) -> str:
    """The shell command marked ``<!-- command: name -->``."""
    return block(f"command: {name}").strip()


def output(name: str) -> str:
    """The output marked ``<!-- output: name -->``."""
    return block(f"output: {name}")


def outputs(page: Path) -> list[str]:
    """The names of a page's outputs, in order."""
    return re.findall(r"<!-- output: (\S+) -->", text(page))


def table(mark: str, page: Path = README) -> list[list[str]]:
    """The rows of a marked table, without its head."""
    found = re.search(rf"<!-- {mark} -->\n((?:\|.*\n)+)", text(page))
    assert found, f"{page.name} has no table {mark!r}"
    return [line.strip("| ").split(" | ") for line in found[1].splitlines()[2:]]


def examples() -> list[tuple[str, str]]:
    """The Python examples, each with the output shown below it."""
    return re.findall(rf"<!-- example -->\n{_BLOCK}\n{_BLOCK}", everything(), re.DOTALL)


# --- what the program prints


def printed(page: Path) -> dict[str, str]:
    """The outputs of a page by name: its commands are run one after the other, in a copy of the samples.

    Lines are wrapped as on a terminal of 80 columns.
    """
    from batch_issuer.cli.screen import wrap  # noqa: PLC0415

    found = {}
    with tempfile.TemporaryDirectory() as folder:
        samples = shutil.ignore_patterns("*.results.*")
        shutil.copytree(ROOT / "sample_inputs", Path(folder, "sample_inputs"), ignore=samples)
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": folder, "NO_COLOR": "1", "TZ": "UTC"}
        for name in outputs(page):
            arguments = command(name).rpartition("batch-issuer ")[2].split()
            ran = subprocess.run(
                [sys.executable, "-m", "batch_issuer", *arguments],
                cwd=folder,
                env=environ,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
            found[name] = "".join(f"{part}\n" for line in ran.stdout.splitlines() for part in wrap(line, 80))
    return found


def timeless(printed: str) -> str:
    """An output without the times that differ from run to run.

    A first and a last expiry may fall in the same second, and then only one of them is printed.
    """
    printed = re.sub(r"\d{4}-\d\d-\d\d\s+\d\d:\d\d:\d\d [^\s,.]+|\d\d:\d\d:\d\d", "TIME", printed)
    printed = re.sub(r",\s+the\s+last\s+one\s+at\s+TIME", "", printed)
    printed = re.sub(r"\(\d+(?:\.\d+)? s\)", "(TIME)", printed)
    return re.sub(r"\bin \d+ (?:min|s)\b(?: \d+ s\b)?", "in TIME", printed)


def help_texts() -> dict[str, str]:
    """The help of the program and of each command, by the name of its snapshot."""
    from batch_issuer.cli.parser import make_parser, subcommands  # noqa: PLC0415 - .ci/run asks before it is installed

    os.environ.update(COLUMNS="80", NO_COLOR="1")
    parser = make_parser()
    parsers = {"batch-issuer": parser, **subcommands(parser)}
    return {name: one.format_help() for name, one in parsers.items()}


# --- what the program has in a table of its own


def _item(content: str) -> str:
    return textwrap.fill(f"- {content}", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def hints() -> str:
    """The table of hints as a list, by where to fix things."""
    from batch_issuer.hints import Hint, Where  # noqa: PLC0415

    parts = []
    for where in Where:
        if items := [_item(f"**{hint.what}**: {hint.fix}") for hint in Hint if hint.where is where]:
            title = str(where) if where == "batch-issuer" else f"{where[0].upper()}{where[1:]}"
            parts.append("\n".join([f"### {title}", "", *items]))
    return "\n\n".join(parts)


def events() -> str:
    """The events of the log and their fields, as a list."""
    from batch_issuer.reporting.event_log import EVENTS  # noqa: PLC0415

    fields = {name: ", ".join(f"`{field}`" for field in fields) for name, fields in EVENTS.items()}
    return "\n".join(_item(f"`{name}`: {listed or 'none'}") for name, listed in fields.items())


def up_to_date(page: Path) -> str:
    """A page with hints and events as the program has them."""
    content = text(page)
    for mark, made in (("hints", hints), ("events", events)):
        if f"<!-- {mark} -->" in content:
            listed = f"<!-- {mark} -->\n\n{made()}\n\n<!-- end -->"
            content = _replaced(rf"<!-- {mark} -->\n.*?<!-- end -->", listed, content)
    return content


def _replaced(pattern: str, replacement: str, content: str) -> str:
    return re.sub(pattern, lambda _: replacement, content, flags=re.DOTALL)


def write() -> None:
    """Update everything that can be."""
    for page in pages():
        content = up_to_date(page)
        for name, now in printed(page).items():
            if timeless(now) != timeless(output(name)):
                mark = f"<!-- output: {name} -->\n"
                content = _replaced(mark + _BLOCK, f"{mark}```text\n{now}```\n", content)
        page.write_text(content, encoding="utf-8")
    HELP.mkdir(exist_ok=True)
    texts = help_texts()
    for snapshot in HELP.glob("*.txt"):
        if snapshot.stem not in texts:
            snapshot.unlink()
    for name, shown in texts.items():
        (HELP / f"{name}.txt").write_text(shown, encoding="utf-8")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["command", name]:
            print(command(name))  # noqa: T201
        case ["--write"]:
            write()
        case _:
            sys.exit(__doc__)

"""What the README promises, taken out of it: commands, help texts, hints, examples.

python tests/support/readme.py command main     prints a command, for .ci/run
python tests/support/readme.py --write          brings help texts, hints, events and figures up to date
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
FIGURES = Path(__file__).parents[1] / "benchmarks" / "figures.md"
"""What ``python tests/benchmarks`` measured last."""

_BLOCK = r"```\w*\n(.*?)```\n"


def text() -> str:
    return README.read_text(encoding="utf-8")


def command(name: str) -> str:
    """The shell command marked ``<!-- command: name -->``."""
    return block(f"command: {name}").strip()


def output(name: str) -> str:
    """The output marked ``<!-- output: name -->``."""
    return block(f"output: {name}")


def block(mark: str) -> str:
    """What stands in the code block that is marked so."""
    found = re.search(rf"<!-- {mark} -->\n{_BLOCK}", text(), re.DOTALL)
    assert found, f"the README has no {mark!r}"
    return found[1]


def examples() -> list[tuple[str, str]]:
    """The Python examples, each with the output shown below it."""
    return re.findall(rf"<!-- example -->\n{_BLOCK}\n{_BLOCK}", text(), re.DOTALL)


def up_to_date() -> str:
    """The README with help texts, hints and events as the program has them now, and figures as they were measured."""
    from batch_issuer.cli.parser import make_parser, subcommands  # noqa: PLC0415 - .ci/run asks before it is installed
    from batch_issuer.hints import Hint  # noqa: PLC0415
    from batch_issuer.reporting.event_log import EVENTS  # noqa: PLC0415

    parser = make_parser()
    parsers = {"": parser, **subcommands(parser)}

    def help_block(match: re.Match[str]) -> str:
        return f"{match[1]}\n```text\n{parsers[match[2].strip()].format_help()}```\n"

    rows = [f"| {hint.what} | {hint.where} | {hint.fix} |" for hint in Hint]
    hints = "\n".join(["| what happened | who mends it | what to do |", "|---|---|---|", *rows])
    events = [f"| `{name}` | {', '.join(f'`{field}`' for field in fields) or '-'} |" for name, fields in EVENTS.items()]
    table = "\n".join(["| event | fields |", "|---|---|", *events])
    content = re.sub(rf"(<!-- help:([ \w]*) -->)\n{_BLOCK}", help_block, text(), flags=re.DOTALL)
    content = re.sub(r"<!-- events -->\n(\|.*\n)*", lambda _: f"<!-- events -->\n{table}\n", content)
    figures = f"<!-- figures -->\n\n{FIGURES.read_text(encoding='utf-8')}\n<!-- end -->"
    content = re.sub(r"<!-- figures -->\n.*?<!-- end -->", lambda _: figures, content, flags=re.DOTALL)
    return re.sub(r"<!-- hints -->\n\n(\|.*\n)*", lambda _: f"<!-- hints -->\n\n{hints}\n", content)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["command", name]:
            print(command(name))  # noqa: T201
        case ["--write"]:
            README.write_text(up_to_date(), encoding="utf-8")
        case _:
            sys.exit(__doc__)

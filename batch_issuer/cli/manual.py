"""``help``: the pages of the manual, which are Markdown files in the package."""

from __future__ import annotations

import re
import shutil
import sys
from difflib import get_close_matches
from pathlib import Path

from ..errors import SettingsError
from .parser import make_parser, subcommands
from .screen import out

MANUAL = Path(__file__).parents[1] / "manual"

_READING_ORDER = (
    "first-time",
    "rosters",
    "results",
    "troubleshooting",
    "settings",
    "organizations",
    "unattended",
    "quota",
    "sandbox",
    "python",
)


def topics() -> dict[str, Path]:
    """The pages by topic, in reading order; unlisted ones come last."""
    order = {topic: place for place, topic in enumerate(_READING_ORDER)}
    pages = sorted(MANUAL.glob("*.md"), key=lambda page: (order.get(page.stem, len(order)), page.stem))
    return {page.stem: page for page in pages}


def page_text(page: Path) -> str:
    """A page as it is printed: without the comments that tests read, bold type and the targets of links."""
    text = re.sub(r"<!--.*?-->\n*", "", page.read_text(encoding="utf-8"), flags=re.DOTALL).rstrip("\n") + "\n"
    parts = re.split(r"(^```.*?^```$)", text, flags=re.DOTALL | re.MULTILINE)  # every other one is code
    parts[::2] = [re.sub(r"\*\*(.+?)\*\*", r"\1", part, flags=re.DOTALL) for part in parts[::2]]
    parts[::2] = [re.sub(r"\[([^\]]+)\]\([^)\s]+\)", r"\1", part) for part in parts[::2]]
    return "".join(parts)


def overview() -> str:
    """Every topic with its page's first line."""
    pages = topics()
    width = max(map(len, pages))
    lines = [f"  {topic:{width}}  {page_text(page).splitlines()[2]}" for topic, page in pages.items()]
    return "\n".join(
        [
            "batch-issuer help TOPIC prints a page of the manual:",
            "",
            *lines,
            "",
            "batch-issuer help COMMAND prints the flags of a command, as in",
            "batch-issuer help issue; the same as batch-issuer issue --help.",
            "",
        ]
    )


def show_help(topic: str | None) -> None:
    """Print a page of the manual, the help of a command, or the list of topics.

    A topic wins over a command of the same name, because that has ``--help``.

    Raises:
        SettingsError: there is neither such a topic nor such a command.
    """
    pages, commands = topics(), subcommands(make_parser())
    if topic is None:
        _print(overview())
    elif topic in pages:
        _print(page_text(pages[topic]))
    elif topic in commands:
        _print(commands[topic].format_help())
    else:
        near = get_close_matches(topic.lower(), [*pages, *commands], 1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise SettingsError(f"no help topic {topic!r}", f"{guess}batch-issuer help lists the topics")


def _print(text: str) -> None:
    """Print through a pager where that is a terminal and the text does not fit."""
    if sys.stdout is not None and sys.stdout.isatty() and text.count("\n") >= shutil.get_terminal_size().lines:
        from pydoc import pager

        pager(text)
    else:
        out(text.rstrip("\n"), as_is=True)

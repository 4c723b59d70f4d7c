"""The pages of the manual read well on a code host and as plain text in a terminal."""

from __future__ import annotations

import importlib.resources
import re
from typing import TYPE_CHECKING

import pytest
from support import docs

from batch_issuer.cli.manual import overview, page_text, topics

if TYPE_CHECKING:
    from pathlib import Path


def prose(text: str) -> list[str]:
    """The lines outside code blocks."""
    return re.sub(r"^```.*?^```\n", "", text, flags=re.DOTALL | re.MULTILINE).splitlines()


@pytest.mark.parametrize("page", docs.pages(), ids=lambda page: str(page.relative_to(docs.ROOT)))
def test_lines_fit_a_terminal(page: Path) -> None:
    assert [line for line in prose(docs.text(page)) if len(line) > docs.WIDTH] == []


def test_only_code_may_be_wider() -> None:
    assert prose(f"a\n```sh\n{'b' * 99}\n```\nc") == ["a", "c"]


@pytest.mark.parametrize("page", docs.manual(), ids=lambda page: page.stem)
def test_a_page_starts_with_a_title_and_one_line(page: Path) -> None:
    title, blank, summary, blank_too, *_ = docs.text(page).splitlines()
    assert re.fullmatch(r"# [A-Z][\w ]+", title)
    assert (blank, blank_too) == ("", "")
    assert re.fullmatch(r"[A-Z].{10,60}\.", summary)


@pytest.mark.parametrize("page", docs.manual(), ids=lambda page: page.stem)
def test_a_printed_page_has_no_comments(page: Path) -> None:
    assert "<!--" in docs.text(page) or page.stem not in ("first-time", "settings")
    assert "<!--" not in page_text(page)
    assert "\n\n\n" not in re.sub(r"^```.*?^```", "code", page_text(page), flags=re.DOTALL | re.MULTILINE)


def test_no_paragraph_is_on_two_pages() -> None:
    seen: dict[str, str] = {}
    for page in docs.manual():
        for paragraph in "\n".join(prose(docs.text(page))).split("\n\n"):
            text = " ".join(paragraph.split())
            if len(text) > 60 and not text.startswith("<!--"):
                assert text not in seen, f"{page.name} and {seen[text]}: {text}"
                seen[text] = page.name


def test_the_pages_are_in_the_package() -> None:
    folder = importlib.resources.files("batch_issuer") / "manual"
    assert sorted(one.name for one in folder.iterdir()) == sorted(page.name for page in topics().values())


def test_every_page_is_a_topic_with_its_first_line() -> None:
    assert sorted(topics()) == sorted(page.stem for page in docs.manual())
    for topic, page in topics().items():
        assert re.search(rf"^  {topic} +{re.escape(docs.text(page).splitlines()[2])}$", overview(), re.MULTILINE)
    assert max(map(len, overview().splitlines())) <= docs.WIDTH

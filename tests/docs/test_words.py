"""Words that must not come back in anything a user reads; `WORDS` has a sentence for each."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from typing import TYPE_CHECKING

import pytest
from support import docs
from support.paths import ROOT

from batch_issuer.hints import Hint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

PACKAGE = ROOT / "batch_issuer"

WORDS = {
    r"mend(?:s|ed|ing)?": "who can mend it",
    r"cured?s?": "the cure is in the hint",
    r"put(?:s|ting)? (?:it |them |the \w+ )?right": "put the cells right",
    r"(?:go(?:es|ing)?|gone|went) on": "an interrupted run is gone on with",
    r"cut off": "a run that was cut off",
    r"nobody knows": "nobody knows whether a token was issued",
    r"anew": "such tokens are asked anew",
    r"(?:is|are|was|were|be) asked for": "another token is asked for",
    r"lack(?:s|ed|ing)?": "rows lacking a token",
    r"spoil(?:t|ed|s)?": "3 tokens are spoilt",
    r"look(?:s|ed|ing)? at": "3 rows to look at",
    r"look(?:s|ed|ing)? (?:(?:a|the) \w+ )?over": "look a roster over",
    r"c[oa]mes? to": "what the run came to",
    r"bec(?:a|o)mes? of": "what became of each row",
    r"by (?:itself|themselves)": "it expires by itself",
    r"at work": "while a run is at work",
    r"under way": "3 requests under way",
    r"(?:left|leaves?|leaving)(?: \w+)? alone": "rows with a valid token are left alone",
    r"shall": "tokens shall be valid for so long",
    r"beside": "depot.csv, and the results beside it",
    r"yours alone": "a file that is yours alone",
    r"folders? for settings": "in your folder for settings",
    r"beforehand": "the time is reported beforehand",
    r"remarks?": "2 remarks",
    r"stand-ins?": "a stand-in for the API",
    r"cooling down": "40 are cooling down",
    r"slots?": "38 of 100 slots in use",
    r"API keys?": "the API key was refused",
    r"(?:wrong|revoked|refused|missing|real) keys?": "a revoked key stops the run",
    r"keys? (?:is|was|are|were) (?:refused|revoked|missing|wrong|not set)": "the key is refused",
    r"whose (?:is|are|was|they|it)": "retry finds out whose it is",
    r"tell(?:s|ing)?": "status tells how many",
    r"told": "nothing unless told",
    r"sa(?:y|ys|id|ying)": "the setting says nothing",
    r"(?<!there )(?:is|are) no(?! longer\b| more than\b)": "'12x' is no driver ID",
    r"(?:that|which) (?:is|are) none": "a status that is none",
    r"st(?:and|ands|anding|ood) (?:in|for|there|without)": "settings may stand in a file",
    r"holds? (?:\w+ ){0,2}(?:tokens?|passwords?|columns?|settings)": "this file holds login tokens",
    r"as such": "it is refused as such",
    r"be over by": "be over by 06:00",
    r"so long(?! as)": "valid for so long",
}
"""Regular expressions of whole words, in any case, each with a sentence that contains one."""

UNMISTAKABLE = (
    r"mend(?:s|ed|ing)?",
    r"cut off",
    r"nobody knows",
    r"anew",
    r"spoilt",
    r"stand-in",
    r"lacking",
    r"by itself",
    r"gone on with",
    r"beside it",
)
"""Those that docstrings and comments must not contain either."""


def compiled(words: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?<![\w-])(?:{word})(?![\w-])" for word in words), re.IGNORECASE)


FORBIDDEN, FORBIDDEN_IN_CODE = compiled(WORDS), compiled(UNMISTAKABLE)


def found(pattern: re.Pattern[str], text: str) -> list[str]:
    """The forbidden words of a text, each with what is around it."""
    text = " ".join(text.split())
    return [text[max(0, match.start() - 40) : match.end() + 40] for match in pattern.finditer(text)]


@pytest.mark.parametrize(("word", "sentence"), WORDS.items())
def test_each_word_is_found(word: str, sentence: str) -> None:
    assert compiled([word]).search(sentence)
    assert found(FORBIDDEN, f"{sentence.upper()}.")


@pytest.mark.parametrize("word", UNMISTAKABLE)
def test_each_word_of_code_is_one_of_texts(word: str) -> None:
    assert any(compiled([word]).search(sentence) for sentence in WORDS.values())


@pytest.mark.parametrize(
    "sentence",
    [
        "There is no settings file.",
        "The row is no longer valid.",
        "An external ID is written key:value.",
        "unknown keys are errors",
        "the command prints it automatically",
        "Mendoza, Curepipe and Beside-the-Sea are names",
    ],
)
def test_good_sentences_are_not(sentence: str) -> None:
    assert found(FORBIDDEN, sentence) == []


# --- what a user reads


@pytest.mark.parametrize("page", docs.pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page: Path) -> None:
    """Outputs and hints are the program's, which other tests here check."""
    text = re.sub(r"<!-- output: .*?\n```\n", "", docs.text(page), flags=re.DOTALL)
    assert found(FORBIDDEN, re.sub(r"<!-- hints -->.*?<!-- end -->", "", text, flags=re.DOTALL)) == []


@pytest.mark.parametrize("name", docs.help_texts())
def test_help_texts(name: str) -> None:
    assert found(FORBIDDEN, docs.help_texts()[name]) == []


@pytest.mark.parametrize("hint", Hint, ids=lambda hint: hint.name)
def test_hints(hint: Hint) -> None:
    assert found(FORBIDDEN, f"{hint.what}. {hint}") == []


def test_the_description_of_the_summary() -> None:
    def descriptions(node: object) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "description" and isinstance(value, str):
                    yield value
                yield from descriptions(value)
        elif isinstance(node, list):
            for value in node:
                yield from descriptions(value)

    schema = json.loads((PACKAGE / "reporting" / "summary.schema.json").read_text(encoding="utf-8"))
    texts = list(descriptions(schema))
    assert len(texts) > 10
    assert [one for text in texts for one in found(FORBIDDEN, text)] == []


NO_SENTENCE = re.compile(r"[\w.:-]*|\s*(?:SELECT|INSERT|UPDATE|DELETE|CREATE|PRAGMA|DROP|BEGIN)\b.*", re.DOTALL)
"""Names, and SQL."""

LEGACY = "LOST_TOKEN_ENDINGS"
"""The name of texts that earlier versions wrote and that must still be read."""

INTERNAL = ("quota/leases.py",)
"""Files with no text that a user reads."""


def docstrings(tree: ast.AST) -> dict[int, ast.Constant]:
    """The docstrings of a module and everything in it, by the node's ``id()``."""
    bodies = (getattr(node, "body", None) for node in ast.walk(tree))
    values = (one.value for body in bodies if isinstance(body, list) for one in body if isinstance(one, ast.Expr))
    return {id(value): value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}


def literals(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every string literal but docstrings; of an f-string its fixed parts, with … between."""
    tree = ast.parse(source)
    left_out = {*docstrings(tree)}
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if id(node) in left_out or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == LEGACY):
            continue
        if isinstance(node, ast.JoinedStr):
            yield node.lineno, "".join(str(one.value) if isinstance(one, ast.Constant) else "…" for one in node.values)
            pending += [one.value for one in reversed(node.values) if isinstance(one, ast.FormattedValue)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
        else:
            pending += reversed(list(ast.iter_child_nodes(node)))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_texts_of_the_package(path: Path) -> None:
    """All string literals that could be sentences: most of them reach a user."""
    if path.relative_to(PACKAGE).as_posix() in INTERNAL:
        return
    words = [
        f"{path.name}:{line}: {word}"
        for line, text in literals(path.read_text(encoding="utf-8"))
        if not NO_SENTENCE.fullmatch(text)
        for word in found(FORBIDDEN, text)
    ]
    assert words == []


def test_literals_are_found_and_docstrings_are_not() -> None:
    source = (
        '"""Doc."""\ndef f(x):\n    """Doc too."""\n    return [f"a {x or \'b\'} c", "d" "e"]\nY = "f"\n"""Of Y."""\n'
    )
    assert [text for _, text in literals(source)] == ["a … c", "b", "de", "f"]


# --- docstrings and comments


def notes_of_code(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of docstrings, and of comments, those on successive lines together."""
    for docstring in docstrings(ast.parse(source)).values():
        yield docstring.lineno, str(docstring.value)
    comments: dict[int, tuple[int, str]] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line = token.start[0]
            start, text = comments.pop(line - 1, (line, ""))
            comments[line] = (start, f"{text} {token.string.lstrip('#: ')}")
    yield from comments.values()


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_docstrings_and_comments(path: Path) -> None:
    words = [
        f"{path.name}:{line}: {word}"
        for line, text in notes_of_code(path.read_text(encoding="utf-8"))
        for word in found(FORBIDDEN_IN_CODE, text)
    ]
    assert words == []


def test_a_word_across_two_lines_of_a_comment_is_found() -> None:
    source = "x = 1  # it was cut\n# off\n\ndef f():\n    '''It begins\n    anew.'''\n"
    assert sorted(word for _, text in notes_of_code(source) for word in found(FORBIDDEN_IN_CODE, text)) == [
        "It begins anew.",
        "it was cut off",
    ]

"""Rows without a token as a person reads them: grouped, as spans or with names, a hint for each group."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_issuer.cli.groups import ALL_SHOWN, SOME_SHOWN, group_lines, row_list, warning_lines
from batch_issuer.cli.screen import CROSS
from batch_issuer.results import Failure


def failure(row: int, error: str = "HTTP 404: Object not found.", hint: str = "roster: fix it", status: str = "failed"):  # noqa: ANN201
    return Failure(row, status, f"driverId={row}", error, hint)


NAMES = {4: "Ana Lima", 10: "Bo Chen", 16: "Cy Diaz"}


@pytest.mark.parametrize(
    ("rows", "names", "in_full", "text"),
    [
        ([4], {}, False, "row 4"),
        ([4], NAMES, False, "row 4 (Ana Lima)"),
        ([4, 6], {}, False, "rows 4 and 6"),
        ([4, 5], {}, False, "rows 4-5"),
        ([4, 5, 6, 9, 12, 13], {}, False, "rows 4-6, 9 and 12-13"),
        ([*range(4, 64, 6)], NAMES, False, "rows 4 (Ana Lima), 10 (Bo Chen), 16 (Cy Diaz) and 7 more"),
        ([4, 10, 11], NAMES, False, "rows 4 (Ana Lima), 10 (Bo Chen) and 11"),
        ([4, 5, 6, 7, 8], NAMES, False, "rows 4 (Ana Lima), 5, 6, 7 and 8"),
        ([44, 81, 118, *range(200, 214, 2)], {}, False, "rows 44, 81, 118 and 7 more"),
        ([2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17], {}, False, "rows 2-3, 5-6, 8-9 and 5 more"),
        ([2, 4, 6, 8, 10], {}, False, "rows 2, 4, 6, 8 and 10"),
        ([2, 4, 6, 8, 10, 12], {}, True, "rows 2, 4, 6, 8, 10 and 12"),
        ([4, 10, 16, 22, 28, 34], NAMES, True, "rows 4 (Ana Lima), 10 (Bo Chen), 16 (Cy Diaz), 22, 28 and 34"),
    ],
)
def test_rows_are_spans_or_have_names(rows: list[int], names: dict[int, str], text: str, *, in_full: bool) -> None:
    assert row_list(rows, names, in_full=in_full) == text


@given(st.sets(st.integers(2, 60), min_size=1).map(sorted), st.booleans(), st.booleans())
def test_no_row_is_missing_from_a_list(rows: list[int], named: bool, in_full: bool) -> None:
    """What is shown, and the number of the others."""
    text = row_list(rows, dict.fromkeys(rows, "Ana Lima") if named else {}, in_full=in_full)
    start, *_ = text.partition(" more")
    entries = (
        start.removeprefix("rows ").removeprefix("row ").replace(" (Ana Lima)", "").replace(" and ", ", ").split(", ")
    )
    more = int(entries.pop()) if text.endswith(" more") else 0
    shown = [row for entry in entries for row in range(int(entry.split("-")[0]), int(entry.split("-")[-1]) + 1)]
    assert shown == rows[: len(shown)]
    assert len(shown) + more == len(rows)
    assert not (more and in_full)
    assert len(entries) <= ALL_SHOWN or in_full
    assert len(entries) == SOME_SHOWN or not more


def test_failures_of_one_kind_are_one_group_with_one_hint() -> None:
    assert [*group_lines(map(failure, range(4, 64, 6)), NAMES)] == [
        f"{CROSS} 10 failed: HTTP 404: Object not found.",
        "    rows 4 (Ana Lima), 10 (Bo Chen), 16 (Cy Diaz) and 7 more",
        "    hint: roster: fix it",
    ]


def test_causes_that_differ_are_listed_row_by_row_under_one_hint() -> None:
    rows = [failure(row, f"no driver {row}") for row in (4, 5, 10)]
    assert [*group_lines(rows, NAMES)] == [
        f"{CROSS} 3 failed:",
        "    row 4 (Ana Lima): no driver 4",
        "    row 5: no driver 5",
        "    row 10 (Bo Chen): no driver 10",
        "    hint: roster: fix it",
    ]


@pytest.mark.parametrize(
    ("rows", "more"),
    [(range(4, 12), "    and 5 more: rows 7-11"), (range(4, 100, 2), "    and 45 more")],
    ids=["few spans", "many spans"],
)
def test_of_many_causes_the_first_are_shown_and_the_others_counted(rows: range, more: str) -> None:
    failures = [failure(row, f"no driver {row}") for row in rows]
    lines = [*group_lines(failures, {})]
    assert lines[1:4] == [f"    row {row}: no driver {row}" for row in rows[:3]]
    assert lines[4:] == [more, "    hint: roster: fix it"]
    assert len([*group_lines(failures, {}, in_full=True)]) == 1 + len(rows) + 1


def test_groups_are_by_status_and_hint_in_the_order_of_their_first_row() -> None:
    rows = [
        failure(2, "e", "roster: a", "invalid"),
        failure(3, "f", "roster: b"),
        failure(4, "e", "roster: a", "not_attempted"),
        failure(5, "f", "roster: b"),
        failure(6, "e", "roster: a", "invalid"),
        failure(7, "", "", "unknown"),
    ]
    assert [*group_lines(rows, {})] == [
        f"{CROSS} 2 invalid: e",
        "    rows 2 and 6",
        "    hint: roster: a",
        f"{CROSS} 2 failed: f",
        "    rows 3 and 5",
        "    hint: roster: b",
        f"{CROSS} 1 not attempted: e",
        "    row 4",
        "    hint: roster: a",
        f"{CROSS} 1 unknown",
        "    row 7",
    ]


def test_an_earlier_token_that_was_not_renewed_is_not_called_issued() -> None:
    assert next(group_lines([failure(2, "no new one", status="issued")], {})) == f"{CROSS} 1 not renewed: no new one"


@pytest.mark.parametrize(
    ("warnings", "lines"),
    [
        ({}, []),
        ({4: "an @"}, ["warning: row 4 (Ana Lima): an @"]),
        ({4: "an @", 5: "an @"}, ["warning: rows 4 (Ana Lima) and 5: an @"]),
        (
            {4: "an @", 5: "a space", 6: "an @", 7: "a tab"},
            [
                "warning: rows 4 (Ana Lima) and 6: an @",
                "warning: 2 rows to check:",
                "    row 5: a space",
                "    row 7: a tab",
            ],
        ),
    ],
)
def test_warnings_of_one_kind_are_one_line(warnings: dict[int, str], lines: list[str]) -> None:
    assert [*warning_lines(warnings, NAMES)] == lines

"""What each row of a batch has come to; that of the many rows alike is made when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from ..model import Outcome


class Outcomes(Mapping[int, "Outcome"]):
    """By row number, in the order of the rows. Of 200,000 rows kept as objects nearly 100 MiB would be taken."""

    def __init__(self, rows: range, make: Callable[[int], Outcome], tokens: Sequence[str] = ()) -> None:
        """None is settled yet.

        Args:
            rows: their numbers.
            make: makes the outcome of a row that was not settled otherwise, by its number.
            tokens: for each row the token in that outcome; without any, none has one.
        """
        self._rows = rows
        self._make = make
        self._tokens = tokens
        self._settled: list[Outcome | None] = [None] * len(rows)

    def settle(self, outcome: Outcome) -> None:
        """Keep the outcome of a row."""
        self._settled[outcome.row - self._rows.start] = outcome

    def __getitem__(self, row: int) -> Outcome:
        if row not in self._rows:
            raise KeyError(row)
        return self._settled[row - self._rows.start] or self._make(row)

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return repr(dict(self))

    def __or__(self, others: Mapping[int, Outcome]) -> Outcomes:
        return self.followed_by(others.values())

    def followed_by(self, later: Iterable[Outcome]) -> Outcomes:
        """These, but for rows that came to something else later."""
        found = Outcomes(self._rows, self._make, self._tokens)
        found._settled = self._settled.copy()
        for outcome in later:
            found.settle(outcome)
        return found

    def tokens(self) -> list[str]:
        """For each row its token, blank for none."""
        made = self._tokens or [""] * len(self)
        return [one.token if one else token for one, token in zip(self._settled, made, strict=True)]

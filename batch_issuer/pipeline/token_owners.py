"""Which row a token belongs to: something on the way may repeat an answer, and a token is one driver's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..model import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model import Driver, Outcome, Reply


class TokenOwners:
    """The tokens of one results file, each with the row that got it first."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        """Begin with the tokens that rows got earlier."""
        self._rows = {outcome.token: outcome.row for outcome in outcomes if outcome.token}

    def check(self, reply: Reply, driver: Driver) -> Reply:
        """The reply, without its token if that is another row's; or this row's earlier one, which has its own code."""
        if not reply.token:
            return reply
        row = self._rows.setdefault(reply.token, driver.row)
        if row != driver.row:
            message = f"HTTP {reply.status}, but with the token that row {row} got"
        elif driver.before is not None and reply.token == driver.before.token:
            message = f"HTTP {reply.status}, but with the earlier token again"
        else:
            return reply
        return replace(reply, token="", expires_at=None, fault=Fault.REPEATED, message=message)

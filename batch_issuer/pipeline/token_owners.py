"""Which row a token belongs to: a proxy may repeat a reply, but each token belongs to one driver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ..model import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..model import Driver, Outcome, Reply


class TokenOwners:
    """The tokens of one results file, each with the row that received it first."""

    def __init__(self, outcomes: Iterable[Outcome]) -> None:
        """Start with the tokens of earlier runs."""
        self._rows = {outcome.token: outcome.row for outcome in outcomes if outcome.token}

    def check(self, reply: Reply, driver: Driver) -> Reply:
        """The reply, without its token if that belongs to another row or is this row's earlier one (another code)."""
        if not reply.token:
            return reply
        row = self._rows.setdefault(reply.token, driver.row)
        if row != driver.row:
            message = f"HTTP {reply.status}, but with the token of row {row}"
        elif driver.before is not None and reply.token == driver.before.token:
            message = f"HTTP {reply.status}, but with the earlier token of this row"
        else:
            return reply
        return replace(reply, token="", expires_at=None, fault=Fault.REPEATED, message=message)

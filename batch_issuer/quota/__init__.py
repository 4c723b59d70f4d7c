"""When may the next request leave? Within the documented limit, at what the server bears, shared with other runs.

::

    leases.py             what a slot is, the promise and its proof, how runs share
    memory_leases.py      … kept in memory
    sqlite_leases.py      … kept in SQLite, for all processes of a user on this computer
    redis_leases.py       … kept in Redis, for several computers
    congestion.py         the window of requests in flight and the gate, for what the server does besides
    pace.py               departures for a server that trickles
    estimate.py           how long so many requests take
    quota.py              Quota: what a run calls
    opening.py            which leases a run's settings mean
"""

from __future__ import annotations

from .estimate import estimate
from .leases import Budget
from .memory_leases import MemoryLeases
from .opening import open_quota
from .quota import Permit, Quota, Trouble

__all__ = [
    "Budget",
    "MemoryLeases",
    "Permit",
    "Quota",
    "Trouble",
    "estimate",
    "open_quota",
]

"""When may the next request leave? Within the documented limit, as fast as the server allows, shared between runs.

::

    leases.py             slots, the promise and its proof, how runs share
    memory_leases.py      leases in memory
    sqlite_leases.py      leases in SQLite, for all processes of a user on this computer
    sqlite_database.py    their database file and its thread
    redis_leases.py       leases in Redis, for several computers
    congestion.py         congestion control: the window of requests in flight, and the gate
    pace.py               paced departures, for a trickling server
    estimate.py           how long a number of requests takes
    quota.py              Quota, which a run calls
    opening.py            opens the leases that the settings choose
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

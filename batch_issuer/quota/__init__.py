"""When may the next request leave? Within the documented limit, at what the server bears, in step with other runs.

::

    leases.py       what a slot is, the promise and its proof, how runs share
    in_process.py   … kept in memory
    on_host.py      … kept in SQLite, for all processes of a user on this computer
    on_hosts.py     … kept in Redis, for several computers
    control.py      congestion control, for whatever the server does besides
    admission.py    Quota, the one door for a run
    choice.py       which of these a run's settings mean
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

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

from .admission import Permit, Quota, Trouble, plan
from .choice import open_quota
from .in_process import MemoryLeases
from .leases import Budget

__all__ = [
    "Budget",
    "MemoryLeases",
    "Permit",
    "Quota",
    "Trouble",
    "open_quota",
    "plan",
]

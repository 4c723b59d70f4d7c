"""The results file: durable as it grows, composed in roster order, published in one step.

While the run goes on there is ``OUT.partial``, a journal in completion order and itself valid CSV: row number, roster
cells, outcome. A row's last line wins. A line with status ``unknown`` is written before each request, so that after a
crash one knows which tokens may exist unrecorded. Publishing writes everything in roster order into a second
temporary file and renames that over OUT.

Files are born with mode 0600 and never opened through a symbolic link: they hold login tokens.
"""

from .columns import AUTH_COLUMNS, ROW_COLUMN, auth_frame, guard_cell, unguard_cell
from .destination import Destination
from .journal import Journal
from .reading import Failure, Results, read_results

__all__ = [
    "AUTH_COLUMNS",
    "ROW_COLUMN",
    "Destination",
    "Failure",
    "Journal",
    "Results",
    "auth_frame",
    "guard_cell",
    "read_results",
    "unguard_cell",
]

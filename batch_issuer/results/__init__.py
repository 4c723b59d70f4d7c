"""The results file: durable as it grows, published in one step, finished or refreshed later.

While the run goes on there is ``OUT.partial``, a journal in completion order and itself valid CSV: row number, roster
cells, outcome. It begins with a line for every row; a row's last line wins. Before each request a line says that a
token may exist, so that after a crash one knows which may be unrecorded. Publishing writes everything
in roster order into a second temporary file, for which room is reserved at the beginning, and renames that over OUT.

Files are born with mode 0600 and never opened through a symbolic link: they hold login tokens.
"""

from .atomic_file import Published
from .auth_columns import AUTH_COLUMNS, ROW_COLUMN, auth_frame
from .batch import Batch
from .destination import Destination
from .formulas import guard_cell, unguard_cell
from .journal import Journal
from .reading import Results, read_results
from .status import Failure, FileStatus, count_statuses, failures_in, status_of
from .validity import SANDBOX_TOKEN, Validity

__all__ = [
    "AUTH_COLUMNS",
    "ROW_COLUMN",
    "SANDBOX_TOKEN",
    "Batch",
    "Destination",
    "Failure",
    "FileStatus",
    "Journal",
    "Published",
    "Results",
    "Validity",
    "auth_frame",
    "count_statuses",
    "failures_in",
    "guard_cell",
    "read_results",
    "status_of",
    "unguard_cell",
]

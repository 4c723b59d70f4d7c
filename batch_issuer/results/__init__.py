"""The results file: durable during a run, published in one step, finished or renewed later.

During a run there is ``OUT.partial``, a journal in completion order and itself valid CSV: row number, roster cells,
outcome. It starts with a line for every row; the last line of a row counts. Before each request an intent line records
that a token may exist, so that a crash leaves no token unnoticed. Publishing writes everything in roster order into a
second temporary file, with disk space reserved at the start, and renames it over OUT.

Files are created with mode 0600 and never opened through a symbolic link, because they contain login tokens.
"""

from .atomic_file import Published
from .auth_columns import AUTH_COLUMNS, ROW_COLUMN, auth_frame
from .batch import Batch
from .destination import Destination
from .formulas import guard_cell, unguard_cell
from .journal import Journal
from .reading import Results, read_results
from .replaceable import has_only_sandbox_tokens
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
    "has_only_sandbox_tokens",
    "read_results",
    "status_of",
    "unguard_cell",
]

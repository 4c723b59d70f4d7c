"""The command line: one place that turns errors into a message, a tip and an exit code.

The only place that reads the environment and writes to stdout and stderr; it hands both on.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import TYPE_CHECKING, NoReturn

from ..errors import BatchIssuerError
from . import commands, issuing
from .exit_codes import EXIT_SIGNAL, EXIT_STOPPED_EARLY
from .parser import make_parser
from .telling import say, say_error, unexpected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_COMMANDS = {
    "check": commands.check,
    "issue": issuing.issue,
    "retry": issuing.retry,
    "purge": commands.purge,
    "status": commands.status,
    "config": commands.config,
    "quota": commands.quota,
    "sandbox": commands.sandbox,
}


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes a message, a tip and a code.

    Args:
        argv: the arguments without the program's name; those of the process by default.
        environ: environment variables; those of the process by default.
    """
    for stream in (sys.stdout, sys.stderr):  # a roster may hold what the terminal's encoding does not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = make_parser().parse_args(argv)
        return _COMMANDS[options.command](options, os.environ if environ is None else environ)
    except BatchIssuerError as error:
        say_error(error)
        return issuing.exit_code_of(error)
    except KeyboardInterrupt:
        return EXIT_SIGNAL + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user, and its text may hold a secret
        say(
            unexpected(error),
            "What to do: report this line; anything issued is in the results or in the .partial file beside them",
        )
        return EXIT_STOPPED_EARLY


def entry_point() -> NoReturn:
    """The ``batch-issuer`` command."""
    sys.exit(main())

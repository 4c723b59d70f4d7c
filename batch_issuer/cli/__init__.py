"""The command line: one place that turns errors into a message, a hint and an exit code.

The only place that reads the environment and writes to stdout and stderr; it hands both on. What a command needs is
imported once it is known which command it is, so that ``--help`` is there at once.
"""

from __future__ import annotations

import gc
import io
import os
import sys

from ..errors import BatchIssuerError
from .parser import make_parser

TYPE_CHECKING = False  # importing typing would make --help a sixth slower
if TYPE_CHECKING:
    from argparse import Namespace
    from collections.abc import Callable, Mapping, Sequence
    from typing import NoReturn


def main(argv: Sequence[str] | None = None, environ: Mapping[str, str] | None = None) -> int:
    """Run one command and return its exit code; every error becomes a message, a hint and a code.

    Args:
        argv: the arguments without the program's name; those of the process by default.
        environ: environment variables; those of the process by default.
    """
    for stream in (sys.stdout, sys.stderr):  # a roster may hold what the terminal's encoding does not
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = make_parser().parse_args(argv)
        return _run(options, os.environ if environ is None else environ)
    except BatchIssuerError as error:
        from ..reporting.exit_codes import exit_code_of
        from .messages import print_error

        print_error(error)
        return exit_code_of(error)
    except KeyboardInterrupt:
        from ..reporting.exit_codes import EXIT_INTERRUPTED

        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - no traceback reaches a user, and its text may hold a secret
        from ..reporting.exit_codes import EXIT_STOPPED_EARLY
        from ..wording import unexpected
        from .screen import say

        say(
            f"error: {unexpected(error)}",
            "hint: report this line; anything issued is in the results or in the .partial file beside them",
        )
        return EXIT_STOPPED_EARLY


def _run(options: Namespace, environ: Mapping[str, str]) -> int:
    if options.command == "help":
        from ..reporting.exit_codes import EXIT_COMPLETE
        from .manual import show_help

        show_help(options.topic)
        return EXIT_COMPLETE
    if options.command in ("issue", "retry"):
        from . import issuing as home
    else:
        from . import commands as home  # type: ignore[no-redef]
    command: Callable[[Namespace, Mapping[str, str]], int] = getattr(home, options.command)
    return command(options, environ)


def entry_point() -> NoReturn:
    """The ``batch-issuer`` command."""
    code = main()
    gc.freeze()  # or the interpreter's last search for cycles takes 60 ms, which nobody needs of a process that ends
    sys.exit(code)

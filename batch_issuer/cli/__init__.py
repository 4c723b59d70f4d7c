"""The command line: one place that turns errors into a message, a hint and an exit code.

Only this folder reads the environment and writes to stdout and stderr. The modules of a command are imported once the
command is known, which keeps ``--help`` fast.
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
    for stream in (sys.stdout, sys.stderr):  # a roster may contain what the terminal cannot encode
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        options = make_parser().parse_args(argv)
        if options.command is None:
            return _show_help()
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
            "hint: report this line; issued tokens are in the results file or in the .partial file next to it",
        )
        return EXIT_STOPPED_EARLY


def _show_help() -> int:
    from ..reporting.exit_codes import EXIT_NOTHING_SENT
    from .screen import say

    say(make_parser().format_help().rstrip(), as_is=True)
    return EXIT_NOTHING_SENT


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
    gc.freeze()  # saves the interpreter's last search for cycles, which takes 60 ms
    sys.exit(code)

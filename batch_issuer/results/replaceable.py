"""Which files results may replace: results without a token of any worth, by default."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ResultsError, UsageError
from ..wording import command_text
from .reading import read_results
from .validity import SANDBOX_TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from .reading import Results
    from .validity import Validity


def check_replaceable(path: Path, validity: Validity, *, overwrite: bool, elsewhere: str) -> bool:
    """Refuse to replace a file that is not a results file, or that contains tokens.

    Args:
        path: the file.
        validity: which tokens are good.
        overwrite: whether tokens may be replaced.
        elsewhere: the hint to use another file.

    Returns:
        Whether it contains a token that is not from the sandbox.

    Raises:
        ResultsError: the file must stay.
    """
    try:
        results = read_results(path)
    except UsageError as error:
        why = "it is not a results file" if isinstance(error, ResultsError) else error.message
        raise ResultsError(f"{path} exists and is never replaced: {why}", f"{elsewhere}, or remove the file") from None
    check_no_other_sheets(results, path)
    tokens = _tokens(results)
    if not overwrite and tokens and not is_worthless(results, validity):
        raise ResultsError(
            f"{path} already contains login tokens",
            f"renew the expired ones with {retry_command(path)}, or add --overwrite to replace all",
        )
    return any(not token.startswith(SANDBOX_TOKEN) for token in tokens)


def check_no_other_sheets(results: Results, path: Path) -> None:
    """Refuse to replace a workbook that contains more than the results.

    Raises:
        ResultsError: it does.
    """
    if results.others:
        raise ResultsError(
            f"{path} has other sheets, which would be lost: {', '.join(map(repr, results.others))}",
            "move them to another workbook",
        )


def retry_command(path: Path) -> str:
    """The command that finishes or renews results, to copy."""
    return command_text("batch-issuer", "retry", str(path))


def is_worthless(results: Results, validity: Validity) -> bool:
    """Whether there are tokens, all from the sandbox, and real ones are needed."""
    return validity.real and has_only_sandbox_tokens(results)


def has_only_sandbox_tokens(results: Results) -> bool:
    """Whether there are tokens, all from the sandbox."""
    tokens = _tokens(results)
    return bool(tokens) and all(token.startswith(SANDBOX_TOKEN) for token in tokens)


def _tokens(results: Results) -> list[str]:
    return [token for token in results.frame["auth_token"] if token]

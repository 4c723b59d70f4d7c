"""One POST at the end of a run, to a monitor or a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..api.client import post_json
from ..errors import BatchIssuerError
from ..settings.secrets import Secret
from .summary import sentence

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .summary import OrganizationSummary

NOTIFY_SECONDS = 15.0


async def notify(
    address: Secret,
    summaries: Sequence[OrganizationSummary],
    document: dict[str, Any],
    *,
    proxy: Secret | None,
    ca_file: str | None,
) -> str:
    """Post a sentence and the summary; returns what went wrong, blank if nothing did.

    Args:
        address: where to; ``{exit_code}`` in it becomes the exit code.
        summaries: of the organizations.
        document: the summary as JSON has it.
        proxy: to use; None for none.
        ca_file: certificates to trust instead of the system's.
    """
    address = Secret(address.reveal().replace("{exit_code}", str(document["exit_code"])))
    try:
        text = {"text": sentence(summaries), "summary": document}
        return await post_json(address, text, proxy=proxy, ca_file=ca_file, seconds=NOTIFY_SECONDS)
    except BatchIssuerError as error:
        return error.message

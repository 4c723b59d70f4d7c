"""The notification: one POST at the end of a run, to a monitor or a chat."""

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
    """Post a sentence and the summary; return what went wrong, blank if nothing did.

    Args:
        address: the URL; ``{exit_code}`` in it is replaced by the exit code.
        summaries: one for each organization.
        document: the summary as a JSON object.
        proxy: the proxy to use; None for none.
        ca_file: certificates to trust instead of the system's.
    """
    address = Secret(address.reveal().replace("{exit_code}", str(document["exit_code"])))
    try:
        text = {"text": sentence(summaries), "summary": document}
        return await post_json(address, text, proxy=proxy, ca_file=ca_file, seconds=NOTIFY_SECONDS)
    except BatchIssuerError as error:
        return error.message

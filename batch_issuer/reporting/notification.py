"""One POST at the end of a run, to a monitor or a chat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..api.client import post_json
from ..errors import BatchIssuerError
from ..settings.secrets import Secret
from .summary import sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..settings.layers import Layers
    from .summary import Entry

NOTIFY_SECONDS = 15.0


async def notify(address: Secret, layers: Layers, entries: Sequence[Entry], document: dict[str, object]) -> str:
    """Post a sentence and the summary; returns what went wrong, blank if nothing did."""
    address = Secret(address.reveal().replace("{exit_code}", str(document["exit_code"])))
    try:
        proxy, ca_file = layers.way_to(address.reveal())
        return await post_json(
            address,
            {"text": sentence(entries), "summary": document},
            proxy=proxy,
            ca_file=ca_file,
            seconds=NOTIFY_SECONDS,
        )
    except BatchIssuerError as error:
        return error.message

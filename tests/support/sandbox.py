"""The real sandbox on its own thread, for tests of the command: ``with live_sandbox(script="ok,401*") as s:``."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batch_issuer.cli import main
from batch_issuer.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_issuer.sandbox import LedgerEntry

QUICK = ("--rate", "1000/s", "--quota", "process")
"""Flags for a run that never waits for the quota."""

Tokens = set[tuple[str, str, str]]
"""Identifier, code and token of each row."""


@contextmanager
def live_sandbox(**options: Any) -> Iterator[Sandbox]:
    sandbox = Sandbox(**options)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(sandbox.start(), loop).result(10)
        yield sandbox
    finally:
        asyncio.run_coroutine_threadsafe(sandbox.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


def tokens_of(entries: Iterable[LedgerEntry]) -> Tokens:
    """The tokens that the server issued."""
    return {(entry.identifier, entry.code, entry.token) for entry in entries if entry.token}


def environ_for(sandbox: Sandbox) -> dict[str, str]:
    return {"SAMSARA_API_TOKEN": sandbox.api_token}


def run_command(sandbox: Sandbox, *arguments: object) -> int:
    """The exit code of ``batch-issuer``, in this process."""
    return main([*map(str, arguments), "--base-url", sandbox.url, *QUICK], environ_for(sandbox))

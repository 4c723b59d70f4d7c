"""The real sandbox in a thread of its own, for tests of the command: ``with live_sandbox(script="ok,401*") as s:``."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from batch_issuer.sandbox import Sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator


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

"""The event loop of a command: without tracebacks, and with signals that end a run in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..errors import SettingsError
from ..events import Ending, EndingKind
from .telling import say, unexpected

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from ..results import Destination
    from ..runner import Run

P = ParamSpec("P")
T = TypeVar("T")

EXIT_SIGNAL = 128

LEAST_DESCRIPTORS = 16
"""Files and sockets that a run needs: event loop, quota, journal, results, a few connections."""


class _Unattended(ThreadPoolExecutor):
    """Threads that nobody waits for in the end: the system may take minutes to look a name up."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def work() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - whoever waits for it gets it
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Nothing: the threads end with the process at the latest."""


def run_async(job: Coroutine[object, object, T]) -> T:
    """Run it in an event loop that shows no traceback, and that ends when the job does.

    Raises:
        SettingsError: the process may open too few files.
    """

    async def quietly() -> T:
        asyncio.get_running_loop().set_default_executor(_Unattended())
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: say(unexpected(context.get("exception")), "What to do: report this line")
        )
        return await job

    try:
        _try_descriptors()
    except OSError as error:
        job.close()
        raise SettingsError(
            f"this process cannot open {LEAST_DESCRIPTORS} more files: {error.strerror}",
            "raise the limit of open files (ulimit -n 1024), or end other programs",
        ) from None
    return asyncio.run(quietly())


def _try_descriptors() -> None:
    with ExitStack() as stack:
        for _ in range(LEAST_DESCRIPTORS):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))


@contextmanager
def stopped_by_signals(run: Run, destination: Destination, go_on: str) -> Iterator[None]:
    """The first signal stops the run in good order, the second leaves at once."""
    signals = 0

    def handle(number: int) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            kept = f" What was issued is in {destination.partial}." if destination.partial.exists() else ""
            say("", f"Left at once.{kept}", f"To go on: {go_on}")
            os._exit(EXIT_SIGNAL + number)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        run.stop(Ending(EndingKind.INTERRUPTED, f"by {name}", signal=number))

    with on_signal(handle):
        yield


@contextmanager
def on_signal(handle: Callable[[int], None]) -> Iterator[None]:
    """Call ``handle`` from the event loop with the number of each SIGINT, SIGTERM or SIGHUP (a closed terminal)."""
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32":
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup wants it
            numbers.append(signal.SIGHUP)
        for number in numbers:
            loop.add_signal_handler(number, handle, number)
        try:
            yield
        finally:
            for number in numbers:
                loop.remove_signal_handler(number)
    else:  # the Windows event loop has no add_signal_handler
        before = [signal.signal(number, lambda n, _: loop.call_soon_threadsafe(handle, n)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

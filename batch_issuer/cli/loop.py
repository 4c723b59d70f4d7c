"""The event loop of a command: no tracebacks, and signals that end a run in good order."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from ..errors import SettingsError
from ..pipeline.endings import Ending, EndingKind, StopSignal
from ..reporting.exit_codes import EXIT_SIGNAL
from ..wording import unexpected
from .screen import say

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from ..results import Destination

P = ParamSpec("P")
T = TypeVar("T")

LEAST_DESCRIPTORS = 16
"""Files and sockets that a run needs: event loop, quota, journal, results, a few connections."""


class _Unattended(ThreadPoolExecutor):
    """Threads that the end of the process does not wait for: looking up a name may take minutes."""

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


def run_async(job: Coroutine[object, object, T], *, descriptors: int = 0) -> T:
    """Run a job in an event loop that shows no traceback and ends with the job.

    Args:
        job: what to run.
        descriptors: files and sockets that it may need besides the usual ones.

    Raises:
        SettingsError: the process may open too few files.
    """

    async def quietly() -> T:
        asyncio.get_running_loop().set_default_executor(_Unattended())
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: say(f"error: {unexpected(context.get('exception'))}", "hint: report this line")
        )
        return await job

    try:
        _try_descriptors(LEAST_DESCRIPTORS + descriptors)
    except OSError as error:
        job.close()
        raise SettingsError(
            f"this process cannot open {LEAST_DESCRIPTORS + descriptors} more files: {error.strerror}",
            f"raise the limit of open files (ulimit -n {max(1024, 2 * descriptors)}) or close other programs",
        ) from None
    with _collecting_seldom():
        return asyncio.run(quietly())


@contextmanager
def _collecting_seldom() -> Iterator[None]:
    """Python's search for cycles visits all rows again and again: a fifth of the time, and it finds nothing."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)


def raise_descriptor_limit() -> None:
    """Raise the limit of open files as far as possible: the usual one is too low for many organizations."""
    if sys.platform != "win32":
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        with suppress(OSError, ValueError):  # macOS names a limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _try_descriptors(number: int) -> None:
    with ExitStack() as stack:
        for _ in range(number):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))


@contextmanager
def stopped_by_signals(stop: StopSignal, destinations: Sequence[Destination], resume: str) -> Iterator[None]:
    """The first signal stops all runs in good order, the second leaves at once."""
    signals = 0

    def handle(number: int) -> None:
        nonlocal signals
        signals += 1
        if signals > 1:
            partials = [str(destination.partial) for destination in destinations if destination.partial.exists()]
            kept = f" The login tokens so far are in {', '.join(partials)}." if partials else ""
            say("", f"Stopped at once.{kept}")
            if resume:
                say("To resume:")
                say(f"  {resume}", as_is=True)
            os._exit(EXIT_SIGNAL + number)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        stop.stop(Ending(EndingKind.INTERRUPTED, f"interrupted by {name}", signal=number))

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

"""An event loop with a clock that moves only when all tasks are idle: an hour of quota in milliseconds.

`run` is for code without sockets; a deadlock is an error instead of a hang. `SocketLoop` is for both ends of a
connection in one loop, which is idle once all sent bytes are received and nothing is readable.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import pytest

T = TypeVar("T")

HAIR = 1e-9
"""Least seconds of each move of the clock. On a clock that does not move, a timer that is early by rounding would be
set again for ever."""

DAY = 86_400.0
"""Seconds; no test takes that long, except one that polls for ever."""

SETTLES = 0.02
"""Real seconds after which bytes sent but not received are lost because the connection is gone."""

TURNS = 0.0005
"""Real seconds in which the other end notices that a connection began or ended."""

HANG = 30.0
"""Real seconds after which nothing will wake a task."""


class NothingCanWakeError(Exception):
    """All tasks wait and no timer is set."""


class _IdleSelector(selectors.DefaultSelector):
    """Moves the clock to the next timer instead of sleeping."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise NothingCanWakeError("every task waits for another one")
        self.move(timeout)
        return super().select(0)

    def move(self, seconds: float) -> None:
        self.now += max(seconds, 0.0) + HAIR
        if self.now > DAY:
            raise NothingCanWakeError("a day has passed without a result")


class Traffic:
    """Traffic between the sockets of this process: bytes, and connections that begin or end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Observe all sockets from now on."""
        self._bytes = 0
        self._events = False

        def counted(name: str, sign: int, size: Callable[[Any], int]) -> None:
            original = getattr(socket.socket, name)

            def method(sock: socket.socket, *arguments: Any) -> Any:
                result = original(sock, *arguments)
                self._bytes += sign * size(result)
                return result

            monkeypatch.setattr(socket.socket, name, method)

        def noticed(name: str) -> None:
            original = getattr(socket.socket, name)

            def method(sock: socket.socket, *arguments: Any) -> Any:
                self._events = True
                return original(sock, *arguments)

            monkeypatch.setattr(socket.socket, name, method)

        counted("send", +1, int)
        counted("sendmsg", +1, int)
        counted("recv", -1, len)
        counted("recv_into", -1, int)
        noticed("connect")
        noticed("shutdown")
        noticed("close")

    @property
    def pending(self) -> float:
        """Real seconds to wait for pending traffic; 0 if there is none."""
        return SETTLES if self._bytes else TURNS if self._events else 0.0

    def settle(self) -> None:
        """Forget pending traffic, which will not arrive."""
        self._bytes, self._events = 0, False


class _SocketSelector(_IdleSelector):
    """Moves the clock only without pending traffic, and waits for threads in real time."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def select(self, timeout: float | None = None) -> Any:
        look = selectors.DefaultSelector.select
        ready = look(self, 0)
        if not ready and timeout != 0 and (seconds := self._traffic.pending):
            ready = look(self, seconds)
            if not ready:
                self._traffic.settle()
        if not ready and timeout is None:
            ready = look(self, HANG)
            if not ready:
                raise NothingCanWakeError("every task waits for another one")
        self.move(0.0 if ready or timeout is None else timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector: _IdleSelector | None = None) -> None:
        self._idle = selector or _IdleSelector()
        super().__init__(self._idle)

    def time(self) -> float:
        return self._idle.now


class SocketLoop(VirtualLoop):
    def __init__(self, traffic: Traffic) -> None:
        super().__init__(_SocketSelector(traffic))


def run(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)

"""An event loop whose clock moves only when everything is idle: an hour of quota in milliseconds.

`run` is for code without sockets, where "nothing can ever wake" is an error instead of a hang. `SocketLoop` is for both
ends of a connection in one loop: once all that was sent has been received, and nothing is readable, all is idle.
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
"""Seconds by which the clock moves on in any case, as a real one does: a timer that is early by rounding sets
itself again, and on a clock that stands still would do so for ever."""

DAY = 86_400.0
"""Seconds; no test takes that long, but something that polls for what never comes would."""

SETTLES = 0.02
"""Real seconds after which what was sent, but not received, never will be: its connection is gone."""

TURNS = 0.0005
"""Real seconds after which the other end has noticed that a connection began or ended."""

HANG = 30.0
"""Real seconds after which nothing will wake any more."""


class NothingCanWakeError(Exception):
    """All tasks wait and no timer is set."""


class _IdleSelector(selectors.DefaultSelector):
    """Instead of sleeping, moves the clock on to the next timer."""

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
            raise NothingCanWakeError("a day has passed and nothing is done")


class Traffic:
    """What is under way between the sockets of this process: bytes, and connections that begin or end."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Listen to all sockets from now on."""
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
    def under_way(self) -> float:
        """Real seconds to wait for it; 0 for nothing."""
        return SETTLES if self._bytes else TURNS if self._events else 0.0

    def settle(self) -> None:
        """Nothing of it will arrive any more."""
        self._bytes, self._events = 0, False


class _SocketSelector(_IdleSelector):
    """Moves the clock only where nothing is under way, and waits for threads in real time."""

    def __init__(self, traffic: Traffic) -> None:
        super().__init__()
        self._traffic = traffic

    def select(self, timeout: float | None = None) -> Any:
        look = selectors.DefaultSelector.select
        ready = look(self, 0)
        if not ready and timeout != 0 and (seconds := self._traffic.under_way):
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

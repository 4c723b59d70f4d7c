"""Congestion control with a clock and requests in flight, for tests of the window, the gate and the pace."""

from __future__ import annotations

from hypothesis import strategies as st

from batch_issuer.quota.congestion import CongestionControl
from batch_issuer.quota.pace import SHORT_WAIT
from batch_issuer.settings.run_settings import Rate

RATE = Rate(100, 60.0)
SPACING = RATE.spacing
IDLE = SHORT_WAIT * SPACING
HAIR = 1e-9
"""Least seconds of each move of a clock."""


class Line:
    """A control, its clock, and the requests in flight."""

    def __init__(self, ceiling: int = 16, *, replies: int = 0) -> None:
        """Start after a number of ``replies`` to single requests."""
        self.control = CongestionControl(RATE, ceiling)
        self.now = 0.0
        self.in_flight: list[float] = []  # times of sending
        for _ in range(replies):
            self.send()
            self.reply()

    @property
    def wait(self) -> float:
        return self.control.wait(self.now)

    def send(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.wait == 0
            self.control.sent(self.now)
            self.in_flight.append(self.now)

    def fill(self) -> int:
        """Send as many as may leave now; returns how many are in flight."""
        while self.wait == 0:
            self.send()
        return len(self.in_flight)

    def grow_to(self, window: int) -> None:
        """Reply until ``window`` requests are in flight."""
        while self.fill() < window:
            self.reply()

    def reply(self, count: int = 1, *, healthy: bool = True) -> None:
        for _ in range(count):
            self.control.answered(self.in_flight.pop(0), self.now, healthy=healthy)

    def refuse(self, asked: float | None, *, wait: float | None = None) -> None:
        """A 429 with a ``Retry-After`` of ``asked`` seconds; without one, the gate closes for ``wait``."""
        self.control.throttled(self.in_flight.pop(0), self.now, asked, asked or wait or 0.0)

    def drop_all(self) -> None:
        while self.in_flight:
            self.in_flight.pop()
            self.control.unsent(self.now)


EVENTS = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 20), st.none()),
    st.tuples(st.sampled_from(["reply", "sick", "lost", "unsent"]), st.integers(0, 20), st.none()),
    st.tuples(st.just("refuse"), st.integers(0, 20), st.none() | st.sampled_from([0.0, 0.3, 0.6, 2.4, 2.5, 900.0])),
    st.tuples(st.just("gate"), st.integers(0, 3), st.none()),
    st.tuples(st.just("runs"), st.integers(1, 5), st.none()),
    st.tuples(st.just("tick"), st.sampled_from([0, 1, 5, 6, 7, 10, 24, 25, 100, 10_000]), st.none()),
)
"""The kind of event, which request or how often, and the seconds of a ``Retry-After``."""


class Anything(Line):
    """Applies events; a request leaves only when it may."""

    def __init__(self, ceiling: int) -> None:
        super().__init__(ceiling)
        self.departures: list[float] = []

    def apply(self, event: str, number: int, asked: float | None) -> None:
        match event:
            case "tick":
                self.now += number / 10
            case "gate":
                self.control.close_gate(self.now, number / 4)
            case "runs":
                self.control.pace.runs = number
            case "send":
                before = len(self.in_flight)
                while self.wait == 0 and len(self.in_flight) < before + number:
                    self.send()
                    self.departures.append(self.now)
            case _ if self.in_flight:
                self.end(event, number, asked)

    def end(self, verdict: str, number: int, asked: float | None) -> None:
        self.in_flight.insert(0, self.in_flight.pop(number % len(self.in_flight)))
        match verdict:
            case "reply" | "sick":
                self.reply(healthy=verdict == "reply")
            case "refuse":
                self.refuse(asked, wait=number / 10)
            case "lost" | "unsent":
                self.in_flight.pop(0)
                getattr(self.control, verdict)(self.now)

"""One server over time: what its scrapes amount to, and whether they can be believed. Pure.

Fed and read on one thread. Times are the monotonic clock of whoever scrapes, in seconds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from tputtui.attach.about import About
from tputtui.attach.address import Address
from tputtui.attach.bucketed import Latency, latency_of, pooled
from tputtui.attach.reading import SAME_START_S, Reading
from tputtui.attach.seconds import Seconds
from tputtui.attach.span import Figures, Span
from tputtui.measure.history import History
from tputtui.measure.samples import Mark

__all__ = ["Server", "Standing", "Track"]

SPAN_S = 60.0
LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")
_STALE_PERIODS, _LATE_PERIODS = 3, 5
_RECENT_S = 60.0
_MARKS = 200


class Standing(StrEnum):
    """How far a server can be believed."""

    CONNECTING = "connecting"
    LIVE = "live"
    ASLEEP = "asleep"
    MIXED = "mixed"
    """Several servers answer at the address: their counters are not one."""
    STALE = "stale"
    """It has told figures, and does not any more."""
    DOWN = "down"
    """It has never told any."""


@dataclass(frozen=True, slots=True)
class Server:
    """How one server stands.

    why: what is wrong, in words. age_s: since the newest figures; infinite before any.
    restarted_s: since its last restart was seen, NaN without one of late; restarts: how many.
    now: figures of the last interval, which was `interval_s` long. window: over `window_s`.
    engines: data-parallel engines by their labels, over the window. latencies: over the window.
    history: it second by second. marks: when it restarted.
    """

    address: Address
    standing: Standing
    why: str
    age_s: float
    about: About
    reading: Reading | None
    restarted_s: float
    restarts: int
    now: Figures
    interval_s: float
    window: Figures
    window_s: float
    engines: Mapping[str, Figures]
    latencies: Mapping[str, Latency]
    history: History
    marks: tuple[Mark, ...]

    @property
    def model(self) -> str:
        """What it serves, as it calls it."""
        return self.about.model or (self.reading.model if self.reading else "")

    @property
    def kind(self) -> str:
        """What serves there; empty before it is known."""
        return self.reading.dialect.name if self.reading else ""

    @property
    def counts(self) -> bool:
        """Whether its figures are of now."""
        return self.standing in (Standing.LIVE, Standing.ASLEEP)


@dataclass(slots=True)
class _Runs:
    """Which runs of a server have been seen, by when they started."""

    seen: list[float] = field(default_factory=list)

    def returns(self, started: float) -> bool:
        """Whether this run was there before the present one: two servers take turns."""
        if math.isnan(started) or (self.seen and self.seen[-1] == started):
            return False
        known = [other for other in self.seen if abs(started - other) <= SAME_START_S]
        back = bool(known) and known[-1] != self.seen[-1]
        self.seen = [*(other for other in self.seen[-15:] if other not in known), started]
        return back


class _Found(NamedTuple):
    """What the span amounts to: the part of a Server that only a scrape changes."""

    now: Figures
    interval_s: float
    window: Figures
    window_s: float
    engines: Mapping[str, Figures]
    latencies: Mapping[str, Latency]


def _found_in(span: Span) -> _Found:
    last = span.last_interval()
    latencies = {}
    for key in LATENCIES:
        found = pooled(span.histograms(key))
        if found is not None:
            latencies[key] = latency_of(found)
    return _Found(
        last.total(), last.seconds, span.total(), span.seconds, span.by_engine(), latencies
    )


class Track:
    """Takes what the scrapes of one server bring.

    began_s: when the watching began. period_s: how often it is scraped.
    """

    def __init__(self, address: Address, began_s: float, period_s: float) -> None:
        self.address = address
        self.about = About()
        self._period_s = period_s
        self._span = Span(SPAN_S)
        self._seconds = Seconds(began_s, _LATE_PERIODS * period_s)
        self._marks: list[Mark] = []
        self._runs = _Runs()
        self._told_s = -math.inf
        self._why = ""
        self._restarted_s = self._mixed_s = -math.inf
        self._restarts = 0
        self._found: _Found | None = None

    def told(self, at_s: float, reading: Reading) -> None:
        """A scrape brought figures, which were so at `at_s`."""
        before_s = self._told_s
        if self._runs.returns(reading.started):
            self._mixed_s = at_s
        if at_s - self._mixed_s < _RECENT_S:
            # Which of them the last figures are of is not known: no rate can be worked out.
            self._span.begin_anew()
        if not self._span.add(at_s, reading):
            self._restarted_s = at_s
            self._restarts += 1
            self._marks = [*self._marks[-_MARKS:], Mark(at_s, "engine", "restarted")]
        self._told_s, self._why, self._found = at_s, "", None
        if math.isfinite(before_s) and self._span.seconds > 0:
            self._seconds.add(before_s, at_s, self._span.last_interval().total())

    def failed(self, why: str) -> None:
        """A scrape brought nothing; `why` in words."""
        self._why = why

    def learned(self, about: About) -> None:
        """The server said what it is."""
        self.about = about

    def view(self, now_s: float) -> Server:
        """How it stands at `now_s`."""
        if self._found is None:
            self._found = _found_in(self._span)
        found, reading = self._found, self._span.latest
        self._seconds.pass_by(now_s)
        recent = now_s - self._restarted_s
        return Server(
            self.address,
            self._standing(now_s, reading),
            self._said(now_s, reading),
            now_s - self._told_s,
            self.about,
            reading,
            recent if recent < _RECENT_S else math.nan,
            self._restarts,
            *found,
            self._seconds.history,
            tuple(self._marks),
        )

    # -- inside ----------------------------------------------------------------------------

    def _standing(self, now_s: float, reading: Reading | None) -> Standing:
        if reading is None:
            return Standing.DOWN if self._why else Standing.CONNECTING
        usual_s = max(self._period_s, self._found.interval_s if self._found else 0.0)
        if now_s - self._told_s > _STALE_PERIODS * usual_s:
            return Standing.STALE
        if now_s - self._mixed_s < _RECENT_S:
            return Standing.MIXED
        return Standing.ASLEEP if reading.asleep else Standing.LIVE

    def _said(self, now_s: float, reading: Reading | None) -> str:
        if self._why:
            return self._why
        if now_s - self._mixed_s < _RECENT_S:
            return "several servers answer here: attach to each of them"
        if reading is not None and reading.nonsense:
            return f"tells what cannot be: {', '.join(reading.nonsense[:3])}"
        return reading.dialect.said if reading is not None else ""

"""One server over time: figures from its scrapes, and whether they can be trusted. Pure.

Fed and read on one thread. Times are seconds on the monotonic clock of the poller.
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
from tputtui.attach.span import ScrapeSpan, ServerFigures
from tputtui.measure.history import History
from tputtui.measure.samples import Mark

__all__ = ["Server", "Standing", "Track"]

SPAN_S = 60.0
LATENCIES = ("ttft", "tpot", "itl", "e2e", "queue")
_STALE_PERIODS, _LATE_PERIODS = 3, 5
_RECENT_S = 60.0
_MARKS = 200


class Standing(StrEnum):
    """How far the figures of a server can be trusted."""

    CONNECTING = "connecting"
    LIVE = "live"
    ASLEEP = "asleep"
    MIXED = "mixed"
    """Several servers answer at the address, each with counters of its own."""
    STALE = "stale"
    """It has published figures, and no longer does."""
    DOWN = "down"
    """It has never published figures."""


@dataclass(frozen=True, slots=True)
class Server:
    """The state of one server."""

    address: Address
    standing: Standing
    why: str
    """A sentence for what is wrong; empty if nothing."""
    age_s: float
    """Age of the newest figures in s; infinite before any."""
    about: About
    reading: Reading | None
    """The newest scrape; None before any."""
    restarted_s: float
    """Seconds since its last restart; NaN if there was none in the last minute."""
    restarts: int
    """How many restarts were seen."""
    now: ServerFigures
    """Figures of the last interval between two scrapes."""
    interval_s: float
    """Length of that interval in s."""
    window: ServerFigures
    """Figures of the last minute, at most."""
    window_s: float
    """Length of that window in s."""
    engines: Mapping[str, ServerFigures]
    """Figures of each data-parallel engine over the window, by its label."""
    latencies: Mapping[str, Latency]
    """Latencies over the window, in s, by the names of LATENCIES."""
    history: History
    """Its figures second by second, for charts."""
    marks: tuple[Mark, ...]
    """When it restarted."""

    @property
    def model(self) -> str:
        """The model that it serves, under the name that it uses."""
        return self.about.model or (self.reading.model if self.reading else "")

    @property
    def kind(self) -> str:
        """The kind of server; empty before it is known."""
        return self.reading.dialect.name if self.reading else ""

    @property
    def counts(self) -> bool:
        """Whether its figures are current."""
        return self.standing in (Standing.LIVE, Standing.ASLEEP)


@dataclass(slots=True)
class _Runs:
    """The runs of a server seen so far, by their start in s since 1970."""

    seen: list[float] = field(default_factory=list)

    def returns(self, started: float) -> bool:
        """Whether this run was seen before the present one: two servers answer alternately."""
        if math.isnan(started) or (self.seen and self.seen[-1] == started):
            return False
        known = [other for other in self.seen if abs(started - other) <= SAME_START_S]
        back = bool(known) and known[-1] != self.seen[-1]
        self.seen = [*(other for other in self.seen[-15:] if other not in known), started]
        return back


class _Found(NamedTuple):
    """The figures of a span: the part of a Server that only a scrape changes."""

    now: ServerFigures
    interval_s: float
    window: ServerFigures
    window_s: float
    engines: Mapping[str, ServerFigures]
    latencies: Mapping[str, Latency]


def _found_in(span: ScrapeSpan) -> _Found:
    last = span.last_interval()
    latencies = {}
    for key in LATENCIES:
        histogram = pooled(span.histograms(key))
        if histogram is not None:
            latencies[key] = latency_of(histogram)
    return _Found(
        last.total(), last.seconds, span.total(), span.seconds, span.by_engine(), latencies
    )


class Track:
    """Collects the scrapes of one server.

    began_s: when the watching began. period_s: seconds between two scrapes.
    """

    def __init__(self, address: Address, began_s: float, period_s: float) -> None:
        self.address = address
        self.about = About()
        self._period_s = period_s
        self._span = ScrapeSpan(SPAN_S)
        self._seconds = Seconds(began_s, _LATE_PERIODS * period_s)
        self._marks: list[Mark] = []
        self._runs = _Runs()
        self._read_s = -math.inf
        self._why = ""
        self._restarted_s = self._mixed_s = -math.inf
        self._restarts = 0
        self._figures: _Found | None = None

    def add(self, at_s: float, reading: Reading) -> None:
        """Add the figures of a scrape, which the server read at `at_s`."""
        before_s = self._read_s
        if self._runs.returns(reading.started):
            self._mixed_s = at_s
        if at_s - self._mixed_s < _RECENT_S:
            # It is unknown which server the last figures are from, so no rate can be computed.
            self._span.begin_anew()
        if not self._span.add(at_s, reading):
            self._restarted_s = at_s
            self._restarts += 1
            self._marks = [*self._marks[-_MARKS:], Mark(at_s, "engine", "restarted")]
        self._read_s, self._why, self._figures = at_s, "", None
        if math.isfinite(before_s) and self._span.seconds > 0:
            self._seconds.add(before_s, at_s, self._span.last_interval().total())

    def failed(self, why: str) -> None:
        """Note that a scrape failed; why: a sentence."""
        self._why = why

    def learned(self, about: About) -> None:
        """Note what the server has published about itself."""
        self.about = about

    def view(self, now_s: float) -> Server:
        """The state of the server at `now_s`."""
        if self._figures is None:
            self._figures = _found_in(self._span)
        figures, reading = self._figures, self._span.latest
        self._seconds.pass_by(now_s)
        recent = now_s - self._restarted_s
        return Server(
            self.address,
            self._standing(now_s, reading),
            self._sentence(now_s, reading),
            now_s - self._read_s,
            self.about,
            reading,
            recent if recent < _RECENT_S else math.nan,
            self._restarts,
            *figures,
            self._seconds.history,
            tuple(self._marks),
        )

    # -- inside ----------------------------------------------------------------------------

    def _standing(self, now_s: float, reading: Reading | None) -> Standing:
        if reading is None:
            return Standing.DOWN if self._why else Standing.CONNECTING
        usual_s = max(self._period_s, self._figures.interval_s if self._figures else 0.0)
        if now_s - self._read_s > _STALE_PERIODS * usual_s:
            return Standing.STALE
        if now_s - self._mixed_s < _RECENT_S:
            return Standing.MIXED
        return Standing.ASLEEP if reading.asleep else Standing.LIVE

    def _sentence(self, now_s: float, reading: Reading | None) -> str:
        if self._why:
            return self._why
        if now_s - self._mixed_s < _RECENT_S:
            return "several servers answer here: attach to each of them"
        if reading is not None and reading.nonsense:
            return f"tells what cannot be: {', '.join(reading.nonsense[:3])}"
        return reading.dialect.note if reading is not None else ""

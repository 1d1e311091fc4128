"""Figures between scrapes: increases of counters over the true time between them. Pure.

Readings are kept for a span. The rate of a counter is its increase from the earliest reading that
has it to the latest, over the time between those two. A counter that goes back shows that the
server counts anew: the earlier readings are dropped, and no rate spans the restart.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from tputtui.attach.reading import SAME_START_S, EngineReading, MetricHistogram, Reading

__all__ = ["ScrapeSpan", "ServerFigures", "added"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """Rates over a span, and states at its end; NaN for a figure that is not published."""

    generated_per_s: float = math.nan
    """Generated tokens per second."""
    prompt_per_s: float = math.nan
    """Prompt tokens per second."""
    ended_per_s: float = math.nan
    """Requests ended per second."""
    preemptions_per_s: float = math.nan
    hit_frac: float = math.nan
    """Prompt tokens: cached ÷ looked up."""
    running: float = math.nan
    """Requests that run, at the latest scrape."""
    waiting: float = math.nan
    """Requests that wait, at the latest scrape."""
    kv_frac: float = math.nan
    """Share of the KV cache in use; the mean over engines."""
    kv_most: float = math.nan
    """Share of the KV cache in use on the fullest engine."""
    deferred: float = math.nan
    """Of those that wait: held back for a while by adapters or a KV transfer, not by room."""
    rejections_per_s: float = math.nan
    """Requests turned away by a limit of the queue, per second."""
    external_hit_frac: float = math.nan
    """Tokens found in a cache outside the GPU ÷ those looked for there."""
    mm_hit_frac: float = math.nan
    """Images and the like: found in the cache of processed inputs ÷ looked up."""
    tiers: tuple[tuple[str, float], ...] = ()
    """Of the prompt tokens found in a cache, the share of each tier that supplied any."""
    accepted_frac: float = math.nan
    """Draft tokens: accepted ÷ drafted."""
    accepted_length: float = math.nan
    """Tokens that a check of draft tokens brought, the model's own included."""
    accepted_at: tuple[float, ...] = ()
    """Share of checks in which the first, second, … draft token was accepted."""


class ScrapeSpan:
    """Readings of one server over the last `length_s` seconds."""

    def __init__(self, length_s: float) -> None:
        self._length_s = length_s
        self._kept: deque[tuple[float, Reading]] = deque()

    @property
    def latest(self) -> Reading | None:
        """The newest reading."""
        return self._kept[-1][1] if self._kept else None

    @property
    def seconds(self) -> float:
        """The time between the oldest and the newest reading, in s."""
        return self._kept[-1][0] - self._kept[0][0] if self._kept else 0.0

    def add(self, at_s: float, reading: Reading) -> bool:
        """Take the next reading; return whether it counts on from the previous one."""
        goes_on = self.latest is None or _goes_on(self.latest, reading)
        if not goes_on:
            self._kept.clear()
        self._kept.append((at_s, reading))
        # The oldest is dropped once the second oldest is `length_s` old.
        while len(self._kept) > 2 and at_s - self._kept[1][0] >= self._length_s:
            self._kept.popleft()
        return goes_on

    def begin_anew(self) -> None:
        """Drop all readings, so that no rate reaches back beyond the next one."""
        self._kept.clear()

    def last_interval(self) -> ScrapeSpan:
        """A span of only the two newest readings."""
        made = ScrapeSpan(self._length_s)
        made._kept.extend(list(self._kept)[-2:])
        return made

    def by_engine(self) -> dict[str, ServerFigures]:
        """Figures of each engine of the latest reading."""
        return {engine: self._figures([engine]) for engine in self._engines()}

    def total(self) -> ServerFigures:
        """Figures of all engines together."""
        return self._figures(self._engines())

    def increase(self, key: str) -> float:
        """The increase of a counter over the span, in all engines; NaN where none publishes it."""
        counted = (self._counted(engine, key) for engine in self._engines())
        return added(ends[2] - ends[1] for ends in counted if ends is not None)

    def histograms(self, key: str) -> list[MetricHistogram]:
        """The samples over the span, one histogram for each engine that publishes `key`."""
        histograms = (self._histogram(engine, key) for engine in self._engines())
        return [each for each in histograms if each is not None]

    # -- inside ----------------------------------------------------------------------------

    def _engines(self) -> list[str]:
        return list(self.latest.engines) if self.latest else []

    def _figures(self, engines: list[str]) -> ServerFigures:
        def gauges(key: str) -> list[float]:
            latest = self.latest
            values = [latest.engines[e].gauges.get(key) for e in engines] if latest else []
            return [value for value in values if value is not None]

        def rate(key: str) -> float:
            counted = (self._counted(engine, key) for engine in engines)
            return added((ends[2] - ends[1]) / ends[0] for ends in counted if ends is not None)

        def parts(key: str) -> list[str]:
            found = {
                name: None
                for engine in engines
                if self.latest is not None
                for name in self.latest.engines[engine].counters
                if name.startswith(f"{key}:")
            }
            return list(found)

        def share(hits: str, looked_up: str) -> float:
            of = rate(looked_up)
            return rate(hits) / of if of > 0 else math.nan

        tiers = {name.partition(":")[2]: rate(name) for name in parts("tier")}
        supplied = added(tiers.values())
        kv = gauges("kv_frac")
        drafts, drafted, accepted = rate("drafts"), rate("drafted"), rate("accepted")
        return ServerFigures(
            rate("generated"),
            rate("prompt"),
            rate("ended"),
            rate("preemptions"),
            share("cached", "looked_up"),
            added(gauges("running")),
            added(gauges("waiting")),
            sum(kv) / len(kv) if kv else math.nan,
            max(kv, default=math.nan),
            added(gauges("waiting_for:deferred")),
            added(rate(name) for name in parts("rejected")),
            share("external_cached", "external_looked_up"),
            share("mm_cached", "mm_looked_up"),
            tuple((tier, each / supplied) for tier, each in tiers.items() if each > 0),
            accepted / drafted if drafted > 0 else math.nan,
            1 + accepted / drafts if drafts > 0 else math.nan,
            tuple(_accepted_at(drafts, rate)) if drafts > 0 else (),
        )

    def _counted(self, engine: str, key: str) -> tuple[float, float, float] | None:
        return self._ends(engine, lambda reading: reading.counters.get(key))

    def _histogram(self, engine: str, key: str) -> MetricHistogram | None:
        ends = self._ends(engine, lambda reading: reading.histograms.get(key))
        if ends is None:
            return None
        _, before, after = ends
        if before.bounds != after.bounds:
            return None
        counts = tuple(b - a for a, b in zip(before.counts, after.counts, strict=True))
        return MetricHistogram(after.bounds, counts, after.total - before.total)

    def _ends(
        self, engine: str, pick: Callable[[EngineReading], T | None]
    ) -> tuple[float, T, T] | None:
        """The earliest and the latest value, and the seconds between them, which come first."""

        def at(reading: Reading) -> T | None:
            of_engine = reading.engines.get(engine)
            return None if of_engine is None else pick(of_engine)

        if len(self._kept) < 2:
            return None
        last_s, latest = self._kept[-1]
        after = at(latest)
        if after is None:
            return None
        for first_s, reading in self._kept:
            before = at(reading)
            if before is not None:
                return (last_s - first_s, before, after) if first_s < last_s else None
        return None


def _accepted_at(drafts: float, rate: Callable[[str], float]) -> Iterator[float]:
    """Share of `drafts` checks a second that accepted the token at each place, as long as any."""
    for place in count():
        accepted = rate(f"accepted_at:{place}")
        if not accepted > 0:
            return
        yield accepted / drafts


def _goes_on(before: Reading, after: Reading) -> bool:
    """Whether `after` counts on from `before`: the same run, and no counter has decreased."""
    if before.dialect is not after.dialect:
        return False
    if abs(after.started - before.started) > SAME_START_S:
        return False
    return not any(
        _went_back(old.counters, after.engines[engine].counters)
        or _shrank(old.histograms, after.engines[engine].histograms)
        for engine, old in before.engines.items()
        if engine in after.engines
    )


def _went_back(before: Mapping[str, float], after: Mapping[str, float]) -> bool:
    return any(after.get(key, value) < value for key, value in before.items())


def _shrank(before: Mapping[str, MetricHistogram], after: Mapping[str, MetricHistogram]) -> bool:
    return any(
        old.bounds == after[key].bounds
        and any(b < a for a, b in zip(old.counts, after[key].counts, strict=True))
        for key, old in before.items()
        if key in after
    )


def added(values: Iterable[float]) -> float:
    """The sum of the values that are not NaN; NaN without any."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) if known else math.nan

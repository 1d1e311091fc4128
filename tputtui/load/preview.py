"""Previews the figures of a load before the engine serves it. Pure.

Fast enough to run while someone types: draws 2,000 requests, or reads as many records.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

from tputtui.load.hits import beginning, hit_frac, opened, replay, walk
from tputtui.load.levels import Curve, Ramp, Steps
from tputtui.load.members import sending
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.glance import glance
from tputtui.load.requests.reading import untimed_requests
from tputtui.load.source import untimed
from tputtui.load.traces import TraceRecord
from tputtui.load.workload import (
    Arrivals,
    ClosedLoop,
    Recorded,
    TraceFile,
    Workload,
    level_of,
)

__all__ = ["LengthSpread", "Preview", "TraceFacts", "preview"]

REQUESTS = 2000


@dataclass(frozen=True, slots=True)
class LengthSpread:
    """Lengths in tokens, ascending; empty if unknown."""

    lengths: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The mean length in tokens; NaN without lengths."""
        return fmean(self.lengths) if self.lengths else math.nan

    @property
    def p95(self) -> float:
        """The 95th percentile by nearest rank, in tokens; NaN without lengths."""
        count = len(self.lengths)
        return self.lengths[math.ceil(0.95 * count) - 1] if count else math.nan

    def counts(self, edges: Sequence[float]) -> list[float]:
        """How many lengths lie between each pair of neighbouring `edges`.

        A length n is spread evenly over n ± ½, so that narrow columns have no gaps.
        """
        below = [self._below(edge) for edge in edges]
        return [high - low for low, high in pairwise(below)]

    def _below(self, edge: float) -> float:
        whole = math.floor(edge + 0.5)
        before = bisect_left(self.lengths, whole)
        return before + (edge + 0.5 - whole) * (bisect_right(self.lengths, whole) - before)


@dataclass(frozen=True, slots=True)
class TraceFacts:
    """Facts from the beginning of a trace.

    format: as of a `Trace`; of a file of real requests, the name of its formats.
    timed: whether it has times. records: how many were read. skipped: how many of them cannot be
    used. real: whether they are real requests.
    """

    format: str
    timed: bool
    records: int
    skipped: int = 0
    real: bool = False


@dataclass(frozen=True, slots=True)
class Preview:
    """The figures of a load; where classes have arrivals of their own, of one part of it."""

    workload: Workload
    horizon_s: float
    """The part of the arrivals to show, from their start, in s."""
    prompt: LengthSpread
    """Prompt lengths as sent, with history and prefixes."""
    output: LengthSpread
    """Output lengths as sent."""
    clamped_frac: float
    """Share of requests cut to `max_model_len`; NaN if unknown."""
    hit_frac: float
    """Share of prompt tokens in the prefix cache if nothing is evicted; NaN if unknown."""
    requests_per_s: float
    """The long-run rate, with every turn counted; NaN if the engine sets the pace."""
    trace: TraceFacts | None = None
    """None without a trace."""
    times_s: tuple[float, ...] = ()
    """When recorded requests are due, ascending, in s; empty for other arrivals."""
    part: str = ""
    """Which part of the load it is of, in words; empty for all of it."""
    whole: Workload | None = None
    """The load that it is a part of; None where it is all of it."""

    @property
    def prompt_tokens_per_s(self) -> float:
        """The long-run rate offered; NaN if the engine sets the pace."""
        return self.requests_per_s * self.prompt.mean

    @property
    def output_tokens_per_s(self) -> float:
        """The long-run rate offered; NaN if the engine sets the pace."""
        return self.requests_per_s * self.output.mean

    def levels(self, columns: int) -> list[float]:
        """The level in the middle of each of `columns` equal parts of the horizon.

        For recorded arrivals, the requests per second in each part.
        """
        width_s = self.horizon_s / columns
        arrivals = self.workload.arrivals
        if isinstance(arrivals, Recorded):
            at = [bisect_left(self.times_s, n * width_s) for n in range(columns)]
            at.append(len(self.times_s))
            return [(high - low) / width_s for low, high in pairwise(at)]
        curve = Curve(level_of(arrivals))
        levels = [curve.at((n + 0.5) * width_s) for n in range(columns)]
        # Requests in flight are whole numbers.
        return [math.floor(v) for v in levels] if isinstance(arrivals, ClosedLoop) else levels


def preview(
    workload: Workload,
    *,
    max_model_len: int | None,
    block_size: int,
    horizon_s: float | None = None,
) -> Preview:
    """The figures of `workload`. Raises UsageError if its trace cannot be read.

    max_model_len: the limit in force; None without an engine. block_size: of its KV cache, tokens.
    horizon_s: part of the arrivals to show; by default two periods, 1.25 ramps or a minute.
    """
    if workload.apart:
        # How much of each part there is, is known only once it is served.
        name, member = _first(workload)
        seen = preview(
            member, max_model_len=max_model_len, block_size=block_size, horizon_s=horizon_s
        )
        part = f"class {name} alone" if name else "the load's own arrivals alone"
        return replace(seen, part=part, whole=workload)
    arrivals = workload.arrivals
    if workload.requests is not None:
        return _of_requests(workload, workload.requests, horizon_s)
    facts, records = _read(workload.trace) if workload.trace else (None, [])
    times_s: tuple[float, ...] = ()
    if workload.trace and isinstance(arrivals, Recorded):
        if not facts or not facts.timed:
            raise untimed(workload.trace)
        times_s = tuple(record.at_s / arrivals.speed for record in records)
    asked = list(
        replay(records, block_size, max_model_len)
        if workload.trace
        else walk(workload, block_size, REQUESTS, max_model_len)
    )
    conversations = sum(request.turn == 0 for request in asked)
    turns = len(asked) / conversations if conversations else 1.0
    clamped = sum(request.clamped for request in asked)
    return Preview(
        workload=workload,
        horizon_s=horizon_s or _horizon_s(arrivals, times_s),
        prompt=LengthSpread(tuple(sorted(request.prompt_tokens for request in asked))),
        output=LengthSpread(tuple(sorted(request.output_tokens for request in asked))),
        clamped_frac=clamped / len(asked) if asked and max_model_len else math.nan,
        hit_frac=hit_frac(asked),
        requests_per_s=_rate(arrivals, times_s) * turns,
        trace=facts,
        times_s=times_s,
    )


def _first(workload: Workload) -> tuple[str, Workload]:
    """The name and the load of the first part that sends anything."""
    return next(iter(sending(workload).items()))


def _of_requests(workload: Workload, file: RequestFile, horizon_s: float | None) -> Preview:
    """The figures of real requests, as far as they are known without a tokenizer."""
    seen, arrivals = glance(file, REQUESTS), workload.arrivals
    times_s: tuple[float, ...] = ()
    if isinstance(arrivals, Recorded):
        if not seen.timed:
            raise untimed_requests(file)
        times_s = tuple(at_s / arrivals.speed for at_s in seen.times_s)
    formats = " + ".join(seen.formats)
    return Preview(
        workload=workload,
        horizon_s=horizon_s or _horizon_s(arrivals, times_s),
        prompt=LengthSpread(()),
        output=LengthSpread(seen.outputs),
        clamped_frac=math.nan,
        hit_frac=math.nan,
        requests_per_s=_rate(arrivals, times_s),
        trace=TraceFacts(formats, seen.timed, seen.requests, seen.skipped, real=True),
        times_s=times_s,
    )


def _read(file: TraceFile) -> tuple[TraceFacts, list[TraceRecord]]:
    """The facts, and the first records."""
    trace = opened(file)
    if trace is None:
        return TraceFacts("sharegpt", False, 0), []
    records = list(beginning(trace, REQUESTS))
    trace.close()
    return TraceFacts(trace.format, trace.timed, len(records)), records


def _horizon_s(arrivals: Arrivals, times_s: Sequence[float]) -> float:
    if isinstance(arrivals, Recorded):
        return times_s[-1] or 1.0
    level = level_of(arrivals)
    match level:
        case Ramp(_, _, over_s):
            return over_s * 1.25
        case Steps(values, each_s):
            return len(values) * each_s
        case _:
            return 2 * Curve(level).period_s or 60.0


def _rate(arrivals: Arrivals, times_s: Sequence[float]) -> float:
    """Requests (or conversations) per second in the long run; NaN for a closed loop."""
    if isinstance(arrivals, ClosedLoop):
        return math.nan
    if isinstance(arrivals, Recorded):
        span_s = times_s[-1] - times_s[0]
        return (len(times_s) - 1) / span_s if span_s else math.nan
    curve = Curve(level_of(arrivals))
    if curve.period_s:
        return curve.area(curve.period_s) / curve.period_s
    # A curve that does not repeat stays at its last level.
    return curve.at(_horizon_s(arrivals, times_s))

"""The recorder: the engine thread appends, every other thread may read. Bounded, without locks.

There is one writer, the engine thread, and it never waits. It writes a row first and counts it
afterwards, and readers avoid the rows that are overwritten next. So a reader never sees half a row.
"""

from __future__ import annotations

import math
import mmap
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tputtui.load.carrier import Label
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.timing import Wanted
from tputtui.measure.samples import Accounting, EngineLoad, Mark, RequestSample, StepSample
from tputtui.measure.stats import Floats

__all__ = ["ENDED", "Recorder", "Ring", "Rows", "Table", "ended_row", "row_of"]


_LATENCIES = ("ttft_s", "tpot_s", "e2e_s", "queue_s", "prefill_s", "decode_s")
_REST = ("good", "cut", "due_s", "began", "cancelled", "label", "job_s", "rejected")
ENDED = {name: i for i, name in enumerate(("end_s", *_LATENCIES, *_REST))}
"""Columns of a request that has left the engine. Latencies are NaN unless good is 1.0.

good: 1.0 if it finished. cut: 1.0 if a lowered `max_model_len` ended it. due_s: when it should have
been sent; NaN where that is lost. began: 1.0 if it had its first token. cancelled: 1.0 if its
client gave it up. label: place in `Recorder.labels`. job_s: how long the job took that it ended,
or, where it is not good, broke, from its first step due; NaN where it did neither. rejected: 1.0
if it was refused when it arrived.
"""
_NO_LATENCIES = (np.nan,) * len(_LATENCIES)
_NOTHING = dict.fromkeys(ENDED, 0.0) | dict.fromkeys((*_LATENCIES, "due_s", "job_s"), np.nan)


class Rows(ABC):
    """A table of floats whose first column is a time that never falls; `count` rows so far."""

    count = 0

    @abstractmethod
    def since(self, seen: int, count: int) -> Floats:
        """View of rows `seen` … `count` - 1, oldest first; without those that were dropped."""

    @abstractmethod
    def append(self, row: Sequence[float]) -> None:
        """Add one row."""

    def between(self, start_s: float, end_s: float = np.inf) -> Floats:
        """View of the rows with start_s < time ≤ end_s, oldest first: shape (n, columns)."""
        view = self.since(0, self.count)
        return view[_after(view, start_s) : _after(view, end_s)]


class Ring(Rows):
    """A table that keeps only its newest rows.

    Every row is written twice, `capacity` apart, so that the newest rows are always one
    contiguous view and reading them copies nothing. A page of memory is taken when a row is first
    written to it: `np.zeros` asks for huge pages, and clears what malloc has at hand.
    """

    _MARGIN = 1024

    def __init__(self, columns: int, capacity: int) -> None:
        self._capacity = capacity
        rows = 2 * capacity
        pages = mmap.mmap(-1, rows * columns * 8, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._rows = np.frombuffer(pages, float).reshape(rows, columns)

    def append(self, row: Sequence[float]) -> None:
        """Add one row."""
        place = self.count % self._capacity
        self._rows[place] = row
        self._rows[place + self._capacity] = self._rows[place]
        self.count += 1

    def since(self, seen: int, count: int) -> Floats:
        """View of rows `seen` … `count` - 1, oldest first; without those that were dropped."""
        n = min(count - seen, self._capacity - self._MARGIN)
        end = (count - 1) % self._capacity + self._capacity + 1 if count else 0
        return self._rows[end - n : end]

    def clear(self) -> None:
        """Drop all rows. Only the writer may call this."""
        self.count = 0


class Table(Rows):
    """The rows of a run that is over: none is added any more."""

    def __init__(self, rows: Floats) -> None:
        self._rows = rows
        self.count = len(rows)

    def append(self, row: Sequence[float]) -> None:
        """Raise TypeError: a run that is over gets no more rows."""
        raise TypeError("a run that is over gets no more rows")

    def since(self, seen: int, count: int) -> Floats:
        """View of rows `seen` … `count` - 1."""
        return self._rows[seen:count]


class Recorder:
    """Everything measured in one run.

    depth: 65,536 steps are kept for each unit of depth, and other rows in proportion. The system
    provides the memory as rows are written.
    """

    def __init__(self, depth: int = 1) -> None:
        self.steps: Rows = Ring(len(StepSample._fields), depth << 16)
        self.gaps: Rows = Ring(3, depth << 16)
        """Inter-token latencies: (end of the step, gap, number of requests with that gap)."""
        self.first_tokens: Rows = Ring(4, depth << 15)
        """(time of the first token, TTFT from due, TTFT from submitted) in seconds, and label."""
        self.ended: Rows = Ring(len(ENDED), depth << 15)
        """Requests that have left, with the columns that `ENDED` names."""
        self.issued: Rows = Ring(3, depth << 17)
        """When each request was due, its label, and 1.0 if it is the first of a job."""
        self.labels: tuple[Label, ...] = (Label(),)
        """What the numbers of labels mean; grows only."""
        self.jobs_since_s = -math.inf
        """Jobs that began before are no longer under way, whether their end was recorded or not."""
        self._engine_step_s = -math.inf
        self.accounting = Accounting()
        self.wanted = Wanted()
        self.kv_blocks = 0
        """Usable blocks of the KV cache, without those held back."""
        self.others = 0
        """Requests of other people under way, at a server that tells."""
        self.engines: tuple[EngineLoad, ...] = ()
        """Each engine of a server that tells; empty for an engine in this process."""
        self.engine_steps: Rows = Ring(len(StepSample._fields) + 1, depth << 16)
        """Where `steps` has several engines together: the steps of each, and which engine's."""
        self._engine_counts: tuple[tuple[float, int], ...] = ((-math.inf, 1),)
        """(since when, how many engines), oldest first; a boot can change it."""
        self.tiers: tuple[tuple[str, int], ...] = ()
        """Prompt tokens found in a cache since the boot, by tier; empty with the GPU's alone."""
        self.stops: tuple[tuple[str, int], ...] = ()
        """How many finished requests stopped for each reason, by name."""
        self.requests: RequestCounts | None = None
        """What became of the lines of a file of real requests; None without one."""
        self.oldest_due_s = np.nan
        """When the oldest request without a first token was due; NaN without such a request."""
        self.oldest_in_flight_s = np.nan
        """When the oldest request in flight was due; NaN with none in flight."""
        self.generated_tokens = 0
        self.preemptions = 0
        self.marks: deque[Mark] = deque(maxlen=500)
        self.request_log: deque[RequestSample] = deque(maxlen=1 << 14)

    def add_step(self, step: StepSample, gaps: Iterable[tuple[float, int]]) -> None:
        """Add a step, and the inter-token latencies that it ended: (gap in seconds, requests)."""
        for gap_s, requests in gaps:
            self.gaps.append((step.end_s, gap_s, requests))
        self.generated_tokens += step.generated_tokens
        self.preemptions += step.preemptions
        self.steps.append(step)

    def add_engine_steps(self, steps: Mapping[int, Iterable[StepSample]]) -> None:
        """Add steps of single engines, which `steps` has together."""
        if not steps:
            return
        rows = sorted((row.end_s, engine, row) for engine, rows in steps.items() for row in rows)
        for end_s, engine, row in rows:
            # An engine that tells later than another does not turn back the time of the table.
            self._engine_step_s = max(self._engine_step_s, end_s)
            self.engine_steps.append((self._engine_step_s, *row[1:], engine))

    def single_steps(self, start_s: float, end_s: float) -> Floats:
        """The steps of every engine apart, with start_s < time ≤ end_s.

        Shape (n, fields of StepSample). Their tokens are everybody's.
        """
        if self.engine_count(end_s) == 1:
            return self.steps.between(start_s, end_s)
        return self.engine_steps.between(start_s, end_s)[:, :-1]

    def steps_of_engines(self, start_s: float, end_s: float) -> list[Floats]:
        """`single_steps`, a table for each engine; those without a step then have an empty one."""
        count = self.engine_count(end_s)
        if count == 1:
            return [self.steps.between(start_s, end_s)]
        rows = self.engine_steps.between(start_s, end_s)
        return [rows[rows[:, -1] == engine, :-1] for engine in range(count)]

    def note_engines(self, count: int, since_s: float) -> None:
        """Steps later than `since_s` are of so many engines."""
        if count != self._engine_counts[-1][1]:
            self._engine_counts = (*self._engine_counts, (since_s, count))

    def engine_count(self, at_s: float) -> int:
        """How many engines the steps up to `at_s` are of."""
        earlier = (count for since_s, count in reversed(self._engine_counts) if since_s < at_s)
        return next(earlier, 1)

    def last_step_s(self, since_s: float) -> float | None:
        """When the last step ended; None without a step after `since_s`."""
        steps = self.steps.between(since_s)
        return float(steps[-1, 0]) if len(steps) else None

    def label(self, label: Label) -> int:
        """The place of a label among `labels`; a new one is added."""
        if label not in self.labels:
            self.labels = (*self.labels, label)
        return self.labels.index(label)

    def concerned(self, labels: Floats, traffic: str) -> NDArray[np.bool_]:
        """Which of the requests with these labels are of a class of traffic, of the same shape.

        traffic: its name; empty for all requests.
        """
        if not traffic:
            return np.ones(labels.shape, dtype=np.bool_)
        numbers = [i for i, label in enumerate(self.labels) if label.traffic == traffic]
        return np.isin(labels, numbers)

    def add_issued(self, due_s: float, label: int = 0, opens_job: bool = False) -> None:
        """Add a request that goes to the engine."""
        self.issued.append((due_s, label, opens_job))

    def add_first_token(
        self, at_s: float, due_s: float, submitted_s: float, label: int = 0
    ) -> None:
        """Add the first token of a request."""
        self.first_tokens.append((at_s, at_s - due_s, at_s - submitted_s, label))

    def add_ended(self, sample: RequestSample) -> None:
        """Add a request that has left; only good ones count for latency."""
        self.ended.append(ended_row(sample))
        self.request_log.append(sample)


def ended_row(sample: RequestSample) -> tuple[float, ...]:
    """The row of `Recorder.ended` for a request that has left."""
    good = sample.outcome == "finished"
    latencies = _NO_LATENCIES
    if good:
        latencies = (
            sample.ttft_s,
            sample.tpot_s,
            sample.e2e_s,
            sample.queue_s,
            sample.prefill_s,
            sample.decode_s,
        )
    began = not math.isnan(sample.first_token_s)
    cut, cancelled = sample.outcome == "cut", sample.outcome == "cancelled"
    rejected = sample.outcome == "rejected"
    rest = (good, cut, sample.due_s, began, cancelled, sample.label, sample.job_s, rejected)
    return (sample.end_s, *latencies, *rest)


def row_of(**columns: float) -> tuple[float, ...]:
    """A row of `Recorder.ended` by the names of its columns; what is not given is not so, or NaN.

    For requests of which there is no `RequestSample`.
    """
    return tuple((_NOTHING | columns).values())


def _after(rows: Floats, t_s: float) -> int:
    """Index of the first row later than `t_s` (bisection: a strided column is not copied)."""
    low, high = 0, len(rows)
    while low < high:
        middle = (low + high) // 2
        if rows[middle, 0] <= t_s:
            low = middle + 1
        else:
            high = middle
    return low

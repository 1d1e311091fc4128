"""Copies a recorder into another one, so that another process or thread can watch the run.

    engine thread → Recorder → Tail.take() ── pipe ──▶ Copy.apply() → Recorder → frames

`Tail` reads on a thread of its own beside the engine thread, as every reader of a recorder does,
and adds no work to the engine thread. `Copy` is the only writer of its recorder. `take` reads the
books first and the rows after them; `apply` writes the rows first and the books last. So every
request that the books count has its row.

The recorder is the only buffer: where `take` is not called for long, the oldest rows are lost, as
the rings drop them. Books and totals are copied as absolute values, so the next take corrects them.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import takewhile
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

import numpy as np

from tputtui.load.carrier import Label
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.timing import Wanted
from tputtui.measure.recorder import Recorder, Ring, row_of
from tputtui.measure.samples import Accounting, Mark, Outcome, RequestSample

__all__ = ["Copy", "Delta", "Tail"]

_T = TypeVar("_T")

RINGS = ("steps", "engine_steps", "gaps", "first_tokens", "issued")
"""Rings that are copied row by row. The ring of ended requests is derived from their samples."""

_BOOKS = tuple(field.name for field in fields(Accounting))
_books = attrgetter(*_BOOKS)


class Delta(NamedTuple):
    """What is new in a recorder since the take before; books and totals are absolute values.

    Plain tuples and bytes: pickling arrays, enums and named tuples takes several times as long.
    """

    books: tuple[int, ...]
    """The fields of `Accounting`."""
    wanted: tuple[float, ...]
    """The fields of `Wanted`."""
    kv_blocks: int
    """Usable blocks of the KV cache."""
    oldest_due_s: float
    """When the oldest request without a first token was due; NaN without such a request."""
    oldest_in_flight_s: float
    """When the oldest request in flight was due; NaN with none in flight."""
    generated_tokens: int
    """Tokens since the start of the run."""
    preemptions: int
    """Preemptions since the start of the run."""
    marks_gone: int
    """How many of the marks of earlier takes no longer exist; the newest ones."""
    marks: list[Mark]
    """New marks, oldest first."""
    ended: list[tuple[Any, ...]]
    """The fields of `RequestSample` of each request that ended, the outcome as its text."""
    rows: Mapping[str, tuple[int, bytes]]
    """By the name of a ring with new rows: the number of rows, and their float64 values."""
    stops: tuple[tuple[str, int], ...] = ()
    """How many finished requests stopped for each reason."""
    requests: RequestCounts | None = None
    """What became of the lines of a file of real requests."""
    labels: tuple[tuple[str, str], ...] = ()
    """All labels, as `Recorder.labels` has them."""
    tiers: tuple[tuple[str, int], ...] = ()
    """Tokens found in a cache since the boot, by tier."""
    jobs_since_s: float = -np.inf
    """As `Recorder` has it."""


class Tail:
    """Reads what is new in `recorder`, from its start. Only one thread may call `take`."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._rings = [(name, getattr(recorder, name)) for name in RINGS]
        self._counts = dict.fromkeys(RINGS, 0)
        self._last_ended: RequestSample | None = None
        self._marks: list[Mark] = []
        self._stood: tuple[object, ...] = ()

    def take(self) -> Delta | None:
        """What is new since the last call; None when nothing is."""
        recorder = self._recorder
        accounting, wanted = recorder.accounting, recorder.wanted
        real, tiers = (recorder.stops, recorder.requests), recorder.tiers
        standing = (
            recorder.kv_blocks,
            recorder.oldest_due_s,
            recorder.oldest_in_flight_s,
            recorder.generated_tokens,
            recorder.preemptions,
        )
        gone, marks = self._new_marks()
        ended = self._new_ended()
        rows = {}
        for name, ring in self._rings:
            seen, count = self._counts[name], ring.count
            if count > seen:
                new = ring.since(seen, count)
                rows[name] = (len(new), new.tobytes())
                self._counts[name] = count
        stood, self._stood = self._stood, (accounting, wanted, *standing, *real, tiers)
        if not (rows or ended or marks or gone) and stood == self._stood:
            return None
        plain = [(s.number, s.outcome.value, *s[2:]) for s in ended]
        # Read last: every row above has its label among them.
        labels = tuple((label.traffic, label.adapter) for label in recorder.labels)
        now = _books(accounting), tuple(wanted), *standing
        gone_s = recorder.jobs_since_s
        return Delta(*now, gone, marks, plain, rows, *real, labels, tiers, gone_s)

    def _new_marks(self) -> tuple[int, list[Mark]]:
        before, marks = self._marks, self._recorder.marks
        if _newest(marks) is (before[-1] if before else None):
            return 0, []
        now = _listed(marks)
        known = {id(mark): i for i, mark in enumerate(before, 1)}
        new = list(takewhile(lambda mark: id(mark) not in known, reversed(now)))[::-1]
        kept = known[id(now[-len(new) - 1])] if len(new) < len(now) else 0
        self._marks = now
        return len(before) - kept, new

    def _new_ended(self) -> list[RequestSample]:
        log, last = self._recorder.request_log, self._last_ended
        if _newest(log) is last:
            return []
        while True:
            try:
                new = list(takewhile(lambda sample: sample is not last, reversed(log)))[::-1]
            except RuntimeError:  # another request ended during the iteration
                continue
            self._last_ended = new[-1]
            return new


class Copy:
    """Writes into `recorder` what one recorder after another has; totals add up over all."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._before = _books(recorder.accounting)
        self._generated_before = self._preemptions_before = 0
        self._stops_before = Counter(dict(recorder.stops))

    def apply(self, changes: Delta) -> None:
        """Write what is new in the other recorder."""
        recorder = self._recorder
        recorder.labels = tuple(Label(*label) for label in changes.labels) or recorder.labels
        for name, (n, rows) in changes.rows.items():
            ring: Ring = getattr(recorder, name)
            for row in np.frombuffer(rows).reshape(n, -1).tolist():
                ring.append(row)
        for number, outcome, *rest in changes.ended:
            recorder.add_ended(RequestSample(number, Outcome(outcome), *rest))
        for _ in range(min(changes.marks_gone, len(recorder.marks))):
            recorder.marks.pop()
        recorder.marks.extend(changes.marks)
        recorder.generated_tokens = self._generated_before + changes.generated_tokens
        recorder.preemptions = self._preemptions_before + changes.preemptions
        recorder.wanted = Wanted(*changes.wanted)
        recorder.kv_blocks = changes.kv_blocks
        recorder.oldest_due_s = changes.oldest_due_s
        recorder.oldest_in_flight_s = changes.oldest_in_flight_s
        recorder.requests, recorder.tiers = changes.requests, changes.tiers
        recorder.jobs_since_s = changes.jobs_since_s
        stops = self._stops_before + Counter(dict(changes.stops))
        recorder.stops = tuple(sorted(stops.items()))
        pairs = zip(self._before, changes.books, strict=True)
        recorder.accounting = Accounting(*(before + now for before, now in pairs))

    def break_off(self, now_s: float, outcome: Outcome) -> None:
        """The other recorder is gone: count its requests in flight as ended with `outcome`.

        Totals of the next recorder add to these. The log of requests has no entry for the requests
        that were in flight: only the other side knew them.
        """
        recorder, books = self._recorder, self._recorder.accounting
        for _ in range(books.in_flight):
            recorder.ended.append(row_of(end_s=now_s))
        ended = getattr(books, outcome.value) + books.in_flight
        recorder.oldest_due_s = recorder.oldest_in_flight_s = np.nan
        recorder.jobs_since_s = now_s
        recorder.accounting = replace(books, running=0, waiting=0, **{outcome.value: ended})
        self._before = _books(recorder.accounting)
        self._generated_before = recorder.generated_tokens
        self._preemptions_before = recorder.preemptions
        self._stops_before = Counter(dict(recorder.stops))


def _newest(log: deque[_T]) -> _T | None:
    try:
        return log[-1]
    except IndexError:
        return None


def _listed(log: deque[_T]) -> list[_T]:
    while True:
        try:
            return list(log)
        except RuntimeError:  # another one was added during the iteration
            continue

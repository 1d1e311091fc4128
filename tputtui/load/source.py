"""The source of requests: lengths and prompt pieces, drawn or read from a trace. Pure."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from tputtui.errors import UsageError
from tputtui.load.carrier import Carrier
from tputtui.load.jobs import Step
from tputtui.load.lengths import drawn, drawn_pair
from tputtui.load.members import sending
from tputtui.load.prompts import Piece, Stream, Uniforms
from tputtui.load.requests.reading import check_requests
from tputtui.load.traces import Trace, TraceRecord
from tputtui.load.workload import Prefix, Recorded, TraceFile, Workload

__all__ = ["Drawn", "Replayed", "RequestDraft", "StepDraft", "check_files", "check_trace",
           "untimed"]  # fmt: skip

_CHECKED_RECORDS = 1000
"""How many records of a trace are checked before a start; takes milliseconds."""


class RequestDraft(NamedTuple):
    """A request before clamping. at_s: its time in the trace in s; NaN without one."""

    pieces: tuple[Piece, ...]
    output_tokens: int
    at_s: float = math.nan
    steps: tuple[StepDraft, ...] = ()
    """Of a job: all its requests, this one among them."""


class StepDraft(NamedTuple):
    """A request of a job before clamping. continues: the step that its prompt goes on from."""

    draft: RequestDraft
    step: Step
    continues: int | None = None


class Drawn:
    """Requests drawn from distributions: draft i of a seed is always the same."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self.workload = workload
        self._uniforms = Uniforms(seed)
        self._carrier = Carrier(seed)

    def draft(self, index: int, turn: int = 0) -> RequestDraft:
        """The new part of request `index` in `turn`; a shared prefix comes first in turn 0."""
        load = self.workload
        row = self._uniforms.row(index, turn)
        kind = self._carrier.kind(load, index)
        if kind is not None and kind.prompt is not None and kind.output is not None:
            prompt, output = drawn(kind.prompt, row[0]), drawn(kind.output, row[1])
        elif load.pairs is not None:
            prompt, output = drawn_pair(load.pairs, row[0])
        else:
            assert load.prompt is not None
            assert load.output is not None
            prompt, output = drawn(load.prompt, row[0]), drawn(load.output, row[1])
        pieces: tuple[Piece, ...] = (Piece(prompt, Stream.OWN, index, turn),)
        if load.prefix is not None and turn == 0 and row[2] < load.prefix.share:
            group = _group(load.prefix, row[3])
            pieces = (Piece(load.prefix.tokens, Stream.GROUP, group), *pieces)
        return RequestDraft(pieces, output)

    def turns(self, index: int) -> int:
        """How many turns conversation `index` has; 1 without sessions."""
        sessions = self.workload.sessions
        return 1 if sessions is None else drawn(sessions.turns, self._uniforms.row(index)[5])

    def think_s(self, index: int, turn: int) -> float:
        """How long the person thinks before that turn, in s; exponentially distributed."""
        sessions = self.workload.sessions
        mean_s = sessions.think_s if sessions else 0.0
        return -mean_s * math.log1p(-self._uniforms.row(index, turn)[4])


class Replayed:
    """The requests of a trace in order, read when they are needed.

    failure: why the trace cannot be read any further, with file and line; else None.
    Raises UsageError if the file cannot be opened or its first record is bad.
    """

    def __init__(self, file: TraceFile, tokenizer: str) -> None:
        self.file = file
        self._trace = _opened(file, tokenizer)
        self._records = iter(self._trace)
        self._began_s = self._last_s = 0.0
        self._taken = 0
        self.failure: UsageError | None = None
        self._next = self._read()

    @property
    def next(self) -> RequestDraft | None:
        """The next request; None at the end of the trace."""
        return self._next

    def take(self) -> RequestDraft:
        """Take the next request; there must be one."""
        draft, self._next = self._next, None
        assert draft is not None
        try:
            self._next = self._read()
        except UsageError as error:
            self.failure = error
        return draft

    def close(self) -> None:
        """Close the file."""
        self._trace.close()

    def _read(self) -> RequestDraft | None:
        record = next(self._records, None)
        if record is None and self.file.repeat:
            # The next round starts one mean gap after the last request.
            rounds = self._last_s - self._began_s
            self._began_s = self._last_s + rounds / max(1, self._taken - 1)
            self._taken = 0
            self._records = iter(self._trace)
            record = next(self._records, None)
        if record is None:
            return None
        index, self._taken = self._taken, self._taken + 1
        self._last_s = self._began_s + (0.0 if math.isnan(record.at_s) else record.at_s)
        steps = tuple(
            StepDraft(
                RequestDraft(tuple(_pieces(each.record, index, place)), each.record.output_tokens),
                each.step,
                each.continues,
            )
            for place, each in enumerate(record.steps)
        )
        pieces = () if steps else tuple(_pieces(record, index))
        return RequestDraft(pieces, record.output_tokens, self._last_s, steps)


def check_trace(workload: Workload, tokenizer: str) -> None:
    """Check the beginning of the workload's trace, if it has one. Raises UsageError.

    Most unreadable files are unreadable from the first lines on.
    """
    if workload.trace is None:
        return
    trace = _opened(workload.trace, tokenizer)
    recorded = isinstance(workload.arrivals, Recorded)
    if recorded and not trace.timed:
        trace.close()
        raise untimed(workload.trace)
    if trace.format != "sharegpt":
        moves = not (recorded and workload.trace.repeat)
        for number, record in enumerate(trace, 1):
            moves = moves or record.at_s > 0
            if number >= _CHECKED_RECORDS and moves:
                break
        if not moves:
            trace.close()
            raise _endless(workload.trace)
    trace.close()


def check_files(workload: Workload, tokenizer: str, *, by_server: bool = False) -> None:
    """Check the beginning of the workload's traces and files of requests. Raises UsageError.

    by_server: whether it may be a server that makes the prompts.
    """
    for load in sending(workload).values():
        check_trace(load, tokenizer)
        if load.requests is not None:
            recorded = isinstance(load.arrivals, Recorded)
            check_requests(load.requests, tokenizer, recorded, by_server=by_server)


def untimed(file: TraceFile) -> UsageError:
    """The error for recorded arrivals from a trace without times."""
    return UsageError(
        f"{file.path} has no times to replay.", "Give a rate like 8/s, or a number in flight."
    )


def _endless(file: TraceFile) -> UsageError:
    """The error for repeating a trace of zero duration at its own times."""
    return UsageError(
        f"{file.path}: all its records have one time, so repeating it at its times has no end.",
        "Leave out `repeat`, or give a rate like 8/s, or a number in flight.",
    )


def _opened(file: TraceFile, tokenizer: str) -> Trace:
    return Trace(Path(file.path).expanduser(), file.tokenizer or tokenizer)


def _pieces(record: TraceRecord, index: int, place: int = 0) -> Iterator[Piece]:
    if record.token_ids:
        yield Piece(len(record.token_ids), ids=record.token_ids)
        return
    left = record.prompt_tokens
    if record.prefix:
        # The name determines the content, so it is the same in every process.
        yield Piece(record.prefix_tokens, Stream.NAMED, crc32(record.prefix.encode()))
        left -= record.prefix_tokens
    for block in record.blocks:
        yield Piece(min(left, record.block_tokens), Stream.BLOCK, block)
        left -= record.block_tokens
        if left <= 0:
            return
    if left > 0:
        yield Piece(left, Stream.OWN, index, place)


def _group(prefix: Prefix, u: float) -> int:
    if prefix.groups == 1:
        return 0
    ends = _popularity(prefix.groups, prefix.zipf)
    return min(bisect_right(ends, u * ends[-1]), prefix.groups - 1)


@lru_cache(maxsize=4)
def _popularity(groups: int, zipf: float) -> list[float]:
    return list(accumulate(rank**-zipf for rank in range(1, groups + 1)))

"""The host's own book of requests: issued, in flight, and ended by outcome.

Engine thread only. The scheduler keeps another book; `Accounting.balanced` compares the two.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

from tputtui.engine.protocol import Counts, Ended
from tputtui.load.carrier import Label
from tputtui.load.generator import RequestSpec
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Accounting, Outcome, RequestSample

__all__ = ["Ledger"]


@dataclass(frozen=True, slots=True)
class _InFlight:
    due_s: float
    submitted_s: float
    prompt_tokens: int
    wanted_tokens: int
    label: int


class Ledger:
    """Books every issued request exactly once."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        # OrderedDict: the first item is cheap to get, however many were removed before it.
        self._in_flight: OrderedDict[int, _InFlight] = OrderedDict()
        self._awaiting: OrderedDict[int, float] = OrderedDict()
        self._ended = dict.fromkeys(Outcome, 0)
        self._issued = 0
        self._clamped = 0
        self._label_of: dict[Label, int] = {}

    def holds(self, number: int) -> bool:
        """Whether a request is in flight."""
        return number in self._in_flight

    @property
    def in_flight(self) -> int:
        """Requests issued that have not left."""
        return len(self._in_flight)

    @property
    def oldest_due_s(self) -> float:
        """When the oldest request without a first token was due, in s; NaN without any."""
        return next(iter(self._awaiting.values()), math.nan)

    @property
    def oldest_in_flight_s(self) -> float:
        """When the oldest request in flight was due, in s; NaN without any."""
        return next((request.due_s for request in self._in_flight.values()), math.nan)

    def numbers(self) -> list[int]:
        """The numbers of the requests in flight."""
        return list(self._in_flight)

    def issue(self, request: RequestSpec, now_s: float) -> None:
        """Book a request that goes to the engine."""
        label = self._numbered(request.carried.label)
        self._in_flight[request.number] = _InFlight(
            request.due_s, now_s, request.prompt_tokens, request.output_tokens, label
        )
        self._awaiting[request.number] = request.due_s
        self._issued += 1
        self._clamped += request.clamped
        self._recorder.add_issued(request.due_s, label)

    def first_tokens(self, tokens: list[tuple[int, float]]) -> None:
        """Book first tokens: (request number, when in s)."""
        for number, at_s in tokens:
            request = self._in_flight[number]
            self._awaiting.pop(number, None)
            self._recorder.add_first_token(at_s, request.due_s, request.submitted_s, request.label)

    def leave(self, ended: Ended, outcome: Outcome | None = None) -> Outcome:
        """Book a request that has left the engine; return its outcome.

        Without an outcome from caller or engine it is CUT if too short, else FINISHED.
        """
        request = self._in_flight.pop(ended.number)
        self._awaiting.pop(ended.number, None)
        outcome = outcome or ended.outcome
        if outcome is None:
            whole = ended.output_tokens >= request.wanted_tokens
            outcome = Outcome.FINISHED if whole else Outcome.CUT
        self._ended[outcome] += 1
        self._recorder.add_ended(
            RequestSample(
                number=ended.number,
                outcome=outcome,
                due_s=request.due_s,
                submitted_s=request.submitted_s,
                scheduled_s=ended.scheduled_s,
                first_token_s=ended.first_token_s,
                end_s=ended.end_s,
                prompt_tokens=request.prompt_tokens,
                output_tokens=ended.output_tokens,
                wanted_tokens=request.wanted_tokens,
                cached_tokens=ended.cached_tokens,
                preemptions=ended.preemptions,
                label=request.label,
            )
        )
        return outcome

    def drop(self, number: int, outcome: Outcome, now_s: float) -> None:
        """Book a request as ended without a report from the engine."""
        self.leave(Ended(number, now_s, 0, math.nan, math.nan, 0, 0), outcome)

    def drop_all(self, outcome: Outcome, now_s: float) -> None:
        """Book every request in flight as ended with `outcome`."""
        for number in self.numbers():
            self.drop(number, outcome, now_s)

    def publish(self, counts: Counts) -> None:
        """Let everybody see the books, beside the scheduler's own counts."""
        recorder = self._recorder
        recorder.kv_blocks, recorder.others = counts.kv_blocks, counts.others
        recorder.oldest_due_s = self.oldest_due_s
        recorder.oldest_in_flight_s = self.oldest_in_flight_s
        recorder.accounting = self.accounting(counts.running, counts.waiting)

    def accounting(self, running: int, waiting: int) -> Accounting:
        """The book as one value, beside the scheduler's counts."""
        ended = self._ended
        return Accounting(
            self._issued,
            running,
            waiting,
            ended[Outcome.FINISHED],
            ended[Outcome.CUT],
            ended[Outcome.ABORTED],
            ended[Outcome.REJECTED],
            ended[Outcome.FAILED],
            self._clamped,
            ended[Outcome.CANCELLED],
        )

    def _numbered(self, label: Label) -> int:
        number = self._label_of.get(label)
        if number is None:
            number = self._label_of[label] = self._recorder.label(label)
        return number

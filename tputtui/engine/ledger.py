"""The host's own book of requests: issued, in flight, and ended by outcome.

Engine thread only. The scheduler keeps another book; `Accounting.balanced` compares the two.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace

from tputtui.engine.protocol import Counts, Ended
from tputtui.load.carrier import Label
from tputtui.load.request import RequestSpec
from tputtui.load.requests.counts import RequestCounts
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Accounting, Outcome, RequestSample

__all__ = ["Ledger"]

_NATURAL = ("stop", "repetition", "tool_calls", "function_call", "eos_token", "stop_sequence",
            "content_filter")  # fmt: skip
"""Reasons of vLLM's and other servers' with which the model itself ends an answer."""


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
        self.read: RequestCounts | None = None
        """What became of the lines of a file of real requests."""
        # OrderedDict: the first item is cheap to get, however many were removed before it.
        self._in_flight: OrderedDict[int, _InFlight] = OrderedDict()
        self._awaiting: OrderedDict[int, float] = OrderedDict()
        self._ended = dict.fromkeys(Outcome, 0)
        self._stops: Counter[str] = Counter()
        self._issued = 0
        self._clamped = 0
        self._label_of: dict[Label, int] = {}
        self._told = self._told_tokens = self._reasoned = 0
        self._answer_s = 0.0

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
        self._recorder.add_issued(request.due_s, label, request.opens_job)

    def first_tokens(self, tokens: list[tuple[int, float]]) -> None:
        """Book first tokens: (request number, when in s)."""
        for number, at_s in tokens:
            request = self._in_flight[number]
            self._awaiting.pop(number, None)
            self._recorder.add_first_token(at_s, request.due_s, request.submitted_s, request.label)

    def outcome_of(self, ended: Ended, outcome: Outcome | None = None) -> Outcome:
        """How a request in flight ended that has left the engine.

        Without an outcome from caller or engine it is CUT if too short, else FINISHED.
        """
        outcome = outcome or ended.outcome
        if outcome is None:
            # A model that ends by itself ends whole, however short.
            wanted = self._in_flight[ended.number].wanted_tokens
            whole = ended.output_tokens >= wanted or ended.stop in _NATURAL
            outcome = Outcome.FINISHED if whole else Outcome.CUT
        return outcome

    def leave(self, ended: Ended, outcome: Outcome, job_s: float = math.nan) -> None:
        """Book a request that has left the engine. job_s: as in `RequestSample`."""
        request = self._in_flight.pop(ended.number)
        self._awaiting.pop(ended.number, None)
        self._ended[outcome] += 1
        if outcome is Outcome.FINISHED and ended.prompt_tokens is not None:
            self._told += 1
            self._told_tokens += ended.prompt_tokens
        if outcome is Outcome.FINISHED and not math.isnan(ended.answer_s):
            self._reasoned += 1
            self._answer_s += ended.answer_s - request.due_s
        if outcome is Outcome.FINISHED and ended.stop:
            self._stops[ended.stop] += 1
            self._recorder.stops = tuple(sorted(self._stops.items()))
        self._recorder.add_ended(
            RequestSample(
                number=ended.number,
                outcome=outcome,
                due_s=request.due_s,
                submitted_s=request.submitted_s,
                scheduled_s=ended.scheduled_s,
                first_token_s=ended.first_token_s,
                end_s=ended.end_s,
                prompt_tokens=ended.prompt_tokens or request.prompt_tokens,
                output_tokens=ended.output_tokens,
                wanted_tokens=request.wanted_tokens,
                cached_tokens=ended.cached_tokens,
                preemptions=ended.preemptions,
                label=request.label,
                job_s=job_s,
            )
        )

    def see(self, samples: Iterable[RequestSample]) -> None:
        """Book requests of other people that have ended: live traffic."""
        for sample in samples:
            self._issued += 1
            self._ended[sample.outcome] += 1
            if not math.isnan(sample.first_token_s):
                # Known only now: in a window it counts from when the request ended.
                late_s = sample.end_s - sample.first_token_s
                self._recorder.add_first_token(
                    sample.end_s, sample.due_s + late_s, sample.submitted_s + late_s
                )
            self._recorder.add_ended(sample)

    def publish(self, counts: Counts) -> None:
        """Let everybody see the books, beside the scheduler's own counts."""
        recorder = self._recorder
        recorder.kv_blocks, recorder.others = counts.kv_blocks, counts.others
        recorder.engines, recorder.tiers = counts.engines, counts.tiers
        recorder.requests = self.read
        if self.read is not None and (self._told or self._reasoned):
            recorder.requests = replace(
                self.read,
                told=self._told,
                told_tokens=self._told_tokens,
                reasoned=self._reasoned,
                answer_s=self._answer_s,
            )
        recorder.oldest_due_s = self.oldest_due_s
        theirs = counts.unbooked > 0
        recorder.oldest_in_flight_s = counts.oldest_s if theirs else self.oldest_in_flight_s
        recorder.accounting = self.accounting(counts.running, counts.waiting, counts.unbooked)

    def accounting(self, running: int, waiting: int, unbooked: int = 0) -> Accounting:
        """The book as one value, beside the scheduler's counts.

        unbooked: requests of other people under way that this run is about.
        """
        ended = self._ended
        return Accounting(
            self._issued + unbooked,
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

"""Moves requests from the generator to the engine, and their ends into ledger and generator.

It is the client as well: it gives up requests, where the load has cancellations, and waits a while
where one is refused before it sends another in its place. Runs on the engine thread.
"""

from __future__ import annotations

import heapq
import logging
import math
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import closing
from functools import partial

from tputtui.engine.ledger import Ledger
from tputtui.engine.protocol import Ended, Engine, EngineFacts, ShedError, StepReport
from tputtui.engine.questions import Round
from tputtui.load.generator import Generator
from tputtui.load.merged import LoadGenerator, MakeGenerator, changed, generator_of
from tputtui.load.request import FIRST_QUESTION, REFUSED_WAIT_S, RequestSpec
from tputtui.load.requests.ask import Takes
from tputtui.load.workload import Workload
from tputtui.measure.samples import Outcome
from tputtui.quality.answers import Answered, Questions
from tputtui.simulate.clock import VirtualTime

__all__ = ["Dispatch"]

logger = logging.getLogger(__name__)

_SENDING_S = 0.02
_SENT_AT_ONCE = 10_000


class Dispatch:
    """Sends due requests to the engine, and reports ended ones to `ledger` and generator.

    clock: monotonic seconds, the engine's. answered: the answers of the last round of questions.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._giving_up: list[tuple[float, int]] = []
        """(when, request number) of the requests to cancel, a heap."""
        self._refused: deque[float] = deque()
        """Until when the client of each refused request waits, ascending."""
        self._make: MakeGenerator | None = None
        self._round: Round | None = None
        self.answered: Answered | None = None

    def ask(self, number: int, questions: Questions) -> None:
        """Ask questions from now on, beside the load. number: of the order."""
        self._round, self.answered = Round(number, questions), None

    def forget(self) -> None:
        """Drop questions and answers: the engine is gone."""
        self._round = self.answered = None

    def next_s(self, generator: LoadGenerator) -> float:
        """When the next request is due or given up; infinity for neither."""
        again_s = self._refused[0] if self._refused else math.inf
        return min(generator.next_due_s(self._taken_places), self._next_cancel_s(), again_s)

    def cancel_and_send(self, engine: Engine, generator: LoadGenerator, max_model_len: int) -> None:
        """Abort the requests that the client has given up by now, then `send`.

        Not between a step and its booking: what has ended in that step has ended.
        """
        self._cancel(engine, generator)
        self.send(engine, generator, max_model_len)

    def generator(self, load: Workload, facts: EngineFacts, tokenizer: str) -> LoadGenerator:
        """A generator of `load` for this engine, held at request 0."""
        self._ledger.forget_jobs(self._clock())
        self._refused.clear()
        # Virtual time would leap over what another thread renders.
        patient = isinstance(self._clock, VirtualTime)
        self._make = partial(
            Generator,
            vocab_size=facts.vocab_size,
            tokenizer=tokenizer,
            patient=patient,
            vocab_exact=facts.vocab_exact,
            takes_ids=facts.takes_ids,
            renders=facts.renders,
            takes=Takes(facts.tokenizes and not facts.simulated, not facts.served),
        )
        return generator_of(load, self._make)

    def change(self, generator: LoadGenerator, load: Workload) -> LoadGenerator:
        """The generator that goes on with `load`. Raises UsageError, as `merged.changed` does."""
        assert self._make is not None
        before, now_s = generator.workload, self._clock()
        generator = changed(generator, load, self._make, now_s)
        left = {each.name for each in before.apart} - {each.name for each in load.apart}
        if load.request_files != before.request_files or left:
            self._ledger.forget_jobs(now_s)
        return generator

    def send(self, engine: Engine, generator: LoadGenerator, max_model_len: int) -> None:
        """Send the requests that are due."""
        self._let_try_again()
        self._ledger.read = generator.counts
        if self._round is not None:
            self._round.send(engine, self._ledger, self._clock(), max_model_len)
            self._conclude()
        # A burst of a hundred thousand requests must delay neither steps nor orders. The count is
        # needed because a virtual clock does not advance meanwhile.
        enough_s, left = self._clock() + _SENDING_S, _SENT_AT_ONCE
        # Twice: requests that become due during the first round must not wait for a whole step.
        for _ in range(2):
            now_s, taken, sent = self._clock(), self._taken_places, False
            with closing(generator.arriving(now_s, taken, max_model_len)) as arriving:
                for request in arriving:
                    sent = True
                    self._submit(engine, generator, request)
                    left -= 1
                    if left <= 0 or self._clock() > enough_s:
                        return
            if not sent:
                break

    def book(self, generator: LoadGenerator, report: StepReport) -> None:
        """Book the requests that a step has brought on."""
        self._ledger.first_tokens(report.first_tokens)
        self.leave(generator, report.ended)
        self._ledger.see(report.seen)

    def leave(
        self,
        generator: LoadGenerator | None,
        ended: Iterable[Ended],
        outcome: Outcome | None = None,
    ) -> None:
        """Book requests that have left the engine; without `outcome` the ledger determines it."""
        for request in ended:
            how, job_s = self._ledger.outcome_of(request, outcome), math.nan
            if request.number >= FIRST_QUESTION:
                self._ledger.leave(request, how)
                if self._round is not None:
                    self._round.take(request, how)
                    self._conclude()
                continue
            if generator is not None and how is Outcome.FINISHED:
                job_s = generator.ended(
                    request.number, request.end_s, request.output_tokens, request.token_ids
                )
            elif generator is not None:
                job_s = generator.lost(request.number, request.end_s)
            self._ledger.leave(request, how, job_s)

    def drop(self, generator: LoadGenerator | None, number: int, outcome: Outcome) -> None:
        """Book a request as ended without a report from the engine."""
        self.leave(generator, [Ended.unreported(number, self._clock())], outcome)

    def drop_all(self, generator: LoadGenerator | None, outcome: Outcome) -> None:
        """Book every request in flight as ended with `outcome`."""
        for number in self._ledger.numbers():
            self.drop(generator, number, outcome)

    @property
    def _in_flight(self) -> int:
        """Requests of the load in flight."""
        return self._ledger.in_flight - (self._round.in_flight if self._round else 0)

    def _conclude(self) -> None:
        if self._round is not None and (answered := self._round.answered) is not None:
            self._round, self.answered = None, answered

    def _cancel(self, engine: Engine, generator: LoadGenerator) -> None:
        now_s, gone = self._clock(), []
        while self._next_cancel_s() <= now_s:
            gone.append(heapq.heappop(self._giving_up)[1])
        if gone:
            self.leave(generator, engine.end(gone), Outcome.CANCELLED)

    def _next_cancel_s(self) -> float:
        heap = self._giving_up
        while heap and not self._ledger.holds(heap[0][1]):
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    @property
    def _taken_places(self) -> int:
        """Places of a closed loop that no new request can have."""
        return self._in_flight + len(self._refused)

    def _submit(self, engine: Engine, generator: LoadGenerator, request: RequestSpec) -> None:
        """Send one request; one that the engine refuses is booked as rejected."""
        self._ledger.issue(request, self._clock())
        try:
            if request.output_tokens < 1:
                raise ValueError("its prompt leaves no room for an answer")
            engine.submit(request)
        except ValueError as refusal:
            if not isinstance(refusal, ShedError):  # those come by the hundred
                logger.warning("request %d refused: %s", request.number, refusal)
            self.drop(generator, request.number, Outcome.REJECTED)
            self._refused.append(self._clock() + REFUSED_WAIT_S)
            return
        if request.carried.cancel_s < math.inf:
            when_s = request.due_s + request.carried.cancel_s
            heapq.heappush(self._giving_up, (when_s, request.number))

    def _let_try_again(self) -> None:
        now_s = self._clock()
        while self._refused and self._refused[0] <= now_s:
            self._refused.popleft()

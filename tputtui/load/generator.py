"""The load generator: decides which requests are due. Pure, seeded, without a clock.

Request number i of a seed is always the same request, whatever the timing, the limits or the
arrival process. The engine thread calls `arriving` between steps; there is no load thread.
"""

from __future__ import annotations

import math
from collections import abc, deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain

from tputtui.errors import UsageError
from tputtui.load.carrier import Carrier, check_schema
from tputtui.load.conversations import Conversation, Conversations, JobStep, Run
from tputtui.load.jobs import Left
from tputtui.load.prompts import Piece, Prompt, TokenSource
from tputtui.load.request import RequestSpec
from tputtui.load.requests.ask import ANYTHING, Takes
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.rendered import Rendered
from tputtui.load.requests.source import RealRequests
from tputtui.load.source import Drawn, Replayed, RequestDraft
from tputtui.load.starts import Starts, taken
from tputtui.load.timing import ClosedTiming, OpenTiming, RecordedTiming, Timing, Wanted, timing_of
from tputtui.load.workload import Workload

__all__ = ["Generator"]


class Generator:
    """Returns the due requests; a change of workload neither loses nor doubles a request.

    vocab_size: prompts are drawn from ids 4 … vocab_size - 1.
    tokenizer: of the model, for traces of text; a path or hub id.
    patient: wait for real prompts to be rendered; for virtual time, which would leap over it.
    vocab_exact: whether `vocab_size` covers all ids of the model.
    takes_ids, renders: whether the engine takes prompts of token ids, and whether it makes prompts
    of messages itself. It does that where no tokenizer is named to make them here.
    takes: what else the engine can be asked for. number: of the next request.
    A file that cannot be opened or read ends the load: `exhausted`, with a `failure`.
    """

    def __init__(
        self,
        workload: Workload,
        vocab_size: int,
        tokenizer: str = "",
        *,
        patient: bool = False,
        vocab_exact: bool = True,
        takes_ids: bool = True,
        renders: bool = False,
        takes: Takes = ANYTHING,
    ) -> None:
        self.workload = workload
        self._takes_ids, self._renders, self._takes = takes_ids, renders, takes
        self._patient, self._vocab_exact = patient, vocab_exact
        self._real: RealRequests | None = None
        self._vocab_size = vocab_size
        self._tokenizer = tokenizer
        self._replayed: Replayed | None = None
        self.restart()

    def restart(self) -> None:
        """Go back to request 0, held."""
        self._open = False
        self._held_s = -math.inf
        self.number = self._index = 0
        self._seed = self.workload.seed
        self._tokens = TokenSource(self._seed, self._vocab_size)
        self._carrier = Carrier(self._seed)
        self._talk = Conversations()
        self._backlog: list[float] = []
        self._timing: Timing | None = None
        self._take_source()

    def _take_source(self) -> None:
        self._drawn = Drawn(self.workload, self._seed)
        self._unopened: UsageError | None = None
        old, self._replayed = self._replayed, None
        if old is not None:
            old.close()
        self.close()
        try:
            check_schema(self.workload)
            if self.workload.trace is not None:
                self._replayed = Replayed(self.workload.trace, self._tokenizer)
            if self.workload.requests is not None:
                self._real = self._opened(self.workload.requests)
        except UsageError as error:
            self._unopened = error

    def _opened(self, file: RequestFile) -> RealRequests:
        # Where only some ids are known, the tokenizer is trusted to be the model's.
        ids = self._vocab_size if self._vocab_exact else 1 << 31
        here = self._takes_ids and (file.tokenizer or self._tokenizer)
        return RealRequests(
            file,
            self._tokenizer,
            ids,
            patient=self._patient,
            by_server=self._renders and not here,
            takes=self._takes,
        )

    def close(self) -> None:
        """End what reads real requests ahead."""
        if self._real is not None:
            self._real.close()
        self._real = None

    @property
    def held(self) -> bool:
        """Whether arrivals are paused."""
        return not self._open

    @property
    def exhausted(self) -> bool:
        """Whether the trace has ended with its last job, or cannot be read; so with real ones."""
        if self._real is not None:
            return self._real.ended
        return self._dry and not self._talk.jobs

    @property
    def _dry(self) -> bool:
        """Whether no request is left to start with, among drawn ones or in a trace."""
        if self._replayed is None:
            return self._unopened is not None
        return self._replayed.next is None

    @property
    def failure(self) -> UsageError | None:
        """Why the trace cannot be read any further, with file and line; None if it can."""
        source = self._real or self._replayed
        return self._unopened or (source.failure if source else None)

    @property
    def counts(self) -> RequestCounts | None:
        """What became of the lines of a file of real requests; None without one."""
        return self._real.counts() if self._real else None

    def resume(self, now_s: float) -> None:
        """Let requests arrive from now on. The time spent held causes no backlog."""
        self._open = True
        if self._real is not None:
            self._real.begin(now_s)
        if self._timing is None:
            self._start_timing(now_s)
            return
        held_s = now_s - self._held_s
        self._timing.shift(held_s)
        self._talk.shift(held_s)
        if self._real is not None:
            self._real.shift(held_s)

    def hold(self, now_s: float) -> None:
        """Let no more requests arrive; requests due before are still returned."""
        if self._open:
            if self._real is not None and self._timing is not None:
                self._timing.shift(self._real.unready(now_s, leave=True) or 0.0)
            self._backlog += self._overdue(now_s)
            self._open = False
            self._held_s = now_s

    def change(self, workload: Workload, now_s: float) -> None:
        """Go on with another workload from `now_s`; a new seed applies from the next restart.

        Raises UsageError, and keeps the old workload, if its trace or schema cannot be opened.
        """
        timing = self._timing
        new_trace = workload.trace != self.workload.trace
        new_requests = workload.requests != self.workload.requests
        # Opened before anything else is changed, since this can fail.
        check_schema(workload)
        opened = Replayed(workload.trace, self._tokenizer) if new_trace and workload.trace else None
        real = self._opened(workload.requests) if new_requests and workload.requests else None
        if self._open:
            self._backlog += self._overdue(now_s)
        if new_trace:
            if self._replayed is not None:
                self._replayed.close()
            self._replayed, self._unopened = opened, None
        if new_requests:
            self.close()
            self._real, self._unopened = real, None
        self.workload = workload
        self._drawn.workload = workload
        if timing is None:
            return
        at_s = now_s if self._open else self._held_s
        anew = (new_trace or new_requests) and isinstance(timing, RecordedTiming)
        if anew or not timing.change(workload.arrivals, at_s):
            self._start_timing(at_s)

    def ended(self, number: int, end_s: float, output_tokens: int, ids: Sequence[int]) -> float:
        """Note that a request has its whole answer, so that its conversation, or job, can go on.

        ids: the answer; if empty, `output_tokens` random tokens replace it. Returns how long the
        job took that it ended, in s, from its first step due; NaN where it ended none.
        """
        left = self._real.answered(number, end_s, ids) if self._real else None
        left = left or self._talk.step_answered(number, end_s, output_tokens, ids)
        if left is not None:
            return self._free(left, end_s)
        conversation = self._talk.answered(number, output_tokens, ids)
        if conversation is not None:
            think_s = self._drawn.think_s(conversation.index, conversation.turn)
            self._talk.think(conversation, end_s + think_s)
            return math.nan
        return self._free(Left(), end_s)

    def lost(self, number: int, end_s: float) -> float:
        """Note that a request ended without an answer: its conversation, or job, is over.

        Returns how long the job took that it broke, in s; NaN where it broke none.
        """
        broken = self._talk.broken(number, end_s)
        left = self._real.lost(number, end_s) if self._real else None
        return self._free(left or broken or Left(), end_s)

    def wanted(self, now_s: float) -> Wanted:
        """The load wanted at `now_s`; zero while held."""
        if self._timing is None or not self._open:
            return Wanted()
        return self._timing.wanted(now_s)

    def next_due_s(self, in_flight: int) -> float:
        """When the next request is due, given how many are in flight; infinity without one."""
        if self._real is not None:
            return self._real.next_due_s(self._timing, self._backlog, in_flight, held=self.held)
        if self._backlog:
            return self._backlog[0]
        if not self._open:
            return math.inf
        turn_s = self._talk.next_due_s()
        match self._timing:
            case OpenTiming():
                start_s = self._timing.next_due_s()
            case ClosedTiming():
                start_s = self._timing.next_due_s(in_flight + self._talk.thinking)
            case RecordedTiming():
                draft = self._replayed.next if self._replayed else None
                start_s = self._timing.due_s(draft.at_s) if draft else math.inf
            case None:
                start_s = math.inf
        return min(turn_s, math.inf if self._dry else start_s)

    def due(self, now_s: float, in_flight: int, max_model_len: int) -> list[RequestSpec]:
        """Every request due by `now_s`, oldest first, clamped to `max_model_len` tokens in all."""
        return list(self.arriving(now_s, in_flight, max_model_len))

    def arriving(
        self, now_s: float, in_flight: int, max_model_len: int
    ) -> abc.Generator[RequestSpec, None, None]:
        """The same requests one at a time, so the first need not wait until the last is made.

        The caller may close it early: requests not taken stay due.
        """
        if self._real is not None:
            return self._arriving_real(self._real, now_s, in_flight, max_model_len)
        return self._arriving(now_s, in_flight, max_model_len)

    # -- inside ----------------------------------------------------------------------------

    def _free(self, left: Left, end_s: float) -> float:
        if left.frees and isinstance(self._timing, ClosedTiming) and self._open:
            self._timing.freed(end_s)
        return left.job_s

    def _arriving(
        self, now_s: float, in_flight: int, max_model_len: int
    ) -> abc.Generator[RequestSpec, None, None]:
        starts = self._starts(now_s, in_flight)
        turns = deque(self._talk.pop(now_s) if self._open else ())
        try:
            for due_s in starts.times:
                # Kept for the case that the caller stops at a turn before this start.
                self._backlog = [due_s]
                while turns and turns[0][0] <= due_s:
                    yield from self._next_turn(*turns.popleft(), max_model_len)
                self._backlog = []
                if self._dry:
                    break
                yield self._start(due_s, max_model_len)
            while turns:
                yield from self._next_turn(*turns.popleft(), max_model_len)
            if self._open and isinstance(self._timing, RecordedTiming):
                yield from self._recorded(self._timing, now_s, max_model_len)
        finally:
            self._put_back(starts)
            for due_s, conversation in turns:
                self._talk.think(conversation, due_s)

    def _arriving_real(
        self, real: RealRequests, now_s: float, in_flight: int, max_model_len: int
    ) -> abc.Generator[RequestSpec, None, None]:
        """As `_arriving`, for real requests: one whose prompt is not rendered yet stays due."""
        unready_s = real.unready(now_s)
        if unready_s is None:
            return
        if unready_s and self._timing is not None:
            self._timing.shift(unready_s)
        turns = deque(real.pop_turns(now_s, max_model_len) if self._open else ())
        starts = self._starts(now_s, in_flight)
        try:
            while turns:
                due_s, turn = turns.popleft()
                real.turn_sent()
                yield self._real_spec(real, due_s, turn, max_model_len)
            for due_s in starts.times:
                real.drop_unfit(max_model_len)
                if real.next is None:
                    real.starve()
                    if isinstance(self._timing, ClosedTiming) and self._open:
                        starts.places.appendleft(due_s)
                    elif not real.ended:
                        self._backlog = [due_s]
                    break
                yield self._real_spec(real, due_s, real.take(), max_model_len)
            while self._open and isinstance(self._timing, RecordedTiming):
                real.drop_unfit(max_model_len)
                if (draft := real.next) is None or self._timing.due_s(draft.at_s) > now_s:
                    break
                due_s = self._timing.due_s(draft.at_s)
                yield self._real_spec(real, due_s, real.take(), max_model_len)
        finally:
            self._put_back(starts)
            for due_s, turn in turns:
                real.put_back(due_s, turn)

    def _starts(self, now_s: float, in_flight: int) -> Starts:
        """Take the new requests that are due, to be sent one at a time."""
        before, places = deque(self._backlog), deque[float]()
        times: Iterable[float] = taken(before)
        self._backlog = []
        if self._open:
            overdue = self._overdue(now_s, in_flight)
            if isinstance(self._timing, ClosedTiming):
                places.extend(overdue)
                overdue = taken(places)
            times = chain(times, overdue)
        return Starts(times, before, places)

    def _put_back(self, starts: Starts) -> None:
        """What was not sent stays due."""
        self._backlog += starts.before
        if isinstance(self._timing, ClosedTiming):
            self._timing.still_free(starts.places)

    def _real_spec(
        self, real: RealRequests, due_s: float, draft: Rendered, max_model_len: int
    ) -> RequestSpec:
        number, self.number = self.number, self.number + 1
        carry = partial(self._carrier.carried, self.workload)
        return real.request(number, due_s, draft, max_model_len, carry)

    def _start_timing(self, now_s: float) -> None:
        self._timing = timing_of(self.workload.arrivals, self._seed, now_s)
        source = self._real or self._replayed
        if isinstance(self._timing, RecordedTiming) and source and source.next:
            # A trace that has already begun goes on with its next request.
            self._timing.shift(now_s - self._timing.due_s(source.next.at_s))

    def _overdue(self, now_s: float, in_flight: int | None = None) -> Iterable[float]:
        """Due times of new requests; without `in_flight`, only those of an open loop."""
        match self._timing:
            case OpenTiming():
                return self._timing.pop(now_s)
            case ClosedTiming() if in_flight is not None:
                taken = in_flight + (self._real or self._talk).thinking
                self._talk.leave(taken - self._timing.target(now_s))
                return self._timing.pop(now_s, taken)
        return ()

    def _recorded(
        self, timing: RecordedTiming, now_s: float, max_model_len: int
    ) -> Iterator[RequestSpec]:
        """The requests whose recorded time is due."""
        while self._replayed is not None and (draft := self._replayed.next) is not None:
            due_s = timing.due_s(draft.at_s)
            if due_s > now_s:
                break
            yield self._start(due_s, max_model_len)

    def _start(self, due_s: float, max_model_len: int) -> RequestSpec:
        if self._replayed is not None:
            draft = self._replayed.take()
            if draft.steps:
                return self._begin(due_s, Run.of(self.number, draft.steps), max_model_len)
            # The records of a trace are numbered as they are sent.
            return self._spec(due_s, draft, max_model_len, self.number)
        index, self._index = self._index, self._index + 1
        draft = self._drawn.draft(index)
        spec = self._spec(due_s, draft, max_model_len, index)
        turns = self._drawn.turns(index)
        if turns > 1:
            self._talk.ask(spec.number, Conversation(index, turns), draft.pieces)
        return spec

    def _begin(self, due_s: float, run: Run, max_model_len: int) -> RequestSpec:
        """The first step of a job; others that wait for none are due in their time."""
        (_, first), *others = run.job.roots()
        spec = self._step(due_s, JobStep(run, first), max_model_len)
        for wait_s, place in others:
            self._talk.think(JobStep(run, place), due_s + wait_s)
        return spec

    def _step(self, due_s: float, step: JobStep, max_model_len: int) -> RequestSpec:
        draft = step.draft
        spec = self._spec(due_s, draft, max_model_len, step.run.index, step.place)
        opens_job = self._talk.sent(spec.number, step, draft.pieces, due_s)
        return spec._replace(opens_job=opens_job)

    def _next_turn(
        self, due_s: float, conversation: Conversation | JobStep, max_model_len: int
    ) -> Iterator[RequestSpec]:
        """The conversation's next request, none if the conversation is over; or a job's step."""
        if isinstance(conversation, JobStep):
            yield self._step(due_s, conversation, max_model_len)
            return
        draft = self._drawn.draft(conversation.index, conversation.turn)
        pieces = (*conversation.history, *draft.pieces)
        if _total(pieces) >= max_model_len:
            # The history no longer fits into the model length.
            return
        draft = draft._replace(pieces=pieces)
        spec = self._spec(due_s, draft, max_model_len, conversation.index, conversation.turn)
        self._talk.ask(spec.number, conversation, pieces)
        yield spec

    def _spec(
        self, due_s: float, draft: RequestDraft, max_model_len: int, index: int, turn: int = 0
    ) -> RequestSpec:
        number, self.number = self.number, self.number + 1
        pieces = draft.pieces
        wanted = pieces[0].tokens if len(pieces) == 1 else _total(pieces)
        prompt = min(wanted, max_model_len - 1)
        output = min(draft.output_tokens, max_model_len - prompt)
        clamped = prompt != wanted or output != draft.output_tokens
        made = Prompt(self._tokens, pieces, prompt)
        carried = self._carrier.carried(self.workload, index, turn)
        return RequestSpec(number, due_s, made, output, clamped, turn, None, carried)


def _total(pieces: tuple[Piece, ...]) -> int:
    return sum(piece.tokens for piece in pieces)

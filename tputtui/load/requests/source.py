"""Real requests as the generator takes them: what is ready, what goes on, what does not fit.

A step of a job that does not fit, or cannot be rendered, is sent all the same and refused: so its
job is counted as one that failed. A turn of a conversation like that is dropped.

Engine thread. Nothing here waits for the renderer, but in virtual time, which would leap over it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from tputtui.errors import UsageError
from tputtui.load.carrier import Carried
from tputtui.load.jobs import Jobs, Left
from tputtui.load.request import RequestSpec
from tputtui.load.requests.ask import ANYTHING, Takes
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.reading import untokenized
from tputtui.load.requests.rendered import Rendered, RenderedPrompt, Talk
from tputtui.load.requests.renderer import Renderer
from tputtui.load.timing import ClosedTiming, OpenTiming, RecordedTiming, Timing
from tputtui.process.privacy import keep_private

__all__ = ["RealRequests"]

_LOOK_S = 0.05
_LOOK_AGAIN_S = 0.005
"""How soon to look again for a prompt that is still being rendered."""


class RealRequests:
    """The requests of `file` in order, and the further turns of their conversations and jobs.

    patient: wait for the renderer instead of returning nothing. by_server: the server makes the
    prompts. takes: what the engine can be asked for. Raises UsageError if the file cannot be
    opened, or no tokenizer is known.
    """

    def __init__(
        self,
        file: RequestFile,
        tokenizer: str,
        vocab_size: int,
        *,
        patient: bool = False,
        by_server: bool = False,
        takes: Takes = ANYTHING,
    ) -> None:
        if not (by_server or file.tokenizer or tokenizer):
            raise untokenized(file)
        # From here on, prompts may be in any message of any library.
        keep_private()
        self.file = file
        self._patient = patient
        self._renderer = Renderer(file, tokenizer, vocab_size, by_server=by_server, takes=takes)
        self._talks: dict[int, tuple[Talk, int]] = {}
        self._jobs = Jobs()
        self._between = 0
        """Turns that are due once they are rendered and their time has come."""
        self._too_long = self._shortened = self._late = 0
        self._starved = False
        self._unready_s: float | None = None
        self._look_s = -math.inf

    def begin(self, now_s: float) -> None:
        """Requests arrive from `now_s` on, or from when the first one is rendered."""
        self._unready_s = now_s if self.next is None else None
        self._look_s = now_s

    def unready(self, now_s: float, *, leave: bool = False) -> float | None:
        """How long the load has waited for its first prompt, told once; None while it waits.

        Rendering the first prompt, and loading a tokenizer for it, is no delay of the engine's.
        leave: wait no longer.
        """
        self._look_s = now_s + _LOOK_AGAIN_S
        began_s = self._unready_s
        if began_s is None:
            return 0.0
        if self.next is None and not self.ended and not leave:
            return None
        self._unready_s = None
        return now_s - began_s

    def next_due_s(
        self, timing: Timing | None, backlog: Sequence[float], in_flight: int, *, held: bool
    ) -> float:
        """When to look for the next request; soon while one is being rendered, else infinity."""
        if held and not backlog:
            return math.inf
        if self._unready_s is not None:
            return self._look_s
        draft, due_s = self.next, math.inf
        if backlog:
            due_s = backlog[0]
        elif not self.ended:
            match timing:
                case OpenTiming():
                    due_s = timing.next_due_s()
                case ClosedTiming():
                    due_s = timing.next_due_s(in_flight + self.thinking)
                case RecordedTiming():
                    due_s = timing.due_s(draft.at_s) if draft else -math.inf
        if draft is None:
            due_s = max(due_s, self._look_s)
        if self._between and not held:
            turn_s = self.next_turn_s()
            due_s = min(due_s, turn_s if turn_s < math.inf else self._look_s)
        return due_s

    @property
    def failure(self) -> UsageError | None:
        """Why the file cannot be read any further; None if it can."""
        return self._renderer.failure

    @property
    def thinking(self) -> int:
        """Places of a closed loop that conversations and jobs take beside requests in flight."""
        return self._jobs.thinking

    @property
    def next(self) -> Rendered | None:
        """The next new request; None while none is rendered, and at the end."""
        renderer = self._renderer
        while not renderer.ready:
            ended = renderer.read_all
            if renderer.ready:
                break
            if ended or not self._patient:
                return None
            renderer.news.wait(_LOOK_S)
            renderer.news.clear()
        return renderer.ready[0]

    def starve(self) -> None:
        """Note that a request is due whose prompt is not rendered yet."""
        self._starved = not self._renderer.read_all

    @property
    def ended(self) -> bool:
        """Whether the file has ended, and every conversation of it; or it cannot be read."""
        renderer = self._renderer
        if renderer.failure is not None:
            return not renderer.ready
        over = renderer.read_all and not renderer.ready
        return over and not self._jobs.under_way and not self._between

    def drop_unfit(self, max_model_len: int) -> None:
        """Drop the next requests as long as their prompts do not fit, as a server refuses them."""
        while (draft := self.next) is not None and not draft.prompt.fits(max_model_len):
            self._renderer.take()
            self._too_long += 1

    def take(self) -> Rendered:
        """Take the next request; there must be one."""
        self._late += self._starved
        self._starved = False
        return self._renderer.take()

    def request(
        self,
        number: int,
        due_s: float,
        draft: Rendered,
        max_model_len: int,
        carry: Callable[[int, int], Carried],
    ) -> RequestSpec:
        """The request to send under this number. carry: what request (index, turn) carries."""
        room, fits = max_model_len, draft.prompt.fits(max_model_len)
        if isinstance(draft.prompt, RenderedPrompt):
            room -= draft.prompt.length
        wanted = draft.output_tokens or room
        # Nothing is asked of a prompt that leaves no room; so it is refused.
        output = min(wanted, room) if fits else 0
        shortened = fits and output < wanted
        opens_job = self.sent(number, draft, due_s, shortened)
        # A conversation, or job, is drawn by its first request.
        index = draft.talk.job.number if draft.talk else number
        carried = draft.carrying(carry(index, draft.turn))
        return RequestSpec(
            number, due_s, draft.prompt, output, shortened, draft.turn, draft.serving, carried,
            opens_job,
        )  # fmt: skip

    def sent(self, number: int, rendered: Rendered, due_s: float, shortened: bool) -> bool:
        """Note that a request is sent under this number; whether it is the first of its job."""
        self._shortened += shortened
        talk = rendered.talk
        if talk is None:
            return False
        self._talks[number] = talk, rendered.turn
        first = self._jobs.sent(number, talk.job, rendered.turn, due_s)
        for wait_s, step in rendered.abreast:
            self._between += 1
            self._renderer.put_back(due_s + wait_s, step)
        return first and talk.ask.job

    def answered(self, number: int, end_s: float, ids: Sequence[int]) -> Left | None:
        """Note the answer of a request; None where it has no conversation and no job."""
        left = self._jobs.answered(number, end_s)
        if left is None:
            return None
        talk, turn = self._talks.pop(number)
        self._between += len(left.ready)
        if not talk.job.over:
            self._renderer.answer(talk, turn, ids, left.ready)
        while self._patient and self._renderer.answers:
            self._renderer.news.wait(_LOOK_S)
            self._renderer.news.clear()
        return left

    def lost(self, number: int, end_s: float) -> Left | None:
        """Note that a request got no answer: its conversation, or job, is over. None for none."""
        left = self._jobs.lost(number, end_s)
        if left is None:
            return None
        talk, _ = self._talks.pop(number)
        self._between -= self._renderer.drop(talk)
        return left

    def next_turn_s(self) -> float:
        """When the next rendered turn is due; infinity without one."""
        return self._renderer.next_turn_s()

    def pop_turns(self, now_s: float, max_model_len: int) -> list[tuple[float, Rendered]]:
        """Take the turns due by `now_s`; those that do not fit end their conversation."""
        fitting = []
        for due_s, turn in self._renderer.pop_turns(now_s):
            talk = turn.talk
            assert talk is not None
            fits = turn.prompt.fits(max_model_len)
            if not talk.job.broken:
                self._too_long += not fits and turn.prompt.length > 0
                if fits or talk.ask.job:
                    fitting.append((due_s, turn))
                    continue
                self._jobs.drop(talk.job)
            self._between -= 1
        return fitting

    def turn_sent(self) -> None:
        """Note that a popped turn is sent."""
        self._between -= 1

    def put_back(self, due_s: float, turn: Rendered) -> None:
        """Return a turn that was popped and not sent."""
        self._renderer.put_back(due_s, turn)

    def shift(self, seconds: float) -> None:
        """Move the due times of all turns `seconds` later (the load was held meanwhile)."""
        self._renderer.shift(seconds)

    def counts(self) -> RequestCounts:
        """What became of the lines so far."""
        return replace(
            self._renderer.counts(),
            too_long=self._too_long,
            shortened=self._shortened,
            late=self._late,
        )

    def close(self) -> None:
        """End the renderer."""
        self._renderer.close()

    def __del__(self) -> None:
        # The renderer's threads hold it, not this; so it ends when nobody takes from it any more.
        if hasattr(self, "_renderer"):
            self._renderer.close()

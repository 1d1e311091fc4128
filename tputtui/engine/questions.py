"""One round over a set of questions: sends them beside the load, and collects the answers.

Engine thread. Questions are booked as any other requests are; their numbers tell them apart. Each
round has an order of its own, and keeps now more, now fewer of them in flight: so a prompt is
served in batches of other sizes each time, and what that changes of its answer is seen as noise.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

import numpy as np

from tputtui.engine.ledger import Ledger
from tputtui.engine.protocol import Ended, Engine
from tputtui.load.carrier import Carried
from tputtui.load.request import FIRST_QUESTION, RequestSpec
from tputtui.load.requests.rendered import RenderedPrompt, Serving
from tputtui.measure.samples import Outcome
from tputtui.process.privacy import keep_private
from tputtui.quality.answers import LOGPROBS, Answer, Answered, Questions

__all__ = ["Round"]

logger = logging.getLogger(__name__)

_AT_MOST = 16
_GREEDY: Final[Mapping[str, object]] = {
    "temperature": 0.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "presence_penalty": 0.0,
    "frequency_penalty": 0.0, "repetition_penalty": 1.0, "min_tokens": 0,
}  # fmt: skip
"""On top of the model's own defaults, which may choose otherwise."""
_SERVING = Serving(_GREEDY, natural=True, detokenize=False)
_CARRIED = Carried(logprobs=LOGPROBS)


class Round:
    """Asks `questions` once. number: of the order that wants it; in_flight: asked, not answered."""

    def __init__(self, number: int, questions: Questions) -> None:
        if questions.private:
            # From here on, prompts may be in any message of any library.
            keep_private()
        self._number = number
        self._questions = questions.each
        self._random = np.random.default_rng(questions.seed)
        self._left = [int(place) for place in self._random.permutation(len(questions.each))]
        self._answers: dict[int, Answer | None] = {}
        self._at_once = _AT_MOST
        self.in_flight = 0

    @property
    def answered(self) -> Answered | None:
        """All answers, once none is outstanding."""
        if self._left or self.in_flight:
            return None
        answers = tuple(self._answers.get(place) for place in range(len(self._questions)))
        return Answered(self._number, answers)

    def send(self, engine: Engine, ledger: Ledger, now_s: float, max_model_len: int) -> None:
        """Send as many as are to be in flight; those that do not fit get no answer."""
        while self._left and self.in_flight < self._at_once:
            place = self._left.pop()
            question = self._questions[place]
            most = min(question.output_tokens, max_model_len - len(question.ids))
            if most < 1:
                continue
            request = RequestSpec(
                number=FIRST_QUESTION + place,
                due_s=now_s,
                prompt=RenderedPrompt(list(question.ids)),
                output_tokens=most,
                clamped=most < question.output_tokens,
                serving=_SERVING,
                carried=_CARRIED,
            )
            ledger.issue(request, now_s)
            try:
                engine.submit(request)
            except ValueError as refusal:
                logger.warning("a question was refused: %s", refusal)
                ledger.leave(Ended.unreported(request.number, now_s), Outcome.REJECTED)
            else:
                self.in_flight += 1

    def take(self, ended: Ended, outcome: Outcome) -> None:
        """Take in a question that has left the engine."""
        self.in_flight -= 1
        self._at_once = int(self._random.integers(2, _AT_MOST, endpoint=True))
        if outcome in (Outcome.FINISHED, Outcome.CUT):
            answer = Answer(tuple(ended.token_ids), tuple(ended.logprobs))
            self._answers[ended.number - FIRST_QUESTION] = answer

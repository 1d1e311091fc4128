"""A real request ready to be sent: its token ids, and how it is to be served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tputtui.load.carrier import Carried, Form
from tputtui.load.jobs import Job
from tputtui.load.requests.ask import ANSWER_OF, Ask, Message, Turn
from tputtui.load.requests.unrendered import UnrenderedPrompt

__all__ = ["Rendered", "RenderedPrompt", "Serving", "Talk"]


class Serving:
    """How a real request is served. Its repr has no text: stop strings are the person's own.

    sampling: under vLLM's names, on top of the model's defaults. natural: it ends where the model
    ends it, else after exactly as many tokens as were asked for. detokenize: text is made of it.
    """

    __slots__ = ("detokenize", "natural", "sampling")

    def __init__(self, sampling: Mapping[str, Any], *, natural: bool, detokenize: bool) -> None:
        self.sampling = sampling
        self.natural = natural
        # vLLM looks for stop strings in the text.
        self.detokenize = detokenize or "stop" in sampling


class RenderedPrompt:
    """A prompt whose token ids are known. Its repr has none of them."""

    __slots__ = ("_ids", "length")

    def __init__(self, ids: list[int]) -> None:
        self._ids = ids
        self.length = len(ids)

    def fits(self, max_model_len: int) -> bool:
        """Whether it leaves room for an answer."""
        return 0 < self.length < max_model_len

    def ids(self) -> list[int]:
        """The token ids; the caller does not change them."""
        return self._ids

    def token_ids(self) -> NDArray[np.int64]:
        """The token ids, shape (length,)."""
        return np.array(self._ids, dtype=np.int64)


@dataclass(slots=True, repr=False)
class Talk:
    """A conversation or a job under way: what was said in each turn, and what was answered."""

    ask: Ask
    job: Job
    said: dict[int, list[Message]] = field(default_factory=dict)
    """The messages of the prompt of each turn."""
    answers: dict[int, str] = field(default_factory=dict)
    """The text of each answer."""
    parts: dict[int, list[str]] = field(default_factory=dict)
    """Parts of the text of an answer, put there by whoever receives them; empty where token ids are
    taken instead."""

    @classmethod
    def of(cls, ask: Ask) -> Talk:
        """The beginning of what `ask` describes."""
        return cls(ask, Job(ask.steps, timed=ask.job))

    def say(self, place: int) -> list[Message]:
        """The messages of the prompt of a turn, whose answers before it are known."""
        before = self.ask.before(place)
        said: list[Message] = []
        if before is not None:
            said += self.said[before]
            said.append({"role": "assistant", "content": self.answers[before]})
        turn: Turn = self.ask.turns[place]
        said += [self._with_answer(message) for message in turn.messages]
        self.said[place] = said
        return said

    def _with_answer(self, message: Message) -> Message:
        if ANSWER_OF not in message:
            return message
        rest = {key: value for key, value in message.items() if key != ANSWER_OF}
        return {**rest, "content": self.answers[message[ANSWER_OF]]}


@dataclass(frozen=True, slots=True, repr=False)
class Rendered:
    """One request, rendered. output_tokens: how many at most; None for as many as fit."""

    prompt: RenderedPrompt | UnrenderedPrompt
    output_tokens: int | None
    serving: Serving
    at_s: float = 0.0
    """Its time in the file, in s since the first one; that of the one before where it has none."""
    talk: Talk | None = None
    """The conversation or job that it belongs to; None for a single request."""
    turn: int = 0
    form: Form | None = None
    """What its answer must look like, as recorded."""
    logprobs: int | None = None
    """Log-probabilities that it asks for, as recorded; None for none."""
    n: int = 1
    """How many answers it asks for, as recorded."""
    abreast: tuple[tuple[float, Rendered], ...] = ()
    """Further steps that its job begins with: (seconds after this one, the step)."""

    def carrying(self, carried: Carried) -> Carried:
        """What it carries: what the load has all requests carry, and else what was recorded."""
        if self.form is None and self.logprobs is None and self.n == 1:
            return carried
        logprobs = self.logprobs if carried.logprobs is None else carried.logprobs
        n = carried.n if carried.n > 1 else self.n
        return carried._replace(form=carried.form or self.form, logprobs=logprobs, n=n)

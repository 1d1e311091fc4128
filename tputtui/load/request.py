"""One request as the generator makes it and an engine takes it. Values only."""

from __future__ import annotations

from typing import NamedTuple

from numpy import int64
from numpy.typing import NDArray

from tputtui.load.carrier import PLAIN, Carried
from tputtui.load.prompts import Prompt
from tputtui.load.requests.rendered import RenderedPrompt, Serving
from tputtui.load.requests.unrendered import UnrenderedPrompt

__all__ = ["FIRST_QUESTION", "REFUSED_WAIT_S", "RequestSpec"]

FIRST_QUESTION = 1 << 40
"""Requests with this number or a higher one are asked to compare answers; they are of no load."""
REFUSED_WAIT_S = 0.5
"""When a client that was refused sends another request: at once, a closed loop would spin."""


class RequestSpec(NamedTuple):
    """One request to send."""

    number: int
    due_s: float
    """When the arrival process wanted it sent, in s on the engine's clock."""
    prompt: Prompt | RenderedPrompt | UnrenderedPrompt
    """Its token ids are made only when they are read."""
    output_tokens: int
    """Exactly how many tokens to generate; at most so many where it may end by itself. 0 where its
    prompt leaves no room for an answer: such a request is refused."""
    clamped: bool
    """Whether a length was cut to fit `max_model_len`."""
    turn: int = 0
    """Its turn in the conversation, from 0."""
    serving: Serving | None = None
    """How a real request is served; None for a synthetic one."""
    carried: Carried = PLAIN
    """What it carries beside prompt and length."""
    opens_job: bool = False
    """Whether it is the first step of a job whose latency is measured."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens in the prompt; about so many where a server makes it."""
        return self.prompt.length

    def token_ids(self) -> NDArray[int64]:
        """The prompt, shape (prompt_tokens,)."""
        return self.prompt.token_ids()

    def ids(self) -> list[int]:
        """The prompt as a list, which the caller does not change."""
        return self.prompt.ids()

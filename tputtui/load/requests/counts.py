"""What became of the lines of a request file, as numbers. Pure.

These numbers, and nothing of a prompt or an answer, are what screens, logs and reports have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["RequestCounts"]


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """How far a request file is read, and what was dropped or shortened."""

    lines: int = 0
    """Lines read so far, over all rounds."""
    skipped: int = 0
    """Lines that could not be used."""
    first_bad: str = ""
    """The first of these, in words; empty for none."""
    too_long: int = 0
    """Prompts dropped because they do not fit `max_model_len`."""
    shortened: int = 0
    """Requests sent with fewer output tokens than they asked for."""
    rendered: int = 0
    """Prompts made into tokens so far."""
    render_s: float = 0.0
    """Time that took in all, on its own thread."""
    prompt_tokens: int = 0
    """Tokens of these prompts in all."""
    longest: int = 0
    """Tokens of the longest of them."""
    late: int = 0
    """Requests that were due before their prompt was rendered."""
    with_tools: int = 0
    """Prompts with tools."""
    ignores_tools: bool = False
    """Whether the chat template leaves tools out."""
    by_server: bool = False
    """Whether the server makes the prompts; their lengths are then estimates."""
    told: int = 0
    """Prompts of which the server has told how long they are."""
    told_tokens: int = 0
    """Tokens of these in all."""
    reasoned: int = 0
    """Requests whose answer began after reasoning."""
    answer_s: float = 0.0
    """From due to the first token of these answers, in s, in all."""
    formats: tuple[tuple[str, int], ...] = ()
    """How many lines had each format."""
    undone: tuple[tuple[str, int], ...] = ()
    """What requests asked for and were served without."""
    sha256: str = ""
    """Hash of the whole file; empty until it is known."""

    @property
    def render_mean_s(self) -> float:
        """Seconds to render one prompt; NaN before the first."""
        return self.render_s / self.rendered if self.rendered else math.nan

    @property
    def estimated(self) -> bool:
        """Whether the mean length is only about right."""
        return self.by_server and not self.told

    @property
    def answer_mean_s(self) -> float:
        """Mean time to the first token of an answer after reasoning, in s; NaN without any."""
        return self.answer_s / self.reasoned if self.reasoned else math.nan

    @property
    def mean_tokens(self) -> float:
        """Mean length of the prompts in tokens, as the server counts them; NaN before the first."""
        if self.told:
            return self.told_tokens / self.told
        return self.prompt_tokens / self.rendered if self.rendered else math.nan

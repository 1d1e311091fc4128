"""What became of the lines of a request file, as numbers. Pure.

These numbers, and nothing of a prompt or an answer, are what screens, logs and reports have.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["RequestCounts", "together"]


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
    """Hash of the whole file; of several, of their hashes. Empty until it is known."""

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


_SUMMED = ("lines", "skipped", "too_long", "shortened", "rendered", "render_s", "prompt_tokens",
           "late", "with_tools")  # fmt: skip


def together(each: Iterable[RequestCounts]) -> RequestCounts | None:
    """What became of the lines of several files; None for no file.

    What servers tell is not in it: that is counted by request, whichever file it is from.
    """
    every = tuple(each)
    if len(every) < 2:
        return every[0] if every else None
    formats, undone = Counter[str](), Counter[str]()
    for one in every:
        formats.update(dict(one.formats))
        undone.update(dict(one.undone))
    hashes = [one.sha256 for one in every]
    return RequestCounts(
        **{name: sum(getattr(one, name) for one in every) for name in _SUMMED},
        first_bad=next((one.first_bad for one in every if one.first_bad), ""),
        longest=max(one.longest for one in every),
        ignores_tools=any(one.ignores_tools for one in every),
        by_server=any(one.by_server for one in every),
        formats=tuple(formats.items()),
        undone=tuple(undone.items()),
        sha256=hashlib.sha256("".join(hashes).encode()).hexdigest() if all(hashes) else "",
    )

"""What is asked of an engine to compare settings by, and what it answers. Values only.

Neither has a repr with content: prompts and answers are written nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["LOGPROBS", "Answer", "Answered", "Answers", "Question", "Questions"]

LOGPROBS = 5
"""Of so many most likely tokens at each position an answer has the log-probabilities."""


@dataclass(frozen=True, slots=True, repr=False)
class Question:
    """One prompt, as token ids, and how many tokens are generated at most."""

    ids: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Questions:
    """One round over a set. seed: of the order, and of how many are asked at once.

    private: whether the prompts are a person's own, so that no log may quote them.
    """

    each: tuple[Question, ...] = field(repr=False)
    seed: int
    private: bool


@dataclass(frozen=True, slots=True, repr=False)
class Answer:
    """One greedy answer.

    logprobs: at each position, natural logarithms of the probabilities of its own token and of the
    most likely ones (`LOGPROBS`), by token id.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[Mapping[int, float], ...]


Answers = tuple[Answer | None, ...]
"""The answers of one round in the order of the set; None where the engine gave none."""


@dataclass(frozen=True, slots=True)
class Answered:
    """A round that is over. number: of the order that asked."""

    number: int
    answers: Answers = field(repr=False)

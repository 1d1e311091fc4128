"""Compares the answers of two settings, beside those of one setting twice. Pure.

A GPU computes the same sum in another order when a batch has another size, so one setting may
answer a prompt in two ways, where two tokens are almost equally likely. That is the noise floor: a
*reference* is compared with the answers of the same setting asked *again*, and with those of the
*other* setting.

    score of a prompt   0 where the answers are equal; else 1 - p(other token) / p(own token), by
                        the reference's own probabilities at the first difference
    paired test         were the other setting the same one, its score and that of asking again
                        could be exchanged in each prompt: so the sum of their differences is
                        compared with its sums under random signs (the permutation test for pairs:
                        Fisher 1935, "The Design of Experiments", section 21), one-sided
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np

from tputtui.quality.answers import Answer

__all__ = ["Comparison", "FirstDifference", "Sameness", "compare", "first_difference", "telling",
           "worst"]  # fmt: skip

_CHANGED_P = 0.001
_UNCHANGED_P = 0.02
_FEWEST = 20
_SIGNS = 9_999
_AT_ONCE = 999
_TOLD = 5


class Sameness(StrEnum):
    """What is known of the answers of another setting."""

    UNCHANGED = "unchanged within noise"
    UNDECIDED = "cannot tell"
    CHANGED = "changed"


class FirstDifference(NamedTuple):
    """Where an answer first differs from the reference's.

    prompt: its place in the set, from 0. position: of the token in the answer, from 0.
    likelihood: p(other token) / p(own token) by the reference; 0 where one answer is missing, or
    ends where the other goes on. at_most: whether the likelihood is only known not to be higher,
    since the other token is not among those whose probabilities the reference has.
    """

    prompt: int
    position: int
    likelihood: float
    at_most: bool = False

    @property
    def text(self) -> str:
        """Position and likelihood in words."""
        most = "at most " if self.at_most else ""
        return (
            f"prompt {self.prompt + 1:,}, token {self.position + 1:,}: {most}"
            f"{self.likelihood:.0%} as likely as the reference's own"
        )

    @property
    def score(self) -> float:
        """How unlikely the reference finds the other token, from 0 to 1."""
        return 1.0 - self.likelihood


@dataclass(frozen=True, slots=True)
class Comparison:
    """The answers of another setting against the reference's, prompt by prompt.

    prompts: compared ones, which the reference answered. tokens: of the reference's answers.
    noise: how many prompts the same setting answered differently when it was asked again.
    p: of the paired test: how often chance alone makes the other setting look as different.
    differences: one for each prompt that the other setting answers differently, the least likely
    first.
    """

    verdict: Sameness
    prompts: int
    tokens: int
    noise: int
    p: float
    differences: tuple[FirstDifference, ...]

    @property
    def differ(self) -> int:
        """How many prompts the other setting answers differently."""
        return len(self.differences)


def first_difference(
    prompt: int, reference: Answer, other: Answer | None
) -> FirstDifference | None:
    """Where `other` first differs from `reference`; None where they are equal."""
    if other is None:
        return FirstDifference(prompt, 0, 0.0)
    pairs = zip(reference.token_ids, other.token_ids, strict=False)
    for position, (own, token) in enumerate(pairs):
        if own != token:
            return _at(prompt, position, reference, own, token)
    shorter, longer = sorted((len(reference.token_ids), len(other.token_ids)))
    return FirstDifference(prompt, shorter, 0.0) if shorter != longer else None


def compare(
    reference: Sequence[Answer | None],
    again: Sequence[Answer | None],
    other: Sequence[Answer | None],
) -> Comparison:
    """Compare `other` with `reference`, beside the same setting asked `again`.

    The three are answers to the same prompts, in the same order.
    """
    noise: list[FirstDifference | None] = []
    found: list[FirstDifference | None] = []
    tokens = 0
    for prompt, (own, twice, theirs) in enumerate(zip(reference, again, other, strict=True)):
        if own is not None:
            tokens += len(own.token_ids)
            noise.append(first_difference(prompt, own, twice))
            found.append(first_difference(prompt, own, theirs))
    p = _chance(np.array([_score(b) - _score(a) for a, b in zip(noise, found, strict=True)]))
    differences = sorted(filter(None, found), key=lambda each: each.likelihood)
    return Comparison(
        _verdict(p, len(found)),
        len(found),
        tokens,
        sum(each is not None for each in noise),
        p,
        tuple(differences),
    )


def telling(comparisons: Sequence[Comparison]) -> tuple[tuple[str, FirstDifference], ...]:
    """The least likely differences alone, and under load where that was compared: (where, it)."""
    return tuple(
        (where, each)
        for where, comparison in zip(("alone", "under load"), comparisons, strict=False)
        for each in comparison.differences[:_TOLD]
    )


def worst(verdicts: Iterable[Sameness]) -> Sameness:
    """The verdict of several comparisons together; cannot tell for none."""
    order = (Sameness.CHANGED, Sameness.UNDECIDED, Sameness.UNCHANGED)
    return min(verdicts, key=order.index, default=Sameness.UNDECIDED)


# -- inside ------------------------------------------------------------------------------------


def _at(prompt: int, position: int, reference: Answer, own: int, token: int) -> FirstDifference:
    known = reference.logprobs[position]
    listed = token in known
    # The greedy token is the most likely one, and any token that is not listed is less likely than
    # those that are.
    theirs = known[token] if listed else min(known.values())
    ratio = math.exp(min(0.0, theirs - known[own]))
    # An engine that computes no numbers has no probabilities either.
    likelihood = ratio if math.isfinite(ratio) else 0.0
    return FirstDifference(prompt, position, likelihood, at_most=not listed)


def _score(difference: FirstDifference | None) -> float:
    return difference.score if difference else 0.0


def _verdict(p: float, prompts: int) -> Sameness:
    if prompts < _FEWEST or _CHANGED_P < p <= _UNCHANGED_P:
        return Sameness.UNDECIDED
    return Sameness.CHANGED if p <= _CHANGED_P else Sameness.UNCHANGED


def _chance(differences: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
    """How often random signs make the sum of `differences` at least as large; from 0 to 1."""
    differences = differences[differences != 0.0]
    if not differences.size:
        return 1.0
    random = np.random.default_rng(0)
    # Sums of the same numbers in another order differ in their last bits.
    found = float(differences.sum()) - 1e-9
    as_large = 0
    for _ in range(0, _SIGNS, _AT_ONCE):
        signs = random.choice((-1.0, 1.0), size=(_AT_ONCE, differences.size))
        as_large += int(np.count_nonzero(signs @ differences >= found))
    return (1 + as_large) / (1 + _SIGNS)

"""Whether two settings answer alike: differences, the noise floor, the paired test. No engine."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tputtui.quality.answers import LOGPROBS, Answer, Answers
from tputtui.quality.compare import (
    FirstDifference,
    Sameness,
    compare,
    first_difference,
    worst,
)


def answer(*tokens: int, **others: float) -> Answer:
    """One whose own tokens have probability 0.5 each; `t7=0.25`: token 7 has 0.25 everywhere."""
    known = {int(name[1:]): math.log(p) for name, p in others.items()}
    return Answer(tokens, tuple({token: math.log(0.5), **known} for token in tokens))


def test_a_first_difference_has_its_position_and_how_likely_the_reference_finds_it() -> None:
    own = answer(1, 2, 3, t7=0.4, t9=0.05)
    assert first_difference(4, own, answer(1, 2, 3)) is None
    found = first_difference(4, own, answer(1, 7, 5))
    assert (found.prompt, found.position, found.at_most) == (4, 1, False)
    assert found.likelihood == pytest.approx(0.4 / 0.5)
    assert found.score == pytest.approx(0.2)
    # Token 8 is not among the most likely ones: at most as likely as the last of them.
    unlisted = first_difference(0, own, answer(8))
    assert unlisted.likelihood == pytest.approx(0.05 / 0.5)
    assert unlisted.at_most


@pytest.mark.parametrize("other", [None, answer(1, 2), answer(1, 2, 3, 4)])
def test_an_answer_that_is_missing_or_has_another_end_is_no_close_call(
    other: Answer | None,
) -> None:
    found = first_difference(0, answer(1, 2, 3), other)
    assert found.likelihood == 0.0
    assert found.position == (0 if other is None else min(3, len(other.token_ids)))


def test_prompts_without_an_answer_of_the_reference_are_left_out() -> None:
    own: Answers = (answer(1), None, answer(2))
    found = compare(own, own, (answer(1), answer(9), answer(7)))
    assert (found.prompts, found.tokens, found.differ, found.noise) == (2, 2, 1, 0)


def test_too_few_prompts_say_nothing() -> None:
    own = tuple(answer(i) for i in range(19))
    assert compare(own, own, own).verdict is Sameness.UNDECIDED
    own += (answer(19),)
    assert compare(own, own, own).verdict is Sameness.UNCHANGED


def test_the_chance_is_that_of_all_signs() -> None:
    """n prompts, all different by one score where the same setting never is: 2⁻ⁿ of all signs."""
    own = tuple(answer(i, t99=0.25) for i in range(40))

    def with_changed(n: int) -> Answers:
        return tuple(answer(99) if i < n else each for i, each in enumerate(own))

    for n in (1, 3, 5):
        found = compare(own, own, with_changed(n))
        assert found.p == pytest.approx(2.0**-n, rel=0.15)
        assert found.verdict is Sameness.UNCHANGED
    assert compare(own, own, with_changed(7)).verdict is Sameness.UNDECIDED
    assert compare(own, own, with_changed(12)).verdict is Sameness.CHANGED
    # As much as that, and the same setting differs from itself as much: nothing is told.
    alike = compare(own, with_changed(12), tuple(reversed(with_changed(12)[::-1])))
    assert (alike.differ, alike.noise, alike.verdict) == (12, 12, Sameness.UNCHANGED)


def test_the_least_likely_differences_come_first() -> None:
    own = tuple(answer(i, t90=0.4, t91=0.1) for i in range(3))
    found = compare(own, own, (answer(90), answer(91), answer(2)))
    assert [each.prompt for each in found.differences] == [1, 0]
    assert all(isinstance(each, FirstDifference) for each in found.differences)


def test_the_worst_verdict_is_that_of_all() -> None:
    same, open_, changed = Sameness.UNCHANGED, Sameness.UNDECIDED, Sameness.CHANGED
    assert worst([same, open_]) is open_
    assert worst([same, changed, open_]) is changed
    assert worst([same, same]) is same
    assert worst([]) is open_


# -- a language model of tables, whose sums are as inexact as a GPU's ------------------------------

PROMPTS, VOCABULARY, LENGTH = 150, 40, 24
CLOSE = 0.02
"""Standard deviation of the inexactness, in nats."""


class Tables:
    """Logits by prompt and last token. damage: by how much each of them is off, in nats."""

    def __init__(self, damage: float = 0.0) -> None:
        random = np.random.default_rng(1)
        self.logits = 2.0 * random.standard_normal((PROMPTS, VOCABULARY, VOCABULARY))
        self.logits += damage * np.random.default_rng(2).standard_normal(self.logits.shape)

    def answers(self, seed: int) -> Answers:
        """One round: greedy, of sums that are inexact in a way of its own."""
        random, prompts = np.random.default_rng(seed), np.arange(PROMPTS)
        last = np.zeros(PROMPTS, dtype=int)
        tokens, logprobs = [], []
        for _ in range(LENGTH):
            logits = self.logits[prompts, last]
            logits = logits + CLOSE * random.standard_normal(logits.shape)
            logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
            last = logits.argmax(axis=1)
            tokens.append(last)
            logprobs.append(logits)
        return tuple(
            Answer(
                tuple(int(step[i]) for step in tokens),
                tuple(
                    {int(t): float(step[i, t]) for t in np.argsort(step[i])[-LOGPROBS:]}
                    for step in logprobs
                ),
            )
            for i in range(PROMPTS)
        )


def dealt(random: np.random.Generator, rounds: list[Answers], n: int = 3) -> list[Answers]:
    """`n` rounds of one setting: for each prompt, answers of `n` of its rounds, drawn anew."""
    drawn = [random.permutation(len(rounds))[:n] for _ in rounds[0]]
    return [tuple(rounds[each[place]][i] for i, each in enumerate(drawn)) for place in range(n)]


def test_two_equal_settings_are_called_equal_in_95_of_100_runs() -> None:
    random, equal = np.random.default_rng(3), Tables()
    rounds = [equal.answers(seed) for seed in range(10, 14)]
    verdicts = [compare(*dealt(random, rounds)).verdict for _ in range(100)]
    assert verdicts.count(Sameness.UNCHANGED) >= 95
    assert Sameness.CHANGED not in verdicts
    # There is noise that has to be kept apart from a change.
    assert compare(*rounds[:3]).noise > PROMPTS * 0.1


def test_damage_not_much_above_the_noise_is_found_every_time() -> None:
    random, equal, damaged = np.random.default_rng(4), Tables(), Tables(damage=8 * CLOSE)
    rounds, other = [equal.answers(seed) for seed in range(10, 14)], damaged.answers(20)
    verdicts = []
    for _ in range(100):
        own, again = dealt(random, rounds, 2)
        verdicts.append(compare(own, again, other).verdict)
    assert verdicts.count(Sameness.CHANGED) == 100

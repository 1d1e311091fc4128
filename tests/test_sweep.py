"""A sweep climbs until there is no more to gain, looks closer once, and always ends."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tputtui.experiments.sweep import Sweep


def run(sweep: Sweep, engine: Callable[[float], tuple[float, float, bool]]) -> tuple[float, ...]:
    """Ask and tell to the end; the levels asked."""
    while (level := sweep.ask()) is not None:
        assert sweep.ask() == level
        sweep.tell(level, *engine(level))
        assert len(sweep.levels) < 500
    assert sweep.done
    assert sweep.reason.endswith(".")
    return sweep.levels


def queue(capacity: float) -> Callable[[float], tuple[float, float, bool]]:
    """M/M/1: serves what is offered, or its capacity; response time 1/(μ - λ)."""

    def engine(rate: float) -> tuple[float, float, bool]:
        if rate >= capacity:
            return capacity, math.inf, True
        return rate, 1 / (capacity - rate), False

    return engine


def batching(cap: int, half: int) -> Callable[[float], tuple[float, float, bool]]:
    """Closed loop: throughput cap·N/(N + half), response time by Little's law."""

    def engine(n: float) -> tuple[float, float, bool]:
        return cap * n / (n + half), (n + half) / cap, False

    return engine


def test_an_open_loop_climbs_to_saturation_and_closes_in_on_capacity() -> None:
    sweep = Sweep(1.0, whole=False)
    # Doubling to 8; then √(4·8) = 5.66 holds and √(5.66·8) = 6.73 does not.
    assert run(sweep, queue(6.0)) == (1.0, 2.0, 4.0, 8.0, 5.66, 6.73)
    assert sweep.reason == "Saturated at 8 requests/s."
    # √(4·8) does not hold either, so below it: √(4·5.66) = 4.76.
    assert run(Sweep(1.0, whole=False), queue(5.0)) == (1.0, 2.0, 4.0, 8.0, 5.66, 4.76)


def test_a_closed_loop_climbs_until_two_steps_gain_nothing_and_looks_beside_the_knee() -> None:
    sweep = Sweep(1, whole=True)
    levels = run(sweep, batching(1000, 16))
    # X(2N)/X(N) = 2(N + 16)/(2N + 16) is first below 1.05 from 256 to 512, then again to 1024.
    assert levels[:-2] == (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
    # Power is greatest at N = 16: √(8·16) and √(16·32).
    assert set(levels[-2:]) == {11, 23}
    assert sweep.reason == "Two steps, up to 1024 in flight, gained less than 5% each."


def test_one_step_without_gain_may_be_chance() -> None:
    given = iter([100.0, 190.0, 190.0, 380.0, 390.0, 390.0])
    sweep = Sweep(1, whole=True, refine=0)
    assert run(sweep, lambda level: (next(given), 1.0, False)) == (1, 2, 4, 8, 16, 32)


def test_a_gain_is_over_the_best_so_far() -> None:
    # 8 to 16 gains on 8, but is below what 4 gave.
    given = iter([10.0, 20.0, 40.0, 30.0, 38.0])
    sweep = Sweep(1, whole=True, refine=0)
    assert run(sweep, lambda level: (next(given), 1.0, False)) == (1, 2, 4, 8, 16)


def test_a_first_level_too_high_is_stepped_down_from() -> None:
    sweep = Sweep(64.0, whole=False)
    assert run(sweep, queue(20.0)) == (64.0, 32.0, 16.0, 22.6, 19.0)
    assert sweep.reason == "Saturated at 32 requests/s, not at 16 requests/s."


def test_it_goes_down_four_times_and_no_further() -> None:
    sweep = Sweep(64.0, whole=False)
    assert run(sweep, queue(1.0)) == (64.0, 32.0, 16.0, 8.0, 4.0)
    assert sweep.reason == "Saturated even at 4 requests/s, and at every level up to 64 requests/s."
    low = Sweep(2, whole=True)
    assert run(low, queue(0.5)) == (2, 1)
    lowest = Sweep(1, whole=True)
    assert run(lowest, queue(0.5)) == (1,)
    assert lowest.reason == "Saturated even at 1 in flight."


def test_a_ceiling_ends_what_never_saturates() -> None:
    sweep = Sweep(3, whole=True, ceiling=20.9, refine=0)
    assert run(sweep, lambda n: (n, 1.0, False)) == (3, 6, 12, 20)
    assert sweep.reason == "Reached the ceiling, 20 in flight, without saturating."
    assert run(Sweep(100, whole=True, ceiling=8), lambda n: (n, 1.0, False)) == (8,)
    # Latency never rises, so the knee is the highest level: one gap beside it, then the next.
    free = run(Sweep(1.0, whole=False, ceiling=8.0), lambda rate: (rate, 1.0, False))
    assert free == (1.0, 2.0, 4.0, 8.0, 5.66, 6.73)


def test_whole_levels_rise_by_one_at_least_and_leave_no_gap_to_refine() -> None:
    sweep = Sweep(1, whole=True, growth=1.2, ceiling=5)
    assert run(sweep, lambda n: (n, 1.0, False)) == (1, 2, 3, 4, 5)


def test_what_was_not_asked_for_cannot_be_told() -> None:
    sweep = Sweep(4, whole=True)
    assert (sweep.ask(), sweep.done, sweep.reason, sweep.levels) == (4, False, "", ())
    with pytest.raises(ValueError, match="asked for 4"):
        sweep.tell(5, 1.0, 1.0, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"start": 0.0},
        {"start": math.inf},
        {"start": math.nan},
        {"growth": 1.0},
        {"growth": math.inf},
        {"ceiling": 0.5},
    ],
)
def test_a_sweep_that_could_not_move_is_refused(wrong: dict[str, float]) -> None:
    fields: dict[str, Any] = {"start": 1.0} | wrong
    with pytest.raises(ValueError, match="no sweep"):
        Sweep(**fields, whole=True)


@given(
    st.floats(1e-6, 1e6),
    st.booleans(),
    st.floats(1.1, 10),
    st.integers(0, 6),
    st.one_of(st.just(math.inf), st.floats(1, 1e7)),
    st.lists(
        st.tuples(st.floats(), st.floats(), st.sampled_from([False, False, False, True])),
        min_size=1,
        max_size=60,
    ),
)
def test_whatever_it_is_told_it_ends_and_never_asks_twice(
    start: float,
    whole: bool,
    growth: float,
    refine: int,
    ceiling: float,
    answers: list[tuple[float, float, bool]],
) -> None:
    sweep = Sweep(start, whole=whole, growth=growth, refine=refine, ceiling=ceiling)
    told = itertools.chain(answers, itertools.repeat((1.0, 1.0, False)))
    levels = run(sweep, lambda level: next(told))
    assert len(set(levels)) == len(levels)
    assert all(0 < level <= ceiling for level in levels)
    assert not whole or all(level == round(level) >= 1 for level in levels)
    with pytest.raises(ValueError, match="asked for None"):
        sweep.tell(1.0, 1.0, 1.0, False)


@given(st.floats(1, 1e6), st.floats(0.01, 1e3))
def test_a_queues_capacity_is_bracketed_within_a_fifth(capacity: float, start: float) -> None:
    levels = run(Sweep(start, whole=False), queue(capacity))
    held = [level for level in levels if level < capacity]
    if held:
        over = min(level for level in levels if level >= capacity)
        assert over / max(held) < 2**0.25 * 1.02


def test_a_knee_at_the_lowest_level_is_looked_for_below_it() -> None:
    # Power N / (N + 4)²: greatest at 4 in flight, far below where the sweep starts.
    sweep = Sweep(32, whole=True)
    while (level := sweep.ask()) is not None:
        sweep.tell(level, 1000 * level / (level + 4), (level + 4) / 1000, False)
    assert min(sweep.levels) <= 4
    assert len(set(sweep.levels)) == len(sweep.levels)
    powers = {level: level / (level + 4) ** 2 for level in sweep.levels}
    assert 3 <= max(powers, key=powers.get) <= 6

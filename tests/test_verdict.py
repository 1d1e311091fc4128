"""What a turn did: judged truly, however often someone looks, and however many rows there are."""

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import ArrayLike, NDArray

from tests.test_series import autoregressive
from tputtui.measure.series import METRICS, Batched, Metric, Series, rows
from tputtui.measure.stats import anytime_bound, t_quantile
from tputtui.measure.verdict import Difference, Estimate, Verdict, differences, judged, once

TOKENS, TTFT = METRICS[0], METRICS[2]
CLEAR = (Verdict.BETTER, Verdict.WORSE)


@pytest.mark.parametrize(
    ("level", "freedom", "value"),
    [
        (0.05, 2, 4.3027),
        (0.05, 3, 3.1824),
        (0.01, 3, 5.8409),
        (0.001, 4, 8.6103),
        (0.05, 10, 2.2281),
        (0.001, 8, 5.0413),
        (0.02, 30, 2.4573),
        (0.05, 1e9, 1.95996),
    ],
)
def test_students_quantiles_as_the_tables_have_them(
    level: float, freedom: int, value: float
) -> None:
    assert t_quantile(level, freedom) == pytest.approx(value, rel=2e-4)


@given(st.floats(1e-12, 0.5), st.floats(1, 500))
def test_a_smaller_level_or_fewer_degrees_of_freedom_ask_for_more(
    level: float, freedom: float
) -> None:
    assert t_quantile(level / 2, freedom) > t_quantile(level, freedom)
    assert t_quantile(level, freedom) >= t_quantile(level, freedom + 1) * (1 - 1e-3)


def t_tail(q: float, freedom: float) -> float:
    """P(|T| > q) by the trapezoidal rule over u = 1/t."""
    u = np.linspace(1e-9, 1 / q, 200_001)
    density = (1 + 1 / (freedom * u * u)) ** (-(freedom + 1) / 2) / (u * u)
    whole = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    return 2 * whole / math.sqrt(freedom * math.pi) * float(np.trapezoid(density, u))


@pytest.mark.parametrize("level", [0.3, 0.05, 0.005])
def test_students_quantiles_between_one_and_two_degrees_of_freedom(level: float) -> None:
    assert t_quantile(level, 1) == pytest.approx(1 / math.tan(math.pi * level / 2))
    for freedom in (1.2, 1.5, 1.8):
        assert t_tail(t_quantile(level, freedom), freedom) == pytest.approx(level, rel=0.1)


def of(values: ArrayLike, length_s: float = 60.0, key: str = "tokens_per_s") -> Series:
    """A window of a rate from its turnover batches."""
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    relative = values / mean - 1 if mean > 0 else np.full(len(values), -1.0)
    metric = Batched(mean, relative, floor=0.5 / length_s)
    return Series(length_s, len(values), {key: metric})


def latency(
    seconds: float,
    deviation: float = 0.01,
    m: int = 30,
    length_s: float = 60.0,
    tied_error: float = 0.0,
) -> Series:
    """A window of TTFT p50 whose batches go to and fro about `seconds`."""
    logs = math.log(seconds) + deviation * np.resize([1.0, -1.0], m)
    metric = Batched(seconds, logs, tied_error=tied_error, n=20 * m)
    return Series(length_s, 20 * m, {"ttft_p50": metric})


def zigzag(mean: float, size: float = 0.01, n: int = 30) -> NDArray[np.float64]:
    return mean * (1 + size * np.tile([1.0, -1.0], n // 2))


def row(old: Series, new: Series, key: str = "tokens_per_s") -> Difference:
    return next(found for found in differences(old, new) if found.metric.key == key)


def test_judgements_by_hand() -> None:
    better = row(of(zigzag(100)), of(zigzag(110)))
    assert better.judgement is Verdict.BETTER
    assert better.change == pytest.approx(0.10)
    assert 0.08 < better.low < 0.10 < better.high < 0.12
    # φ = 2.4/38 by the prior alone, inflation 1.1348; v = 1.0345e-4 · 1.1348 either way, so that
    # the error is √(2 v / 30) = 0.0028; the boundary at half the information is 2.98 standard
    # errors at 0.025, and t with 2 (30/1.1348 - 1) = 50.9 degrees of freedom 3.15 of them.
    half = math.log1p(better.high) - math.log(1.1)
    assert half == pytest.approx(anytime_t(0.025, 0.5, 50.87) * 0.0027977, rel=1e-3)
    assert math.isnan(better.needs_s)
    assert row(of(zigzag(100)), of(zigzag(90))).judgement is Verdict.WORSE
    assert row(of(zigzag(100)), of(zigzag(100.5))).judgement is Verdict.SAME
    # Surely away from zero, and yet no more than 2 % of it: the same.
    tiny = row(of(zigzag(100, 1e-4)), of(zigzag(101, 1e-4)))
    assert tiny.low > 0
    assert tiny.judgement is Verdict.SAME
    rough = row(of(zigzag(100, 0.3)), of(zigzag(103, 0.3)))
    assert rough.judgement is Verdict.OPEN
    assert rough.low < 0 < rough.high


def anytime_t(level: float, part: float, freedom: float) -> float:
    return t_quantile(2 * NormalDist().cdf(-anytime_bound(level, part)), freedom)


def test_less_of_a_latency_is_better() -> None:
    assert row(latency(1.0), latency(0.8), "ttft_p50").judgement is Verdict.BETTER
    assert row(latency(1.0), latency(1.2), "ttft_p50").judgement is Verdict.WORSE
    assert row(latency(1.0), latency(1.0), "ttft_p50").judgement is Verdict.SAME


def test_quantiles_that_tie_are_no_proof_of_a_difference() -> None:
    # Every batch has the very same p50, one step of the engine; requests apart have not.
    tied = [latency(1.0, 0.0, m=3, length_s=6.0), latency(1.1, 0.0, m=3, length_s=6.0)]
    assert row(tied[0], tied[1], "ttft_p50").judgement is Verdict.WORSE
    loose = [latency(s, 0.0, m=3, length_s=6.0, tied_error=0.05) for s in (1.0, 1.1)]
    assert row(loose[0], loose[1], "ttft_p50").judgement is Verdict.OPEN


def test_the_interval_holds_the_change_that_is_shown() -> None:
    # The window's own quantile can lie apart from what its batches say on average.
    old, new = latency(1.0), latency(1.0)
    shifted = replace(new.values["ttft_p50"], value=1.2)
    found = row(old, Series(60.0, 600, {"ttft_p50": shifted}), "ttft_p50")
    assert found.low < 0 < found.change <= found.high
    assert found.judgement is Verdict.OPEN


def test_a_restless_window_keeps_its_own_variance() -> None:
    # Pooled with 30 quiet batches, 30 restless ones would look half as restless as they are.
    quiet, restless = latency(1.0, 0.01), latency(1.0, 0.2)
    for old, new in ((quiet, restless), (restless, quiet)):
        found = row(old, new, "ttft_p50")
        assert math.log1p(found.high) > 2.9 * 0.2 / math.sqrt(30)


def test_one_look_takes_a_plain_interval() -> None:
    def half(found: tuple[Difference, ...]) -> float:
        return math.log1p(next(r for r in found if r.metric.key == "ttft_p50").high)

    old, new = latency(1.0), latency(1.0)
    assert half(once(old, new)) < 0.75 * half(differences(old, new))


def test_across_a_boot_a_change_must_be_larger_than_what_the_machine_drifts() -> None:
    # Two windows of one engine whose speed falls by a tenth over either of them.
    falling = [105 - 10 * i / 29 + (i % 2) for i in range(30)]
    slower, half = [0.93 * rate for rate in falling], [0.5 * rate for rate in falling]
    old = of(falling)
    assert old.values["tokens_per_s"].drift == pytest.approx(0.0665, abs=0.01)
    assert once(old, of(slower))[0].judgement is Verdict.OPEN
    assert once(old, of(half))[0].judgement is Verdict.WORSE
    steady = [100 + (i % 2) for i in range(30)]
    calm = of(steady)
    assert once(calm, of([0.93 * rate for rate in steady]))[0].judgement is Verdict.WORSE


def test_what_is_missing_or_too_short_is_open() -> None:
    none, short = Series(0.0, 0, {}), of([100.0] * 2)
    for old, new in ((none, none), (none, of(zigzag(100))), (of(zigzag(100)), short)):
        for found in differences(old, new):
            assert found.judgement is Verdict.OPEN
            assert math.isnan(found.low)
            assert math.isnan(found.high)
            assert math.isnan(found.needs_s)
    assert row(of(zigzag(100)), short).change == pytest.approx(0.0)


def goodput_row(old: NDArray[np.float64], new: NDArray[np.float64]) -> Difference:
    return row(of(old, key="goodput_per_s"), of(new, key="goodput_per_s"), "goodput_per_s")


def test_two_nones_are_nothing_to_compare() -> None:
    found = goodput_row(np.zeros(30), np.zeros(30))
    assert found.judgement is Verdict.NOTHING
    assert math.isnan(found.change)
    assert math.isnan(found.low)
    assert math.isnan(found.needs_s)


def test_goodput_that_falls_to_none_is_worse_as_soon_as_ranks_can_tell() -> None:
    # Of 5 + 5 batches, all of the one above all of the other: 2 / 252 = 0.0079, too often for a
    # fifth of the headline's 0.025; of 5 + 8, 2 / 1287 = 0.0016, is not.
    old = of([3.0, 4.0, 5.0, 4.0, 3.0], 10.0, key="goodput_per_s")
    for m, judgement in ((5, Verdict.OPEN), (7, Verdict.OPEN), (8, Verdict.WORSE)):
        new = of(np.zeros(m), 2.0 * m, key="goodput_per_s")
        found = row(old, new, "goodput_per_s")
        assert found.judgement is judgement, m
        assert found.change == -1.0
    # 1 - 0.005^(1/8): at most 48 % of the turnovers may have any, and still there is none in eight.
    assert found.low == -1.0
    assert found.high == pytest.approx(-(0.005 ** (1 / 8)), abs=1e-9)
    # Five batches of 2 s are there: eight take 6 s more.
    young = row(old, of(np.zeros(5), 10.0, key="goodput_per_s"), "goodput_per_s")
    assert young.needs_s == pytest.approx(6.0)


def test_ranks_say_nothing_where_the_old_window_had_none_at_times() -> None:
    found = goodput_row(np.tile([0.0, 8.0], 15), np.zeros(30))
    assert found.judgement is Verdict.OPEN
    assert found.needs_s == math.inf


def test_goodput_that_falls_to_next_to_none_is_worse_as_well() -> None:
    # One batch of eleven had 2.3 a second, the others none: its logarithm has no use.
    found = goodput_row(44 + np.resize([2.0, -2.0], 12), np.array([2.3] + [0.0] * 10))
    assert found.judgement is Verdict.WORSE
    # The rest is what eleven batches without any would leave: 1 - 0.005^(1/11).
    assert found.high == pytest.approx(-(0.005 ** (1 / 11)))
    back = goodput_row(np.array([2.3] + [0.0] * 10), 44 + np.resize([2.0, -2.0], 12))
    assert back.judgement is Verdict.BETTER
    # 12 - 2.3 a second: what the two have in common, the ranks do not separate.
    assert goodput_row(np.array([2.3] + [0.0] * 10), np.full(10, 2.0)).judgement is Verdict.OPEN


@pytest.mark.parametrize("old_batches", [3, 5, 10, 30])
def test_the_looks_at_goodput_of_none_keep_the_level(old_batches: int) -> None:
    # Exact, not simulated: whatever the order, complete separation at any of the looks.
    level = 0.025
    used = sum(
        chance
        for look in (3, 5, 8, 13, 21)
        if (chance := 2 / math.comb(old_batches + look, look)) <= level / 5
    )
    assert used <= level


def test_from_nothing_to_something_is_better_without_a_number_for_it() -> None:
    found = row(
        of(np.zeros(60), key="goodput_per_s"), of(zigzag(500), key="goodput_per_s"), "goodput_per_s"
    )
    assert found.change == math.inf
    assert found.judgement is Verdict.BETTER
    assert found.low > 0


def test_seconds_more_that_are_needed() -> None:
    old = of(zigzag(100, 0.06))
    young = row(old, of(zigzag(106, 0.06, 10), 20.0))
    assert young.judgement is Verdict.OPEN
    assert 1 <= young.needs_s < 3600
    # After as many seconds more it is decided indeed; longer batches vary less.
    for much, judgement in ((1.4, Verdict.BETTER), (0.6, Verdict.OPEN)):
        length_s = 20 + young.needs_s * much
        m = min(30, int(length_s / 4) * 2)
        later = zigzag(106, 0.06 * math.sqrt(m * 2 / length_s), m)
        assert row(old, of(later, length_s)).judgement is judgement
    # The old window alone leaves more open than the change is: no time will tell.
    assert row(of(zigzag(100, 0.5)), of(zigzag(101, 0.5))).needs_s == math.inf


def test_levels_are_handed_on_as_rows_are_resolved() -> None:
    asked: dict[str, list[float]] = {}

    def estimate(metric: Metric, clear: bool) -> Estimate:
        def interval(level: float) -> tuple[float, float]:
            asked.setdefault(metric.key, []).append(level)
            return (0.1, 0.2) if clear else (-0.1, 0.2)

        return Estimate(metric, 1.0, 1.1, interval, lambda level: 5.0)

    judged([estimate(metric, metric.key == "tokens_per_s") for metric in rows(False)])
    assert asked["tokens_per_s"] == pytest.approx([0.025])
    assert asked["ttft_p90"] == pytest.approx([0.025 / 4, 0.05 / 4])
    asked.clear()
    found = judged([estimate(metric, metric.key == "ttft_p50") for metric in rows(False)])
    assert asked["tokens_per_s"] == pytest.approx([0.025, 0.05 * 0.5 / 0.875])
    assert [f.judgement for f in found].count(Verdict.OPEN) == 4
    assert sum(levels[0] for levels in asked.values()) == pytest.approx(0.05)


def verdicts(
    ratio: float, runs: int, phi: float = 0.8, noise: float = 0.03, turnover_s: int = 2
) -> float:
    """How often anything is said at looks every 4 s, at five rows that vary together.

    phi: correlation from one second to the next.
    """
    rng = np.random.default_rng(7)
    keys = [metric.key for metric in rows(False)]
    said = 0
    for _ in range(runs):
        drift = 0.02 * autoregressive(rng, phi, 124)
        paths = {key: 1 + drift + noise * rng.standard_normal(124) for key in keys}

        def part(
            start: int, end: int, paths: dict[str, NDArray[np.float64]] = paths, scale: float = 1.0
        ) -> Series:
            values: dict[str, Batched] = {}
            for key, path in paths.items():
                each = scale * path[start:end].reshape(-1, turnover_s).mean(axis=1)
                values |= of(each, float(end - start), key).values
            return Series(float(end - start), 100, values)

        old = part(0, 60)
        looks = (differences(old, part(64, 64 + t, scale=ratio)) for t in range(8, 61, 4))
        said += any(f.judgement in CLEAR for rows_ in looks for f in rows_)
    return said / runs


def test_chance_says_something_in_one_run_of_twenty_at_most() -> None:
    assert verdicts(1.0, 100) <= 0.05


def test_a_tenth_is_found() -> None:
    assert verdicts(1.1, 40) >= 0.9


@settings(deadline=None)
@given(
    st.lists(st.floats(0, 1e6), max_size=30),
    st.lists(st.floats(0, 1e6), max_size=30),
    st.floats(0.01, 1e4),
    st.floats(0.01, 1e4),
)
def test_any_two_windows_can_be_compared(
    old: list[float], new: list[float], old_s: float, new_s: float
) -> None:
    first, second = (
        of(values, length_s) if values else Series(length_s, 0, {})
        for values, length_s in ((old, old_s), (new, new_s))
    )
    for found in (*differences(first, second), *once(first, second)):
        if not math.isnan(found.low):
            assert -1 <= found.low <= found.high * (1 + 1e-9) + 1e-9
        else:
            assert found.judgement in (Verdict.OPEN, Verdict.NOTHING)

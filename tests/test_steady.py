"""Windows that drift are refused, windows that only fluctuate are not."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from tputtui.measure.steady import Trend, binned, steady, trend

HUNDRED = (np.arange(100) + 0.5) / 100


def autoregressive(rng: np.random.Generator, phi: float, size: int = 100) -> NDArray[np.float64]:
    """AR(1) of mean 0 and variance 1."""
    shocks = rng.standard_normal(size) * math.sqrt(1 - phi**2)
    values = [rng.standard_normal()]
    for shock in shocks[1:]:
        values.append(phi * values[-1] + shock)
    return np.array(values)


def refused(make: Callable[[np.random.Generator], NDArray[np.float64]], runs: int = 500) -> float:
    rng = np.random.default_rng(11)
    return float(np.mean([steady(make(rng)) is False for _ in range(runs)]))


def test_a_trend_by_hand() -> None:
    # 20 observations 0 … 19 about 10: the line is exact, 1 a step, 20 over the window.
    found = trend(np.arange(20, dtype=np.float64) + 0.5)
    assert found.slope_frac == pytest.approx(2.0)
    assert found.resolved is True
    # 40 of them, in pairs; and 50, in batches of three and of two.
    assert trend(np.arange(40, dtype=np.float64) + 0.5).slope_frac == pytest.approx(2.0)
    assert trend(np.arange(50, dtype=np.float64) + 0.5).slope_frac == pytest.approx(2.0)
    # ±1 in turns: sum of t·v is 10 over a spread of 665, so 20·10/665 of the mean 10.
    found = trend(10 + np.tile([-1.0, 1.0], 10))
    assert found.slope_frac == pytest.approx(20 * 10 / 665 / 10)
    assert not found.resolved


def test_the_slope_is_tested_at_one_percent_of_eighteen_degrees() -> None:
    # A line plus a zigzag made orthogonal to it: t is the slope over its standard error.
    times = np.arange(20.0) - 9.5
    zigzag = np.tile([-1.0, 1.0], 10)
    zigzag -= times * (times @ zigzag) / (times @ times)
    error = math.sqrt(zigzag @ zigzag / 18 / (times @ times))
    assert trend(100 + 2.87 * error * times + zigzag).resolved is False
    assert trend(100 + 2.89 * error * times + zigzag).resolved is True


def test_constant_series_and_nothing_at_all_are_steady() -> None:
    assert trend(np.full(100, 0.1)) == Trend(0.0, False)
    assert steady(np.zeros(100), np.full(30, 7.0)) is True
    assert steady() is True


def test_too_little_is_not_decided_unless_something_else_drifts() -> None:
    assert trend(np.ones(19)) is None
    assert trend(np.array([math.nan] + [1.0] * 30)) is None
    assert steady(np.ones(5), np.ones(100)) is None
    assert steady(np.ones(5), HUNDRED) is False


def test_a_sure_drift_of_less_than_a_tenth_is_nobodys_concern() -> None:
    assert trend(1 + 0.09 * (HUNDRED - 0.5)).resolved
    assert steady(1 + 0.09 * (HUNDRED - 0.5)) is True
    assert steady(1 + 0.11 * (HUNDRED - 0.5)) is False


@pytest.mark.parametrize(
    ("noise", "bound"),
    [
        (lambda rng: rng.standard_normal(100), 0.06),
        (lambda rng: rng.standard_normal(20), 0.06),
        (lambda rng: autoregressive(rng, 0.5), 0.06),
        (lambda rng: autoregressive(rng, 0.5, 20), 0.15),
    ],
    ids=["independent", "independent-20", "correlated", "correlated-20"],
)
def test_noise_is_seldom_refused(
    noise: Callable[[np.random.Generator], NDArray[np.float64]], bound: float
) -> None:
    # As large as the mean, so that the margin of a tenth does not help.
    assert refused(lambda rng: 1 + noise(rng)) < bound


def test_counts_of_a_poisson_process_are_seldom_refused() -> None:
    assert refused(lambda rng: rng.poisson(3.0, 100).astype(float)) < 0.06


@pytest.mark.parametrize(
    "shape",
    [
        0.75 + 0.5 * HUNDRED,
        1.25 - 0.5 * HUNDRED,
        1 - np.exp(-HUNDRED / 0.5),
        np.exp(-HUNDRED / 0.5),
        np.minimum(1.0, (1 - HUNDRED) / 0.3),
        np.where(HUNDRED < 0.5, 0.7, 1.0),
    ],
    ids=["ramp", "falling", "approach", "drain", "drain-late", "step"],
)
@pytest.mark.parametrize("phi", [0.0, 0.5])
def test_what_has_not_settled_is_nearly_always_refused(
    shape: NDArray[np.float64], phi: float
) -> None:
    assert refused(lambda rng: shape * (1 + 0.15 * autoregressive(rng, phi)), 200) > 0.95


@given(
    hnp.arrays(float, st.integers(20, 130), elements=st.integers(0, 1000).map(float)),
    st.sampled_from([0.25, 4.0, 1024.0]),
)
def test_a_trend_has_no_unit_and_turns_round_with_time(
    values: NDArray[np.float64], scale: float
) -> None:
    found, scaled = trend(values), trend(values * scale)
    assert scaled.resolved == found.resolved
    assert scaled.slope_frac == pytest.approx(found.slope_frac)
    if len(values) % 20 == 0:
        assert trend(values[::-1]).slope_frac == pytest.approx(-found.slope_frac, abs=1e-9)


def test_bins_by_hand() -> None:
    # Like every window: the start is outside, the end inside.
    times = np.array([1.0, 1.5, 2.0, 2.001, 3.0, 3.1])
    weights = np.array([100.0, 1.0, 2.0, 4.0, 8.0, 100.0])
    assert binned(times, weights, 1.0, 3.0, bins=2).tolist() == [3.0, 12.0]
    assert binned(np.array([]), np.array([]), 0.0, 1.0).tolist() == [0.0] * 100
    assert binned(times, weights, 3.0, 3.0, bins=2).tolist() == [0.0, 0.0]


@given(st.lists(st.floats(-5, 15), max_size=50), st.floats(-4, 4), st.floats(0.1, 10))
def test_no_weight_in_the_window_is_lost(times: list[float], start: float, length: float) -> None:
    when = np.array(times, dtype=float)
    sums = binned(when, np.ones(len(when)), start, start + length, bins=7)
    assert sums.shape == (7,)
    assert sums.sum() == ((when > start) & (when <= start + length)).sum()

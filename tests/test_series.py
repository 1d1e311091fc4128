"""What a window gave: estimates by hand, and errors that hold where values resemble their past."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tputtui.goals import parse_goals
from tputtui.measure.attainment import goodput
from tputtui.measure.batches import spread, turnover_batches
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Outcome, RequestSample, StepSample
from tputtui.measure.series import METRICS, Batched, rows, series
from tputtui.measure.stats import t_quantile

GOALS = parse_goals("ttft_p90=200ms, tpot_p90=20ms")


def step(end_s: float, tokens: int) -> StepSample:
    values: dict[str, Any] = dict.fromkeys(StepSample._fields, 1)
    return StepSample(**values | {"end_s": end_s, "duration_s": 0.1, "generated_tokens": tokens})


def request(
    end_s: float,
    ttft_s: float,
    tpot_s: float,
    outcome: Outcome = Outcome.FINISHED,
    tokens: int = 11,
) -> RequestSample:
    first_s = end_s - tpot_s * (tokens - 1)
    due_s = first_s - ttft_s
    return RequestSample(0, outcome, due_s, due_s, due_s, first_s, end_s, 9, tokens, tokens, 0, 0)


def recorded(tokens: list[int], requests: Iterable[tuple[float, float, float]] = ()) -> Recorder:
    """Steps a tenth of a second apart from 0 on, and requests (end, TTFT, TPOT).

    In every step one request runs and one waits.
    """
    recorder = Recorder()
    for i, count in enumerate(tokens):
        recorder.add_step(step((i + 1) / 10, count), [])
    for end_s, ttft_s, tpot_s in requests:
        recorder.add_first_token(end_s, end_s - ttft_s, end_s)
        recorder.add_ended(request(end_s, ttft_s, tpot_s))
    return recorder


def autoregressive(rng: np.random.Generator, phi: float, size: int) -> NDArray[np.float64]:
    """AR(1) of mean 0 and variance 1."""
    values = np.empty(size)
    values[0] = rng.standard_normal()
    for i, shock in enumerate(rng.standard_normal(size - 1) * math.sqrt(1 - phi**2), 1):
        values[i] = phi * values[i - 1] + shock
    return values


def test_a_rate_by_hand() -> None:
    # E2E is 2 s: 40 s are twenty turnovers.
    requests = [(t, 1.0, 0.1) for t in range(2, 41)]
    found = series(recorded([4] * 200 + [8] * 200, requests), 0.0, 40.0, ())
    tokens = found.values["tokens_per_s"]
    assert (found.length_s, found.n) == (40.0, 39)
    assert tokens.value == pytest.approx(60.0)
    assert tokens.n == 400
    assert tokens.batches.tolist() == pytest.approx([-1 / 3] * 10 + [1 / 3] * 10)
    assert tokens.centre == pytest.approx(math.log(60.0))
    assert set(found.values) == {"tokens_per_s", "ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90"}


@pytest.mark.parametrize(
    ("e2e_s", "length_s", "batches"),
    [(2.0, 40.0, 20), (2.0, 5.9, 2), (0.1, 12.0, 12), (0.1, 300.0, 30), (50.0, 40.0, 1)],
)
def test_a_batch_is_a_turnover_and_a_second_at_least(
    e2e_s: float, length_s: float, batches: int
) -> None:
    ends = np.linspace(0.5, length_s, 50)
    requests = [(end_s, e2e_s / 2, e2e_s / 20) for end_s in ends]
    steps = [5] * math.ceil(length_s * 10)
    found = series(recorded(steps, requests), 0.0, length_s, ())
    assert len(found.values["tokens_per_s"].batches) == batches


def test_where_nothing_ends_well_littles_law_says_how_long_a_turnover_is() -> None:
    # Two requests in the engine, one leaves every second: each is there for two.
    recorder = recorded([5] * 200)
    for t in range(1, 21):
        recorder.add_ended(request(float(t), 0.1, 0.01, Outcome.CUT))
    assert turnover_batches(recorder, 0.0, 20.0) == 10
    # Where nothing ends at all, no turnover is over.
    assert turnover_batches(recorded([5] * 200), 0.0, 20.0) == 1
    assert turnover_batches(Recorder(), 0.0, 20.0) == 1


def test_quantiles_are_the_whole_windows_and_their_batches_those_of_runs_of_requests() -> None:
    rng = np.random.default_rng(2)
    ttft, tpot = rng.exponential(0.1, 907), rng.exponential(0.01, 907)
    ends = np.arange(1, 908) / 30
    found = series(recorded([5] * 300, zip(ends, ttft, tpot, strict=True)), 0.0, 30.3, ())
    assert found.n == 907
    for key, values in (("ttft", ttft), ("tpot", tpot)):
        for name, share in (("p50", 0.5), ("p90", 0.9)):
            metric = found.values[f"{key}_{name}"]
            assert metric.value == pytest.approx(np.quantile(values, share))
            # E2E is 0.2 s, so that a second is the turnover; the oldest seven are left out.
            assert len(metric.batches) == 30
            last = np.log(np.quantile(values[-30:], share))
            assert metric.batches[-1] == pytest.approx(last)
            assert metric.batches[0] == pytest.approx(np.log(np.quantile(values[7:37], share)))
            assert metric.centre == pytest.approx(metric.batches.mean())


def test_a_batch_of_a_latency_has_ten_requests_at_least() -> None:
    requests = [(t, 0.1 + 0.01 * (t % 5), 0.01) for t in range(1, 61)]
    found = series(recorded([5] * 600, requests), 0.0, 60.0, ())
    assert len(found.values["ttft_p50"].batches) == 6
    assert len(found.values["tokens_per_s"].batches) == 30


def test_a_series_stays_small() -> None:
    rng = np.random.default_rng(4)
    requests = [(t / 50, rng.exponential(0.1), rng.exponential(0.01)) for t in range(1, 3001)]
    found = series(recorded([5] * 600, requests), 0.0, 60.0, GOALS, every=True)
    assert sum(metric.batches.nbytes for metric in found.values.values()) <= len(found.values) * 240


def test_goodput_is_there_with_goals_and_counts_as_it_does_elsewhere() -> None:
    rng = np.random.default_rng(3)
    recorder = recorded([5] * 200)
    outcomes = rng.choice([Outcome.FINISHED, Outcome.ABORTED, Outcome.CUT], 300, p=[0.8, 0.1, 0.1])
    for i, outcome in enumerate(outcomes):
        tokens = 1 if i % 7 == 0 else 11
        ttft_s, tpot_s = rng.exponential(0.15), rng.exponential(0.012)
        recorder.add_ended(request(0.1 + i / 16, ttft_s, tpot_s, outcome, tokens))
    metric = series(recorder, 0.0, 20.0, GOALS).values["goodput_per_s"]
    assert metric.value == pytest.approx(goodput(recorder, GOALS, 0.0, 20.0).per_s)
    assert metric.batches.mean() == pytest.approx(0.0, abs=1e-12)


def test_the_headline_comes_first() -> None:
    assert [metric.key for metric in rows(True)][:2] == ["goodput_per_s", "tokens_per_s"]
    assert rows(False)[0].key == "tokens_per_s"
    assert len(rows(False)) == len(METRICS) - 1


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (5.0, 1.0), (100.0, 200.0), (0.0, 0.05)])
def test_a_window_with_nothing_in_it(start: float, end: float) -> None:
    found = series(recorded([5] * 20, [(1.0, 0.1, 0.01)]), start, end, GOALS)
    assert all(math.isnan(metric.error()[0]) for metric in found.values.values())
    assert not {"ttft_p50", "tpot_p90"} & set(found.values)


def test_a_rate_of_none_has_batches_of_none_and_no_error() -> None:
    recorder = recorded([5] * 200, [(i / 10, 9.0, 9.0) for i in range(1, 200)])
    metric = series(recorder, 0.0, 20.0, GOALS).values["goodput_per_s"]
    assert metric.value == 0
    assert metric.batches.tolist() == [-1.0] * len(metric.batches)
    assert metric.floor == pytest.approx(0.5 / 20)
    assert math.isnan(metric.centre)
    assert metric.spread() is None
    assert math.isnan(metric.error()[0])


def rate_of(values: NDArray[np.float64]) -> Batched:
    values = np.asarray(values, dtype=float)
    mean = float(values.mean())
    return Batched(mean, values / mean - 1, floor=0.01)


def test_batches_that_are_all_alike_have_no_error() -> None:
    # φ = 0.3 by the prior alone in part: (30 · 0.3 + 8 · 0.3) / 38 = 0.3, inflation 13/7.
    error, freedom = rate_of(np.full(30, 3.0)).error()
    assert error == pytest.approx(0.0, abs=1e-12)
    assert freedom == pytest.approx(30 * 7 / 13 - 1)
    assert math.isnan(rate_of(np.full(2, 3.0)).error()[0])


def test_the_spread_by_hand() -> None:
    # Neighbours' products add up to 0: φ̂ = (0 + 1/5) / (1 - 3/5) = 0.5, shrunk
    # (5 · 0.5 + 8 · 0.3) / 13 = 0.37692, inflation 1.37692 / 0.62308 = 2.20988; s² = 2 / 4.
    found = spread(np.array([2.0, 1.0, 1.0, 0.0, 1.0]))
    assert found == pytest.approx((0.5 * 2.20988, 5 / 2.20988 - 1), rel=1e-5)
    # Of three batches the prior is all that is known: s² = 1, (1 + 0.3) / (1 - 0.3).
    assert spread(np.array([0.0, 1.0, 2.0])) == pytest.approx((13 / 7, 1.0))


def test_the_spread_of_what_is_slower_than_batches_by_hand() -> None:
    # A level of 1 and then of -1, ten batches each, under noise of ±1 by turns: products of
    # neighbours add up to 0, φ = (20 · 0.0588 + 8 · 0.3) / 28 = 0.12773, and s² · inflation is
    # 40 / 19 · 1.29287 = 2.72183. Two together are the level alone: φ = (10 · 0.8 + 8 · 0.3) / 18,
    # s² · inflation is 10 / 9 · 3.73684, of ten with 10 / 3.73684 - 1 degrees of freedom.
    level = np.repeat([1.0, -1.0], 10)
    found = spread(level + np.tile([1.0, -1.0], 10))
    expected = 2 * 10 / 9 * 3.73684
    assert found == pytest.approx((expected, 10 / 3.73684 - 1), rel=1e-4)
    # Of 18 only nine pairs would be left.
    assert spread((level + np.tile([1.0, -1.0], 10))[1:-1]).variance < expected / 2


def test_an_interval_from_a_tenth_to_ten_times_the_value_is_none() -> None:
    # Three batches: t of one degree of freedom is 12.7, ln(1.5) · √(13 / 7 / 3) · 12.7 = 4.05.
    three = Batched(0.1, np.log([0.1 / 1.5, 0.1, 0.15]), n=30)
    assert all(math.isnan(end) for end in three.interval())
    low, high = Batched(0.1, np.log([0.1 / 1.2, 0.1, 0.12]), n=30).interval()
    assert (low, high) == pytest.approx((0.1 / 6.2, 0.1 * 6.2), rel=0.01)


def coverage(
    phi: float, sizes: int, corrected: bool = True, runs: int = 400, noise: float = 0.0
) -> float:
    """How often an interval of 95 % about a rate's mean holds the truth.

    noise: standard deviation of what is a batch's own, as a share of the level's.
    """
    rng = np.random.default_rng(17)
    held = 0
    for _ in range(runs):
        level = autoregressive(rng, phi, sizes)
        values = 1 + 0.05 * (level + noise * rng.standard_normal(sizes))
        error, freedom = rate_of(values).error()
        if not corrected:
            error, freedom = values.std(ddof=1) / math.sqrt(sizes), sizes - 1
        held += abs(math.log(values.mean())) < t_quantile(0.05, freedom) * error
    return held / runs


@pytest.mark.parametrize("sizes", [3, 5, 10, 30])
@pytest.mark.parametrize(("phi", "least"), [(0.0, 0.92), (0.3, 0.92), (0.5, 0.89)])
def test_intervals_hold_where_neighbours_are_alike(phi: float, least: float, sizes: int) -> None:
    # Turnovers next to each other seldom have more than 0.3 in common.
    assert coverage(phi, sizes) > least


def test_intervals_hold_where_a_slow_drift_lies_under_noise() -> None:
    # The speed wanders over ten batches, each with as much noise of its own: by the correlation of
    # neighbours alone the interval would hold in 65 %.
    assert coverage(0.9, 30, noise=1.0) > 0.80


def test_which_they_would_not_without_the_correction() -> None:
    assert coverage(0.5, 30, corrected=False) < 0.80


def test_a_drift_that_moves_a_whole_distribution_leaves_an_interval() -> None:
    # TPOT wanders by 4 % over 5 s, while requests at any one time differ by 1 %: shares of
    # requests below the window's p90 swing between none and all, and bound nothing.
    rng = np.random.default_rng(29)
    level = 0.04 * autoregressive(rng, math.exp(-1 / 220), 2640)
    tpot = 0.02 * np.exp(level + 0.01 * rng.standard_normal(2640))
    requests = zip(np.arange(1, 2641) / 44, np.full(2640, 1.0), tpot, strict=True)
    metric = series(recorded([5] * 600, requests), 0.0, 60.0, ()).values["tpot_p90"]
    low, high = metric.interval()
    assert 0.90 < low / metric.value < 0.99
    assert 1.01 < high / metric.value < 1.10


def test_a_percentile_at_the_edge_between_two_steps_has_an_interval_that_holds() -> None:
    # Nine in ten take one step of 70 ms, the others two: p90 is now the one, now the other.
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        slow = rng.random(600) < 0.1
        ttft = np.where(slow, 0.14, 0.07) + rng.uniform(-0.002, 0.002, 600)
        requests = zip(np.arange(1, 601) / 30, ttft, np.full(600, 0.01), strict=True)
        metric = series(recorded([], requests), 0.0, 20.0, ()).values["ttft_p90"]
        low, high = metric.interval()
        held += low <= 0.138 and high >= 0.072
    assert held / 200 > 0.93


def test_quantiles_that_tie_keep_the_error_of_independent_requests() -> None:
    # Of three runs of 100 requests each has nine that took 140 ms, and so a p90 of 70 ms; among
    # others one in ten may well be above it.
    ttft = np.full(300, 0.07)
    ttft.reshape(3, 100)[:, 5::11] = 0.14

    def found(ttft: NDArray[np.float64]) -> Batched:
        requests = [(0.2 * (i + 1), ttft[i], 1.5) for i in range(300)]
        return series(recorded([5] * 600, requests), 0.0, 60.0, ()).values["ttft_p90"]

    metric = found(ttft)
    assert len(metric.batches) == 3
    assert np.ptp(metric.batches) == pytest.approx(0.0, abs=1e-9)
    # √(0.9 · 0.1 / 300) = 0.017 either way: from 70 ms to 140 ms is two standard errors.
    assert metric.tied_error == pytest.approx(math.log(2) / 2, rel=0.01)
    assert metric.error()[0] == pytest.approx(metric.tied_error)
    # Where every request took as long, there is nothing to be uncertain of.
    assert found(np.full(300, 0.07)).error()[0] == pytest.approx(0.0, abs=1e-9)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), max_size=120),
    st.lists(st.tuples(st.floats(0, 12), st.floats(0, 5), st.floats(0, 1)), max_size=120),
    st.floats(-1, 12),
    st.floats(0, 12),
)
def test_any_window_has_a_series(
    tokens: list[int], requests: list[tuple[float, float, float]], start_s: float, length_s: float
) -> None:
    recorder = recorded(tokens, sorted(requests))
    found = series(recorder, start_s, start_s + length_s, GOALS)
    for metric in found.values.values():
        assert 1 <= len(metric.batches) <= 30
        error, freedom = metric.error()
        assert math.isnan(error) or (error >= 0 and freedom >= 1)

"""What a window gave: estimates by hand, and errors that hold where values resemble their past."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tputtui.goals import parse_goals
from tputtui.measure.attainment import goodput
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import Outcome, RequestSample, StepSample
from tputtui.measure.series import METRICS, Batched, rows, series
from tputtui.measure.stats import t_quantile

GOALS = parse_goals("ttft_p90=200ms, tpot_p90=20ms")


def step(end_s, tokens):
    values = dict.fromkeys(StepSample._fields, 1)
    return StepSample(**values | {"end_s": end_s, "duration_s": 0.1, "generated_tokens": tokens})


def request(end_s, ttft_s, tpot_s, outcome=Outcome.FINISHED, tokens=11):
    first_s = end_s - tpot_s * (tokens - 1)
    due_s = first_s - ttft_s
    return RequestSample(0, outcome, due_s, due_s, due_s, first_s, end_s, 9, tokens, tokens, 0, 0)


def recorded(tokens, requests=()):
    """Steps a tenth of a second apart from 0 on, and requests (end, TTFT, TPOT)."""
    recorder = Recorder()
    for i, count in enumerate(tokens):
        recorder.add_step(step((i + 1) / 10, count), [])
    for end_s, ttft_s, tpot_s in requests:
        recorder.add_first_token(end_s, end_s - ttft_s, end_s)
        recorder.add_ended(request(end_s, ttft_s, tpot_s))
    return recorder


def autoregressive(rng, phi, size):
    """AR(1) of mean 0 and variance 1."""
    values = np.empty(size)
    values[0] = rng.standard_normal()
    for i, shock in enumerate(rng.standard_normal(size - 1) * math.sqrt(1 - phi**2), 1):
        values[i] = phi * values[i - 1] + shock
    return values


def test_a_rate_by_hand():
    found = series(recorded([4] * 200 + [8] * 200), 0.0, 40.0, ())
    tokens = found.values["tokens_per_s"]
    assert (found.length_s, found.n) == (40.0, 0)
    assert tokens.value == pytest.approx(60.0)
    assert len(tokens.batches) == 60
    assert tokens.batches.mean() == pytest.approx(60.0)
    assert tokens.batches[:29].tolist() == pytest.approx([40.0] * 29, rel=0.2)
    assert set(found.values) == {"tokens_per_s"}


def test_quantiles_are_the_whole_windows_and_their_batches_shares_below_them():
    rng = np.random.default_rng(2)
    ttft, tpot = rng.exponential(0.1, 900), rng.exponential(0.01, 900)
    ends = np.arange(1, 901) / 30
    found = series(recorded([5] * 300, zip(ends, ttft, tpot, strict=True)), 0.0, 30.0, ())
    assert found.n == 900
    for key, values in (("ttft", ttft), ("tpot", tpot)):
        for name, share in (("p50", 0.5), ("p90", 0.9)):
            metric = found.values[f"{key}_{name}"]
            assert metric.value == pytest.approx(np.quantile(values, share))
            assert len(metric.batches) == 60
            assert metric.batches.mean() == pytest.approx(share, abs=0.002)
            assert metric.curve[int(share * 200)] == metric.value


def test_goodput_is_there_with_goals_and_counts_as_it_does_elsewhere():
    rng = np.random.default_rng(3)
    recorder = recorded([5] * 200)
    outcomes = rng.choice([Outcome.FINISHED, Outcome.ABORTED, Outcome.CUT], 300, p=[0.8, 0.1, 0.1])
    for i, outcome in enumerate(outcomes):
        tokens = 1 if i % 7 == 0 else 11
        ttft_s, tpot_s = rng.exponential(0.15), rng.exponential(0.012)
        recorder.add_ended(request(0.1 + i / 16, ttft_s, tpot_s, outcome, tokens))
    ended = recorder.ended.between(0.0, 20.0)
    columns = [ended[:, ENDED[name]] for name in ("ttft_s", "tpot_s", "e2e_s", "good")]
    metric = series(recorder, 0.0, 20.0, GOALS).values["goodput_per_s"]
    assert metric.value == pytest.approx(goodput(GOALS, *columns, 20.0).per_s)
    assert metric.batches.mean() == pytest.approx(metric.value)


def test_the_headline_comes_first():
    assert [metric.key for metric in rows(True)][:2] == ["goodput_per_s", "tokens_per_s"]
    assert rows(False)[0].key == "tokens_per_s"
    assert len(rows(False)) == len(METRICS) - 1


@pytest.mark.parametrize(("start", "end"), [(0.0, 0.0), (5.0, 1.0), (100.0, 200.0), (0.0, 0.05)])
def test_a_window_with_nothing_in_it(start, end):
    found = series(recorded([5] * 20, [(1.0, 0.1, 0.01)]), start, end, GOALS)
    assert all(math.isnan(metric.error()[0]) for metric in found.values.values())
    assert not {"ttft_p50", "tpot_p90"} & set(found.values)


def test_a_rate_of_none_stands_as_half_an_event():
    recorder = recorded([5] * 200, [(i / 10, 9.0, 9.0) for i in range(1, 200)])
    metric = series(recorder, 0.0, 20.0, GOALS).values["goodput_per_s"]
    assert metric.value == 0
    assert metric.log_value == pytest.approx(math.log(0.5 / 20))
    assert metric.error()[0] == pytest.approx(math.sqrt(2))


def test_batches_that_are_all_alike_have_no_error():
    assert Batched(3.0, np.full(60, 3.0)).error() == (0.0, 59.0)
    assert math.isnan(Batched(3.0, np.full(7, 3.0)).error()[0])


def coverage(phi, sizes, corrected=True, runs=400):
    """How often an interval of 95 % about a rate's mean holds the truth."""
    rng = np.random.default_rng(17)
    held = 0
    for _ in range(runs):
        values = 1 + 0.05 * autoregressive(rng, phi, sizes)
        error, freedom = Batched(float(values.mean()), values).error()
        if not corrected:
            error, freedom = values.std(ddof=1) / math.sqrt(sizes), sizes - 1
        held += abs(math.log(values.mean())) < t_quantile(0.05, freedom) * error
    return held / runs


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8])
def test_intervals_hold_where_neighbours_are_alike(phi):
    assert coverage(phi, 60) > 0.92


def test_which_they_would_not_without_the_correction():
    assert coverage(0.8, 60, corrected=False) < 0.65


def test_slow_drift_behind_quick_noise_is_seen():
    rng = np.random.default_rng(23)
    held = 0
    for _ in range(400):
        values = 1 + 0.02 * autoregressive(rng, 0.8, 60) + 0.03 * rng.standard_normal(60)
        error, freedom = Batched(float(values.mean()), values).error()
        held += abs(math.log(values.mean())) < t_quantile(0.05, freedom) * error
    # 0.81 from the shortest batches alone.


def test_a_percentile_at_the_edge_between_two_steps_has_an_interval_that_holds():
    # Nine in ten take one step of 70 ms, the others two: p90 is now the one, now the other.
    rng = np.random.default_rng(5)
    held, widths = 0, []
    for _ in range(200):
        slow = rng.random(600) < 0.1
        ttft = np.where(slow, 0.14, 0.07) + rng.uniform(-0.002, 0.002, 600)
        requests = zip(np.arange(1, 601) / 30, ttft, np.full(600, 0.01), strict=True)
        metric = series(recorded([], requests), 0.0, 20.0, ()).values["ttft_p90"]
        error, freedom = metric.error()
        low, high = metric.bounds(t_quantile(0.05, freedom) * error)
        held += low <= math.log(0.072) and high >= math.log(0.138)
        widths.append(high - low)
    assert held / 200 > 0.93
    assert np.isfinite(widths).mean() > 0.9


def test_bounds_beyond_the_sample_are_open():
    curve = np.linspace(0.1, 0.3, 201)
    metric = Batched(0.28, np.full(20, 0.9), share=0.9, n=200, curve=curve)
    assert metric.bounds(0.0) == pytest.approx((math.log(0.28), math.log(0.28)))
    assert metric.bounds(0.05) == pytest.approx((math.log(0.27), math.log(0.29)), abs=0.005)
    assert metric.bounds(0.2)[1] == math.inf
    assert metric.bounds(0.95)[0] == -math.inf


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), max_size=120),
    st.lists(st.tuples(st.floats(0, 12), st.floats(0, 5), st.floats(0, 1)), max_size=120),
    st.floats(-1, 12),
    st.floats(0, 12),
)
def test_any_window_has_a_series(tokens, requests, start_s, length_s):
    recorder = recorded(tokens, sorted(requests))
    found = series(recorder, start_s, start_s + length_s, GOALS)
    for metric in found.values.values():
        assert 1 <= len(metric.batches) <= 60
        error, freedom = metric.error()
        assert math.isnan(error) or (error >= 0 and freedom >= 2)

"""A step's time taken apart: known costs come back, and what cannot be told is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tputtui.measure.regression import fit_parts
from tputtui.measure.samples import StepSample
from tputtui.measure.steptime import StepTime, step_time

COLUMN = {name: i for i, name in enumerate(StepSample._fields)}
COSTS = (0.004, 2e-5, 5e-8)


def load(
    rng: np.random.Generator, n: int = 400, prefill: float = 0.15
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tokens and context of `n` steps: decoding of 40 to 64, now and then with a prompt."""
    sequences = rng.integers(40, 65, n)
    prompts = rng.integers(100, 2000, n) * (rng.random(n) < prefill)
    context = sequences * rng.normal(800, 150, n)
    return (sequences + prompts).astype(float), context


def steps(
    tokens: NDArray[np.float64],
    context: NDArray[np.float64],
    model_s: NDArray[np.float64],
    host_s: float = 0.0,
) -> NDArray[np.float64]:
    rows = np.zeros((len(tokens), len(COLUMN)))
    rows[:, COLUMN["decode_tokens"]] = tokens // 2
    rows[:, COLUMN["prefill_tokens"]] = tokens - tokens // 2
    rows[:, COLUMN["context_tokens"]] = context
    rows[:, COLUMN["host_s"]] = host_s
    rows[:, COLUMN["duration_s"]] = model_s + host_s
    rows[:, COLUMN["end_s"]] = np.cumsum(model_s + host_s)
    return rows


def model(
    costs: tuple[float, float, float], tokens: NDArray[np.float64], context: NDArray[np.float64]
) -> NDArray[np.float64]:
    return costs[0] + costs[1] * tokens + costs[2] * context


def coefficients(found: StepTime | None) -> tuple[float, float, float]:
    return found.fixed_s, found.per_token_s, found.per_context_s


def shares(found: StepTime | None) -> tuple[float, float, float]:
    return found.fixed_share, found.compute_share, found.context_share


def test_known_costs_come_back_exactly_without_noise() -> None:
    tokens, context = load(np.random.default_rng(1))
    found = step_time(steps(tokens, context, model(COSTS, tokens, context), host_s=0.003))
    assert coefficients(found) == pytest.approx(COSTS)
    assert found.r2 == pytest.approx(1.0)
    assert found.resolved
    assert found.split
    parts = np.array(COSTS) * (1.0, tokens.mean(), context.mean())
    assert shares(found) == pytest.approx(parts / parts.sum())
    assert found.seconds(500, 40_000) == pytest.approx(0.004 + 0.010 + 0.002)


@pytest.mark.parametrize("seed", range(5))
def test_known_costs_come_back_under_noise_and_outliers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, context = load(rng)
    took_s = model(COSTS, tokens, context) * np.exp(rng.normal(0, 0.05, len(tokens)))
    # One step in thirty is ten times as long: a garbage collection, another program.
    took_s[rng.random(len(took_s)) < 1 / 30] *= 10
    found = step_time(steps(tokens, context, took_s))
    assert found.split
    assert found.per_token_s == pytest.approx(COSTS[1], rel=0.05)
    assert found.fixed_s == pytest.approx(COSTS[0], rel=0.15)
    assert found.per_context_s == pytest.approx(COSTS[2], rel=0.5)
    plain = np.linalg.lstsq(
        np.column_stack([np.ones(len(tokens)), tokens, context]), took_s, rcond=None
    )[0]
    assert abs(found.fixed_s - COSTS[0]) < abs(plain[0] - COSTS[0])


def test_the_intervals_hold_what_they_promise() -> None:
    """95 % of fits of the same load hold the true share of compute; 90 % would fail this."""
    held = []
    for seed in range(300):
        rng = np.random.default_rng(1000 + seed)
        tokens, context = load(rng, n=100)
        clean = model(COSTS, tokens, context)
        found = step_time(steps(tokens, context, clean * (1 + rng.normal(0, 0.1, 100))))
        true = COSTS[1] * tokens.mean() / clean.mean()
        held.append(abs(found.compute_share - true) <= found.compute_error)
    assert np.mean(held) > 0.9


def test_overlapped_steps_are_paired_with_the_step_before() -> None:
    tokens, context = load(np.random.default_rng(2))
    model_s = model(COSTS, tokens, context)
    rows = steps(tokens, context, np.roll(model_s, 1))
    rows[:, COLUMN["host_s"]] = rows[:, COLUMN["duration_s"]] * 0.7
    assert coefficients(step_time(rows, overlapped=True)) == pytest.approx(COSTS)
    assert not step_time(rows).resolved


def test_steps_that_ran_no_model_are_left_out() -> None:
    tokens, context = load(np.random.default_rng(3))
    rows = steps(tokens, context, model(COSTS, tokens, context))
    rows[::3, COLUMN["prefill_tokens"]] = rows[::3, COLUMN["decode_tokens"]] = 0
    rows[1::7, COLUMN["host_s"]] = rows[1::7, COLUMN["duration_s"]]
    assert coefficients(step_time(rows)) == pytest.approx(COSTS)
    assert step_time(rows[:30:3]) is None


def test_too_few_steps_say_nothing() -> None:
    tokens, context = load(np.random.default_rng(4), n=20)
    rows = steps(tokens, context, model(COSTS, tokens, context))
    assert step_time(rows) is not None
    assert step_time(rows[:19]) is None
    assert step_time(rows, overlapped=True) is None


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_steps_all_alike_are_refused(noise: float) -> None:
    rng = np.random.default_rng(5)
    tokens, context = np.full(200, 64.0), np.full(200, 50_000.0)
    took_s = model(COSTS, tokens, context) * np.exp(rng.normal(0, noise, 200))
    found = step_time(steps(tokens, context, took_s))
    assert not found.varied
    assert not found.resolved
    assert sum(shares(found)) == pytest.approx(1.0)


def test_a_batch_that_hardly_varies_is_refused_even_without_noise() -> None:
    """From 62 to 66 tokens nothing can be said of a step with none."""
    rng = np.random.default_rng(6)
    tokens = rng.integers(62, 67, 400).astype(float)
    context = tokens * 800
    assert not step_time(steps(tokens, context, model(COSTS, tokens, context))).varied


def test_tokens_that_go_with_the_context_are_refused() -> None:
    """Every prompt token brings context along: the two costs are only known together."""
    tokens, _ = load(np.random.default_rng(7))
    context = 500 * tokens
    found = step_time(steps(tokens, context, model(COSTS, tokens, context)))
    assert not found.varied
    assert not found.split


def test_a_context_that_does_not_vary_is_one_with_the_weights() -> None:
    tokens, _ = load(np.random.default_rng(8))
    for context in (np.full(400, 50_000.0), np.zeros(400)):
        found = step_time(steps(tokens, context, model(COSTS, tokens, context)))
        assert found.resolved
        assert not found.split
        assert found.per_token_s == pytest.approx(COSTS[1])
        memory_s = found.fixed_s + found.per_context_s * context[0]
        assert memory_s == pytest.approx(COSTS[0] + COSTS[2] * context[0])


def test_times_that_do_not_go_with_the_load_are_refused() -> None:
    rng = np.random.default_rng(9)
    tokens, context = load(rng)
    found = step_time(steps(tokens, context, rng.lognormal(-5, 0.5, len(tokens))))
    assert found.varied
    assert found.r2 < 0.2
    assert not found.resolved


COST = st.floats(0.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    costs=st.tuples(COST, COST, COST).filter(lambda costs: sum(costs) > 1e-3),
    noise=st.floats(0.0, 0.3),
    seed=st.integers(0, 1 << 16),
)
def test_whatever_the_steps_costs_and_shares_are_in_bounds(
    costs: tuple[float, float, float], noise: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tokens, context = load(rng, n=60)
    scaled = (costs[0] * 1e-2, costs[1] * 1e-5, costs[2] * 1e-7)
    took_s = model(scaled, tokens, context) * np.exp(rng.normal(0, noise, 60))
    found = step_time(steps(tokens, context, took_s))
    assert min(coefficients(found)) >= 0
    assert sum(shares(found)) == pytest.approx(1.0)
    assert 0 <= found.r2 <= 1
    assert min(found.compute_error, found.context_error) >= 0
    # Seconds in, seconds out: another unit of time changes nothing else.
    slower = step_time(steps(tokens, context, took_s * 1000))
    assert coefficients(slower) == pytest.approx(np.array(coefficients(found)) * 1000)
    assert shares(slower) == pytest.approx(shares(found))


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 1 << 16))
def test_no_other_non_negative_costs_fit_better(seed: int) -> None:
    """Karush-Kuhn-Tucker: at a minimum no gradient points into the allowed side."""
    rng = np.random.default_rng(seed)
    columns = np.column_stack([np.ones(40), rng.random((40, 2))])
    values = np.maximum(columns @ rng.normal(0.3, 1.0, 3) + 3, 0.1) * rng.uniform(0.8, 1.2, 40)
    fit = fit_parts(columns, values)
    weights = _weights(columns, values, fit.coefficients)
    downhill = (columns * weights[:, None]).T @ (values - columns @ fit.coefficients)
    size = (columns * weights[:, None]).T @ values
    assert (downhill <= 0.02 * size).all()
    assert np.abs(downhill[fit.coefficients > 0] / size[fit.coefficients > 0]).max() < 0.02


def _weights(
    columns: NDArray[np.float64], values: NDArray[np.float64], coefficients: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The weights the fit ends with: Huber's, of relative errors."""
    fitted = columns @ coefficients
    off = np.abs(values - fitted) / fitted
    usual = 1.345 * 1.4826 * np.median(off)
    weights: NDArray[np.float64] = np.minimum(1.0, usual / np.maximum(off, 1e-12)) / fitted**2
    return weights

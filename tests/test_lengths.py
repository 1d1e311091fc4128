"""Length distributions by their quantiles, their moments, and the weights they were given."""

import math

import numpy as np
import pytest

from tputtui.load.lengths import (
    Fixed,
    Histogram,
    Lengths,
    LogNormal,
    Normal,
    Uniform,
    Zipf,
    drawn,
    drawn_pair,
)


@pytest.mark.parametrize(
    ("lengths", "u", "tokens"),
    [
        (Fixed(7), 0.9, 7),
        (Uniform(10, 13), 0.0, 10),
        (Uniform(10, 13), 0.75, 13),
        (Normal(100, 10), 0.5, 100),
        (Normal(100, 10), 0.8413447, 110),
        (Normal(100, 10, 95, 120), 0.01, 95),
        (LogNormal(100, 0.5), 0.5, 100),
        (LogNormal(100, 0.5), 0.8413447, 165),
        (LogNormal(100, 0.5, 1, 150), 0.9, 150),
        # Weights 1, 1/2, 1/4 (exponent 1 over 1, 2 and 4 would skip 3): 12/25, 6/25, 4/25, 3/25.
        (Zipf(1.0, 1, 4), 0.47, 1),
        (Zipf(1.0, 1, 4), 0.49, 2),
        (Zipf(1.0, 1, 4), 0.73, 3),
        (Zipf(1.0, 1, 4), 0.89, 4),
        (Histogram(((1, 10, 3.0), (101, 200, 1.0))), 0.0, 1),
        (Histogram(((1, 10, 3.0), (101, 200, 1.0))), 0.749, 10),
        (Histogram(((1, 10, 3.0), (101, 200, 1.0))), 0.875, 151),
    ],
)
def test_quantiles_by_hand(lengths: Lengths, u: float, tokens: int) -> None:
    assert drawn(lengths, u) == tokens


@pytest.mark.parametrize(
    "lengths",
    [
        Uniform(5, 9), Normal(50, 20, 1, 90), LogNormal(200, 1.0, 16, 2048), Zipf(1.2, 2, 500),
        Histogram(((1, 4, 1.0), (9, 9, 2.0))),
    ],
)  # fmt: skip
def test_draws_rise_with_the_quantile_and_stay_within_their_bounds(lengths: Lengths) -> None:
    ends = [drawn(lengths, u) for u in (0.0, 1 - 2**-53)]
    draws = [drawn(lengths, u) for u in np.linspace(0, 1, 2001)[:-1]]
    assert draws == sorted(draws)
    assert ends[0] <= draws[0]
    assert draws[-1] <= ends[1]
    if not isinstance(lengths, Fixed | Histogram):
        assert (ends[0], ends[1]) == (lengths.min, lengths.max)


def test_moments_are_those_of_the_distribution() -> None:
    u = np.random.default_rng(1).random(40_000)
    normal = np.array([drawn(Normal(500, 60), x) for x in u])
    assert abs(normal.mean() - 500) < 2
    assert abs(normal.std() - 60) < 1.5
    log = np.log([drawn(LogNormal(400, 0.7), x) for x in u])
    assert abs(log.mean() - math.log(400)) < 0.02
    assert abs(log.std() - 0.7) < 0.02
    zipf = np.array([drawn(Zipf(1.0, 1, 100), x) for x in u])
    harmonic = sum(1 / n for n in range(1, 101))
    assert abs((zipf == 1).mean() - 1 / harmonic) < 0.01
    assert abs((zipf == 10).mean() - 0.1 / harmonic) < 0.005


def test_pairs_are_drawn_together_by_weight() -> None:
    pairs = ((100, 50, 3.0), (2000, 10, 1.0))
    assert drawn_pair(pairs, 0.74) == (100, 50)
    assert drawn_pair(pairs, 0.76) == (2000, 10)

"""Which of the measured settings are worth having, against examples done by hand."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tputtui.measure.frontier import AXES_X, AXES_Y, Point, knee, letter, pareto
from tputtui.measure.stats import quantiles

Y = {axis.key: axis for axis in AXES_Y}
X = {axis.key: axis for axis in AXES_X}


def point(label: str, tokens_per_s: float, e2e_s: float, n: int = 1, **more: Any) -> Point:
    latency = {"e2e": quantiles(np.full(n, e2e_s))}
    base = Point(
        label, {"max_num_seqs": 8}, "8 in flight", 8, tokens_per_s, tokens_per_s / 10,
        latency, n, 60.0,
    )  # fmt: skip
    return replace(base, **more)


def labels(points: list[Point]) -> str:
    return "".join(found.label for found in points)


def front(points: list[Point], y: str = "tokens_per_s", x: str = "e2e_p50") -> str:
    return labels(pareto(points, Y[y], X[x]))


def test_letters_count_on_past_z() -> None:
    assert [letter(i) for i in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == (
        ["a", "b", "z", "aa", "ab", "az", "ba", "zz", "aaa"]
    )


def test_the_front_by_hand() -> None:
    # c gives less than b and takes longer; d as much as b and takes longer; e gives the most.
    points = [point("e", 300, 9.0), point("a", 100, 1.0), point("b", 200, 2.0)]
    points += [point("c", 150, 3.0), point("d", 200, 4.0)]
    assert front(points) == "abe"
    assert front([*points, point("f", 200, 1.0)]) == "fe"
    assert front([]) == ""


def test_equal_points_stay_together_and_missing_figures_are_left_out() -> None:
    points = [point("a", 100, 1.0), point("b", 100, 1.0), point("c", math.nan, 0.1)]
    points.append(point("d", 900, 0.1, latency={}))
    assert front(points) == "ab"
    assert front(points, y="goodput_per_s") == ""


def test_of_cost_less_is_better() -> None:
    points = [point("a", 1, 1.0, cost_per_mtok=3.0), point("b", 1, 2.0, cost_per_mtok=2.0)]
    points.append(point("c", 1, 3.0, cost_per_mtok=2.5))
    assert front(points, y="cost_per_mtok") == "ab"


def test_every_axis_reads_its_figure() -> None:
    values = np.arange(1, 2001, dtype=np.float64)
    latency = {name: quantiles(values * k) for k, name in enumerate(("ttft", "tpot", "e2e"), 1)}
    full = point(
        "a", 70.0, 1.0, latency=latency, goodput_per_s=5.0, tokens_per_joule=0.4, cost_per_mtok=2.0
    )
    assert [axis.value(full) for axis in AXES_Y] == [70.0, 7.0, 5.0, 0.4, 2.0]
    assert [axis.key for axis in AXES_X[:4]] == ["ttft_p50", "ttft_p90", "ttft_p99", "tpot_p50"]
    expected = np.percentile(values, [50, 90, 99])
    found = [axis.value(full) for axis in AXES_X]
    assert found == pytest.approx([*expected, *expected * 2, *expected * 3])


def test_a_p99_of_too_few_requests_wins_nothing() -> None:
    points = [point("a", 100, 1.0, n=999), point("b", 100, 2.0, n=1000)]
    assert front(points, x="e2e_p99") == "b"
    assert front(points, x="e2e_p90") == "a"


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 6)), max_size=30))
def test_the_front_is_what_nothing_dominates(pairs: list[tuple[int, int]]) -> None:
    points = [point(letter(i), y, x) for i, (y, x) in enumerate(pairs)]
    kept = {found.label for found in pareto(points, Y["tokens_per_s"], X["e2e_p50"])}
    for i, (y, x) in enumerate(pairs):
        beaten = any(v >= y and w <= x and (v, w) != (y, x) for v, w in pairs)
        assert (letter(i) in kept) != beaten


def test_the_knee_has_the_greatest_power() -> None:
    # 10/1 = 10, 18/1.5 = 12, 20/4 = 5 requests/s per second.
    points = [point("a", 100, 1.0), point("b", 180, 1.5), point("c", 200, 4.0)]
    assert knee(points).label == "b"
    assert knee([*points, point("d", math.nan, 0.1), point("e", 900, 1.0, latency={})]).label == "b"
    assert knee([]) is None


def test_the_knee_of_a_queue_is_at_half_its_capacity() -> None:
    # M/M/1: response time 1/(μ - λ), so power λ(μ - λ) peaks at λ = μ/2 (Kleinrock 1979).
    points = [point(letter(i), 10.0 * rate, 1 / (8 - rate)) for i, rate in enumerate(range(1, 8))]
    assert knee(points).requests_per_s == 4


def test_a_gain_within_noise_is_no_reason_to_wait_longer() -> None:
    points = [point("a", 1000.0, 1.0), point("b", 1009.0, 2.0), point("c", 1011.0, 3.0)]
    assert front(points) == "abc"
    assert labels(pareto(points, Y["tokens_per_s"], X["e2e_p50"], 0.01)) == "ac"

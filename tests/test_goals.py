"""Goals as they are written, and how many requests met them, against figures done by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tputtui.errors import UsageError
from tputtui.goals import METRICS, Goal, describe_goals, goals_from, goals_to, parse_goals
from tputtui.measure.attainment import Verdict, goodput, wilson

GOALS = st.lists(
    st.builds(
        Goal,
        st.sampled_from(METRICS),
        st.floats(0, 100, exclude_min=True, exclude_max=True),
        st.floats(0, 1e9, exclude_min=True),
    ),
    unique_by=lambda goal: goal.name,
    max_size=6,
).map(tuple)


def test_goals_are_read_as_a_person_writes_them():
    expected = (Goal("ttft", 99, 0.5), Goal("tpot", 99.9, 0.05), Goal("e2e", 95, 10.0))
    assert parse_goals("ttft_p99=500ms,tpot_p99.9=50ms,e2e_p95=10s") == expected
    assert parse_goals(" TTFT p99 ≤ 0.5 s , tpot_p99.9 <= 50ms,e2e-p95=10.0s ") == expected
    assert goals_from({"ttft_p99": "500ms", "tpot_p99.9": "50 ms", "e2e_p95": "10s"}) == expected
    assert parse_goals("") == parse_goals("  ") == goals_from({}) == ()
    assert expected[1].target == pytest.approx(0.999)


@pytest.mark.parametrize(
    ("limit", "limit_s"),
    [
        ("70ms", 0.07),
        ("250us", 250e-6),
        ("250µs", 250e-6),
        ("250μs", 250e-6),
        (".5s", 0.5),
        ("1e2ms", 0.1),
        ("2min", 120.0),
        ("1.5min", 90.0),
    ],
)
def test_every_unit_gives_the_nearest_float(limit, limit_s):
    assert parse_goals(f"e2e_p50={limit}")[0].limit_s == limit_s


def test_goals_are_written_in_the_unit_a_person_would_use():
    text = "ttft_p99=500ms,tpot_p99.9=50ms,e2e_p95=1.5s,ttft_p50=90s,tpot_p1=20.5µs"
    assert describe_goals(parse_goals(text)) == text
    assert (
        describe_goals(parse_goals("e2e_p90=2min,ttft_p90=1000us")) == "e2e_p90=120s,ttft_p90=1ms"
    )
    assert goals_to(parse_goals("ttft_p99.0=0.5s")) == {"ttft_p99": "500ms"}
    assert describe_goals(()) == ""


@given(GOALS)
def test_what_is_written_is_read_back_the_same(goals):
    assert parse_goals(describe_goals(goals)) == goals
    assert goals_from(goals_to(goals)) == goals


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("ttfs_p99=1s", "no goal for 'ttfs'", "`ttft`"),
        ("itl_p99=50ms", "per request", "tpot"),
        ("itl=50ms", "per request", "tpot"),
        ("latency_p99=1s", "no goal for 'latency'", "ttft, tpot, e2e"),
        ("ttft=500ms", "no percentile", "ttft_p99"),
        ("ttft_p99=500", "ttft_p99: 500 has no unit", "500ms, or 500s"),
        ("ttft_p99=5h", "no unit 'h'", "µs, ms, s or min"),
        ("ttft_p99=", "'' is not a time", "ttft_p99=500ms"),
        ("ttft_p99=fast", "'fast' is not a time", "ttft_p99=500ms"),
        ("ttft_p99=-5ms", "'-5ms' is not a time", "ttft_p99=500ms"),
        ("ttft_p99=0ms", "above zero", "ttft_p99=500ms"),
        ("ttft_p99=1e999s", "above zero", "ttft_p99=500ms"),
        ("ttft_p99", "'ttft_p99' is not a goal", "ttft_p99=500ms"),
        ("ttft_p99=1s,", "'' is not a goal", "ttft_p99=500ms"),
        ("ttft_p100=1s", "percentile 100 is not between", "p99.9"),
        ("ttft_p0=1s", "percentile 0 is not between", "p99"),
        ("ttft_p99=1s,e2e_p99=9s,TTFT_p99.0=2s", "ttft_p99 is there twice", "Keep"),
    ],
)
def test_every_mistake_is_told_with_what_to_write_instead(text, says, hint):
    with pytest.raises(UsageError) as caught:
        parse_goals(text)
    assert says in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("limit", [500, 0.5, True, None, math.inf, ["1s"]])
def test_a_profiles_limit_without_a_unit_is_refused(limit):
    with pytest.raises(UsageError):
        goals_from({"ttft_p99": limit})


@given(st.text(alphabet="tpoe2_ .=<≤,mµs19e+-", max_size=30))
def test_any_text_is_goals_or_a_sentence(text):
    try:
        goals = parse_goals(text)
    except UsageError:
        return
    assert parse_goals(describe_goals(goals)) == goals


def test_wilson_by_hand():
    # p = 0.95, z²/n = 0.038415: centre 0.969207 / 1.038415, half 0.046836 / 1.038415.
    assert wilson(95, 100) == pytest.approx((0.8882, 0.9785), abs=5e-5)
    # At the ends: z²/(n + z²) is left for the other bound.
    assert wilson(0, 10) == (0.0, pytest.approx(3.8415 / 13.8415, abs=1e-5))
    assert wilson(10, 10) == (pytest.approx(10 / 13.8415, abs=1e-5), 1.0)
    assert wilson(0, 0) == (0.0, 1.0)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_proportion_and_mirrors(counts):
    met, n = counts
    low, high = wilson(met, n)
    assert 0 <= low <= met / n <= high <= 1
    assert wilson(n - met, n) == (pytest.approx(1 - high, abs=1e-12), pytest.approx(1 - low))


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(3)
    draws = rng.binomial(200, 0.9, size=2000)
    hits = [low <= 0.9 <= high for low, high in (wilson(int(met), 200) for met in draws)]
    assert 0.93 <= np.mean(hits) <= 0.97


def test_goodput_by_hand():
    # Five requests: all met; TTFT missed; one token only (no TPOT), met; cut; TPOT missed.
    ttft = np.array([0.1, 0.9, 0.5, 0.1, 0.2])
    tpot = np.array([0.02, 0.03, np.nan, 0.01, 0.08])
    e2e = np.array([1.0, 2.0, 0.5, 0.2, 4.0])
    good = np.array([True, True, True, False, True])
    goals = parse_goals("ttft_p50=500ms,tpot_p50=50ms")
    found = goodput(goals, ttft, tpot, e2e, good, length_s=4.0)
    assert (found.met, found.n, found.frac, found.per_s) == (2, 5, 0.4, 0.5)
    assert (found.low, found.high) == wilson(2, 5)
    by_ttft, by_tpot = found.each
    assert (by_ttft.goal, by_ttft.met, by_ttft.n, by_ttft.frac) == (goals[0], 3, 5, 0.6)
    assert (by_tpot.met, by_tpot.n) == (3, 5)
    assert (by_ttft.low, by_ttft.high) == wilson(3, 5)
    # Over good requests: the median of 0.1, 0.2, 0.5, 0.9 and of 0.02, 0.03, 0.08.
    assert by_ttft.observed_s == pytest.approx(0.35)
    assert by_tpot.observed_s == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("met", "n", "verdict"),
    [
        # n met of n resolve p99 from n ≥ 99 z² = 380.3 on.
        (380, 380, Verdict.UNRESOLVED),
        (381, 381, Verdict.MET),
        # 95 of 100: 0.8882 … 0.9785 lies below.
        (95, 100, Verdict.MISSED),
        (98, 100, Verdict.UNRESOLVED),
        (0, 0, Verdict.UNRESOLVED),
    ],
)
def test_a_verdict_is_beyond_chance_or_unresolved(met, n, verdict):
    e2e = np.where(np.arange(n) < met, 1.0, 3.0)
    found = goodput(parse_goals("e2e_p99=2s"), e2e, e2e, e2e, np.ones(n, dtype=bool), 10.0)
    assert (found.each[0].verdict, found.each[0].met) == (verdict, met)


def test_a_request_exactly_at_its_limit_has_met_it():
    value = np.array([0.07])
    found = goodput(parse_goals("tpot_p99=70ms"), value, value, value, np.array([True]), 1.0)
    assert found.met == 1


def test_goodput_of_nothing_and_without_goals():
    none = np.array([])
    empty = goodput(parse_goals("ttft_p99=1s"), none, none, none, none, 0.0)
    assert math.isnan(empty.per_s)
    assert math.isnan(empty.frac)
    assert math.isnan(empty.each[0].observed_s)
    assert (empty.low, empty.high, empty.n) == (0.0, 1.0, 0)
    two = np.array([1.0, np.nan])
    # As the recorder's table holds it: good is 1.0 or 0.0.
    plain = goodput((), two, two, two, np.array([1.0, 0.0]), 2.0)
    assert (plain.per_s, plain.met, plain.n, plain.each) == (0.5, 1, 2, ())


@given(st.data())
def test_no_more_requests_meet_every_goal_than_meet_any_one(data):
    n = data.draw(st.integers(0, 40))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    ttft, tpot, e2e = rng.exponential(size=(3, n))
    goals = data.draw(GOALS)
    found = goodput(goals, ttft, tpot, e2e, rng.random(n) < 0.9, 1.0)
    assert all(found.met <= one.met <= found.n == n for one in found.each)

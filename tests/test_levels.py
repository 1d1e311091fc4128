"""Curves of the load: levels, areas and times by hand, and against numerical integration."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tputtui.load.levels import Bursts, Curve, Diurnal, Level, Ramp, Steps
from tputtui.load.workload import ClosedLoop, Poisson, Workload, scaled

DAY = Diurnal(((2.0, 1.0), (5.0, 3.0)), 8.0)


@pytest.mark.parametrize(
    ("level", "t", "value", "area"),
    [
        (8.0, 3.0, 8.0, 24.0),
        (Ramp(2, 6, 4), 0.0, 2.0, 0.0),
        (Ramp(2, 6, 4), 2.0, 4.0, 6.0),
        (Ramp(2, 6, 4), 10.0, 6.0, 16 + 36),
        (Ramp(1, 100, 2, "exponential"), 1.0, 10.0, 9 / math.log(10)),
        (Steps((1, 5, 2), 10), 10.0, 5.0, 10.0),
        (Steps((1, 5, 2), 10), 35.0, 2.0, 10 + 50 + 30),
        (Bursts(20, 5, 10, off=2), 4.0, 20.0, 80.0),
        (Bursts(20, 5, 10, off=2), 16.0, 20.0, 100 + 20 + 20),
        # From 3 at 5 s it falls for 5 s (over the period's end) to 1 at 10 s: 1.8 at 8 s.
        (DAY, 8.0, 1.8, (1.8 + 1) / 2 * 2 + 2 * 3 + (3 + 1.8) / 2 * 3),
    ],
)
def test_levels_and_areas_by_hand(level: Level, t: float, value: float, area: float) -> None:
    curve = Curve(level)
    assert curve.at(t) == pytest.approx(value)
    assert curve.area(t) == pytest.approx(area)


spans = st.floats(0.5, 30)


def levels_of(amounts: st.SearchStrategy[float]) -> st.SearchStrategy[Level]:
    return st.one_of(
        amounts,
        st.builds(Ramp, amounts, amounts, spans),
        st.builds(Ramp, st.floats(0.1, 50), st.floats(0.1, 50), spans, st.just("exponential")),
        st.builds(Steps, st.lists(amounts, min_size=1, max_size=5).map(tuple), spans),
        st.builds(Bursts, amounts, spans, spans, amounts),
        st.builds(
            lambda values, gap: Diurnal(
                tuple((i * gap, value) for i, value in enumerate(values)), gap * len(values)
            ),
            st.lists(amounts, min_size=2, max_size=5),
            spans,
        ),
    )


levels = levels_of(st.floats(0, 50))
# A rate of 10⁻²⁵⁰ a second is read and written like any other, but has no inverse to speak of.
tame = levels_of(st.just(0.0) | st.floats(0.1, 50))


@settings(max_examples=300, deadline=None)
@given(tame, st.floats(0.01, 120))
def test_the_area_is_the_integral_and_time_of_is_its_inverse(level: Level, end_s: float) -> None:
    curve = Curve(level)
    middles = (np.arange(2000) + 0.5) * end_s / 2000
    by_sums = sum(curve.at(t) for t in middles) * end_s / 2000
    # A jump costs the sum at most one of its columns, and a curve may have many.
    assert curve.area(end_s) == pytest.approx(by_sums, rel=0.02, abs=50 * end_s / 500)
    area = curve.area(end_s)
    if area > 1e-6:
        back = curve.time_of(area)
        assert back <= end_s + 1e-6
        assert curve.area(back) == pytest.approx(area, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("level", "wanted", "after", "at"),
    [
        (Ramp(2, 6, 4), 4, 0.0, 2.0),
        (Ramp(2, 6, 4), 7, 0.0, math.inf),
        (Ramp(6, 2, 4), 5, 0.0, 0.0),
        (Ramp(1, 100, 2, "exponential"), 10, 0.0, 1.0),
        (Steps((1, 5, 2), 10), 3, 0.0, 10.0),
        (Steps((1, 5, 2), 10), 3, 20.0, math.inf),
        (Bursts(20, 5, 10, off=2), 3, 6.0, 15.0),
        (8.0, 9, 0.0, math.inf),
    ],
)
def test_when_a_level_is_reached(level: Level, wanted: int, after: float, at: float) -> None:
    assert Curve(level).reaches(wanted, after) == pytest.approx(at)


def test_since_when_a_level_holds() -> None:
    assert Curve(Steps((1, 5), 10)).since(14.0) == 10.0
    assert Curve(Ramp(1, 5, 10)).since(4.0) == 4.0
    assert Curve(Ramp(1, 5, 10)).since(40.0) == 10.0
    assert Curve(Bursts(5, 1, 1)).since(40.0) == 0.0


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        ({"kind": "ramp", "start": 0, "end": 5, "over_s": 3, "curve": "exponential"}, "above 0"),
        ({"kind": "diurnal", "points": [[0, 1], [0, 2]], "period_s": 9}, "order of time"),
        ({"kind": "diurnal", "points": [[0, 1], [9, 2]], "period_s": 9}, "before the period"),
        ({"kind": "steps", "values": [], "each_s": 9}, "length >= 1"),
        ({"kind": "bursts", "on": 5, "on_s": 0, "off_s": 1}, "> 0"),
    ],
)
def test_curves_that_cannot_be_are_refused(raw: dict[str, object], says: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=says):
        msgspec.convert({"kind": "poisson", "rate": raw}, Poisson)


def test_scaling_scales_a_curve_as_a_whole() -> None:
    load = Workload(Poisson(Ramp(4, 8, 10)), pairs=((1, 1, 1),))
    assert scaled(load, 1).arrivals == Poisson(Ramp(5, 10, 10))
    places = Workload(ClosedLoop(Steps((1, 4), 10)), pairs=((1, 1, 1),))
    assert scaled(places, 1).arrivals == ClosedLoop(Steps((2, 5), 10))
    assert scaled(msgspec.structs.replace(load, arrivals=ClosedLoop(1)), -1).arrivals == ClosedLoop(
        1
    )

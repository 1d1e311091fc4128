"""The tuner's predictions: what they propose, what they believe, and when they are given up."""

from __future__ import annotations

import math

import pytest

from tputtui.experiments.tuner.physics import Physics, Question
from tputtui.experiments.tuner.proposers import search_of
from tputtui.experiments.tuner.search import Search, Seen
from tputtui.experiments.tuner.space import Dimension, Point, Space, levels_around
from tputtui.predict.forecast import Forecast
from tputtui.predict.forecast import Seen as At

SEQS, TOKENS = (4, 8, 16, 32, 64, 128, 256), (256, 512, 1024, 2048)
SPACE = Space(
    (Dimension("max_num_seqs", SEQS), Dimension("max_num_batched_tokens", TOKENS)), (6, 3)
)


def gives(point: Point) -> float:
    """What a setting gives: most at 32 sequences."""
    return 50 - 4 * abs(point[0] - 3) - 0.5 * (3 - point[1])


def forecast_of(value: float, miss: float = -1.0) -> Forecast:
    none = At(math.nan, math.nan)
    return Forecast(value, miss, value, value, none, none, beyond=False, error=0.01)


def seen_of(value: float, miss: float = -1.0) -> Seen:
    return Seen(value, 0.02, miss, miss > 0.05, 20.0, 400)


def physics_of(search: Search) -> Physics:
    assert isinstance(search.judge, Physics)
    return search.judge


def foreseen(space: Space = SPACE, off: float = 1.0) -> Search:
    """A search with forecasts of every point at every level; `off` times too high."""
    search = search_of("physics", space, 1)
    physics_of(search).take(
        {
            Question(point, level): forecast_of(off * gives(point))
            for point in space
            for level in range(len(space.levels))
        }
    )
    return search


def run(search: Search, factor: float = 1.0, most: int = 40) -> list[Point]:
    """Trials until the search is over: settings give `factor` times what they should."""
    asked: list[Point] = []
    while (ask := search.ask()) is not None:
        assert len(asked) < most
        asked.append(ask.point)
        search.tell(ask.point, ask.level, seen_of(factor * gives(ask.point)))
    return asked


def test_the_start_is_measured_then_what_is_predicted_best_and_hardly_more() -> None:
    search = foreseen()
    asked = run(search)
    assert asked[0] == SPACE.start
    assert asked[1] == (3, 3)
    assert len(set(asked)) == 3
    assert search.best == ((3, 3), 0)
    assert search.over == "No other setting is predicted to be better."


def test_an_error_that_all_predictions_share_does_no_harm() -> None:
    search = foreseen(off=1.2)
    assert len(set(run(search))) == 3
    assert search.best == ((3, 3), 0)


def test_without_forecasts_it_searches_as_the_model_does() -> None:
    physics, model = search_of("physics", SPACE, 3), search_of("model", SPACE, 3)
    assert run(physics) == run(model)


def test_predictions_that_fail_twice_in_a_row_are_given_up() -> None:
    search = search_of("physics", SPACE, 1)
    physics = physics_of(search)
    # It is predicted that more sequences are always better; in truth 32 are best by far.
    physics.take({Question(p, 0): forecast_of(10.0 * 2 ** p[0]) for p in SPACE})
    asked = run(search)
    assert physics.failed
    assert not physics.works
    assert len(set(asked)) > 8
    assert search.best is not None
    assert gives(search.best[0]) >= 0.95 * 50


def test_a_setting_that_is_predicted_to_miss_the_goals_is_not_tried() -> None:
    search = search_of("physics", SPACE, 1)
    physics = physics_of(search)

    def miss(point: Point) -> float:
        return 0.3 * (point[0] - 2.5)

    physics.take({Question(p, 0): forecast_of(10.0 + p[0], miss(p)) for p in SPACE})
    asked = []
    while (ask := search.ask()) is not None:
        asked.append(ask.point)
        search.tell(ask.point, 0, seen_of(10.0 + ask.point[0], miss(ask.point)))
    assert [point[0] for point in asked[1:]] == [2] * (len(asked) - 1)
    assert search.best is not None
    assert search.best[0][0] == 2


def test_where_no_setting_is_predicted_to_meet_the_goals_it_ends_soon_with_the_closest() -> None:
    search = search_of("physics", SPACE, 1)
    physics_of(search).take({Question(p, 0): forecast_of(1.0, 1.0 + 0.1 * p[0]) for p in SPACE})
    asked = []
    while (ask := search.ask()) is not None:
        asked.append(ask.point)
        search.tell(ask.point, 0, seen_of(0.0, 1.0 + 0.1 * ask.point[0]))
    assert len(asked) <= 5
    assert search.best is not None
    assert search.best[0][0] == 0


def test_what_is_believed_lies_between_prediction_and_measurement() -> None:
    search = foreseen()
    physics = physics_of(search)
    for point, factor in (((6, 3), 1.0), ((3, 3), 1.0), ((3, 2), 0.94)):
        search.tell(point, 0, seen_of(factor * gives(point)))
    believed = search.believed((3, 2), 0)
    assert 0.94 * gives((3, 2)) < believed.value < gives((3, 2))
    assert search.best == ((3, 3), 0)
    assert physics.forecast((3, 3), 0) is not None


def test_a_searched_load_takes_first_what_is_predicted_to_carry_it() -> None:
    levels, at = levels_around(20.0, whole=False)
    space = Space(SPACE.axes, SPACE.start, levels, at, capped=True)
    search = search_of("physics", space, 1)
    physics = physics_of(search)
    asked: list[Point] = []
    while (ask := search.ask()) is not None:
        assert len(asked) < 60
        asked.append(ask.point)
        questions = physics.questions(search.best, [Question(ask.point, ask.level)])
        physics.take(
            {
                q: forecast_of(levels[q.level], math.log(levels[q.level] / gives(q.point)))
                for q in questions
            }
        )
        miss = math.log(levels[ask.level] / gives(ask.point))
        search.tell(ask.point, ask.level, seen_of(levels[ask.level], miss))
    tried = list(dict.fromkeys(asked))
    assert tried[:2] == [space.start, (3, 3)]
    assert len(tried) <= 6
    assert search.best is not None
    assert levels[search.best[1]] == pytest.approx(50, rel=0.06)


def clearly(point: Point) -> float:
    """What a setting gives where the best one is 8 % better than any other."""
    return 50 - 4 * abs(point[0] - 3) - 4 * (3 - point[1])


def tried(first: Seen) -> tuple[list[tuple[Point, bool]], Point]:
    """The trials of a search, (point, again), and its best; `first`: of the truly best setting."""
    search = search_of("physics", SPACE, 1)
    # The best lies near its goal, as the best settings do.
    near: dict[Point, float] = {(3, 3): -0.06}
    physics_of(search).take(
        {Question(p, 0): forecast_of(clearly(p), near.get(p, -1.0)) for p in SPACE}
    )
    asked: list[tuple[Point, bool]] = []
    while (ask := search.ask()) is not None:
        assert len(asked) < 40
        asked.append((ask.point, ask.again))
        lucky = ask.point == (3, 3) and not ask.again
        later = seen_of(clearly(ask.point), near.get(ask.point, -1.0))
        search.tell(ask.point, 0, first if lucky else later)
    assert search.best is not None
    return asked, search.best[0]


def test_a_best_setting_that_had_bad_luck_is_measured_again() -> None:
    # 10 % below what is predicted of it, and just over a goal: chance may explain both.
    asked, best = tried(seen_of(0.9 * 50, miss=0.03))
    assert asked.count(((3, 3), True)) == 1
    assert best == (3, 3)
    # A goal that is surely missed: there is nothing to find out.
    asked, best = tried(seen_of(0.9 * 50, miss=0.3))
    assert ((3, 3), True) not in asked
    assert best != (3, 3)


def test_nothing_is_measured_again_where_trials_are_as_they_were_predicted() -> None:
    asked, best = tried(seen_of(50, miss=-0.06))
    assert not any(again for _, again in asked)
    assert best == (3, 3)

"""The tuner's search, without an engine: it finds what is known to be best, and ends."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tputtui.engine.fake import FakeEngine
from tputtui.errors import TputError, UsageError
from tputtui.experiments.tuner.proposers import SEARCHES, search_of
from tputtui.experiments.tuner.search import Ask, Search, Seen
from tputtui.experiments.tuner.space import (
    Dimension,
    Point,
    Space,
    describe_axes,
    levels_around,
    parse_axes,
    usual_axes,
)

BOOTED, CEILINGS = FakeEngine.BOOTED, FakeEngine.CEILINGS
SEQS = (4, 8, 16, 32, 64, 128, 256)
TOKENS = (128, 256, 512, 1024, 2048)
GRID = Space((Dimension("max_num_seqs", SEQS), Dimension("max_num_batched_tokens", TOKENS)), (6, 4))


class World:
    """Capacity and latency as an engine's limits make them, with noise of `noise` a 10 s trial."""

    def __init__(self, seed: int = 0, noise: float = 0.03, limit: float = 1.0) -> None:
        self.random = random.Random(seed)
        self.noise, self.limit = noise, limit
        self.best_seqs = self.random.choice(SEQS[2:])
        self.best_tokens = self.random.choice(TOKENS[1:])
        self.slow = self.random.uniform(0.05, 0.2)

    def value(self, space: Space, point: tuple[int, ...]) -> float:
        values = space.values(point)
        away = math.log2(values["max_num_seqs"] / self.best_seqs)
        off = math.log2(values["max_num_batched_tokens"] / self.best_tokens)
        return 50 * math.exp(-self.slow * (away**2 + off**2))

    def miss(self, space: Space, point: tuple[int, ...], level: int) -> float:
        """Latency rises with the load on a setting of that capacity."""
        rho = space.levels[level] / self.value(space, point)
        return math.log(max(0.2, rho) / self.limit)

    def seen(self, space: Space, ask: Ask, length_s: float) -> Seen:
        noise = self.noise * math.sqrt(10 / length_s)
        value = self.value(space, ask.point)
        miss = -1.0
        if len(space.levels) > 1:
            miss = self.miss(space, ask.point, ask.level)
            value = min(value, space.levels[ask.level])
        value *= math.exp(self.random.gauss(0, noise))
        miss += self.random.gauss(0, noise)
        return Seen(value, noise, miss, miss > 2 * noise, length_s, int(20 * length_s))


def run(
    search: Search, space: Space, world: World, most: int = 400
) -> list[tuple[Ask, str, float]]:
    """Every trial, as (ask, what ended it, seconds); the search is over."""
    trials: list[tuple[Ask, str, float]] = []
    while (ask := search.ask()) is not None:
        assert len(trials) < most, "it does not end"
        assert search.ask() == ask
        length_s = 0.0
        while True:
            length_s += 1.0
            seen = world.seen(space, ask, length_s)
            if why := search.enough(ask, seen):
                break
        search.tell(ask.point, ask.level, seen)
        trials.append((ask, why, length_s))
    assert search.over
    return trials


class TestSpace:
    def test_what_is_varied_when_nothing_is_said(self) -> None:
        seqs, tokens = usual_axes(BOOTED, CEILINGS)
        assert seqs == Dimension("max_num_seqs", (4, 8, 16, 32, 64, 128, 256))
        assert tokens == Dimension("max_num_batched_tokens", (128, 256, 512, 1024, 2048))

    def test_more_sequences_than_requests_are_not_tried(self) -> None:
        seqs, _ = usual_axes(BOOTED.with_value("max_num_seqs", 64), CEILINGS, 24)
        assert seqs.values == (4, 8, 16, 32, 64)

    @pytest.mark.parametrize(
        ("text", "values"),
        [
            ("max_num_seqs=16..100", {"max_num_seqs": (16, 32, 64, 100, 256)}),
            ("max-num-seqs=16,64", {"max_num_seqs": (16, 64, 256)}),
            ("scheduling_policy", {"scheduling_policy": (0, 1)}),
            ("scheduling_policy=priority", {"scheduling_policy": (0, 1)}),
            (
                "max_num_seqs=8, 16 ,max_num_batched_tokens=1K..2K",
                {"max_num_seqs": (8, 16, 256), "max_num_batched_tokens": (1024, 2048)},
            ),
            ("watermark_blocks=0,16", {"watermark_blocks": (0, 16)}),
        ],
    )
    def test_axes_as_typed_with_the_present_value(
        self, text: str, values: dict[str, tuple[int, ...]]
    ) -> None:
        axes = parse_axes(text, BOOTED, CEILINGS)
        assert {axis.name: axis.values for axis in axes} == values
        assert parse_axes(describe_axes(axes), BOOTED, CEILINGS) == axes

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "nothing to vary"),
            ("max_num_seq", "There is no limit called 'max_num_seq'"),
            ("max_num_seqs=0", "too low"),
            ("max_num_seqs=512", "above its ceiling"),
            ("max_num_seqs=64..16", "no range upwards"),
            ("max_num_seqs=4,max_num_seqs=8", "there twice"),
            ("max_num_seqs=many", "'many' is not a whole number"),
        ],
    )
    def test_what_cannot_be_read_is_a_sentence(self, text: str, says: str) -> None:
        with pytest.raises(TputError, match=says):
            parse_axes(text, BOOTED, CEILINGS)

    def test_no_fewer_blocks_are_tried_than_one_request_needs(self) -> None:
        """It would wait for ever."""

        def floor(name: str) -> int:
            return 65 if name == "num_gpu_blocks" else 0

        (blocks,) = parse_axes("num_gpu_blocks", BOOTED, CEILINGS, floor)
        assert blocks.values[0] >= 65
        assert blocks.values[-1] == BOOTED.num_gpu_blocks
        with pytest.raises(TputError, match="too low"):
            parse_axes("num_gpu_blocks=32,512", BOOTED, CEILINGS, floor)

    def test_a_step_has_room_for_every_sequence(self) -> None:
        """vLLM does not boot with fewer batched tokens than sequences."""
        assert all(GRID.values(p)["max_num_batched_tokens"] >= GRID.values(p)["max_num_seqs"]
                   for p in GRID)  # fmt: skip
        assert len(GRID) == 7 * 5 - 1

    @pytest.mark.parametrize(("level", "whole"), [(96.0, True), (8.0, False), (1.0, True)])
    def test_levels_are_ascending_and_hold_the_present_one(self, level: float, whole: bool) -> None:
        levels, at = levels_around(level, whole=whole)
        assert levels[at] == level
        assert list(levels) == sorted(set(levels))
        assert not whole or all(value == int(value) >= 1 for value in levels)


class TestProposals:
    def test_a_grid_is_every_setting_in_order_each_measured_whole(self) -> None:
        search = search_of("grid", GRID, 0)
        trials = run(search, GRID, World())
        points = [ask.point for ask, _, _ in trials]
        assert points[0] == GRID.start
        assert points[1:] == [point for point in GRID if point != GRID.start]
        assert {(why, seconds) for _, why, seconds in trials} == {("measured", 20.0)}
        assert search.over == "Every setting was tried."

    def test_at_random_is_every_setting_by_its_seed(self) -> None:
        def points(seed: int) -> list[tuple[int, ...]]:
            trials = run(search_of("random", GRID, seed), GRID, World())
            return [ask.point for ask, _, _ in trials]

        assert sorted(points(1)) == sorted(GRID)
        assert points(1) == points(1) != points(2)

    def test_an_unknown_search_and_a_missing_library_are_sentences(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with pytest.raises(UsageError, match="no search called 'modle'"):
            search_of("modle", GRID, 0)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UsageError, match="Optuna") as raised:
            search_of("model", GRID, 0)
        assert "--search physics" in raised.value.hint
        assert search_of("random", GRID, 0).ask() is not None


class TestRacing:
    @pytest.mark.parametrize("noise", [0.01, 0.05])
    def test_what_it_settles_on_is_hardly_ever_worse_by_more_than_five_percent(
        self, noise: float
    ) -> None:
        regrets, trials = [], []
        for seed in range(20):
            world, search = World(seed, noise), search_of("model", GRID, seed)
            trials.append(len(run(search, GRID, world)))
            best = max(world.value(GRID, point) for point in GRID)
            regrets.append(1 - world.value(GRID, search.best[0]) / best)
        assert sum(regret <= 0.05 for regret in regrets) >= 18
        assert sorted(trials)[10] <= 30

    def test_a_trial_ends_when_it_surely_misses_a_goal_or_is_surely_below_the_best(self) -> None:
        search = search_of("model", GRID, 0)
        first = search.ask()
        assert search.enough(first, Seen(40, 0.01, -1, False, 4.0, 500)) == ""
        assert search.enough(first, Seen(40, 0.01, -1, False, 10.0, 500)) == ""
        assert (
            search.enough(first, Seen(40, 0.01, 0.3, True, 5.0, 50)) == "stopped early: goal missed"
        )
        assert search.enough(first, Seen(40, 0.01, -1, False, 20.0, 500)) == "measured"
        search.tell(first.point, first.level, Seen(40, 0.01, -1, False, 20.0, 500))
        second = search.ask()
        assert (
            search.enough(second, Seen(30, 0.02, -1, False, 5.0, 60))
            == "stopped early: below the best"
        )
        assert search.enough(second, Seen(39, 0.02, -1, False, 5.0, 60)) == ""
        # It misses a goal, but not surely: it may meet it yet.
        assert search.enough(second, Seen(41, 0.02, 0.2, False, 10.0, 60)) == ""
        assert search.enough(second, Seen(39, 0.02, 0.2, False, 10.0, 60)) == "measured"
        assert search.enough(second, Seen(41, 0.02, -0.1, False, 10.0, 60)) == ""

    def test_where_hardly_anything_ends_a_minute_says_so(self) -> None:
        search = search_of("model", GRID, 0)
        ask = search.ask()
        assert search.enough(ask, Seen(0.1, 1.0, -1, False, 30.0, 3)) == ""
        assert search.enough(ask, Seen(0.1, 1.0, -1, False, 60.0, 3)) == "too few requests ended"

    def test_the_best_is_measured_again_in_between_and_the_last_ones_played_off(self) -> None:
        search = search_of("model", GRID, 3)
        trials = run(search, GRID, World(3, 0.05))
        again = [i for i, (ask, _, _) in enumerate(trials) if ask.again]
        assert again[0] <= 7
        final = [ask for ask, _, _ in trials[-2:]]
        assert all(ask.again for ask in final)
        assert search.pooled(*search.best).length_s >= 30

    def test_a_rival_by_prediction_is_measured_again_though_it_was_stopped(self) -> None:
        unlucky = (4, 4)

        class Foreseen:
            settled = ""

            def told(self, point: Point, level: int, seen: Seen) -> None:
                pass

            def believed(self, point: Point, level: int, pooled: Seen) -> Seen:
                return pooled

            def rivals(self, point: Point, best: Point) -> bool:
                return point == unlucky

        class Once:
            def propose(self, best: Point) -> Point | None:
                return None if (unlucky, 0) in search._trials else unlucky

            def learn(self, point: Point, value: float, miss: float) -> None:
                pass

        search = Search(GRID, Once(), racing=True, judge=Foreseen())
        search.tell(GRID.start, 0, Seen(30.0, 0.02, -0.3, False, 20.0, 600))
        # A stall at its beginning, and it was over.
        search.tell(unlucky, 0, Seen(22.0, 0.1, 0.2, True, 5.2, 110))
        assert search.ask() == Ask(unlucky, 0, again=True)
        search.tell(unlucky, 0, Seen(36.0, 0.02, -0.1, False, 20.0, 720))
        assert search.best == (unlucky, 0)

    def test_goals_that_cannot_be_met_end_it_too_with_the_closest_miss(self) -> None:
        search, n = search_of("model", GRID, 0), 0
        while (ask := search.ask()) is not None:
            miss = 0.5 + sum(abs(i - 3) for i in ask.point) / 10
            search.tell(ask.point, ask.level, Seen(1.0, 0.1, miss, True, 5.0, 50))
            n += 1
        assert n <= 34
        assert not search.pooled(*search.best).holds
        assert search.pooled(*search.best).miss <= 0.6

    def test_what_was_told_before_is_not_asked_again(self) -> None:
        world = World(5)
        whole = search_of("model", GRID, 5)
        told: list[tuple[Ask, Seen]] = []
        for _ in range(8):
            ask = whole.ask()
            told.append((ask, world.seen(GRID, ask, 20.0)))
            whole.tell(ask.point, ask.level, told[-1][1])
        resumed = search_of("model", GRID, 5)
        for ask, seen in told:
            resumed.tell(ask.point, ask.level, seen)
        known = {ask.point for ask, _ in told}
        assert resumed.best == whole.best
        rest = run(resumed, GRID, world)
        assert all(ask.again or ask.point not in known for ask, _, _ in rest)


class TestLoad:
    def space(self, level: float = 20.0, *, capped: bool = True) -> Space:
        levels, at = levels_around(level, whole=not capped)
        return Space(GRID.axes, GRID.start, levels, at, capped)

    @pytest.mark.parametrize("start", [4.0, 20.0, 60.0])
    def test_it_finds_the_most_that_any_setting_holds(self, start: float) -> None:
        """Without noise: to the level below the one that no setting holds, 5 % apart."""
        space, world = self.space(start), World(2, noise=1e-6)
        search = search_of("model", space, 2)
        trials = run(search, space, world)
        point, level = search.best
        most = max(world.value(space, p) for p in space)
        assert world.value(space, point) >= 0.95 * most
        assert 0.95 * most / 1.051 <= space.levels[level] <= most
        assert len(trials) <= 60

    def test_a_setting_that_fails_just_above_the_best_is_done_with(self) -> None:
        space, world = self.space(), World(2, noise=1e-6)
        trials = run(search_of("model", space, 2), space, world)
        per_point: dict[tuple[int, ...], list[int]] = {}
        for ask, _, _ in trials:
            if not ask.again:
                per_point.setdefault(ask.point, []).append(ask.level)
        single = [levels for levels in per_point.values() if len(levels) == 1]
        assert len(single) >= len(per_point) / 2

    def test_a_start_that_nothing_holds_is_stepped_down_from(self) -> None:
        space, world = self.space(60.0), World(2, noise=1e-6, limit=0.4)
        search = search_of("model", space, 2)
        run(search, space, world)
        assert search.pooled(*search.best).holds
        assert space.levels[search.best[1]] < 25

    def test_in_a_closed_loop_a_level_that_gives_no_more_is_not_gone_beyond(self) -> None:
        space = self.space(20.0, capped=False)
        search = search_of("grid", space, 0)
        asked = []
        while (ask := search.ask()) is not None and ask.point == space.start:
            asked.append(space.levels[ask.level])
            value = min(30.0, space.levels[ask.level])
            search.tell(ask.point, ask.level, Seen(value, 0.01, -1, False, 20.0, 500))
        assert max(asked) <= 400
        assert space.levels[search.best[1]] >= 29


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([name for name in SEARCHES]),
    seed=st.integers(0, 1000),
    load=st.booleans(),
    data=st.data(),
)
def test_whatever_is_told_it_asks_within_the_space_and_ends(
    name: str, seed: int, load: bool, data: st.DataObject
) -> None:
    axes = (Dimension("max_num_seqs", (4, 8, 16)), Dimension("max_num_batched_tokens", (8, 64)))
    levels, at = levels_around(8.0, whole=False) if load else ((math.nan,), 0)
    space = Space(axes, (2, 1), levels, at, capped=load and data.draw(st.booleans()))
    search = search_of(name, space, seed)
    told: list[tuple[tuple[int, ...], int]] = []
    while (ask := search.ask()) is not None:
        assert len(told) < 300
        assert isinstance(ask, Ask)
        assert space.boots(ask.point)
        assert 0 <= ask.level < len(levels)
        value = data.draw(st.floats(0, 100))
        miss = data.draw(st.sampled_from([-10.0, -0.1, 0.0, 0.1, 10.0]))
        seen = Seen(value, 0.1, miss, miss > 0.05, 20.0, 100)
        search.tell(ask.point, ask.level, seen)
        told.append((ask.point, ask.level))
    assert search.best in told
    assert search.rank(*search.best) == max(search.rank(*trial) for trial in told)
    assert search.pooled(*search.best).holds == any(search.pooled(*t).holds for t in told)
    with pytest.raises(KeyError):
        search.pooled((99, 99), 0)

"""The frontier as rows: a sign and a line for each setting, the goal's region, the cursor."""

from __future__ import annotations

import math
from dataclasses import replace

import msgspec
import pytest

from tests.made import frame_of, six_trials
from tests.screens import on_screen
from tests.test_frontier_screen import judged, shown, swept, text_of
from tests.test_screen import paint
from tputtui.frame import Frame
from tputtui.goals import parse_goals
from tputtui.measure.frontier import AXES_X, AXES_Y, Point
from tputtui.measure.stats import Quantiles
from tputtui.ui.panels.frontier import frontier, goal_on
from tputtui.ui.panels.plot import marks_of, plot
from tputtui.ui.screens.frontier import FrontierScreen

Y = AXES_Y[0]
TTFT = next(axis for axis in AXES_X if axis.key == "ttft_p90")


def point(label: str, seqs: int, level: float, tokens: float, ttft_s: float) -> Point:
    waits = Quantiles(500, ttft_s / 2, ttft_s, math.nan, 0.0, math.inf)
    return Point(
        label=label,
        knobs={"max_num_seqs": seqs},
        load=f"{level:g} in flight",
        level=level,
        tokens_per_s=tokens,
        requests_per_s=tokens / 50,
        latency={"ttft": waits},
        n=500,
        window_s=30.0,
    )


POINTS = (
    point("a", 64, 32, 900.0, 0.2),
    point("b", 64, 64, 1700.0, 0.5),
    point("c", 32, 64, 1200.0, 0.9),
    point("d", 32, 32, 800.0, 0.3),
)


def rows_of(points: tuple[Point, ...] = POINTS, **options: object) -> list[str]:
    rows = plot(points, points[:2], Y, TTFT, 78, 20, **options)  # type: ignore[arg-type]
    return ["".join(text for text, _ in row) for row in rows]


def with_goals(frame: Frame, text: str) -> Frame:
    return replace(frame, profile=msgspec.structs.replace(frame.profile, goals=parse_goals(text)))


def test_each_setting_of_the_limits_has_a_sign_and_a_line_of_its_own() -> None:
    marks = marks_of(POINTS)
    assert marks["a"] == marks["b"]
    assert marks["c"] == marks["d"]
    assert marks["a"][0] != marks["c"][0]
    text = "\n".join(rows_of())
    for label, (sign, _) in marks.items():
        assert f"{sign}{label}" in text
    styles = {
        style
        for row in plot(POINTS, POINTS[:2], Y, TTFT, 78, 20)
        for text, style in row
        if any("⠀" < char <= "⣿" for char in text)
    }
    assert styles == {marks["a"][1], marks["c"][1]}


def test_a_line_joins_loads_in_their_order_and_one_point_has_none() -> None:
    alone = "\n".join(rows_of(POINTS[:1]))
    assert not any("⠀" < char <= "⣿" for char in alone)


def test_the_axis_begins_with_nothing_and_ends_near_the_greatest_value() -> None:
    axis = rows_of()[-1]
    assert axis.split()[0] == "0"
    assert "µs" not in axis
    assert axis.rstrip().endswith("s")
    assert rows_of()[1].lstrip().startswith("2,000")


def test_the_region_within_the_goal_is_shaded_and_named() -> None:
    rows = rows_of(goal=0.5)
    assert rows[0].endswith("░ within the goal, left of ┊")
    edge = {row.index("┊") for row in rows[1:-1] if "┊" in row}
    assert len(edge) == 1
    assert all("░" not in row[edge.copy().pop() :] for row in rows[1:-1])
    assert any("░" in row for row in rows[1:-1])
    assert "░" not in "\n".join(rows_of())
    assert rows_of(goal=9.0)[0].endswith("within the goal, all of it")


def test_the_goal_of_an_axis_is_that_of_its_latency_and_percentile() -> None:
    frame = with_goals(frame_of(six_trials()), "ttft_p90=2s,ttft_p99=5s,tpot_p90=50ms")
    assert goal_on(frame, TTFT) == 2.0
    e2e = next(axis for axis in AXES_X if axis.key == "e2e_p90")
    assert math.isnan(goal_on(frame, e2e))


@pytest.mark.parametrize("chosen", ["a", "d", ""])
def test_the_cursor_is_seen_in_the_plot_and_in_the_table(chosen: str) -> None:
    frame = replace(frame_of(six_trials()), points=POINTS)
    text = ["".join(t for t, _ in row) for row in frontier(frame, Y, TTFT, 118, 30, chosen)]
    assert sum("◉" in line for line in text) == (1 if chosen else 0)
    marked = [line for line in text if line.startswith("▸")]
    assert [line.split()[1] for line in marked] == ([chosen] if chosen else [])


def test_the_chosen_row_is_in_sight_in_a_long_table() -> None:
    many = tuple(point(f"p{n}", 64, float(n + 1), 100.0 * n + 1, 0.1 * (n + 1)) for n in range(30))
    frame = replace(frame_of(six_trials()), points=many)
    for chosen in ("p0", "p15", "p29"):
        text = ["".join(t for t, _ in row) for row in frontier(frame, Y, TTFT, 78, 22, chosen)]
        assert any(line.startswith("▸") and f" {chosen} " in line for line in text)


async def test_up_and_down_pick_a_point_and_enter_puts_it_on() -> None:
    app = swept()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        screen = on_screen(app, FrontierScreen)
        points = app.session.latest.points
        assert "▸" not in text_of(app)
        await pilot.press("up")
        await paint(pilot)
        assert screen._chosen == points[-1].label
        await pilot.press("up")
        assert screen._chosen == points[-2].label
        await pilot.press("down", "down", "down")
        assert screen._chosen == points[-1].label
        assert "◉" in text_of(app)


async def test_with_a_goal_its_latency_is_the_axis_to_begin_with() -> None:
    app = judged()
    app.session.set_goals(parse_goals("tpot_p90=16ms"))
    app.rig.run(2.0)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        assert "generated tok/s against TPOT p90" in text_of(app)
        assert "within the goal" in text_of(app)

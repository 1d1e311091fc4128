"""Goals on the board, and the frontier screen: pictures at three sizes, and its keys."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Label

from tests import SnapCompare
from tests.rig import Rig
from tests.screens import on_screen
from tests.test_screen import RigApp, app_after, paint
from tputtui.goals import parse_goals
from tputtui.load.workload import ClosedLoop
from tputtui.ui.app import TputApp
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.frontier import FrontierScreen

SIZES = [(80, 24), (120, 40), (200, 50)]
GOALS = "ttft_p99=2s,tpot_p99=16ms,e2e_p90=3s"


def judged(seconds: int = 40) -> RigApp:
    """An app whose session has goals and a price and has been served for `seconds`."""
    app = app_after(seconds)
    session = app.session
    session._asked.profile = msgspec.structs.replace(session._asked.profile, price_per_hour=2.5)
    session.set_goals(parse_goals(GOALS))
    app.rig.run(2.0)
    return app


@functools.cache
def judged_rig() -> Rig:
    return judged().rig


@functools.cache
def swept_rig() -> Rig:
    app = judged()
    app.session.steer.experiments.sweep()
    app.rig.run(220.0)
    return app.rig


def swept() -> TputApp:
    """An app on a sweep that is over: looking at it changes nothing of it."""
    return TputApp(swept_rig().session, start=lambda: None)


async def shown(pilot: Pilot[Any]) -> None:
    await paint(pilot)
    await pilot.press("f")
    await paint(pilot)


def text_of(app: TputApp) -> str:
    canvas = app.screen.query_one("#frontier")
    return "\n".join(canvas.render_line(y).text for y in range(canvas.size.height))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_board_with_goals(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = TputApp(judged_rig().session, start=lambda: None)
    assert snap_compare(app, terminal_size=size, run_before=paint)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_frontier_after_a_sweep(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    assert snap_compare(swept(), terminal_size=size, run_before=shown)


async def test_axes_turn_points_clear_and_a_sweep_starts_and_stops() -> None:
    app = judged()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        on_screen(app, FrontierScreen)
        assert "generated tok/s against TTFT p99" in text_of(app)
        assert "●  a 64/2048/2048" in text_of(app)
        await pilot.press("y", "x")
        await paint(pilot)
        assert "requests req/s against TPOT p50" in text_of(app)
        await pilot.press("w")
        app.rig.run(2.0)
        await paint(pilot)
        assert "sweep: now 12 in flight, 0 levels done" in text_of(app)
        await pilot.press("w")
        await paint(pilot)
        assert "sweep over: 0 levels · Ended by the user." in text_of(app)
        assert app.session.workload.arrivals == ClosedLoop(96)
        await pilot.press("c")
        await paint(pilot)
        assert "●  a 64/2048/2048" not in text_of(app)
        await pilot.press("escape")
        assert app.screen is app._board


async def test_a_sweep_that_cannot_be_is_refused_with_a_reason() -> None:
    app = app_after(0)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("f", "w")
        await pilot.pause()
        assert any("engine is" in note.title for note in app._notifications)


async def test_goals_are_typed_judged_and_refused_in_a_sentence() -> None:
    app = app_after(40)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("o")
        on_screen(app, Dialog)
        app.screen.query_one(Input).value = "ttft=5"
        await pilot.press("enter")
        error = str(app.screen.query_one(".refused", Label).content)
        assert "names no percentile" in error
        app.screen.query_one(Input).value = "ttft_p50 ≤ 5s"
        await pilot.press("enter")
        assert app.session.goals == parse_goals("ttft_p50=5s")
        app.rig.run(1.5)
        await paint(pilot)
        latency = app._board._canvases["latency"]
        assert "TTFT✓" in latency.render_line(1).text
        assert "met" in latency.render_line(1).text

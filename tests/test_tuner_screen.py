"""The tuner's screen: the plan, the trials as they come, what came of it; and its keys."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from tests import SnapCompare
from tests.screens import on_screen
from tests.test_screen import RigApp, app_after
from tputtui.experiments.tuner.outcome import missed_text
from tputtui.experiments.tuner.plan import Plan
from tputtui.goals import parse_goals
from tputtui.load.workload import Poisson, Workload
from tputtui.record.journal import Journal
from tputtui.session.session import Session
from tputtui.text.format import rate
from tputtui.ui.app import TputApp
from tputtui.ui.panels.tuner import status_row, tuner_rows
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.tuner import TunerScreen

SIZES = [(80, 24), (120, 40), (200, 50)]
GOALS = "ttft_p90=3s,tpot_p90=13ms"
PLAN = Plan(vary="max_num_seqs=16,32,64")


def planned() -> RigApp:
    app = app_after(5)
    app.session.set_goals(parse_goals(GOALS))
    app._plan = PLAN
    return app


def under_way(seconds: int = 60) -> RigApp:
    app = planned()
    app.session.steer.experiments.tune(PLAN)
    app.rig.run(seconds)
    return app


def over() -> RigApp:
    app = under_way(0)
    while app.session.steer.experiments.under_way:
        app.rig.run(5.0)
    return app


async def paint(pilot: Pilot[Any]) -> None:
    """Let the app settle, then look once, at whatever screen there is."""
    await pilot.pause()
    getattr(pilot.app.screen, "tick", lambda: None)()
    await pilot.pause()


async def shown(pilot: Pilot[Any]) -> None:
    await paint(pilot)
    await pilot.press("t")
    await paint(pilot)


def text_of(app: TputApp) -> str:
    return "\n".join(
        canvas.render_line(y).text
        for canvas in (app.screen.query_one("#tuner-title"), app.screen.query_one("#tuner"))
        for y in range(canvas.size.height)
    )


def keys_of(app: TputApp) -> set[str]:
    return {bound.binding.description for bound in app.screen.active_bindings.values()
            if bound.binding.show}  # fmt: skip


@functools.cache
def session_of(state: Callable[[], TputApp]) -> Session:
    return state().session


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", [planned, under_way, over], ids=lambda state: state.__name__)
def test_the_tuner(
    snap_compare: SnapCompare, state: Callable[[], TputApp], size: tuple[int, int]
) -> None:
    # Looking at it changes nothing of it.
    app = TputApp(session_of(state), start=lambda: None)
    app._plan = PLAN
    assert snap_compare(app, terminal_size=size, run_before=shown)


@pytest.mark.parametrize(("simulated", "ended"), [("", False), ("SIMULATED", False), ("", True)])
async def test_what_was_found_is_taken_by_the_keys_that_hold(simulated: str, ended: bool) -> None:
    session = session_of(over)
    frame, host = session.latest, session.host
    assert frame.status.facts is not None
    assert frame.tuner is not None
    assert frame.tuner.offered
    facts = replace(frame.status.facts, simulated=simulated)
    shown = replace(frame, status=replace(frame.status, facts=facts))
    rows = tuner_rows(shown, 120, 38, over=ended)
    text = "".join(text for row in rows for text, _ in row)
    assert ("Enter takes it" in text) is not ended
    assert ("v takes and verifies it" in text) is not (ended or bool(simulated))
    before = host.status
    host.status = replace(before, facts=facts)
    try:
        session.advance()
        screen = TunerScreen(session, None if ended else PLAN)
        screen._state = frame.tuner
        assert screen.check_action("verify", ()) is not (ended or bool(simulated))
    finally:
        host.status = before
        session.advance()


@pytest.mark.parametrize("best", [1, 2])
def test_no_other_point_hides_the_best(best: int) -> None:
    frame = session_of(over).latest
    state = frame.tuner
    assert state is not None
    first = replace(state.trials[0], point=replace(state.trials[0].point, label="X"))
    second = replace(first, number=2, point=replace(first.point, label="Y"))
    alike = replace(state, trials=(first, second), best=best)
    rows = tuner_rows(replace(frame, tuner=alike), 120, 38)
    plotted = "".join(text for row in rows[:20] for text, _ in row)
    assert ("X" in plotted, "Y" in plotted) == (best == 1, best == 2)


def test_a_prediction_stands_beside_what_was_measured() -> None:
    frame = session_of(over).latest
    state = frame.tuner
    assert state is not None
    told = [trial for trial in state.trials if not math.isnan(trial.predicted)]
    assert len(told) >= len(state.trials) - 1
    text = "\n".join("".join(text for text, _ in row) for row in tuner_rows(frame, 118, 38))
    assert "predicted" in text
    # Nothing of it is clipped: each line ends with why the trial ended.
    for trial in state.trials:
        assert trial.why in text


@pytest.mark.parametrize("width", [80, 120])
def test_the_time_left_is_never_pushed_out(width: int) -> None:
    frame = session_of(under_way).latest
    state = frame.tuner
    assert state is not None
    named = "trial 12, again: max_num_seqs 32, max_num_batched_tokens 2048, 33.2 req/s predicted · "
    long = replace(frame, tuner=replace(state, note=named + "warming up, 12 of 96 requests"))
    text = "".join(text for text, _ in status_row(long, None, width))
    assert "trial 12, again: max_num_seqs 32" in text
    assert text.rstrip().endswith(" left")
    assert len(text) <= width


async def test_a_plan_is_changed_refused_and_started() -> None:
    app = planned()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        on_screen(app, TunerScreen)
        assert "max_num_seqs=16,32,64" in text_of(app)
        assert "(3 settings)" in text_of(app)
        assert keys_of(app) >= {"start", "find", "vary", "boots", "search", "budget", "goals"}
        assert "stop, keep the best" not in keys_of(app)
        await pilot.press("f", "m", "m")
        assert "the most load that meets the goals" in text_of(app)
        assert "random: " in text_of(app)
        await pilot.press("f", "m", "m")
        await pilot.press("b")
        app.screen.query_one(Input).value = "soon"
        await pilot.press("enter")
        on_screen(app, Dialog)
        app.screen.query_one(Input).value = "5"
        await pilot.press("enter")
        await pilot.press("y")
        app.screen.query_one(Input).value = "max_num_seqs=512"
        await pilot.press("enter")
        on_screen(app, Dialog)
        app.screen.query_one(Input).value = "max_num_seqs=32..64"
        await pilot.press("enter")
        await pilot.press("o")
        on_screen(app, Dialog)
        await pilot.press("escape")
        await paint(pilot)
        assert "5 min" in text_of(app)
        assert "(2 settings)" in text_of(app)
        await pilot.press("enter")
        app.rig.run(1.0)
        await paint(pilot)
        assert app.session.steer.experiments.under_way == "the tuner"
        assert "searching trial 1" in text_of(app)
        assert "stop, keep the best" in keys_of(app)
        assert "start" not in keys_of(app)
        # Back and again: it goes on, and the plan is as it was left.
        await pilot.press("escape", "t")
        await paint(pilot)
        assert "searching trial 1" in text_of(app)
        assert app._plan.budget_s == 300


@pytest.mark.parametrize(
    "size", [SIZES[0], *(pytest.param(each, marks=pytest.mark.long) for each in SIZES[1:])]
)
async def test_without_goals_it_plots_tokens(size: tuple[int, int]) -> None:
    app = planned()
    app.session.set_goals(())
    app.session.steer.experiments.tune(PLAN)
    app.rig.run(45)
    async with app.run_test(size=size) as pilot:
        await shown(pilot)
        assert "generated tok/s against E2E p90" in text_of(app)
        assert "tokens/s" in text_of(app)
        assert "met" not in text_of(app)


async def test_the_board_tells_of_it() -> None:
    app = under_way(45)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        canvas = app.screen.query_one("#changes")
        text = "\n".join(canvas.render_line(y).text for y in range(canvas.size.height))
        assert "tuner  confirming pair 1 of at most" in text
        assert "best of 3 trials: max_num_seqs 32, meets the goals (t shows all)" in text


async def test_it_is_stopped_and_confirmed_and_stopped_again() -> None:
    app = under_way(37)
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await pilot.press("x")
        app.rig.run(1.0)
        await paint(pilot)
        assert "confirming" in text_of(app)
        await pilot.press("x")
        app.rig.run(1.0)
        await paint(pilot)
        assert "was not compared with the start" in " ".join(text_of(app).split())
        await pilot.press("r")
        await paint(pilot)
        assert "Enter starts." in text_of(app)


async def test_what_was_found_is_taken_with_one_key_and_undone_with_one() -> None:
    app = over()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        assert "Enter takes it" in text_of(app)
        assert keys_of(app) >= {"take it", "take and verify", "leave it"}
        await pilot.press("enter")
        app.rig.run(0.5)
        await paint(pilot)
        assert not isinstance(app.screen, TunerScreen)
        assert app.session.advance().asked.max_num_seqs == 32
        await pilot.press("u")
        assert app.session.advance().asked.max_num_seqs == 64


async def test_it_is_left_or_verified() -> None:
    app = over()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await pilot.press("r")
        await paint(pilot)
        assert "Enter starts." in text_of(app)
        assert app.session.advance().asked.max_num_seqs == 64
        await pilot.press("escape", "t")
        await paint(pilot)
        await pilot.press("v")
        await paint(pilot)
        assert "verify boot" in str(app.screen.query_one(".title").render())
        assert app.session.advance().asked.max_num_seqs == 32


async def test_before_an_engine_is_up_it_says_so() -> None:
    app = app_after(0)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        assert "the tuner needs it up" in text_of(app)
        await pilot.press("enter")
        await paint(pilot)
        assert app.session.steer.experiments.under_way == ""


async def test_it_goes_on_with_the_trials_of_a_run_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    before = planned()
    session = before.session
    log = tmp_path / "tputtui/sessions/20260101-000000-1.jsonl.zst"
    log.parent.mkdir(parents=True)
    journal = Journal(log, session.recorder, session._observer._started_s)
    session.watch(journal.see)
    session.steer.experiments.tune(PLAN)
    while len(session.advance().tuner.trials) < 2:
        before.rig.run(1.0)
    journal.write_new()
    app = planned()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await pilot.press("g")
        for _ in range(20):
            await pilot.pause(0.05)
            if app.session.steer.experiments.under_way:
                break
        await paint(pilot)
        assert "searching trial 3" in text_of(app)
        assert [t.number for t in app.session.advance().tuner.trials] == [1, 2]


async def test_without_any_run_before_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    app = planned()
    async with app.run_test(size=(120, 40)) as pilot:
        await shown(pilot)
        await pilot.press("g")
        await pilot.pause(0.2)
        assert any("no trials of the tuner" in note.title for note in app._notifications)


async def test_the_load_is_searched_on_it_too() -> None:
    app = app_after(5, load=Workload(Poisson(12.0), pairs=((60, 16, 0.5), (120, 24, 0.5))))
    app.session.set_goals(parse_goals("ttft_p90=300ms,tpot_p90=10ms"))
    app.session.steer.experiments.tune(Plan(load=True, vary="max_num_seqs=8,64"))
    app.rig.run(90.0)
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        assert "14.6/s" in text_of(app)
        assert all(len(line) <= 80 for line in text_of(app).splitlines())


async def test_the_arrows_go_through_the_plan_and_change_it() -> None:
    app = planned()
    async with app.run_test(size=(80, 24)) as pilot:
        await shown(pilot)
        screen = on_screen(app, TunerScreen)
        assert "▸o goals" in text_of(app)
        await pilot.press("down", "right")
        await pilot.pause()
        assert "▸f find      the most load that meets the goals" in text_of(app)
        await pilot.press("left", "up", "up")
        await pilot.pause()
        assert "▸b budget    10 min" in text_of(app)
        await pilot.press("right", "right")
        await pilot.pause()
        assert "▸b budget    20 min" in text_of(app)
        for _ in range(6):
            await pilot.press("left")
        await pilot.pause()
        # The shortest that can be carried out at all; shorter ones can be typed.
        assert "▸b budget    2 min" in text_of(app)
        await pilot.press("up", "left")
        await pilot.pause()
        assert "▸m search    grid" in text_of(app)
        await pilot.press("right")
        await pilot.pause()
        assert "▸m search    physics" in text_of(app)
        for label in ("boots", "vary", "goals"):
            await pilot.press("up")
            while screen._picked != label:
                await pilot.press("up")
            await pilot.press("right")
            on_screen(app, Dialog)
            await pilot.press("escape")
        assert on_screen(app, TunerScreen) is screen
        assert "↑↓ pick a line, ←→ change it" in text_of(app)


@pytest.mark.parametrize("width", [78, 80, 100, 118, 120, 160, 198])
@pytest.mark.parametrize("knobs", [2, 4])
def test_no_column_is_cut_while_there_is_room(width: int, knobs: int) -> None:
    frame = session_of(over).latest
    state = frame.tuner
    assert state is not None
    values = {"max_num_seqs": 64, "max_num_batched_tokens": 2048,
              "long_prefill_token_threshold": 512, "scheduling_policy": 1}  # fmt: skip
    varied = dict(list(values.items())[:knobs])
    trials = tuple(replace(trial, knobs=varied) for trial in state.trials)
    rows = tuner_rows(replace(frame, tuner=replace(state, trials=trials)), width, 18)
    texts = ["".join(text for text, _ in row) for row in rows[:4]]
    assert all(len(text) <= width for text in texts)
    head, *lines = texts
    for trial, line in zip(trials, lines, strict=True):
        # Each figure whole, and under its own head.
        assert missed_text(trial, state.of.judged if state.of else ()) in line
        if knobs == 2:
            assert "64/2048" in line
            assert rate(trial.predicted, 0) in line or trial.predicted == 0
            assert "predicted" in head
        elif width >= 160:
            assert "64/2048, long_prefill_token_threshold 512, scheduling_policy priority" in line
        assert (trial.why in line) == ("ended" in head)

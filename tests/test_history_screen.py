"""The table of settings tried: pictures at three sizes, and what each key does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import msgspec
import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Label

from tests import SnapCompare
from tests.made import MARKS, Stub, frame_of, six_trials
from tests.screens import on_screen
from tests.test_screen import app_after
from tputtui.frame import Frame
from tputtui.goals import parse_goals
from tputtui.session.session import Session
from tputtui.ui.app import TputApp
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.screens.history import HistoryScreen, TrialTable

SIZES = [(80, 24), (120, 40), (200, 50)]


class StubApp(TputApp):
    """The program, with the stub that its table shows."""

    stub: Stub


def shown_by(frame: Frame) -> StubApp:
    """An app on the engine that is none, and the stub its table shows."""
    app = cast("StubApp", app_after(5))
    app.stub = Stub(frame)
    return app


@pytest.fixture
def app() -> StubApp:
    return shown_by(frame_of(six_trials(), marks=MARKS, baseline=1))


async def opened(pilot: Pilot[Any], *keys: str) -> HistoryScreen:
    """Open the table on the stub, and press keys."""
    app = cast("StubApp", pilot.app)
    await app.push_screen(HistoryScreen(cast("Session", app.stub)))
    await pilot.pause()
    if keys:
        await pilot.press(*keys)
    await pilot.pause()
    screen: Screen[Any] = app.screen
    if isinstance(screen, HistoryScreen):  # or one of the keys has left it
        screen.tick()
    await pilot.pause()
    return cast("HistoryScreen", screen)


def order(screen: Screen[Any]) -> list[int]:
    return [int(row.key.value) for row in screen.query_one(TrialTable).ordered_rows]


def chosen(screen: Screen[Any]) -> int:
    return screen.query_one(TrialTable).chosen


def text_of(screen: Screen[Any], name: str) -> str:
    canvas = screen.query_one(name)
    return "\n".join(canvas.render_line(y).text for y in range(canvas.size.height))


def table_text(screen: Screen[Any]) -> list[str]:
    table = screen.query_one(TrialTable)
    return [table.render_line(y).text for y in range(table.size.height)]


def with_goals(frame: Frame) -> Frame:
    goals = parse_goals("ttft_p99=2s")
    told = msgspec.structs.replace(frame.profile, goals=goals)
    return replace(frame, profile=told, trials=six_trials(True), guard="ttft_p99=2s,kv=0.97")


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_table(snap_compare: SnapCompare, app: StubApp, size: tuple[int, int]) -> None:
    async def run(pilot: Pilot[Any]) -> None:
        await opened(pilot, "down", "down", "down")

    assert snap_compare(app, terminal_size=size, run_before=run)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_table_with_goals_sorted_by_another_column(
    snap_compare: SnapCompare, app: StubApp, size: tuple[int, int]
) -> None:
    app.stub.shown = with_goals(app.stub.shown)

    async def run(pilot: Pilot[Any]) -> None:
        await opened(pilot, "down", "greater_than_sign", "greater_than_sign")

    assert snap_compare(app, terminal_size=size, run_before=run)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_two_rows_side_by_side(
    snap_compare: SnapCompare, app: StubApp, size: tuple[int, int]
) -> None:
    async def run(pilot: Pilot[Any]) -> None:
        await opened(pilot, "end", "down", "down", "d", *["up"] * 2, "d")

    assert snap_compare(app, terminal_size=size, run_before=run)


@pytest.mark.parametrize("theme", ["light", "terminal"])
def test_other_themes(snap_compare: SnapCompare, app: StubApp, theme: str) -> None:
    app.theme = theme

    async def run(pilot: Pilot[Any]) -> None:
        await opened(pilot, "down")

    assert snap_compare(app, terminal_size=(80, 24), run_before=run)


@pytest.mark.parametrize("goals", [False, True])
async def test_from_120_columns_on_nothing_is_left_out(app: StubApp, goals: bool) -> None:
    if goals:
        app.stub.shown = with_goals(app.stub.shown)
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        keys = set(screen.query_one(TrialTable).keys)
        assert keys >= {"number", "time", "setting", "load", "window", "n", "tokens_per_s",
                        "ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90", "phase",
                        "verdict"}  # fmt: skip
        assert ("goodput_per_s" in keys) is goals
        first = next(line for line in table_text(screen) if line.split()[:2] == ["1", "◆"])
        for part in ("0:02", "64/2048/2048", "60", "900", "2,314", "14.8 ms", "steady"):
            assert part in first
        await pilot.resize_terminal(80, 24)
        await pilot.pause()
        keys = set(screen.query_one(TrialTable).keys)
        assert {"ttft_p90", "tpot_p90", "verdict"} < keys
        assert "phase" not in keys
        assert all(len(line) == 79 for line in table_text(screen))


async def test_it_sorts_by_any_column_and_the_cursor_stays_on_its_row(app: StubApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "down", "down", "down")
        assert order(screen) == [6, 5, 4, 3, 2, 1]
        assert chosen(screen) == 3
        await pilot.press("i")
        assert order(screen) == [1, 2, 3, 4, 5, 6]
        assert chosen(screen) == 3
        table = screen.query_one(TrialTable)
        ways: list[str] = []
        while table.sorted_by != "tokens_per_s" and len(ways) < len(table.keys):
            await pilot.press("greater_than_sign")
            ways.append(table.sorted_by)
        # Every column with a name, from left to right; an arrow over none would be its neighbour's.
        assert ways == [key for key in table.keys[1 : len(ways) + 2] if key != "signs"]
        assert ways[0] == "time"
        # What was not measured is last in either direction.
        assert order(screen) == [4, 3, 1, 5, 2, 6]
        assert chosen(screen) == 3
        await pilot.press("R")
        assert order(screen) == [2, 5, 1, 3, 4, 6]
        await pilot.press("greater_than_sign", "greater_than_sign")
        assert table.sorted_by == "ttft_p90"
        assert order(screen)[0] == 4
        assert "↑TTFT" in table_text(screen)[0]
        await pilot.press("less_than_sign")
        assert table.sorted_by == "ttft_p50"
        assert chosen(screen) == 3


async def test_a_click_on_a_head_sorts_and_a_click_on_a_row_turns_nothing(app: StubApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        table = screen.query_one(TrialTable)
        x = table_text(screen)[0].index("tok/s")
        await pilot.click(TrialTable, offset=(x, 0))
        await pilot.pause()
        assert (table.sorted_by, table.descending) == ("tokens_per_s", True)
        await pilot.click(TrialTable, offset=(x, 0))
        await pilot.pause()
        assert (table.sorted_by, table.descending) == ("tokens_per_s", False)
        await pilot.click(TrialTable, offset=(x, 3))
        await pilot.click(TrialTable, offset=(x, 3))
        assert chosen(screen) == order(screen)[1]
        assert app.stub.asked == []


async def test_rows_come_grow_and_go_under_a_cursor_that_stays(app: StubApp) -> None:
    whole = app.stub.shown
    app.stub.shown = replace(whole, trials=whole.trials[:4])
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "down", "down")
        assert chosen(screen) == 2
        table = screen.query_one(TrialTable)
        wrote = []
        update = table.update_cell

        def noted(*where: Any, **more: Any) -> None:
            wrote.append(where[:2])
            update(*where, **more)

        table.update_cell = noted  # type: ignore[method-assign]
        screen.tick()
        assert wrote == []
        app.stub.shown = whole
        screen.tick()
        await pilot.pause()
        assert order(screen) == [6, 5, 4, 3, 2, 1]
        assert chosen(screen) == 2
        # The fourth is no longer the present one.
        assert wrote == [("4", "signs")]
        app.stub.shown = replace(whole, trials=whole.trials[1:])
        screen.tick()
        await pilot.pause()
        assert order(screen) == [6, 5, 4, 3, 2]
        assert chosen(screen) == 2


async def test_the_row_under_the_cursor_is_told_below_with_its_note(app: StubApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot, "down", "down")
        told = text_of(screen, "#trial")
        assert "4 another engine, max_num_seqs 64 → 512" in told
        assert "against 3  tokens/s" in told
        assert "undone by the guard: TTFT p99" in told
        await pilot.press("up", "up")
        await pilot.pause()
        assert "· now" in text_of(screen, "#trial")
        assert "settling: not measured" in text_of(screen, "#trial")


async def test_enter_jumps_and_another_engine_is_asked_for_first(app: StubApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "down", "enter")
        assert app.stub.asked == [("jump", 5, False)]
        await pilot.press("down", "enter")
        await pilot.pause()
        on_screen(app, Confirm)
        told = "\n".join(str(label.content) for label in app.screen.query(Label))
        assert "boot the engine of row 4" in told
        assert Stub.boot_cost in told
        await pilot.press("escape")
        assert app.screen is screen
        assert len(app.stub.asked) == 1
        await pilot.press("enter", "enter")
        await pilot.pause()
        assert app.screen is screen
        assert app.stub.asked[-1] == ("jump", 4, True)


async def test_a_baseline_is_pinned_and_unpinned(app: StubApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "down", "p")
        assert app.stub.asked == [("pin", 5)]
        assert any("5 ◆" in line for line in table_text(screen))
        await pilot.press("p")
        assert app.stub.asked[-1] == ("pin", None)
        screen.tick()
        await pilot.pause()
        assert not any("◆" in line for line in table_text(screen))


async def test_two_marked_rows_are_compared_in_all_there_is(app: StubApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "down", "down", "d")
        assert "4 marked" in text_of(screen, "#trials-title")
        await pilot.press("d")
        assert "marked" not in text_of(screen, "#trials-title")
        await pilot.press("d", "up", "d")
        await pilot.pause()
        await pilot.pause()
        told = text_of(screen, "#pair")
        assert screen.query_one("#pair").border_title == " 4 → 5 "
        for part in (
            "max_num_seqs 512 → 64", "max_num_batched_tokens 8192 → 2048",
            "load    load 96 in flight → 120 in flight", "--max-num-seqs 512 → 256",
            "--enforce-eager True → not given", "tokens/s    2,885 →   2,292",
            "TPOT p90  31.1 ms → 20.9 ms", "· not judged",
        ):  # fmt: skip
            assert part in told, told
        # Another load and another engine: what differs is no limit's doing.
        assert "worse" not in told
        await pilot.press("escape")
        assert app.screen is screen
        assert screen.query_one("#pair").display is False
        await pilot.press("home", *["up"] * 6, "d", "down", "d")
        await pilot.pause()
        await pilot.pause()
        assert "6: not measured, nothing to compare" in text_of(screen, "#pair")


async def test_undo_redo_and_their_refusals(app: StubApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, "u", "U")
        titles = [note.title or note.message for note in app._notifications]
        assert titles == ["Nothing to undo.", "Done again: max_num_seqs 64 → 32"]


@pytest.mark.parametrize("key", ["escape", "h", "q"])
async def test_it_is_left_by_any_of_its_keys(app: StubApp, key: str) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot, key)
        await asyncio.sleep(0)
        assert app.screen is app._board
        assert app._exit is False


async def test_before_the_engine_is_up_the_table_is_empty_and_every_key_harmless(
    app: StubApp,
) -> None:
    app.stub.shown = replace(app.stub.shown, trials=(), baseline=None)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await opened(pilot, "enter", "p", "d", "d", "greater_than_sign", "i", "down")
        assert order(screen) == []
        assert app.stub.asked == []

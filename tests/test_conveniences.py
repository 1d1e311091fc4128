"""Filters, the command line, copying, the log, asking before much is aborted, the palette."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, MouseDown, MouseUp
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Label, RichLog, Static

from tests.made import MARKS, frame_of, six_trials
from tests.screens import on_screen
from tests.test_history_screen import opened, order, shown_by
from tests.test_screen import RigApp, app_after, paint
from tputtui.cli.settings import THEMES
from tputtui.errors import UsageError
from tputtui.goals import parse_goals
from tputtui.load.workload import ClosedLoop, Poisson
from tputtui.ui.app import TputApp
from tputtui.ui.command_line import carry_out
from tputtui.ui.commands import commands
from tputtui.ui.copied import changes_text, row_text
from tputtui.ui.log_tail import LogTail
from tputtui.ui.screens.choose import Choose
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.engine import EngineForm
from tputtui.ui.screens.help import HelpScreen
from tputtui.ui.screens.log import LogScreen

# -- the command line --------------------------------------------------------------------------


def test_a_line_sets_a_limit_the_load_goals_and_the_guard() -> None:
    session = app_after(20).session
    carry_out(session, "max_num_seqs 48")
    assert session.steer.limits.asked("max_num_seqs") == 48
    # A beginning that can be one limit only, and the spelling of the flag.
    # As it is pasted from elsewhere, with the key that opens the line.
    carry_out(session, "::max_num_seqs 44")
    assert session.advance().asked.max_num_seqs == 44
    carry_out(session, "max_num_s 40")
    carry_out(session, "--max-num-batched-tokens 1k")
    assert session.steer.limits.asked("max_num_seqs") == 40
    assert session.steer.limits.asked("max_num_batched_tokens") == 1000
    carry_out(session, "load 8/s")
    assert str(session.workload.arrivals) == str(Poisson(8.0))
    carry_out(session, "load 12")
    assert str(session.workload.arrivals) == str(ClosedLoop(12))
    carry_out(session, "goals ttft_p99=500ms")
    assert session.goals[0].limit_s == 0.5
    carry_out(session, "guard kv=0.97")
    assert session.steer.guard == "kv=0.97"
    carry_out(session, "guard")
    assert session.steer.guard == ""
    # Two changes of the load in a row are one to undo.
    assert carry_out(session, "undo").startswith("Undone: ")
    assert str(session.workload.arrivals) == str(ClosedLoop(96))
    assert carry_out(session, "redo").startswith("Done again: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("", "The line is empty."),
        ("max 3", "'max' is no limit"),
        ("max_num_seq", "max_num_seqs needs a value."),
        ("scheduling_policy", "Write: scheduling_policy fcfs."),
        ("max_num_seqs many", "many"),
        ("load nonsense", "nonsense"),
        ("goals ttft=5", "names no percentile"),
        ("frobnicate 3", "begins with a limit's name, or with load, goal"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(line: str, said: str) -> None:
    session = app_after(10).session
    before = session.steer.limits.asked("max_num_seqs"), session.workload, session.goals
    with pytest.raises(UsageError) as refusal:
        carry_out(session, line)
    assert said in str(refusal.value)
    assert before == (session.steer.limits.asked("max_num_seqs"), session.workload, session.goals)


@pytest.mark.parametrize("line", ["load 12", "load 8/s"])
def test_a_load_typed_during_an_ab_keeps_the_persons_seed(line: str) -> None:
    session, seed = (rig := app_after(20).rig).session, 0
    session.steer.limits.set("max_num_seqs", 32)
    rig.run(5.0)
    session.steer.experiments.compare()
    rig.run(5.0)
    assert session.workload.seed != seed
    carry_out(session, line)
    assert session.steer.experiments.under_way == ""
    assert session.workload.seed == seed


async def test_what_is_typed_after_enter_is_not_part_of_the_line() -> None:
    used: list[list[str]] = []
    app = app_after(10)
    async with app.run_test(size=(120, 40)) as pilot:
        await app.push_screen(Dialog("command", [("", "")], "", used.append))
        field = app.screen.query_one(Input)
        field.value = "load 96"
        field.post_message(Input.Submitted(field, field.value))
        # On a busy machine the next key is there before the line is looked at.
        field.value = "load 96y"
        await pilot.pause()
        assert used == [["load 96"]]


async def test_the_line_is_asked_for_by_a_colon_and_stays_until_it_is_valid() -> None:
    app = app_after(10)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("colon")
        on_screen(app, Dialog).query_one(Input).value = "max_num_seqs x"
        await pilot.press("enter")
        on_screen(app, Dialog).query_one(Input).value = "max_num_seqs 48"
        await pilot.press("enter")
        assert app.screen is app._board
        assert app.session.steer.limits.asked("max_num_seqs") == 48
        await pilot.press("colon")
        on_screen(app, Dialog).query_one(Input).value = "max_num_seqs 512"
        await pilot.press("enter")
        await pilot.pause()
        # Above the ceiling a boot is offered, as everywhere.
        on_screen(app, Confirm)


@pytest.mark.parametrize("key", ["colon", "o", "l", "ctrl+p", "y"])
async def test_behind_a_dialog_the_board_goes_on(key: str) -> None:
    app = app_after(10)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press(key)
        await pilot.pause()
        assert app.screen.is_modal
        for seconds in (5, 5):
            app.rig.run(seconds)
            app._tick()
            await pilot.pause()
            clock = str(app._board.query_one("#clock").render_line(0).text).strip()
            # What the terminal shows, the dialog in front.
            assert clock.split()[0] in app.export_screenshot().replace("&#160;", " ")
        assert app.screen.is_modal


@pytest.mark.parametrize("theme", THEMES)
async def test_the_log_goes_on_and_hides_the_board(tmp_path: Path, theme: str) -> None:
    path = tmp_path / "engine.log"
    path.write_text("the first line\n")
    app = app_after(10)
    app._tail = app._board.tail = LogTail(path)
    app.theme = theme
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("g")
        await pilot.pause()
        shown: list[Screen[Any]] = [on_screen(app, LogScreen), app.looked_at]
        assert shown[0] is shown[1]
        with path.open("a") as file:
            file.write("the second line\n")
        app._tick()
        await pilot.pause()
        assert "second" in app.export_screenshot()
        await pilot.press("escape", "question_mark")
        await pilot.pause()
        shown = [on_screen(app, HelpScreen), app.looked_at]
        assert shown[0] is shown[1]
        await pilot.press("escape", "o")
        await pilot.pause()
        # In the terminal's own colours nothing shines through.
        dialog = on_screen(app, Dialog)
        shown = [dialog if theme.startswith("terminal") else app._board, app.looked_at]
        assert shown[0] is shown[1]


# -- copying -----------------------------------------------------------------------------------


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    monkeypatch.setattr(TputApp, "copy_to_clipboard", lambda self, text: texts.append(text))
    return texts


async def test_what_is_copied_from_the_board_can_be_used_elsewhere(copied: list[str]) -> None:
    app = app_after(60, turn=("max_num_seqs", 32))
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        for key in "vscr":
            await pilot.press("y")
            on_screen(app, Choose)
            await pilot.press(key)
            await pilot.pause()
            assert app.screen is app._board
        value, command, changes, row = copied
        assert value == "max_num_seqs 32"
        carry_out(app.session, value)
        assert "vllm serve" in command
        assert "--max-num-seqs 32" in command
        assert changes.splitlines()[0] == "|  | before | after | change | verdict |"
        assert "▼ worse" in changes
        assert row.splitlines()[0].startswith("| # | max_num_seqs |")
        await pilot.press("y", "escape")
        assert len(copied) == 4


async def test_before_there_is_anything_nothing_is_copied(copied: list[str]) -> None:
    app = app_after(0)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("y", "c")
        await pilot.pause()
        assert copied == []


async def test_the_text_reaches_the_terminal_as_osc_52() -> None:
    app = app_after(10)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("y", "v")
        await pilot.pause()
        assert app.clipboard == "max_num_seqs 64"


async def test_a_row_of_the_table_is_copied_and_so_are_two(copied: list[str]) -> None:
    app = shown_by(frame_of(six_trials(), marks=MARKS, baseline=1))
    async with app.run_test(size=(120, 40)) as pilot:
        await opened(pilot, "y")
        assert copied[0].splitlines()[2].startswith("| 6 |")
        await pilot.press("down", "down", "d", "down", "d", "y")
        await pilot.pause()
        assert len(copied) == 2


def test_a_table_in_markdown_has_as_many_cells_in_each_row() -> None:
    for trial in six_trials(True):
        for text in filter(None, (row_text(trial), changes_text(trial.differences))):
            assert len({line.count("|") for line in text.splitlines()}) == 1


# -- filters -----------------------------------------------------------------------------------


async def typed(pilot: Pilot[Any], text: str) -> None:
    await pilot.press("slash")
    await pilot.pause()
    for char in text:
        await pilot.press("space" if char == " " else char)
    await pilot.press("enter")
    await pilot.pause()


async def test_the_table_shows_rows_with_all_words_and_escape_shows_all_again() -> None:
    app = shown_by(frame_of(six_trials(), marks=MARKS, baseline=1))
    async with app.run_test(size=(120, 40)) as pilot:
        screen = await opened(pilot)
        everything = order(screen)
        trials = {trial.number: trial for trial in screen._session.latest.trials}
        await typed(pilot, "max_num_seqs")
        screen.tick()
        kept = order(screen)
        assert 0 < len(kept) < len(everything)
        assert all("max_num_seqs" in trials[number].changed for number in kept)
        await pilot.press("escape")
        screen.tick()
        assert order(screen) == everything
        await pilot.press("escape")
        assert app.screen is app._board


async def test_help_shows_entries_with_all_words() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        on_screen(app, HelpScreen)
        await typed(pilot, "undo last")
        text = str(app.screen.query_one(Static).content)
        assert "Undo the last change" in text
        assert "TTFT" not in text
        await pilot.press("escape")
        assert "TTFT" in str(app.screen.query_one(Static).content)
        await pilot.press("escape")
        assert app.screen is app._board


LINES = [
    "INFO core.py: engine " + "x" * 200,
    "INFO loggers.py: Engine 000: Avg prompt throughput: 12.0 tokens/s, Running: 3 reqs",
    "WARNING kv_cache.py: small cache",
]


@pytest.fixture
def logged(tmp_path: Path) -> RigApp:
    path = tmp_path / "engine.log"
    path.write_text("\n".join(LINES) + "\n")
    app = app_after(5)
    app._tail = app._board.tail = LogTail(path)
    app._tail.read()
    return app


async def test_the_logs_title_ends_with_the_files_name(logged: RigApp) -> None:
    path = f"/home/{'somebody/' * 6}.local/state/tputtui/logs/20261129-224917-15415.log"
    async with logged.run_test(size=(80, 24)) as pilot:
        await logged.push_screen(LogScreen(logged._tail, path))
        await pilot.pause()
        title = logged.screen.query_one("#log-title", Label)
        assert len(str(title.content)) <= 78
        assert str(title.content).endswith("/logs/20261129-224917-15415.log")
        await pilot.resize_terminal(200, 50)
        await pilot.pause()
        assert str(title.content) == f"engine log  {path}"


async def test_the_log_hides_averages_filters_wraps_and_is_copied(
    logged: RigApp, copied: list[str]
) -> None:
    async with logged.run_test(size=(80, 24)) as pilot:
        await pilot.press("g")
        await pilot.pause()
        screen = on_screen(logged, LogScreen)
        assert screen.shown == [LINES[0], LINES[2]]
        log = screen.query_one(RichLog)
        # The first line is longer than the screen.
        assert len(log.lines) > 2
        await pilot.press("w")
        await pilot.pause()
        assert len(log.lines) == 2
        assert log.virtual_size.width > 200
        await pilot.press("a")
        assert screen.shown == LINES
        await typed(pilot, "small cache")
        assert screen.shown == [LINES[2]]
        await pilot.press("y")
        assert copied == [LINES[2] + "\n"]
        screen.add(["INFO another line", "WARNING small cache again"])
        await pilot.press("escape")
        assert screen.shown == LINES
        await pilot.press("escape")
        assert logged.screen is logged._board


# -- asking, forms, palette --------------------------------------------------------------------


async def test_hundreds_of_requests_are_aborted_only_after_a_question() -> None:
    app = app_after(20)
    carry_out(app.session, "load 400")
    app.rig.run(10)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        assert app.session.latest.accounting.in_flight >= 100
        await pilot.press("x")
        on_screen(app, Confirm)
        await pilot.press("escape")
        app.rig.run(1)
        assert app.session.advance().accounting.in_flight >= 100
        await pilot.press("x", "enter")
        app.rig.run(1)
        assert app.session.advance().accounting.in_flight == 0


async def test_a_few_requests_are_aborted_at_once() -> None:
    app = app_after(20)
    carry_out(app.session, "load 8")
    app.rig.run(30)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("x")
        app.rig.run(1)
        assert app.screen is app._board
        assert app.session.advance().accounting.in_flight == 0


async def test_text_pasted_on_the_list_of_arguments_filters_it() -> None:
    from textual.events import Paste

    app = app_after(10)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("e")
        await pilot.pause()
        form = on_screen(app, EngineForm)
        form._list.post_message(Paste("block_size\n"))
        await pilot.pause()
        await pilot.pause()
        assert form._filter.value == "block_size"


def test_the_palette_names_every_key_also_a_remapped_one() -> None:
    app = app_after(5)
    told = {each.title: each.help for each in commands(app, app._board.action_zoom, {"undo": "z"})}
    assert told["Undo"].startswith("z · ")
    assert told["Tuner"].startswith("t · ")
    assert told["Panel: latency"].startswith("3 · ")
    assert told["Hold or run the load"].startswith("␣ · ")
    assert all(" · " in text for title, text in told.items() if title != "Theme")


def at_once(app: RigApp, text: str) -> None:
    """Type all of a text at once, as a terminal sends it; a line break is Enter."""
    bound = {"\n": "enter", "\x7f": "backspace", "\x01": "ctrl+a", "\x0b": "ctrl+k"}
    names = bound | {"_": "underscore", "=": "equals_sign", ":": "colon", " ": "space"}
    for char in text:
        app.post_message(Key(names.get(char, char), None if char in bound else char))


async def test_no_question_is_answered_by_what_was_typed_before_it() -> None:
    app = app_after(5)
    async with app.run_test(size=(100, 30)) as pilot:
        await paint(pilot)
        at_once(app, ":max_num_seqs 9999\n:max_num_seqs 24\n")
        await pilot.pause()
        await pilot.pause()
        assert isinstance(app.screen, Confirm)
        (note,) = [each.message for each in app._notifications]
        assert note == "Typed before that, and left out: :max_num_seqs 24⏎"
        await pilot.press("escape")
        assert app.session.advance().asked.max_num_seqs == 64


async def test_what_was_typed_behind_a_line_that_is_refused_is_left_out() -> None:
    app = app_after(5)
    async with app.run_test(size=(100, 30)) as pilot:
        await paint(pilot)
        at_once(app, ":max_num_seqs 0\n:undo\ns")
        await pilot.pause()
        await pilot.pause()
        assert app.screen.query_one(Input).value == "max_num_seqs 0"
        assert "left out: :undo⏎s" in next(each.message for each in app._notifications)
        await pilot.press("backspace", "4", "8", "enter")
        assert app.session.advance().asked.max_num_seqs == 48


async def test_a_click_waits_for_the_letters_before_it() -> None:
    app = app_after(5)
    async with app.run_test(size=(100, 40)) as pilot:
        await paint(pilot)
        await pilot.press("l")
        first, second = list(app.screen.query(Input))[:2]
        before, at = second.value, second.region.offset
        at_once(app, "500")
        for kind in (MouseDown, MouseUp):
            app.post_message(kind(None, at.x, at.y, 0, 0, 1, False, False, False, at.x, at.y))
        at_once(app, "7")
        await pilot.pause()
        await pilot.pause()
        assert first.value == "500"
        assert second.value != before
        assert "7" in second.value


async def test_a_message_that_stands_there_is_not_shown_again() -> None:
    app = app_after(1)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(5):
            app.notify("max_num_seqs is at its minimum.")
        app.notify("another")
        await pilot.pause()
        said = [each.message for each in app._notifications]
        assert said == ["max_num_seqs is at its minimum.", "another"]


async def test_keys_typed_in_a_burst_take_effect_in_their_order() -> None:
    # Bound ones among them, which Textual carries out once they have come up to the app.
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("o")
        at_once(app, "x\x01\x0bttft_p90=1ss\x7f\n")
        await pilot.pause()
        assert app.session.advance().profile.goals == parse_goals("ttft_p90=1s")

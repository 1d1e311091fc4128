"""The screen of a recorded run: what it shows, and its keys for time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot

from tests import SnapCompare
from tests.test_record import Recorded
from tputtui.errors import UsageError
from tputtui.goals import parse_goals
from tputtui.record.reading import read_log
from tputtui.record.replay import Replay
from tputtui.ui.replay_app import ReplayApp, seconds_of

SIZES = [(80, 24), (120, 40), (200, 50)]


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = Recorded(tmp_path_factory.mktemp("log") / "run.jsonl.zst")
    made.session.set_goals(parse_goals("ttft_p90=1500ms"))
    made.run(15)
    made.session.steer.limits.set("max_num_seqs", 32)
    made.run(25)
    made.session.steer.undo()
    made.run(15)
    return made.end().journal.path


class ClockApp(ReplayApp):
    """A replay, with the clock that a test sets."""

    clock: Clock


@pytest.fixture
def app(log: Path) -> ClockApp:
    recording = read_log(log)
    # Wall time is no part of a picture.
    recording.began = "2026-11-25T14:00:00+00:00"
    clock = Clock()
    made = cast("ClockApp", ReplayApp(Replay(recording, clock)))
    made.clock = clock
    made.replay.playing = False
    return made


def text_of(app: ClockApp) -> str:
    lines = []
    for y in range(app.size.height):
        strip = app.screen._compositor.render_strips()[y]
        lines.append(strip.text)
    return "\n".join(lines)


async def test_space_plays_and_plus_is_faster(app: ClockApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        at_s = app.replay.at_s
        await pilot.press("plus", "plus", "space")
        app.clock.now_s += 3.0
        app._tick()
        assert app.replay.at_s == pytest.approx(at_s + 12.0)
        await pilot.press("minus", "space")
        app.clock.now_s += 3.0
        app._tick()
        assert app.replay.at_s == pytest.approx(at_s + 12.0)
        assert app.replay.speed == 2.0


async def test_arrows_seek_and_commas_jump_to_marks(app: ClockApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("home")
        begin = app.replay.at_s
        await pilot.press("right", "right", "left", "right")
        assert app.replay.at_s == pytest.approx(begin + 20)
        await pilot.press("full_stop")
        await pilot.pause()
        assert "max_num_seqs 64 → 32" in text_of(app)
        await pilot.press("shift+right", "end")
        assert app.replay.at_s == app.replay.length_s
        await pilot.press("comma")
        await pilot.pause()
        assert "undo: max_num_seqs 32 → 64" in text_of(app)


async def test_a_time_is_typed(app: ClockApp) -> None:
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("s", *"0:31", "enter")
        await pilot.pause()
        assert app.replay.at_s == pytest.approx(31.0)
        await pilot.press("s", *"soon", "enter")
        await pilot.pause()
        assert "is not a time" in text_of(app)


async def test_the_limits_in_force_follow_the_time(app: ClockApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        app.replay.seek(12.0)
        app._board.redraw()
        await pilot.pause()
        assert "64 / 256" in text_of(app)
        app.replay.seek(40.0)
        app._board.redraw()
        await pilot.pause()
        assert "32 / 256" in text_of(app)


async def test_rows_and_points_are_there_and_nothing_can_be_turned(app: ClockApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("end", "h")
        await pilot.pause()
        assert "settings tried" in text_of(app)
        await pilot.press("u")
        await pilot.pause()
        (note,) = app._notifications
        assert note.title == "This run is over: nothing can be changed."
        await pilot.press("escape", "f")
        await pilot.pause()
        await pilot.press("escape", "bracketleft", "e", "x", "l")
        assert app.screen is app._board


@pytest.mark.parametrize("key", ["home", "end"])
async def test_a_run_that_did_not_read_the_machine_says_so(app: ClockApp, key: str) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press(key, "4")
        await pilot.pause()
        assert "The run recorded nothing of the machine." in text_of(app)
        assert "reading the machine" not in text_of(app)


async def test_escape_does_not_leave_and_q_does(app: ClockApp) -> None:
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("escape", "escape")
        assert app.is_running
        await pilot.press("q")
    assert app.return_code in (0, None)


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_pictures(app: ClockApp, snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def look(pilot: Pilot[Any]) -> None:
        app.replay.seek(44.0)
        app._board.redraw()
        await pilot.pause()

    assert snap_compare(app, terminal_size=size, run_before=look)


def test_times_as_they_are_written() -> None:
    assert seconds_of("3:12") == 192
    assert seconds_of("1:02:03") == 3723
    assert seconds_of("90s") == seconds_of(" 90 ") == 90
    assert seconds_of("75:10") == 4510
    for text in ("", "x", "1:2:3:4", "-3", "99:99:99", "1:60:00", "1:60"):
        with pytest.raises(UsageError):
            seconds_of(text)

"""The screen on the deterministic engine: pictures at three sizes, and what each key does."""

from __future__ import annotations

import functools
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Label

from tests import SnapCompare
from tests.rig import Rig
from tests.screens import on_screen
from tputtui import profile
from tputtui.hardware import GpuSample, HardwareSample, HostSample
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.simulate.clock import VirtualTime
from tputtui.ui.app import TputApp
from tputtui.ui.board import Board
from tputtui.ui.canvas import Canvas
from tputtui.ui.replay_app import ReplayApp
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.help import HelpScreen
from tputtui.ui.screens.log import LogScreen


class Machine:
    """A machine that always reads the same."""

    def __init__(self, clock: VirtualTime, gpus: int = 0) -> None:
        self._clock = clock
        self._gpus = tuple(
            GpuSample(
                index=n, name="NVIDIA H100 80GB HBM3", util_frac=0.93, mem_used_bytes=71 * 2**30,
                mem_total_bytes=80 * 2**30, power_w=612.0, power_limit_w=700.0, temp_c=64.0,
                sm_clock_mhz=1755.0, throttle=("power cap",) if n == 1 else (),
            )
            for n in range(gpus)
        )  # fmt: skip

    def start(self) -> None:
        pass

    def stop(self, timeout_s: float = 1.0) -> bool:
        return True

    def latest(self) -> HardwareSample:
        now_s = self._clock()
        host = HostSample(
            cpu_frac=0.97, cores=2, mem_used_bytes=3 * 2**30, mem_total_bytes=24 * 2**30,
            process_cpu_cores=1.9, process_rss_bytes=900 * 2**20, load1=2.0,
        )  # fmt: skip
        status = "ok" if self._gpus else "no NVIDIA driver"
        return HardwareSample(
            t_s=now_s, gpus=self._gpus, gpu_status=status, gpu_t_s=now_s, host=host, host_t_s=now_s
        )


class RigApp(TputApp):
    """The program, with the rig that a test turns."""

    rig: Rig


def with_rig(rig: Rig) -> RigApp:
    """The program itself, over the session of `rig`."""
    app = cast("RigApp", TputApp(rig.session, start=lambda: None))
    app.rig = rig
    return app


def app_after(
    seconds: float,
    *,
    gpus: int = 0,
    turn: tuple[str, int] | None = None,
    load: Workload | None = None,
    **engine: Any,
) -> RigApp:
    """An app over an engine that has served for `seconds`, and its rig."""
    demo = profile.load(profile.shipped()["demo"])
    rig = Rig(load or demo.load, demo.knobs, **engine)
    rig.session._hardware = Machine(rig.clock, gpus)  # type: ignore[assignment]
    if seconds:
        rig.boot()
        rig.run(seconds / 2)
        if turn:
            rig.session.steer.limits.set(*turn)
        rig.run(seconds / 2)
    return with_rig(rig)


def board_of(pilot: Pilot[Any]) -> Board:
    """The board of the program that `pilot` drives."""
    app = pilot.app
    assert isinstance(app, TputApp | ReplayApp)
    return app._board


async def paint(pilot: Pilot[Any]) -> None:
    """Let the app settle, then look once."""
    await pilot.pause()
    board = board_of(pilot)
    board.tick()
    board.redraw()
    await pilot.pause()


SIZES = [(80, 24), (120, 40), (200, 50)]


# Looking at them changes nothing of them.
@functools.cache
def serving_rig() -> Rig:
    return app_after(60, gpus=2, turn=("max_num_seqs", 32)).rig


@functools.cache
def saturated_rig() -> Rig:
    return app_after(40, load=Workload(Poisson(200.0), Fixed(200), Fixed(40))).rig


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_board_while_serving(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    app = TputApp(serving_rig().session, start=lambda: None)
    assert snap_compare(app, terminal_size=size, run_before=paint)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_a_simulated_device_is_always_said_to_be_one(size: tuple[int, int]) -> None:
    app = app_after(20)
    host, badge = app.session.host, "SIMULATED, datasheet roofline, not calibrated"
    facts = replace(host.status.facts, simulated=badge, device="simulated H100 SXM 80GB")
    host.status = replace(host.status, facts=facts)
    async with app.run_test(size=size) as pilot:
        await paint(pilot)
        rows = ["".join(s.text for s in row) for row in app.screen._compositor.render_strips()]
        said = badge if size[0] > 80 else "SIMULATED, not calibrated"
        assert said in rows[0]
        assert "shape:demo" in rows[0]
        assert "▶ RUNNING" in rows[0]
        assert any("simulated H100 SXM 80GB" in row for row in rows[1:])
        # No figure of this machine stands in for one of that device.
        assert not any("reading the machine" in row or "CPU " in row for row in rows)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_an_open_loop_that_saturates_without_a_gpu(
    snap_compare: SnapCompare, size: tuple[int, int]
) -> None:
    app = TputApp(saturated_rig().session, start=lambda: None)
    assert snap_compare(app, terminal_size=size, run_before=paint)


def test_before_the_engine_is_up(snap_compare: SnapCompare) -> None:
    assert snap_compare(app_after(0), terminal_size=(80, 24), run_before=paint)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_an_engine_that_died_while_serving(
    snap_compare: SnapCompare, size: tuple[int, int]
) -> None:
    app = app_after(20, fail_at_step=400)
    assert snap_compare(app, terminal_size=size, run_before=paint)


def test_an_engine_that_did_not_boot(snap_compare: SnapCompare) -> None:
    app = app_after(1, fail_boot=RuntimeError("CUDA out of memory"))
    assert snap_compare(app, terminal_size=(80, 24), run_before=paint)


@pytest.mark.parametrize("theme", ["light", "terminal"])
def test_other_themes(snap_compare: SnapCompare, theme: str) -> None:
    app = app_after(30)
    app.theme = theme
    assert snap_compare(app, terminal_size=(80, 24), run_before=paint)


def test_no_color_is_monochrome(snap_compare: SnapCompare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert snap_compare(app_after(30), terminal_size=(80, 24), run_before=paint)


def test_help(snap_compare: SnapCompare) -> None:
    assert snap_compare(app_after(30), terminal_size=(80, 24), press=["question_mark"])


async def test_escape_leaves_help_and_never_the_program() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("question_mark")
        on_screen(app, HelpScreen)
        await pilot.press("escape")
        assert on_screen(app, Board) is app._board
        assert app._exit is False


async def test_another_limit_is_selected_without_anything_being_measured_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_after(5)
    async with app.run_test(size=(200, 50)) as pilot:
        await paint(pilot)
        board = app._board
        limits = board.query_one("#limits", Canvas)
        for name in ("max_num_batched_tokens", "max_model_len"):
            with monkeypatch.context() as patched:
                patched.setattr(app.session, "advance", None)
                board.action_select(1)
            text = "\n".join("".join(piece for piece, _ in row) for row in limits._rows)
            assert f"▸ {name}" in text


async def test_keys_turn_the_selected_limit_and_undo_takes_it_back() -> None:
    app = app_after(5)
    session = app.session
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("left_square_bracket")
        assert session.steer.limits.asked("max_num_seqs") == 32
        await pilot.press("right")
        assert session.steer.limits.asked("max_num_seqs") == 33
        await pilot.press("down", "left")
        assert session.steer.limits.asked("max_num_batched_tokens") == 1984
        await pilot.press("down", "left_square_bracket")
        assert session.steer.limits.asked("max_model_len") == 1024
        await pilot.press("u", "u")
        assert session.steer.limits.asked("max_model_len") == 2048
        assert session.steer.limits.asked("max_num_batched_tokens") == 2048
        assert session.steer.limits.asked("max_num_seqs") == 33
        # Turned twice within a second: one turn, and one undo.
        await pilot.press("u")
        assert session.steer.limits.asked("max_num_seqs") == 64
        await pilot.press("U", "U")
        assert session.steer.limits.asked("max_num_seqs") == 33
        assert session.steer.limits.asked("max_num_batched_tokens") == 1984
        await pilot.press(*["up"] * 6, "right")
        assert session.steer.limits.asked("scheduler_reserve_full_isl") == 1
        await pilot.press("left")
        assert session.steer.limits.asked("scheduler_reserve_full_isl") == 0


async def test_above_the_ceiling_a_boot_is_offered_once_with_its_cost() -> None:
    app = app_after(5)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("right_square_bracket", "right_square_bracket")
        assert app.session.steer.limits.asked("max_num_seqs") == 256
        await pilot.press("right")
        await pilot.pause()
        on_screen(app, Confirm)
        said = " ".join(str(label.content) for label in app.screen.query(Label))
        assert "above its ceiling 256" in said
        assert "--max-num-seqs 257" in said
        assert "about 8 s" in said
        assert "requests in flight are aborted" in said
        await pilot.press("escape")
        assert app.session.steer.limits.ceilings.max_num_seqs == 256
        await pilot.press("right_square_bracket")
        await pilot.pause()
        await pilot.press("enter")
        app.rig.host.run_pass()
        assert app.session.steer.limits.ceilings.max_num_seqs == 512
        assert app.session.steer.limits.asked("max_num_seqs") == 512


async def test_an_exact_value_is_typed_and_refused_in_the_dialog_when_out_of_range() -> None:
    app = app_after(5)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("enter")
        on_screen(app, Dialog)
        for text, says in (("abc", "whole number"), ("0", "low"), ("3.5", "whole number")):
            app.screen.query_one(Input).value = text
            await pilot.press("enter")
            on_screen(app, Dialog)
            assert says in str(app.screen.query_one(".refused", Label).render())
        app.screen.query_one(Input).value = "48"
        await pilot.press("enter")
        assert on_screen(app, Board) is app._board
        assert app.session.steer.limits.asked("max_num_seqs") == 48
        await pilot.press("enter")
        app.screen.query_one(Input).value = "999"
        await pilot.press("enter")
        await pilot.pause()
        on_screen(app, Confirm)
        await pilot.press("escape")
        assert app.session.steer.limits.asked("max_num_seqs") == 48
        await pilot.press(*["down"] * 7, "enter")
        app.screen.query_one(Input).value = "priority"
        await pilot.press("enter")
        assert app.session.steer.limits.asked("scheduling_policy") == 1


async def test_the_load_is_edited_scaled_held_and_stopped() -> None:
    app = app_after(5)
    session, rig = app.session, app.rig
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("plus")
        assert session.workload.arrivals == ClosedLoop(120)
        await pilot.press("minus")
        assert session.workload.arrivals == ClosedLoop(96)
        await pilot.press("l", "1", "2", "slash", "s", "enter")
        assert app.session.workload.arrivals == Poisson(12.0)
        await pilot.press("space")
        rig.run(5)
        assert session.advance().accounting.in_flight == 0
        await pilot.press("space")
        rig.run(2)
        assert session.advance().accounting.in_flight > 0
        await pilot.press("x")
        rig.turn()
        assert session.advance().accounting.in_flight == 0


async def test_saving_keeps_an_existing_file(tmp_path: Path) -> None:
    app = app_after(10)
    (tmp_path / "a.yaml").write_text("mine")
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("s")
        app.screen.query_one(Input).value = str(tmp_path / "a.yaml")
        await pilot.press("enter")
        assert "exists already" in str(app.screen.query_one(".refused", Label).render())
        app.screen.query_one(Input).value = str(tmp_path / "b.yaml")
        await pilot.press("enter")
        assert app.saved == [tmp_path / "b.yaml"]
    assert (tmp_path / "a.yaml").read_text() == "mine"
    assert profile.load(tmp_path / "b.yaml").knobs["max_num_seqs"] == 64


async def test_saving_over_a_profile_takes_a_second_enter_and_keeps_its_comments(
    tmp_path: Path,
) -> None:
    app = app_after(10, turn=("max_num_seqs", 48))
    mine = tmp_path / "mine.yaml"
    mine.write_text(profile.read(profile.shipped()["demo"]) + "# the end\n")
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("s")
        app.screen.query_one(Input).value = str(mine)
        await pilot.press("enter")
        told = str(app.screen.query_one(".refused", Label).render())
        assert "exists already" in told
        assert "Enter again" in told
        assert profile.load(mine).knobs["max_num_seqs"] == 64
        await pilot.press("enter")
        assert app.saved == [mine]
    text = mine.read_text()
    assert profile.load(mine).knobs["max_num_seqs"] == 48
    assert "# The embedded default." in text
    assert "# the end" in text


async def test_another_name_is_not_written_over_by_an_enter_meant_for_the_first(
    tmp_path: Path,
) -> None:
    app = app_after(10)
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("mine")
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("s")
        app.screen.query_one(Input).value = str(tmp_path / "a.yaml")
        await pilot.press("enter")
        app.screen.query_one(Input).value = str(tmp_path / "b.yaml")
        await pilot.press("enter")
        assert app.saved == []
    assert (tmp_path / "b.yaml").read_text() == "mine"


async def test_a_verify_boot_is_asked_for_once_and_told_in_the_panel_of_changes() -> None:
    app = app_after(40, turn=("max_num_seqs", 48))
    rig = app.rig
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("v")
        told = "\n".join(str(label.render()) for label in app.screen.query(Label))
        assert "exactly the present limits as ceilings" in told
        assert "The load pauses for about 8 s" in told
        await pilot.press("escape")
        assert rig.session.advance().status.facts.ceilings.max_num_seqs == 256
        await pilot.press("v", "enter")
        rig.run(12.0)
        app._tick()
        await pilot.pause()
        assert rig.session.advance().status.facts.ceilings.max_num_seqs == 48
        assert "verify" in app._board._canvases["changes"].border_title
        rig.run(40.0)
        app._tick()
        assert rig.session.advance().compare.note.startswith("Verified")


async def test_a_verify_boot_that_has_nothing_to_compare_with_is_not_asked_for() -> None:
    app = app_after(20)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("space")
        app.rig.run(1.0)
        await pilot.press("v")
        await pilot.pause()
        assert not app.screen.query(Label)
        assert "nothing to compare with" in [*app._notifications][-1].title


async def test_before_the_engine_is_up_turning_is_refused_calmly() -> None:
    app = app_after(0)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("left", "u", "enter", "space", "x", "5")
        await pilot.pause()
        assert app._exit is False
        # Said once for as long as it stands there.
        (note,) = app._notifications
        assert "engine is cold" in note.title


async def test_number_keys_give_a_panel_the_whole_screen_and_escape_brings_the_board_back() -> None:
    app = app_after(20)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("1")
        await paint(pilot)
        assert app._board.maximized is app._board.query_one("#throughput")
        assert app._board.query_one("#throughput").size.height > 15
        await pilot.press("escape")
        assert app._board.maximized is None
        assert app._exit is False


async def test_a_zoomed_machine_shows_more_of_every_gpu() -> None:
    app = app_after(5, gpus=8)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        panel = app._board.query_one("#machine", Canvas)

        def shown() -> str:
            return "\n".join("".join(text for text, _ in row) for row in panel._rows)

        assert "7   93%" in shown()
        assert "GPU 7" not in shown()
        await pilot.press("4")
        await paint(pilot)
        assert "GPU 7  93%  mem 71.0G/80.0G" in shown()
        assert shown().count("612/700 W") == 8


async def test_the_log_opens_and_closes(tmp_path: Path) -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("g")
        on_screen(app, LogScreen)
        await pilot.press("escape")
        assert on_screen(app, Board) is app._board


async def test_a_click_selects_a_limit_and_a_second_one_types_it() -> None:
    app = app_after(5)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.click("#limits", offset=(5, 3))
        assert app._board.selected == "max_model_len"
        await pilot.click("#limits", offset=(5, 3), times=2)
        await pilot.pause()
        on_screen(app, Dialog)


async def test_an_engine_that_died_can_be_booted_again() -> None:
    app = app_after(20, fail_at_step=400)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        app.rig.engine_options.clear()
        await pilot.press("b")
        app.rig.run(12)
        await paint(pilot)
        frame = app.session.advance()
        assert frame.serving
        assert frame.accounting.finished > 0


async def test_a_screen_that_only_grows_wider_is_painted_over_its_whole_width() -> None:
    app = app_after(30)
    async with app.run_test(size=(112, 40)) as pilot:
        await paint(pilot)
        await pilot.resize_terminal(150, 40)
        await paint(pilot)
        for name in ("limits", "changes", "latency", "header"):
            canvas = app._board.query_one(f"#{name}")
            widths = {canvas.render_line(y).cell_length for y in range(canvas.size.height)}
            assert widths == {canvas.size.width}, name


async def test_every_repaint_equals_painting_anew() -> None:
    app = app_after(30)
    async with app.run_test(size=(120, 40)) as pilot:
        for _ in range(5):
            app.rig.run(1.3)
            await paint(pilot)
        partial = app.export_screenshot(simplify=True)
        app.screen.refresh(layout=True)
        await pilot.pause()
        assert app.export_screenshot(simplify=True) == partial


async def test_a_tick_that_comes_while_the_screen_is_taken_down_does_nothing() -> None:
    app = app_after(30)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
    app._tick()
    app._board.redraw()

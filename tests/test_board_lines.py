"""The lines around the panels: what holds, which keys hold, and how grave a figure is."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.made import MARKS, frame_of, six_trials
from tests.screens import on_screen
from tests.test_screen import app_after, board_of, paint
from tputtui.errors import TputError
from tputtui.frame import CompareState, Frame, SweepState, TunerState
from tputtui.goals import parse_goals
from tputtui.load.sections import from_texts
from tputtui.measure.histogram import Histogram, histograms
from tputtui.ui.key_line import Key, chosen_keys
from tputtui.ui.keys import bound
from tputtui.ui.panels.severity import preempted_look, queue_look, share_look
from tputtui.ui.panels.spread import histogram_rows
from tputtui.ui.panels.standing import noteworthy, standing
from tputtui.ui.screens.help import HelpScreen


@pytest.fixture(scope="module")
def frame() -> Frame:
    return frame_of(six_trials(), marks=MARKS)


def said(frame: Frame, width: int = 119, failed: str = "") -> str:
    return "".join(text for text, _ in standing(frame, width, failed)).strip()


def with_goals(frame: Frame, text: str = "ttft_p99=2s,tpot_p99=50ms") -> Frame:
    return replace(frame, profile=msgspec.structs.replace(frame.profile, goals=parse_goals(text)))


# -- what holds --------------------------------------------------------------------------------


def test_goals_and_guard_in_force_are_named(frame: Frame) -> None:
    assert said(frame) == "no goals (o sets them)"
    assert not noteworthy(frame, "")
    guarded = replace(with_goals(frame), guard="ttft_p99=2s,kv=0.97")
    assert said(guarded) == (
        "goals TTFT p99 ≤ 2.00 s … TPOT p99 ≤ 50.0 ms …  guard ttft_p99=2s,kv=0.97"
    )
    assert noteworthy(guarded, "")
    classes = from_texts(frame.profile.load, {"classes": "chat share=1 goal=ttft_p99=500ms"})
    judged = replace(frame, profile=msgspec.structs.replace(frame.profile, load=classes))
    assert said(judged) == "goals chat TTFT p99 ≤ 500 ms …"
    assert noteworthy(judged, "")


def test_how_far_an_experiment_is_and_what_is_left_of_it(frame: Frame) -> None:
    note = "pair 3 of at most 12: B measuring, 12 of 24 s"
    compare = CompareState("B", 2, note, False, (), left_s=250.0)
    assert said(replace(frame, compare=compare)).endswith(f"▸ A/B: {note}  4:10 left at most")
    sweep = SweepState(34.0, 6, "measuring, 6 of 10 s", "34 in flight", 72.0)
    assert said(replace(frame, sweep=sweep)).endswith(
        "▸ sweep: now 34 in flight, 6 levels done · measuring, 6 of 10 s"
        "  1:12 at most for this level"
    )
    assert "▸" not in said(replace(frame, compare=replace(compare, done=True)))


def test_a_setting_that_the_tuner_found_waits_for_its_answer(frame: Frame) -> None:
    tuner = TunerState("done", "over", False, "physics", "", "", ())
    assert "▸" not in said(replace(frame, tuner=tuner))
    found = replace(frame, tuner=replace(tuner, offered=True))
    assert said(found).endswith("no goals (o sets them)  ▸ the tuner has found a better setting: t")
    assert noteworthy(found, "")
    # What was set stays: nothing is under way.
    held = with_goals(found)
    assert said(held, 119).endswith("▸ the tuner has found a better setting: t")
    assert said(held, 79) == "goals TTFT p99 ≤ 2.00 s … TPOT p99 ≤ 50.0 ms …  ▸ better setting: t"
    assert said(held, 60).startswith("goals TTFT p99 ≤ 2.00 s … TPOT p99 ≤ 50.0 ms")


@pytest.mark.parametrize("width", [79, 119, 199])
def test_the_line_is_never_wider_than_the_screen(frame: Frame, width: int) -> None:
    note = "pair 3 of at most 12: B " + "warming up, " * 12
    compare = CompareState("B", 2, note, False, (), left_s=250.0)
    long = replace(with_goals(frame), guard="ttft_p99=2s,kv=0.97", compare=compare)
    assert len(said(long, width)) <= width
    assert said(long, width).endswith("4:10 left at most")
    assert len(said(long, width, "boot failed: " + "no memory " * 40)) <= width


async def test_a_failed_boot_stays_in_sight_until_it_is_acknowledged() -> None:
    app = app_after(20)
    host = app.session.host
    refusal = TputError("CUDA out of memory.", "Boot with lower ceilings.")
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        board = board_of(pilot)
        line = board._canvases["standing"]
        assert not line.display
        host.status = replace(host.status, refused=refusal)
        for _ in range(3):
            app.rig.run(5)
            await paint(pilot)
            assert line.display
            assert "✖ boot failed: CUDA out of memory." in line.render_line(0).text
            assert "Esc: seen" in line.render_line(0).text
        await pilot.press("escape")
        await paint(pilot)
        assert not line.display
        assert app._exit is False


# -- the keys that hold ------------------------------------------------------------------------


def test_keys_fill_the_width_without_a_gap_and_the_last_ones_stay() -> None:
    keys = [Key("h", "tried"), Key("Ctrl+P", "a long description"), Key("f", "plot")]
    last = [Key("q", "quit")]
    assert chosen_keys(keys, last, 200) == [*keys, *last]
    assert chosen_keys(keys, last, 30) == [keys[0], keys[2], last[0]]
    assert chosen_keys(keys, last, 3) == last


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_the_keys_shown_are_those_that_hold(size: tuple[int, int]) -> None:
    app = app_after(20)
    async with app.run_test(size=size) as pilot:
        await paint(pilot)
        keys = board_of(pilot)._keys

        def text() -> str:
            return keys.render_line(0).text

        assert text().startswith("↑↓ pick  ←→ change")
        assert "? help  q quit" in text()
        assert ("h tried" in text()) == (size[0] > 100)
        await pilot.press("3")
        await paint(pilot)
        assert text().startswith("Esc board  1 … 6 ")
        await pilot.press("escape")
        await paint(pilot)
        assert text().startswith("↑↓ pick")


@pytest.mark.parametrize(
    ("kind", "gone"),
    [
        ({}, ()),
        ({"simulated": "SIMULATED, datasheet roofline"}, ("verify", "as served")),
        ({"served": True, "pausable": False}, ("as served", "pause")),
        ({"live": True}, ("verify", "as served", "hold", "A/B", "tune")),
    ],
)  # fmt: skip
async def test_what_this_engine_refuses_is_offered_nowhere(
    kind: dict[str, Any], gone: tuple[str, ...]
) -> None:
    app = app_after(20)
    host = app.session.host
    assert host.status.facts is not None
    host.status = replace(host.status, facts=replace(host.status.facts, **kind))
    app.session.advance()
    tooltips = {each.description: each.tooltip for each in bound().values()}
    titles = {"verify": "Verify boot", "as served": "As served", "hold": "Hold or run the load",
              "A/B": "A/B", "tune": "Tuner", "pause": "Pause the engine"}  # fmt: skip
    async with app.run_test(size=(200, 50)) as pilot:
        await paint(pilot)
        words = board_of(pilot)._keys.render_line(0).text
        in_palette = [each.title for each in app.get_system_commands(app.screen)]
        await pilot.press("question_mark")
        await pilot.pause()
        in_help = [does for _, does in on_screen(app, HelpScreen)._keys]
        for word, title in titles.items():
            held = word not in gone
            if word in ("verify", "hold", "A/B", "tune"):
                assert (f" {word} " in words) is held, word
            assert (title in in_palette) is held, word
            assert (tooltips[word] in in_help) is held, word
        if gone == ("verify", "as served"):
            # Who presses it all the same is told why.
            await pilot.press("escape", "v")
            await pilot.pause()
            assert "A simulation verifies nothing." in [n.title for n in app._notifications]


async def test_the_key_that_ends_a_comparison_names_the_one_under_way() -> None:
    app = app_after(20)
    async with app.run_test(size=(200, 50)) as pilot:
        await paint(pilot)
        board, frame = board_of(pilot), app.session.latest

        def shown(compare: CompareState | None) -> str:
            board._show_keys(replace(frame, compare=compare))
            return board._keys.render_line(0).text

        under_way = CompareState("A", 0, "booting", False, (), title="verify")
        assert "c A/B" in shown(None)
        assert "c stop " in (verifying := shown(under_way))
        assert "stop A/B" not in verifying
        # One follows the other without a moment between them.
        assert "c stop A/B" in shown(replace(under_way, title="A/B"))
        assert "c A/B" in shown(replace(under_way, done=True))


async def test_before_the_engine_is_up_only_what_helps_then_is_offered() -> None:
    app = app_after(0)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        text = board_of(pilot)._keys.render_line(0).text
        assert text.startswith("g log  l load")
        assert "change" not in text


async def test_a_click_on_a_key_does_what_it_does() -> None:
    app = app_after(20)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        board = board_of(pilot)
        assert board.selected == "max_num_seqs"
        text = board._keys.render_line(0).text
        await pilot.click("#keys", offset=(text.index("? help"), 0))
        await pilot.pause()
        assert app.screen is not board


# -- how grave ---------------------------------------------------------------------------------


def test_a_cache_that_is_full_does_not_look_like_one_that_is_empty() -> None:
    assert [share_look(share) for share in (0.04, 0.79, 0.8, 0.94, 0.95, 0.99, 1.0)] == [
        "calm", "calm", "warn", "warn", "bad", "bad", "bad"
    ]  # fmt: skip
    assert share_look(math.nan) == "calm"


def test_a_queue_is_grave_by_what_it_waits_for() -> None:
    assert [queue_look(waiting, 64) for waiting in (0, 16, 17, 64, 65)] == [
        "text", "calm", "warn", "warn", "bad"
    ]  # fmt: skip
    assert [preempted_look(count, 64) for count in (0, 1, 6, 7)] == ["text", "warn", "warn", "bad"]


async def test_the_panel_of_the_batch_is_coloured_by_share() -> None:
    app = app_after(30)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        board = board_of(pilot)
        for share, look in ((0.3, "calm"), (0.9, "warn"), (0.99, "bad")):
            board.show(replace(app.session.latest, kv_frac=share), everything=True)
            row = next(row for row in board._canvases["batch"]._rows if row[0][0] == "KV cache    ")
            assert look in {style for text, style in row if "━" in text}


def test_each_second_knows_its_latencies_and_how_busy_the_machine_was() -> None:
    app = app_after(40, gpus=2)
    frame, bucket = app.session.latest, app.session.history.buckets[-1]
    assert bucket.ttft_p50 == pytest.approx(frame.latencies.ttft.p50, rel=0.2)
    assert bucket.ttft_p50 <= bucket.ttft_p90
    assert bucket.tpot_p50 == pytest.approx(frame.latencies.tpot.p50, rel=0.2)
    assert bucket.cpu_frac == 0.97
    assert bucket.gpu_frac == pytest.approx(0.93)
    idle = app_after(0).session
    assert not idle.history.buckets


# -- how latencies are spread ------------------------------------------------------------------


def test_a_histogram_counts_every_request_once_in_bins_of_equal_ratio() -> None:
    rig = app_after(30).rig
    now_s = rig.clock()
    shapes = histograms(rig.session.recorder, 0.0, now_s)
    assert [shape.name for shape in shapes] == ["ttft", "tpot", "e2e"]
    ended = rig.session.recorder.ended.between(0.0, now_s)
    assert shapes[2].n == len(ended)
    assert Histogram.edge(24) == pytest.approx(10.0)
    assert Histogram.edge(-24) == pytest.approx(0.1)


def test_a_histogram_shows_where_the_goal_lies() -> None:
    shape = Histogram("ttft", -24, (1, 5, 9, 5, 1))
    (goal,) = parse_goals("ttft_p99=120ms")
    rows = ["".join(text for text, _ in row) for row in histogram_rows(shape, [goal], 40, 8)]
    assert len(rows) == 8
    assert {len(row) for row in rows} == {40}
    assert rows[0].endswith("│ p99 ≤ 120 ms")
    columns = {row.index("│") for row in rows[1:-1]}
    assert len(columns) == 1
    assert rows[-1].split()[-1] == "s" or rows[-1].endswith("ms")
    far = parse_goals("ttft_p99=9s")
    plain = ["".join(text for text, _ in row) for row in histogram_rows(shape, far, 40, 8)]
    assert not any("│" in row for row in plain[1:])


async def test_a_whole_screen_of_latency_has_charts_and_histograms() -> None:
    app = app_after(60)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("3")
        await paint(pilot)
        canvas = board_of(pilot)._canvases["latency"]
        text = "\n".join(canvas.render_line(y).text for y in range(canvas.size.height))
        assert "TTFT p50, p90" in text
        assert "TTFT, requests" in text
        assert "TPOT, requests" in text

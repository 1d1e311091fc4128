"""The cursor that reads charts: seconds and columns, marks as stops, keys and the pointer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from tests.rig import Rig
from tests.test_screen import RigApp, board_of, with_rig
from tputtui import profile
from tputtui.measure.history import Bucket, History
from tputtui.measure.samples import Mark
from tputtui.ui.app import TputApp
from tputtui.ui.chart import chart, page_of
from tputtui.ui.cursor import RULES, Page, Trail

TURNED = "max_num_seqs 64 → 32"


def history_of(seconds: int, start_s: float = 100.0) -> History:
    """A run whose second i generated i tokens with 2 i running, under a limit of 64."""
    history = History(start_s)
    for i in range(seconds):
        history.buckets.append(
            Bucket(start_s + i, float(i), 0.0, 2.0 * i, 0.0, 64.0, 0.0, 0.01, 0.0)
        )
    history.total = seconds
    return history


def trail_of(*marks: tuple[float, str, str], start_s: float = 100.0) -> Trail:
    """Marks given as (second, kind, text)."""
    return Trail((Mark(start_s + s, kind, text) for s, kind, text in marks), History(start_s))


def plain(rows: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def drawn(
    cursor: int | None = None,
    seconds: int = 40,
    width: int = 40,
    marks: Sequence[Mark] = (),
    **options: Any,
) -> list[str]:
    return plain(
        chart("generated", history_of(seconds), attrgetter("generated"), marks, width, 6,
              cursor=cursor, **options)
    )  # fmt: skip


# -- pages and trails --------------------------------------------------------------------------


@given(st.integers(0, 5000), st.integers(4, 200))
def test_a_column_and_its_seconds_are_one_another(total: int, width: int) -> None:
    history = History(0.0)
    history.total = total
    page = Page.of(history, width)
    for column in range(width):
        assert page.column(page.second(column)) == page.column(page.second(column) + 1) == column
    assert page.column(page.first - 1) is None
    assert page.column(page.end) is None
    assert page.end == total - total % 2


def test_the_cursor_stops_at_each_second_with_a_mark_and_stays_at_the_ends() -> None:
    trail = trail_of((3, "engine", "a"), (9.2, "knob", "b"), (9.8, "knob", "c"), (20, "load", "d"))
    assert trail.beside(None, -1) == trail.beside(None, 1) == 20
    assert [trail.beside(20, -1), trail.beside(9, -1), trail.beside(3, -1)] == [9, 3, 3]
    assert [trail.beside(3, 1), trail.beside(12, 1), trail.beside(20, 1)] == [9, 20, 20]
    assert trail_of().beside(None, 1) is None


def test_a_mark_is_read_from_a_column_beside_it_and_no_further() -> None:
    trail = trail_of((10, "knob", TURNED))
    assert [trail.near(second) for second in (6, 7, 10, 13, 14)] == [None, 10, 10, 10, None]
    assert trail.within(10, 12) == 10
    assert trail.within(8, 10) is None
    assert trail_of().near(0) is None


@pytest.mark.parametrize("kind", RULES)
def test_a_mark_reads_as_its_time_its_rule_and_its_text(kind: str) -> None:
    assert trail_of((42, kind, TURNED)).caption(42, 40) == f"0:42 {RULES[kind]} {TURNED}"


def test_marks_of_one_second_read_as_the_last_and_how_many_more() -> None:
    trail = trail_of((42, "load", "64 in flight"), (42.5, "knob", TURNED))
    assert trail.caption(42, 60) == f"0:42 ┃ {TURNED} (+1)"


@given(st.integers(0, 60))
def test_a_long_text_keeps_its_ends(width: int) -> None:
    text = "0:42 ┃ max_num_batched_tokens 2,048 → 1,024"
    told = trail_of((42, "knob", "max_num_batched_tokens 2,048 → 1,024")).caption(42, width)
    assert len(told) == min(width, len(text))
    if 30 <= width < len(text):
        assert told.startswith("0:42 ┃ max_num")
        assert told.endswith("→ 1,024")


# -- the chart ---------------------------------------------------------------------------------


def test_the_caption_reads_the_time_and_the_value_and_nothing_else_moves() -> None:
    before, after = drawn(), drawn(cursor=25)
    assert before[0].endswith("39  0–40")
    assert after[0].endswith("0:25  25")
    assert len(after[0]) == len(before[0]) == 40
    for was, now in zip(before[1:], after[1:], strict=True):
        assert now[32] == "║"
        assert now[:32] + now[33:] == was[:32] + was[33:]


def test_the_caption_reads_the_limit_too() -> None:
    caption = drawn(cursor=5, limit=attrgetter("max_num_seqs"))[0]
    assert caption.endswith("0:05   5  ▔ 64")


def test_the_time_stays_where_it_is_whatever_the_value() -> None:
    assert drawn(cursor=8)[0].index("0:08") == drawn(cursor=38)[0].index("0:38")


def test_a_second_before_the_page_is_read_but_not_drawn() -> None:
    rows = drawn(cursor=3, seconds=200)
    assert rows[0].endswith("◂ 0:03    3")
    assert rows[1:] == drawn(seconds=200)[1:]


def test_a_second_that_is_not_over_has_no_value_yet() -> None:
    rows = drawn(cursor=40)
    assert rows[0].endswith("0:40   –")
    assert rows[1:] == drawn()[1:]


def test_the_cursor_is_told_from_every_mark_without_colour() -> None:
    marks = [Mark(100.0 + 6 * i, kind, "") for i, kind in enumerate(RULES)]
    row = drawn(cursor=38, marks=marks)[1]
    assert [row[20 + 3 * i] for i in range(len(RULES))] == ["┃", "╎", "│", "┊", "┇"]
    assert row[39] == "║"
    assert len({*RULES.values(), "║"}) == len(RULES) + 1


# -- the board ---------------------------------------------------------------------------------


def app_after(seconds: int = 60) -> RigApp:
    """An app over a session that was turned once, halfway."""
    demo = profile.load(profile.shipped()["demo"])
    rig = Rig(demo.load, demo.knobs)
    rig.boot()
    rig.run(seconds / 2)
    rig.session.steer.limits.set("max_num_seqs", 32)
    rig.run(seconds / 2)
    return with_rig(rig)


async def settle(pilot: Pilot[Any]) -> None:
    await pilot.pause()
    board_of(pilot).redraw()
    await pilot.pause()


def lines(app: TputApp, name: str) -> list[str]:
    canvas = app._board.query_one(f"#{name}")
    return [canvas.render_line(y).text for y in range(canvas.size.height)]


def columns(app: TputApp, name: str) -> set[int]:
    """Where the cursor is drawn in a panel."""
    return {line.index("║") for line in lines(app, name) if "║" in line}


def title(app: TputApp, name: str = "throughput") -> str | None:
    return app._board.query_one(f"#{name}").border_title


async def test_keys_go_from_mark_to_mark_and_escape_ends_it_without_leaving() -> None:
    app = app_after()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        before = lines(app, "throughput") + lines(app, "batch")
        stops = sorted(app._board._trail(app.session.advance())._stops)
        await pilot.press("comma")
        assert app._board.cursor == stops[-1]
        assert TURNED in title(app)
        assert TURNED not in title(app, "batch")
        assert len(columns(app, "throughput")) == len(columns(app, "batch")) == 1
        await pilot.press("comma")
        assert app._board.cursor == stops[-2]
        await pilot.press("full_stop", "full_stop")
        assert app._board.cursor == stops[-1]
        await pilot.press("escape")
        assert app._board.cursor is None
        assert app._exit is False
        assert title(app) == " 1 throughput "
        assert lines(app, "throughput") + lines(app, "batch") == before


async def test_the_cursor_moves_by_a_column_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_after()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.press("comma")
        before, (at,) = lines(app, "batch"), columns(app, "batch")
        # What has happened since is for the next second to show.
        monkeypatch.setattr(app._board, "tick", lambda: None)
        for _ in range(50):
            app.rig.turn()
        await pilot.press("less_than_sign")
        after = lines(app, "batch")
        assert columns(app, "batch") == {at - 1}
        for was, now in zip(before, after, strict=True):
            if "║" in was:
                assert now[: at - 1] + now[at + 1 :] == was[: at - 1] + was[at + 1 :]
        await pilot.press("greater_than_sign")
        assert lines(app, "batch") == before


async def test_the_pointer_reads_the_column_under_it_and_takes_the_cursor_along() -> None:
    app = app_after()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        before = lines(app, "throughput")
        panel = app._board.query_one("#throughput")
        # Border above, padding at the left.
        page, gutter = page_of(app.session.history, panel.size.width)
        await pilot.hover("#throughput", offset=(1 + gutter + 45, 7))
        await settle(pilot)
        page, _ = page_of(app.session.history, panel.size.width)
        assert app._board.cursor == page.second(45)
        assert columns(app, "throughput") == columns(app, "batch") == {gutter + 45}
        turned = gutter + page.column(
            int(app.session.advance().marks[-1].t_s - app.session.history.start_s)
        )
        await pilot.hover("#throughput", offset=(1 + turned, 7))
        assert TURNED in title(app)
        # Over the figures, and outside: no chart is pointed at.
        await pilot.hover("#throughput", offset=(1 + turned, 2))
        assert app._board.cursor is None
        await pilot.hover("#batch", offset=(1 + turned, 8))
        assert TURNED in title(app, "batch")
        assert TURNED not in title(app)
        await pilot.hover("#limits", offset=(5, 2))
        await settle(pilot)
        assert app._board.cursor is None
        assert lines(app, "throughput") == before


async def test_a_cursor_put_by_keys_stays_when_the_pointer_goes() -> None:
    app = app_after()
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        await pilot.hover("#throughput", offset=(50, 7))
        await pilot.press("comma")
        put = app._board.cursor
        await pilot.hover("#limits", offset=(5, 2))
        await settle(pilot)
        assert app._board.cursor == put


async def test_many_moves_within_a_column_and_beyond_the_run_paint_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_after(20)
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        painted = []
        paint = app._board._paint

        def noted(panels: dict[str, Any]) -> None:
            painted.append(set(panels))
            paint(panels)

        monkeypatch.setattr(app._board, "_paint", noted)
        monkeypatch.setattr(app._board, "tick", lambda: None)
        for y in (6, 7, 8, 7, 6):
            await pilot.hover("#throughput", offset=(56, y))
        assert painted == [{"throughput", "batch", "latency", "machine"}]
        # Before the run began.
        await pilot.hover("#throughput", offset=(20, 7))
        assert app._board.cursor is None


async def test_a_zoomed_panel_has_the_cursor_and_the_text() -> None:
    app = app_after()
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("2", "comma")
        await settle(pilot)
        assert TURNED in title(app, "batch")
        assert any("▔ 64" in line or "▔ 32" in line for line in lines(app, "batch"))
        await pilot.press("escape")
        assert app._board.maximized is None
        assert app._board.cursor is not None
        await pilot.press("escape")
        assert app._board.cursor is None
        assert app._exit is False


async def test_a_narrow_panel_gives_its_name_up_for_the_mark_and_then_its_middle() -> None:
    app = app_after(40)
    async with app.run_test(size=(80, 24)) as pilot:
        await settle(pilot)
        await pilot.press("comma")
        assert title(app).startswith(" 1 · 0:")
        assert title(app).endswith(f"{TURNED} ")
        await pilot.press("escape")
        app.session.steer.limits.set("max_num_batched_tokens", 1024)
        app.rig.run(2)
        await settle(pilot)
        await pilot.press("comma")
        # All of the rule but the cell that Textual keeps at either end.
        rule = app._board._compositor.render_strips()[1].text[:40]
        assert rule.startswith("─ 1 · 0:4")
        assert rule.endswith("2048 → 1024 ─")
        assert "max_num_bat" in rule


async def test_before_the_engine_is_up_the_keys_do_nothing() -> None:
    demo = profile.load(profile.shipped()["demo"])
    app = TputApp(Rig(demo.load).session, start=lambda: None)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.press("comma", "full_stop", "less_than_sign", "escape")
        assert app._board.cursor is None
        assert app._exit is False


async def test_a_mark_with_brackets_is_read_as_it_is() -> None:
    app = app_after()
    # It looks again four times a second, and would find what the session has.
    app._tick = lambda: None  # type: ignore[method-assign]
    async with app.run_test(size=(120, 40)) as pilot:
        await settle(pilot)
        board = app._board
        marks = (Mark(board.session.history.start_s + 20.0, "guard", "undone [red] p99 [/]"),)
        board._figured = replace(board._figured, marks=marks)
        await pilot.press("comma")
        shown = board.query_one("#throughput")._border_title.plain
        assert shown.endswith("0:20 ┇ undone [red] p99 [/] ")

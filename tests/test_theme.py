"""The themes: contrast in each, everything repainted at once, and no theme but ours."""

from __future__ import annotations

import re
from itertools import product

import pytest
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.theme import Theme
from textual.widget import Widget
from textual.widgets import Label

from tests.made import MARKS, frame_of, six_trials
from tests.screens import on_screen
from tests.test_history_screen import opened, shown_by
from tests.test_screen import app_after, paint
from tputtui.cli.settings import THEMES as BY_FLAG
from tputtui.ui.board import Board
from tputtui.ui.canvas import Canvas
from tputtui.ui.theme import GROUNDS, INKS, OWN, THEMES

WORDS = re.compile(r"\w")
LEAST = 4.5
"""Contrast that text needs (WCAG 2.1, 1.4.3)."""


def luminance(color: Color) -> float:
    parts = [part / 255 for part in color.rgb]
    red, green, blue = (
        part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: Color, other: Color) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def color_of(theme: Theme, name: str) -> Color:
    return Color.parse(theme.variables.get(name) or getattr(theme, name))


@pytest.mark.parametrize("theme", OWN, ids=lambda theme: theme.name)
def test_every_text_can_be_read_on_every_ground(theme: Theme) -> None:
    for ink, ground in product(INKS, GROUNDS):
        reached = contrast(color_of(theme, ink), color_of(theme, ground))
        assert reached >= LEAST, f"{ink} on {ground}: {reached:.2f}"


@pytest.mark.parametrize("key", ["e", "l", "ctrl+p"])
async def test_what_textuals_widgets_paint_can_be_read_too(key: str) -> None:
    # Hints in empty fields, selected text, the command that is chosen.
    app = app_after(30)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press(key)
        for theme in OWN:
            app.theme = theme.name
            await pilot.pause()
            faint = [
                f"{segment.text!r} in {theme.name}: {reached:.2f}"
                for widget in app.screen.walk_children(Widget)
                if not widget.children and widget.size
                for strip in widget.render_lines(widget.size.region)
                for segment in strip
                if WORDS.search(segment.text) and (reached := painted(segment)) < LEAST
            ]
            assert faint == []


async def test_a_dialog_is_of_one_ground_before_and_after_a_refusal() -> None:
    # Textual's labels have looks of their own for some classes: "error" paints a red bar.
    app = app_after(30)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await pilot.press("o")
        for keys in ((), ("x", "enter")):
            await pilot.press(*keys)
            for theme in OWN:
                app.theme = theme.name
                await pilot.pause()
                segments = [
                    segment
                    for label in app.screen.query(Label)
                    for strip in label.render_lines(label.size.region)
                    for segment in strip
                ]
                assert len({each.style.bgcolor for each in segments}) == 1, theme.name
                assert all(painted(each) >= LEAST for each in segments if each.text.strip())
        assert "'x'" in str(app.screen.query_one(".refused", Label).content)


def painted(segment: Segment) -> float:
    """The contrast of a text with its ground."""
    style = segment.style
    assert style is not None
    assert style.color is not None
    assert style.bgcolor is not None
    assert not style.dim, segment.text
    return contrast(Color.from_rich_color(style.color), Color.from_rich_color(style.bgcolor))


def test_contrast_is_measured_as_the_standard_does() -> None:
    assert contrast(Color.parse("#000"), Color.parse("#fff")) == pytest.approx(21.0)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)


def test_better_and_worse_are_told_apart_without_red_and_green() -> None:
    safe = next(theme for theme in OWN if theme.name == "colour-blind")
    better, worse = color_of(safe, "success"), color_of(safe, "error")
    # Blue against orange: what a missing red or green cone leaves.
    assert abs(better.b - worse.b) > 100


def test_the_flag_and_the_palette_offer_the_same_themes() -> None:
    assert tuple(theme.name for theme in THEMES) == BY_FLAG
    assert tuple(app_after(0).available_themes) == BY_FLAG


async def test_a_theme_changed_while_it_runs_repaints_every_panel() -> None:
    app = app_after(30)
    async with app.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        for theme in ("gruvbox", "light", "nord"):
            app.theme = theme
            await pilot.pause()
            await pilot.pause()
            for canvas in on_screen(app, Board).query(Canvas):
                looks = {
                    name.removeprefix("canvas--"): canvas.get_component_rich_style(name)
                    for name in canvas.COMPONENT_CLASSES
                }
                strips = [canvas.render_line(y) for y in range(canvas.size.height)]
                for row, strip in zip(canvas._rows, strips, strict=False):
                    shown: list[Style | None] = [
                        segment.style for segment in strip for _ in segment.text
                    ]
                    wanted = [looks[look] for text, look in row for _ in text]
                    assert shown == wanted, (theme, canvas.id)


async def test_a_theme_changed_while_it_runs_repaints_the_table() -> None:
    app = shown_by(frame_of(six_trials(), marks=MARKS, baseline=1))
    async with app.run_test(size=(120, 40)) as pilot:
        table = (await opened(pilot))._table
        app.theme = "light"
        await pilot.pause()
        await pilot.pause()
        muted = table.get_component_rich_style("canvas--muted", partial=True)
        seen = 0
        for number, entries in table._entries.items():
            for key, entry in entries.items():
                if entry.look == "muted":
                    seen += 1
                    assert table.get_cell(str(number), key).style == muted
        assert seen > 10

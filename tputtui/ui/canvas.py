"""A panel of styled rows that repaints only the cells that differ. Line API, main thread."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.geometry import Region, Size
from textual.strip import Strip
from textual.widget import Widget

from tputtui.ui.rows import Row, fitted

__all__ = ["Canvas"]

STYLES = (
    "text", "label", "muted", "value", "accent", "good", "warn", "bad", "calm",
    "chart", "wave", "fill", "limit", "mark",
)  # fmt: skip


_CHEAPER_THAN_A_MOVE = 8
"""Fewer equal cells than this are written again: moving the terminal's cursor takes more bytes."""


class Canvas(Widget):
    """Shows rows; `paint` compares them with what is shown and refreshes the difference."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {f"canvas--{name}" for name in STYLES}
    ALLOW_MAXIMIZE = True

    def __init__(self, title: str = "", *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._rows: list[Row] = []
        self._strips: list[Strip] = []
        self._painted: Size | None = None
        self._restyled = False
        self._looks: dict[str, Style] = {}
        self.border_title = title

    def paint(self, rows: list[Row]) -> None:
        """Show `rows`, cut and padded to the panel's size."""
        width, height = self.size
        rows = [fitted(row, width) for row in rows[:height]]
        rows += [[(" " * width, "text")]] * (height - len(rows))
        old, self._rows = self._rows, rows
        if self._restyled or self._painted != self.size:
            self._painted = self.size
            self._build()
            self.refresh()
            return
        for y, (before, after) in enumerate(zip(old, rows, strict=True)):
            if before == after:
                continue
            self._strips[y] = self._strip(after)
            # Without a region a refresh would repaint the whole panel.
            if changed := _changed(before, after):
                self.refresh(*(Region(start, y, end - start, 1) for start, end in changed))

    def render_line(self, y: int) -> Strip:
        """The strip of one line; built when it was painted."""
        if self._restyled:
            self._build()
        if y < len(self._strips):
            return self._strips[y]
        return Strip.blank(self.size.width, self.visual_style.rich_style)

    def notify_style_update(self) -> None:
        """Look the colours up anew after a theme or a class has changed."""
        super().notify_style_update()
        # Textual calls this before it has set the new colours of the component classes.
        self._restyled = True
        self.refresh()

    def _build(self) -> None:
        """Make every strip, with the colours of now."""
        self._restyled = False
        self._looks.clear()
        self._strips = [self._strip(row) for row in self._rows]

    def _strip(self, row: Row) -> Strip:
        segments = [Segment(text, self._look(style)) for text, style in row if text]
        return Strip(segments, sum(len(text) for text, _ in row))

    def _look(self, name: str) -> Style:
        look = self._looks.get(name)
        if look is None:
            look = self._looks[name] = self.get_component_rich_style(f"canvas--{name}")
        return look


def _changed(before: Row, after: Row) -> list[tuple[int, int]]:
    """Spans (first, one past the last) of cells that differ, in two rows of one width."""
    old = [(char, style) for text, style in before for char in text]
    new = [(char, style) for text, style in after for char in text]
    spans: list[tuple[int, int]] = []
    for x, (was, now) in enumerate(zip(old, new, strict=True)):
        if was == now:
            continue
        if spans and x - spans[-1][1] < _CHEAPER_THAN_A_MOVE:
            spans[-1] = (spans[-1][0], x + 1)
        else:
            spans.append((x, x + 1))
    return spans

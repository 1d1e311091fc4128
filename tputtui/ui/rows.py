"""Styled text in rows of cells: what panels are drawn with. Pure.

A row is a list of (text, style name). Every character is one cell wide.
"""

from __future__ import annotations

from collections.abc import Iterable
from textwrap import shorten

__all__ = ["Row", "fitted", "shortened", "spread", "width_of"]

Row = list[tuple[str, str]]


def width_of(row: Iterable[tuple[str, str]]) -> int:
    """Cells a row takes."""
    return sum(len(text) for text, _ in row)


def fitted(row: Row, width: int) -> Row:
    """The row cut, with an ellipsis, or padded to exactly `width` cells."""
    total = width_of(row)
    if total <= width:
        return [*row, (" " * (width - total), "text")] if total < width else row
    kept: Row = []
    left = max(0, width - 1)
    for text, style in row:
        if len(text) >= left:
            kept.append((text[:left] + "…"[: width > 0], style))
            break
        kept.append((text, style))
        left -= len(text)
    return kept


def shortened(text: str, width: int) -> str:
    """The text, cut between words with an ellipsis where it is longer than `width`."""
    return text if len(text) <= width else shorten(text, max(4, width), placeholder=" …")


def spread(left: Row, right: Row, width: int) -> Row:
    """`left` at the left edge, `right` at the right one; `right` gives way when both do not fit."""
    gap = width - width_of(left) - width_of(right)
    if gap < 1:
        return fitted(left, width)
    return [*left, (" " * gap, "text"), *right]

"""Filled charts in braille: two values and four steps of height to a character. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["area", "dotted", "nice_top"]

_LEFT = (0x00, 0x40, 0x44, 0x46, 0x47)
_RIGHT = (0x00, 0x80, 0xA0, 0xB0, 0xB8)
_DOT = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""The dots of the left and the right half of a cell, from the top."""
_TOPS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
_CELLS = [[chr(0x2800 + left + right) for right in _RIGHT] for left in _LEFT]


def area(values: Sequence[float], height: int, top: float) -> list[str]:
    """Rows of text, top first: `height` rows of ⌈len(values) / 2⌉ characters.

    values: one per dot column, oldest first; NaN leaves a gap, anything above 0 shows a dot.
    top: the value that fills the whole height.
    """
    dots = [_dots(value, height * 4, top) for value in values]
    if len(dots) % 2:
        dots.append(0)
    if not dots:
        return [""] * height
    columns = [_column(*pair, height) for pair in zip(dots[::2], dots[1::2], strict=True)]
    return ["".join(cells) for cells in zip(*columns, strict=True)]


@lru_cache(maxsize=1 << 14)
def _column(left: int, right: int, height: int) -> tuple[str, ...]:
    """One column of cells, top first, filled to `left` and `right` dots."""
    bases = range(4 * (height - 1), -1, -4)
    return tuple(
        _CELLS[max(0, min(4, left - base))][max(0, min(4, right - base))] for base in bases
    )


def nice_top(value: float) -> float:
    """The smallest step of `_TOPS` × 10ⁿ that is at least `value`; 1 for 0, less and NaN."""
    if not math.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    for factor in _TOPS:
        if value <= factor * power * (1 + 1e-9):
            return factor * power
    return 10 * power


def dotted(lines: Sequence[str], values: Sequence[float], top: float) -> list[str]:
    """`lines` of an area with a dot at the height of each value, two to a character; NaN: none."""
    rows = [list(line) for line in lines]
    full = len(rows) * 4
    for place, value in enumerate(values):
        dots = _dots(value, full, top)
        if not dots:
            continue
        row, column = divmod(full - dots, 4)[0], place // 2
        cell = rows[row][column]
        base = 0x2800 if cell == " " else ord(cell)
        rows[row][column] = chr(base | _DOT[place % 2][(full - dots) % 4])
    return ["".join(row) for row in rows]


def _dots(value: float, full: int, top: float) -> int:
    if math.isnan(value) or value <= 0:
        return 0
    return max(1, min(full, round(value / top * full)))

"""Any number of GPUs in any room: from a dozen cells each to all that is known. Pure.

Every form of a GPU has a fixed width, and what does not fit is left out whole: no number is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tputtui.hardware import GpuSample
from tputtui.text.format import percent, size
from tputtui.ui.panels.gpu import block, figure, troubles
from tputtui.ui.rows import Row, fitted

__all__ = ["gpu_rows"]

_BLOCK = 58
"""Cells that each of two GPUs side by side needs."""
_LEAST = 2
"""Fewest rows of a GPU that has more than one."""


def gpu_rows(gpus: Sequence[GpuSample], width: int, room: int) -> list[Row]:
    """At most `room` rows (at least one).

    Each GPU has two rows or more, as many as fit; else one row; else a cell of a grid whose columns
    grow narrower. Only then are GPUs left out, and the last row says how many.
    """
    if blocks := _blocks(gpus, width, room):
        return blocks
    for form in _FORMS:
        columns = -(-len(gpus) // room)
        if columns * (form.cells + 1) <= width + 1 or (columns == 1 and form is _FORMS[-1]):
            return _beside([[form.draw(gpu)] for gpu in gpus], columns, width)
    columns = max(1, (width + 1) // (_FORMS[-1].cells + 1))
    shown = columns * (room - 1)
    more = f"… and {len(gpus) - shown} more: press 4" if shown else f"{len(gpus)} GPUs: press 4"
    cells = [[_FORMS[-1].draw(gpu)] for gpu in gpus[:shown]]
    return [*_beside(cells, columns, width), fitted([(more, "muted")], width)]


def _blocks(gpus: Sequence[GpuSample], width: int, room: int) -> list[Row]:
    """Blocks side by side only where that shows more; empty where two rows each do not fit."""
    laid_out: list[Row] = []
    for columns in range(1, max(1, width // _BLOCK) + 1):
        each = room // -(-len(gpus) // columns)
        if each < _LEAST:
            continue
        cells = (width + 1) // columns - 1
        whole = [block(gpu, cells) for gpu in gpus]
        laid_out = _beside([rows[:each] for rows in whole], columns, width)
        if all(len(rows) <= each for rows in whole):
            break
    return laid_out


def _beside(blocks: Sequence[list[Row]], columns: int, width: int) -> list[Row]:
    """Blocks of rows side by side, line by line."""
    cells = (width + 1) // columns - 1
    lines = []
    for start in range(0, len(blocks), columns):
        line = blocks[start : start + columns]
        for y in range(max(len(rows) for rows in line)):
            row: Row = []
            for rows in line:
                row += fitted(rows[y] if y < len(rows) else [], cells)
                row.append((" ", "text"))
            lines.append(fitted(row[:-1], width))
    return lines


# -- one GPU in one row ------------------------------------------------------------------------


def _line(gpu: GpuSample) -> Row:
    """A GPU in 38 cells; a trouble takes the place of its clock."""
    used, total = figure(gpu.mem_used_bytes, size, 5), figure(gpu.mem_total_bytes, size, 0)
    return [
        *_head(gpu),
        (f" {used}/{total:<5}", "text"),
        (f"{_whole(gpu.power_w, 5)}W", "text"),
        (figure(gpu.temp_c, _celsius, 5), "text"),
        _trouble_or(gpu, f"{_whole(gpu.sm_clock_mhz, 5)}MHz"),
    ]


def _cell(gpu: GpuSample) -> Row:
    """A GPU in 26 cells; a trouble takes the place of its power."""
    return [
        *_head(gpu),
        (f" {figure(gpu.mem_used_bytes, size, 5)}", "text"),
        (figure(gpu.temp_c, _celsius, 5), "text"),
        _trouble_or(gpu, f"{_whole(gpu.power_w, 7)}W"),
    ]


def _dot(gpu: GpuSample) -> Row:
    """A GPU in 12 cells; a trouble takes the place of its memory."""
    for trouble in troubles(gpu):
        return [*_head(gpu), (f" {trouble.word:<4}", trouble.style)]
    used, total = gpu.mem_used_bytes, gpu.mem_total_bytes
    used_frac = used / total if used is not None and total else None
    return [*_head(gpu), (figure(used_frac, percent, 5), "text")]


def _head(gpu: GpuSample) -> Row:
    return [(f"{gpu.index:<2}", "label"), (figure(gpu.util_frac, percent, 5), "value")]


def _trouble_or(gpu: GpuSample, otherwise: str) -> tuple[str, str]:
    for trouble in troubles(gpu):
        return f" {trouble.short:<7}", trouble.style
    return otherwise, "text"


def _celsius(value: float, width: int) -> str:
    text = f"{value:.0f}°C"
    # Three digits take the place of the unit, never that of the value to the left.
    return text.rjust(width) if len(text) < width else text[:-1].rjust(width)


def _whole(value: float | None, width: int) -> str:
    return figure(value, lambda number, cells: f"{number:.0f}".rjust(cells), width)


class _Form(NamedTuple):
    cells: int
    draw: Callable[[GpuSample], Row]


_FORMS = (_Form(38, _line), _Form(26, _cell), _Form(12, _dot))

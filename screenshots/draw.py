"""Draws the screen of a terminal: cells as SVG, PNG by rsvg-convert, GIF by Pillow and gifsicle.

Braille and blocks are drawn as shapes, so that no font decides how they look.
"""

from __future__ import annotations

import io
import itertools
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from PIL import Image

__all__ = ["Row", "gif", "png", "rows_of"]

WIDTH, HEIGHT, SIZE = 12.04, 24.0, 20.0
"""Of a cell, and of the letters: DejaVu Sans Mono advances by 0.602 of its size."""
BASELINE = 18.2
INK, PAPER, BORDER = "#d8dce6", "#14151f", 10.0
NAMED = {
    "black": "#000000", "red": "#cc241d", "green": "#98971a", "brown": "#d79921",
    "blue": "#458588", "magenta": "#b16286", "cyan": "#689d6a", "white": "#d5c4a1",
}  # fmt: skip
DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))
"""Column and row of each bit of a braille letter."""
COLOURS, COLOURS_MOVING = 256, 128


class Cell(NamedTuple):
    """A letter and how it looks."""

    letter: str
    ink: str
    paper: str
    bold: bool
    line: bool


Row = tuple[Cell, ...]


def rows_of(screen: Any) -> list[Row]:
    """The cells of a pyte screen."""
    return [
        tuple(_cell(screen.buffer[y][x]) for x in range(screen.columns))
        for y in range(screen.lines)
    ]


def png(rows: Sequence[Row], path: Path) -> None:
    """One screen."""
    image = _image(rows, 1.0).quantize(COLOURS, dither=Image.Dither.NONE)
    image.save(path, optimize=True)


def gif(taken: Sequence[tuple[float, list[Row]]], path: Path, scale: float = 0.85) -> None:
    """Screens with their times in seconds, at their own pace; the last one stays for 4 s."""
    images = [_image(rows, scale) for _, rows in taken]
    palette = images[-1].quantize(COLOURS_MOVING, dither=Image.Dither.NONE)
    paletted = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in images]
    lasting = [b - a for a, b in itertools.pairwise(t for t, _ in taken)]
    paletted[0].save(
        path, save_all=True, append_images=paletted[1:], loop=0, disposal=1,
        duration=[round(1000 * seconds) for seconds in (*lasting, 4.0)],
    )  # fmt: skip
    subprocess.run(["gifsicle", "-O3", "--batch", str(path)], check=True)


def _cell(char: Any) -> Cell:
    ink, paper = _colour(char.fg, INK), _colour(char.bg, PAPER)
    if char.reverse:
        ink, paper = paper, ink
    return Cell(char.data, ink, paper, char.bold, char.underscore)


def _colour(name: str, default: str) -> str:
    if name == "default":
        return default
    return NAMED.get(name.removeprefix("bright"), f"#{name}")


def _image(rows: Sequence[Row], scale: float) -> Image.Image:
    drawn = subprocess.run(
        ["rsvg-convert", "--zoom", str(scale)], input=_svg(rows).encode(), capture_output=True,
        check=True,
    )  # fmt: skip
    return Image.open(io.BytesIO(drawn.stdout)).convert("RGB")


def _svg(rows: Sequence[Row]) -> str:
    width, height = WIDTH * len(rows[0]) + 2 * BORDER, HEIGHT * len(rows) + 2 * BORDER
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}">',
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
        f'<g transform="translate({BORDER} {BORDER})" font-family="DejaVu Sans Mono" '
        f'font-size="{SIZE}" xml:space="preserve">',
    ]
    for y, row in enumerate(rows):
        parts += _papers(row, y * HEIGHT)
        parts += _letters(row, y * HEIGHT)
    return "\n".join([*parts, "</g></svg>"])


def _papers(row: Row, top: float) -> list[str]:
    parts, x = [], 0
    for paper, cells in itertools.groupby(row, lambda cell: cell.paper):
        length = len(list(cells))
        if paper != PAPER:
            parts.append(_box(x * WIDTH, top, length * WIDTH, HEIGHT, paper))
        x += length
    return parts


def _letters(row: Row, top: float) -> list[str]:
    parts, x = [], 0

    def alike(cell: Cell) -> tuple[object, ...]:
        # Only of ASCII is the width sure.
        plain = cell.letter.isascii() and cell.letter != ""
        return (cell.ink, cell.bold, cell.line, plain)

    for (ink, bold, line, plain), group in itertools.groupby(row, alike):
        cells = list(group)
        words = ["".join(cell.letter for cell in cells)] if plain else [c.letter for c in cells]
        for place, word in enumerate(words):
            left = (x + place) * WIDTH
            if shape := _shape(word, left, top, str(ink)):
                parts.append(shape)
            elif word.strip():
                weight = ' font-weight="bold"' if bold else ""
                parts.append(f'<text x="{left:.2f}" y="{top + BASELINE:.1f}" fill="{ink}"{weight}>'
                             f"{escape(word)}</text>")  # fmt: skip
        if line:
            parts.append(_box(x * WIDTH, top + HEIGHT - 3, len(cells) * WIDTH, 1.2, str(ink)))
        x += len(cells)
    return parts


def _shape(letter: str, left: float, top: float, ink: str) -> str:
    """Braille, and blocks that fill a part of the cell; empty for any other letter."""
    code = ord(letter) if len(letter) == 1 else 0
    if 0x2800 < code <= 0x28FF:
        return "".join(
            f'<circle cx="{left + WIDTH * (0.27 + 0.46 * column):.2f}" '
            f'cy="{top + HEIGHT * (0.125 + 0.25 * row):.2f}" r="1.7" fill="{ink}"/>'
            for bit, (column, row) in enumerate(DOTS)
            if code >> bit & 1
        )
    if 0x2581 <= code <= 0x2588:
        share = (code - 0x2580) / 8
        return _box(left, top + HEIGHT * (1 - share), WIDTH, HEIGHT * share, ink)
    if 0x2589 <= code <= 0x258F:
        return _box(left, top, WIDTH * (0x2590 - code) / 8, HEIGHT, ink)
    if letter == "▔":
        return _box(left, top, WIDTH, HEIGHT / 8, ink)
    return ""


def _box(left: float, top: float, width: float, height: float, ink: str) -> str:
    return (f'<rect x="{left:.2f}" y="{top:.2f}" width="{width:.2f}" height="{height:.2f}" '
            f'fill="{ink}"/>')  # fmt: skip

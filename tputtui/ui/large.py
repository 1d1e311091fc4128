"""Figures three rows high, for the one number that is looked for first. Pure."""

from __future__ import annotations

__all__ = ["HEIGHT", "large"]

HEIGHT = 3
_DIGITS = (
    "┏━┓╺┓ ╺━┓╺━┓╻ ╻┏━╸┏━╸╺━┓┏━┓┏━┓",
    "┃ ┃ ┃ ┏━┛ ━┫┗━┫┗━┓┣━┓  ┃┣━┫┗━┫",
    "┗━┛╺┻╸┗━╸╺━┛  ╹╺━┛┗━┛  ╹┗━┛╺━┛",
)
_SIGNS = {
    "+": (" ╻ ", "╺╋╸", " ╹ "),
    "-": ("   ", "╺━╸", "   "),
    ".": (" ", " ", "•"),
    "×": ("╲ ╱", " ╳ ", "╱ ╲"),
    "%": ("o ╱", " ╱ ", "╱ o"),
    " ": (" ", " ", " "),
}


def large(text: str) -> tuple[str, ...] | None:
    """`text` in three rows of one width; None where a character has no large form.

    It knows digits, signs, the point, the percent sign and ×.
    """
    rows = ["", "", ""]
    for char in text:
        if char.isascii() and char.isdigit():
            start = int(char) * 3
            parts = tuple(row[start : start + 3] for row in _DIGITS)
        elif char in _SIGNS:
            parts = _SIGNS[char]
        else:
            return None
        rows = [row + part for row, part in zip(rows, parts, strict=True)]
    return tuple(rows)

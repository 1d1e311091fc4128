"""Fewer bytes to the terminal: only the cells that changed, and a style only when it changes.

Textual's partial update writes each changed line of a widget from the widget's left edge, and
every piece with its whole style and a reset. Over ssh, four times a second, that is what
watching costs. The one place that touches Textual's private compositor (8.2).
"""

from __future__ import annotations

from functools import lru_cache

from rich.color import ColorSystem
from rich.console import Console
from rich.style import Style
from textual._compositor import ChopsUpdate, Compositor

__all__ = ["LeanCompositor"]

_RESET = "\x1b[0m"
_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
}


class LeanCompositor(Compositor):
    """A compositor whose partial updates are lean."""

    def render_partial_update(self) -> ChopsUpdate | None:
        """The cells of Textual's own update; None where nothing has changed."""
        update = super().render_partial_update()
        if update is None:
            return None
        return LeanUpdate(update.chops, update.spans, update.chop_ends)


class LeanUpdate(ChopsUpdate):
    """Spans of changed cells."""

    def render_segments(self, console: Console) -> str:
        """Escape sequences and text, ending with the style reset."""
        out: list[str] = []
        last = ""
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=True):
                if strip is None or x >= x2 or end <= x1:
                    continue
                start = max(x, x1)
                out.append(f"\x1b[{y + 1};{start + 1}H")
                for text, style, _ in strip.crop(start - x, min(end, x2) - x):
                    prefix = _prefix(style, console.color_system) if style else ""
                    if prefix != last:
                        out.append(_RESET + prefix if last else prefix)
                        last = prefix
                    out.append(text)
        return "".join(out) + _RESET


@lru_cache(maxsize=1024)
def _prefix(style: Style, color_system: str | None) -> str:
    """The escape sequence that switches `style` on."""
    system = _SYSTEMS[color_system] if color_system else None
    return style.render("X", color_system=system).partition("X")[0]

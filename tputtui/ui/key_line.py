"""The last line: the keys that hold here and now, as many as there is room for. Main thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual import events

from tputtui.ui.canvas import Canvas
from tputtui.ui.rows import Row

__all__ = ["Key", "KeyLine", "chosen_keys"]


class Key(NamedTuple):
    """A key as it is shown, what it does in a word or two, and the action that a click runs."""

    shown: str
    text: str
    action: str = ""

    @property
    def cells(self) -> int:
        """Cells that it takes, with the gap behind it."""
        return len(self.shown) + len(self.text) + 3


def chosen_keys(keys: Sequence[Key], last: Sequence[Key], width: int) -> list[Key]:
    """As many of `keys` as fit in front of `last`, the first ones first."""
    room = width - sum(key.cells for key in last)
    chosen: list[Key] = []
    for key in keys:
        if key.cells <= room:
            chosen.append(key)
            room -= key.cells
    return [*chosen, *last]


class KeyLine(Canvas):
    """Shows keys; a click does what the key does."""

    ALLOW_MAXIMIZE = False

    def __init__(self) -> None:
        super().__init__(id="keys")
        self._keys: list[Key] = []

    def show(self, keys: Sequence[Key], last: Sequence[Key]) -> None:
        """Paint `keys` as far as they fit, and `last`."""
        if not self.size.area:
            return
        self._keys = chosen_keys(keys, last, self.size.width)
        row: Row = []
        for key in self._keys:
            row += [(f"{key.shown} ", "accent"), (f"{key.text}  ", "label")]
        self.paint([row])

    async def on_click(self, event: events.Click) -> None:
        """Run the action of the key under the pointer."""
        offset = event.get_content_offset(self)
        left = offset.x if offset is not None else -1
        for key in self._keys:
            if 0 <= left < key.cells:
                if key.action:
                    await self.screen.run_action(key.action)
                return
            left -= key.cells

"""The list of the engine's arguments: the chosen one, and the rows in sight. Main thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message

from tputtui.engine.protocol import Argument
from tputtui.ui.canvas import Canvas
from tputtui.ui.draft import ArgumentDraft, Entry
from tputtui.ui.panels.arguments import list_rows, name_width

__all__ = ["ArgumentList"]


class ArgumentList(Canvas, can_focus=True):
    """The rows of `draft`, one of them chosen; its keys call actions of its screen."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"canvas--{look}-here" for look in ("text", "muted", "accent", "good", "warn")
    }
    ALLOW_MAXIMIZE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,space", "screen.edit", "edit", key_display="⏎"),
        Binding("left", "screen.cycle(-1)", "change", key_display="←→"),
        Binding("right", "screen.cycle(1)", "change", show=False),
        Binding("backspace,delete", "screen.reset", "default", key_display="⌫"),
        Binding("up", "screen.move(-1)", show=False),
        Binding("down", "screen.move(1)", show=False),
        Binding("pageup", "screen.page(-1)", show=False),
        Binding("pagedown", "screen.page(1)", show=False),
        Binding("home", "screen.move(-100000)", show=False),
        Binding("end", "screen.move(100000)", show=False),
        Binding("slash", "screen.filter", "find", key_display="a…z"),
    ]

    class Clicked(Message):
        """A row was clicked; `twice`: to edit it."""

        def __init__(self, twice: bool) -> None:
            super().__init__()
            self.twice = twice

    def __init__(self, draft: ArgumentDraft) -> None:
        super().__init__()
        self._draft = draft
        self._entries: Sequence[Entry] = ()
        self._here = self._top = 0
        self._got = False

    @property
    def chosen(self) -> Argument | None:
        """The chosen argument; None where the list has none."""
        entry = self._entries[self._here] if self._here < len(self._entries) else ""
        return None if isinstance(entry, str) else entry

    @property
    def name_here(self) -> str:
        """Name of the chosen argument; empty for none."""
        return self.chosen.name if self.chosen else ""

    @property
    def editable(self) -> tuple[int, int, int]:
        """Column, row and width of the chosen value."""
        names = name_width(self._draft, self.size.width) + 2
        return names, self._here - self._top, max(8, self.size.width - names - 2)

    def show(self, entries: Sequence[Entry], keep: str | None = None, *, got: bool = False) -> None:
        """Show other rows.

        got: with what the last boot came to, in the place of the draft's values.
        keep: name of the argument to stay on, or its neighbour if it is gone; None goes to the top.
        """
        self._entries, self._got = entries, got
        places = self._places()
        if keep is None:
            self._here = self._top = 0
        named = [n for n in places if _named(entries[n], keep)]
        near = [n for n in places if n >= self._here]
        self._here = next(iter([*named, *near, *reversed(places)]), 0)

    def move(self, steps: int) -> None:
        """Up or down by arguments; headings are stepped over."""
        if places := self._places():
            wanted = places.index(self._here) + steps
            self._here = places[max(0, min(len(places) - 1, wanted))]

    def redraw(self) -> None:
        """Paint the rows in sight; the chosen row and the heading above it always are."""
        width, height = self.size
        if not width or not height:
            return
        above = self._here > 0 and isinstance(self._entries[self._here - 1], str)
        self._top = min(self._top, self._here - above, max(0, len(self._entries) - height))
        self._top = max(self._top, self._here - height + 1, 0)
        rows = list_rows(
            self._draft, self._entries, self._top, self._here, width, height, got=self._got
        )
        self.paint(rows)

    def on_click(self, event: events.Click) -> None:
        """Choose the row under the mouse."""
        place = self._top + event.y
        if place < len(self._entries) and isinstance(self._entries[place], Argument):
            self._here = place
            self.post_message(self.Clicked(event.chain == 2))

    def on_mouse_scroll_down(self) -> None:
        """Three rows down."""
        self.move(3)
        self.post_message(self.Clicked(twice=False))

    def on_mouse_scroll_up(self) -> None:
        """Three rows up."""
        self.move(-3)
        self.post_message(self.Clicked(twice=False))

    def _places(self) -> list[int]:
        return [n for n, entry in enumerate(self._entries) if isinstance(entry, Argument)]


def _named(entry: Entry, name: str | None) -> bool:
    return isinstance(entry, Argument) and entry.name == name

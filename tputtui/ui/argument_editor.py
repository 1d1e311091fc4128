"""The two inputs of the engine form: words to search for, and the value of one argument."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import SuggestFromList
from textual.widgets import Input

from tputtui.engine.protocol import Argument

__all__ = ["Editor", "Filter"]


class Filter(Input):
    """Words to search for; the arrow keys move in the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "edit", key_display="⏎"),
        Binding("up", "screen.move(-1)", "list", key_display="↑↓"),
        Binding("down", "screen.move(1)", "list", show=False),
        Binding("pageup", "screen.page(-1)", show=False),
        Binding("pagedown", "screen.page(1)", show=False),
    ]

    def __init__(self) -> None:
        # Focus must not select: the second letter typed on the list would replace the first.
        hint = "type a name, or words of the help"
        super().__init__(placeholder=hint, compact=True, select_on_focus=False)
        self.cursor_blink = False


class Editor(Input):
    """The value of `argument`, over its place in the list; None while the editor is closed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "take", key_display="⏎"),
        Binding("up", "screen.known(-1)", "known values", key_display="↑↓"),
        Binding("down", "screen.known(1)", "known values", show=False),
    ]

    def __init__(self) -> None:
        super().__init__(placeholder="empty: vLLM's default", compact=True)
        self.cursor_blink = False
        self.display = False
        self.argument: Argument | None = None

    @property
    def text(self) -> str:
        """The text typed; the beginning of one choice only stands for that choice."""
        text = self.value.strip()
        if self.argument is None or self.argument.kind != "choice" or not text:
            return text
        known = self.argument.choices
        begun = [each for each in known if each.lower().startswith(text.lower())]
        return begun[0] if len(begun) == 1 else text

    def open(self, argument: Argument, text: str) -> None:
        """Edit `argument`, beginning with `text`, all of it selected."""
        self.argument = argument
        known = list(argument.choices)
        self.suggester = SuggestFromList(known, case_sensitive=False) if known else None
        with self.prevent(Input.Changed):
            self.value = text
        self.display = True
        self.focus()
        self.select_all()

    def place(self, column: int, row: int, width: int) -> None:
        """Move the editor over the value in the list."""
        if self.argument is not None:
            self.styles.offset = (column, row)
            self.styles.width = width

    def close(self) -> None:
        """Hide the editor."""
        self.argument = None
        self.display = False

    def cycle(self, direction: int) -> None:
        """Put in the next known value, or the previous one."""
        if self.argument is None or not (known := list(self.argument.choices)):
            return
        lower, now = [value.lower() for value in known], self.value.strip().lower()
        place = lower.index(now) + direction if now in lower else min(direction, 0)
        self.value = known[place % len(known)]
        self.cursor_position = len(self.value)

"""The two inputs of the engine form: words to look for, and the value of one argument."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import SuggestFromList
from textual.widgets import Input

from tputtui.engine.protocol import Argument

__all__ = ["Editor", "Filter"]


class Filter(Input):
    """Words to look for; arrows go on into the list."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "edit", key_display="⏎"),
        Binding("up", "screen.move(-1)", "list", key_display="↑↓"),
        Binding("down", "screen.move(1)", "list", show=False),
        Binding("pageup", "screen.page(-1)", show=False),
        Binding("pagedown", "screen.page(1)", show=False),
    ]

    def __init__(self) -> None:
        # Selected on focus, the first letter typed on the list would be typed over.
        hint = "type a name, or words of the help"
        super().__init__(placeholder=hint, compact=True, select_on_focus=False)
        self.cursor_blink = False


class Editor(Input):
    """The value of `argument`, in the place where the list shows it; None while it is closed."""

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
        """What is typed; the beginning of a single choice is that choice."""
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
        """Stand over the value in the list."""
        if self.argument is not None:
            self.styles.offset = (column, row)
            self.styles.width = width

    def close(self) -> None:
        """Back out of sight."""
        self.argument = None
        self.display = False

    def turn(self, direction: int) -> None:
        """The next of the values known, or the one before."""
        if self.argument is None or not (known := list(self.argument.choices)):
            return
        lower, now = [value.lower() for value in known], self.value.strip().lower()
        place = lower.index(now) + direction if now in lower else min(direction, 0)
        self.value = known[place % len(known)]
        self.cursor_position = len(self.value)

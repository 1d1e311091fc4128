"""Dialogs that ask for text: they stay open, and say why, until the text is valid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from tputtui.errors import UsageError
from tputtui.ui.terminal_app import leave_out_typed

__all__ = ["Dialog", "Field"]

_LOOK_S = 0.25

Field = tuple[str, str]
"""(label, text to start from)"""


class Dialog(ModalScreen[None]):
    """Asks for one or more texts and hands them to `use`; what it refuses is shown.

    use: called with the texts; a UsageError keeps the dialog open with its sentence.
    ahead: called with the texts four times a second, for a line on what they would do, which has
    its room kept; None: without that line.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss_dialog", "cancel"),
        Binding("up", "app.focus_previous", "field before", show=False),
        Binding("down", "app.focus_next", "next field", show=False),
    ]

    def __init__(
        self,
        title: str,
        fields: Sequence[Field],
        hint: str,
        use: Callable[[list[str]], None],
        ahead: Callable[[list[str]], str] | None = None,
    ) -> None:
        super().__init__()
        self._title = title
        self._fields = fields
        self._hint = hint
        self._use = use
        self._ahead = ahead
        self._said = ""

    def compose(self) -> ComposeResult:
        """A box with a label and an input for each field."""
        with Vertical(id="box"):
            yield Label(self._title, classes="title", markup=False)
            for label, text in self._fields:
                if label:
                    yield Label(label, markup=False)
                yield Input(text, select_on_focus=True, compact=True)
            if self._ahead is not None:
                yield Label("", classes="hint", id="ahead", markup=False)
            yield Label("", classes="refused", markup=False)
            yield Label(self._hint, classes="hint", markup=False)
            yield Label("Enter applies, Esc leaves everything as it is.", classes="hint")

    def on_mount(self) -> None:
        """Focus the first input; no cursor blinks."""
        for field in self.query(Input):
            field.cursor_blink = False
        self.query(Input).first().focus()
        if self._ahead is not None:
            self.set_interval(_LOOK_S, self.look_ahead)

    def look_ahead(self) -> None:
        """Show what the texts would do, if that has changed."""
        if self._ahead is not None and self.is_running:
            said = self._ahead([field.value for field in self.query(Input)])
            if said != self._said:
                self._said = said
                self.query_one("#ahead", Label).update(said)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Pass what stood there at Enter to `use`: more may have been typed by now."""
        fields = self.query(Input)
        try:
            self._use([event.value if field is event.input else field.value for field in fields])
        except UsageError as refusal:
            self.query_one(".refused", Label).update(str(refusal))
            leave_out_typed(self.app)
            return
        self.dismiss()

    def action_dismiss_dialog(self) -> None:
        """Leave everything as it is."""
        self.dismiss()

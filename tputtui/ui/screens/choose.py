"""Asks which of a few things: a key each; Esc leaves everything as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from tputtui.ui.terminal_app import leave_out_typed

__all__ = ["Choice", "Choose"]


class Choice(NamedTuple):
    """A key, what it does in a few words, and what is called."""

    key: str
    text: str
    act: Callable[[], None]


class Choose(ModalScreen[None]):
    """A question with its choices."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "no")]

    def __init__(self, question: str, choices: Sequence[Choice]) -> None:
        super().__init__()
        self._question = question
        self._choices = choices

    def on_mount(self) -> None:
        """No key answers that was typed before."""
        leave_out_typed(self.app)

    def compose(self) -> ComposeResult:
        """A box of text."""
        with Vertical(id="box"):
            yield Label(self._question, classes="title", markup=False)
            for choice in self._choices:
                yield Label(f"{choice.key}  {choice.text}", markup=False)
            yield Label("")
            yield Label("Esc leaves everything as it is.", classes="hint")

    def on_key(self, event: events.Key) -> None:
        """Close, and do what the key stands for."""
        for choice in self._choices:
            if event.character == choice.key:
                event.stop()
                self.dismiss()
                choice.act()
                return

    def action_leave(self) -> None:
        """Close."""
        self.dismiss()

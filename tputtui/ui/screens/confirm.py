"""Asks before something that costs: Enter does it, Esc leaves everything as it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Self

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Label

from tputtui.errors import OthersError
from tputtui.ui.terminal_app import leave_out_typed

__all__ = ["Confirm"]


class Confirm(ModalScreen[None]):
    """A question with the sentences that explain it.

    verb: what Enter does, in a word or two. act: called once, when Enter is pressed.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "act", "yes"),
        Binding("escape", "leave", "no"),
    ]

    def __init__(
        self, question: str, sentences: Sequence[str], verb: str, act: Callable[[], object]
    ) -> None:
        super().__init__()
        self._question = question
        self._sentences = sentences
        self._verb = verb
        self._act = act

    @classmethod
    def anyway(cls, refusal: OthersError, act: Callable[[], object]) -> Self:
        """Whether to do what `refusal` is about although it costs other people something."""
        return cls("other people's requests", [refusal.message], "does it anyway", act)

    def on_mount(self) -> None:
        """No key answers that was typed before."""
        leave_out_typed(self.app)

    def compose(self) -> ComposeResult:
        """A box of text."""
        with Vertical(id="box"):
            yield Label(self._question, classes="title", markup=False)
            for sentence in self._sentences:
                yield Label(sentence, markup=False)
            yield Label("")
            yield Label(f"Enter {self._verb}, Esc leaves everything as it is.", classes="hint")

    def action_act(self) -> None:
        """Close, and call `act`."""
        self.dismiss()
        self._act()

    def action_leave(self) -> None:
        """Close."""
        self.dismiss()

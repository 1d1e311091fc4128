"""The engine's whole log; the screen follows its end."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, Label, Log

from tputtui.ui.log_tail import LogTail

__all__ = ["LogScreen"]


class LogScreen(ModalScreen[None]):
    """What vLLM, its C code and its progress bars have printed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,g,q", "leave", "back to the board", key_display="esc"),
    ]

    def __init__(self, tail: LogTail, where: str) -> None:
        super().__init__()
        self._tail = tail
        self._where = where

    def compose(self) -> ComposeResult:
        """A title and the lines."""
        yield Label(f"engine log  {self._where}", id="log-title", markup=False)
        yield Log(max_lines=2000)
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Show the lines so far."""
        log = self.query_one(Log)
        log.write_lines(self._tail.lines)
        log.focus()

    def add(self, lines: list[str]) -> None:
        """Append new lines."""
        if lines:
            self.query_one(Log).write_lines(lines)

    def action_leave(self) -> None:
        """Back to the board."""
        self.dismiss()

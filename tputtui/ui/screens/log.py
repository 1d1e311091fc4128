"""The engine's whole log, wrapped or not, filtered by words; the screen follows its end."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label, RichLog

from tputtui.ui.filter_line import filter_line
from tputtui.ui.log_tail import LogTail

__all__ = ["LogScreen"]

_AVERAGES = re.compile(r"Avg (prompt|generation) throughput")
"""vLLM's line of figures every ten seconds: the board has better ones, and it hides the rest."""
_TITLE = "engine log  "
_MARGIN = 2
_KEPT = 2000


class LogScreen(ModalScreen[None]):
    """What vLLM, its C code and its progress bars have printed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("w", "wrap", "wrap, or scroll ←→"),
        Binding("a", "averages", "vLLM's averages"),
        Binding("y", "copy", "copy"),
        Binding("escape,g,q", "leave", "back to the board", key_display="esc"),
    ]

    def __init__(self, tail: LogTail, where: str) -> None:
        super().__init__()
        self._tail = tail
        self._where = where
        self._title = Label(_TITLE + where, id="log-title", markup=False)
        self._wrapped, self._averages = True, False
        self._log = RichLog(max_lines=_KEPT, wrap=True, min_width=1, auto_scroll=True)
        self._filter = filter_line()

    def compose(self) -> ComposeResult:
        """A title, the lines and the filter."""
        yield self._title
        yield self._log
        yield self._filter
        yield Footer(show_command_palette=False)

    def on_mount(self) -> None:
        """Show the lines so far."""
        self._filter.display = False
        self._filter.cursor_blink = False
        self._write(self._tail.lines)
        self._log.focus()

    def on_resize(self) -> None:
        """Show the end of the path, which is the file's name, where the whole has no room."""
        room = self.size.width - len(_TITLE) - _MARGIN
        cut = len(self._where) > room
        self._title.update(f"{_TITLE}…{self._where[1 - room :]}" if cut else _TITLE + self._where)

    @property
    def shown(self) -> list[str]:
        """The lines that the filter leaves, oldest first."""
        return list(self._kept(self._tail.lines))

    def add(self, lines: list[str]) -> None:
        """Append new lines."""
        self._write(lines)

    def action_filter(self) -> None:
        """Show and focus the filter."""
        self._filter.display = True
        self._filter.focus()

    def action_wrap(self) -> None:
        """Break long lines, or let them go on to the right."""
        self._wrapped = not self._wrapped
        self._log.wrap = self._wrapped
        self._anew()

    def action_averages(self) -> None:
        """Show vLLM's lines of averages, or hide them."""
        self._averages = not self._averages
        self._anew()

    def action_copy(self) -> None:
        """Copy the lines that are shown."""
        lines = self.shown
        self.app.copy_to_clipboard("\n".join(lines) + "\n")
        self.notify(f"{len(lines):,} lines.", title="Copied", timeout=3)

    def action_leave(self) -> None:
        """Show all lines again; or back to the board."""
        if self._filter.display:
            self._filter.value = ""
            self._filter.display = False
            self._log.focus()
        else:
            self.dismiss()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._anew()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self._filter.display = bool(self._filter.value)
        self._log.focus()

    # -- inside ----------------------------------------------------------------------------

    def _kept(self, lines: Iterable[str]) -> Iterable[str]:
        words = self._filter.value.lower().split()
        for line in lines:
            if not self._averages and _AVERAGES.search(line):
                continue
            if all(word in line.lower() for word in words):
                yield line

    def _write(self, lines: Iterable[str]) -> None:
        for line in self._kept(lines):
            self._log.write(Text(line))

    def _anew(self) -> None:
        self._log.clear()
        self._write(self._tail.lines)

"""The table of watched servers, one a row: sorted by any column, filtered by words."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.screen import Screen
from textual.widgets import DataTable, Footer, Input

from tputtui.attach.fleet import Looked
from tputtui.ui.canvas import Canvas
from tputtui.ui.entry_table import EntryTable
from tputtui.ui.filter_line import filter_line
from tputtui.ui.panels.fleet import about, columns, entries, matches, title
from tputtui.ui.screens.server import ALWAYS

__all__ = ["FleetScreen"]

_SCROLLBAR = 1


class ServerTable(EntryTable):
    """The servers, in the order in which they were named."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.open", "open", key_display="⏎", tooltip="One server alone"),
    ]


class FleetScreen(Screen[None]):
    """Shows the servers; Enter asks for one of them alone."""

    class Opened(Message):
        """The server at `place` was chosen."""

        def __init__(self, place: int) -> None:
            super().__init__()
            self.place = place

    AUTO_FOCUS = "#servers"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/",
                tooltip="Only servers whose name, model, state or trouble has these words"),
        Binding("less_than_sign,comma", "sort(-1)", "sort by", key_display="< >",
                tooltip="Sort by the next column to the left, or to the right"),
        Binding("greater_than_sign,full_stop", "sort(1)", "sort by", show=False),
        Binding("i", "invert", "invert", tooltip="Sort the other way round"),
        Binding("escape", "clear", "all", show=False, key_display="Esc",
                tooltip="Show all of them again"),
        *ALWAYS,
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self._title = Canvas(id="servers-title")
        self._table = ServerTable("servers", descending=False, rising=("ttft", "tpot"))
        self._about = Canvas(id="server-about")
        self._filter = filter_line()
        self._looked: Looked | None = None

    def compose(self) -> ComposeResult:
        """The line on all servers, the table, the lines on the chosen one, the filter."""
        yield self._title
        yield self._table
        yield self._about
        yield self._filter
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Hide the filter until it is wanted."""
        self._filter.display = False
        self._filter.cursor_blink = False

    def on_resize(self) -> None:
        """Paint anew once everything has its size."""
        self.call_after_refresh(self._paint)

    def show(self, looked: Looked) -> None:
        """Paint `looked`; only cells that differ are written."""
        self._looked = looked
        self._paint()

    def action_open(self) -> None:
        """Ask for the chosen server alone."""
        if self._table.chosen is not None:
            self.post_message(self.Opened(self._table.chosen - 1))

    def action_filter(self) -> None:
        """Show and focus the filter."""
        self._filter.display = True
        self._filter.focus()

    def action_clear(self) -> None:
        """Show all servers again."""
        self._filter.value = ""
        self._filter.display = False
        self._table.focus()

    def action_sort(self, direction: int) -> None:
        """Sort by the next column to the left or right."""
        self._table.sort_beside(direction)

    def action_invert(self) -> None:
        """Sort the other way round."""
        self._table.invert()

    @on(Input.Changed)
    def _typed(self) -> None:
        self._paint()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self._filter.display = bool(self._filter.value)
        self._table.focus()

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        self._paint()

    # -- inside ----------------------------------------------------------------------------

    def _paint(self) -> None:
        looked = self._looked
        if looked is None or not self._table.size.area:
            return
        text = self._filter.value.strip()
        shown = columns(self._table.size.width - _SCROLLBAR - 1)
        rows = {
            number: entries(number, server, shown)
            for number, server in enumerate(looked.servers, 1)
            if matches(server, text)
        }
        self._table.show(shown, rows)
        chosen = self._table.chosen
        below = about(looked.servers[chosen - 1], self._about.size.width) if chosen else []
        self._about.paint(below)
        self._title.paint([title(looked, len(rows), text, self._title.size.width)])

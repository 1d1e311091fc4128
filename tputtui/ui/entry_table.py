"""A table of entries: rows by their number, sorted by any column. Main thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual import on
from textual.widgets import DataTable
from textual.widgets.data_table import ColumnKey

from tputtui.ui.canvas import Canvas
from tputtui.ui.panels.tried import Column, Entry

__all__ = ["EntryTable"]

Entries = Mapping[str, Entry]
"""A row's cells by the keys of their columns."""


class EntryTable(DataTable[Text]):
    """Shows rows of entries; only cells that differ are written, and the cursor stays on its row.

    descending: whether the highest number comes first. rising: prefixes of the keys of columns
    that are sorted with the least first.
    """

    COMPONENT_CLASSES: ClassVar[set[str]] = Canvas.COMPONENT_CLASSES

    def __init__(self, id: str, *, descending: bool = True, rising: tuple[str, ...] = ()) -> None:
        super().__init__(
            id=id,
            cursor_type="row",
            cursor_foreground_priority="renderable",
            header_height=2,
            cell_padding=0,
        )
        self._shown: tuple[Column, ...] = ()
        self._entries: dict[int, Entries] = {}
        self._written: dict[int, Entries] = {}
        self.sorted_by = "number"
        self._rising = rising
        self._first = descending
        self.descending = descending

    @property
    def chosen(self) -> int | None:
        """The number of the row under the cursor."""
        rows = self.ordered_rows
        return int(str(rows[self.cursor_row].key.value)) if self.cursor_row < len(rows) else None

    @property
    def keys(self) -> list[str]:
        """The columns, from left to right."""
        return [column.key for column in self._shown]

    def show(self, columns: tuple[Column, ...], rows: Mapping[int, Entries]) -> None:
        """Show `rows`, each of which has all of `columns`."""
        chosen = self.chosen
        if columns != self._shown:
            self._shown = columns
            self._written = {}
            self.clear(columns=True)
            for column in columns:
                self.add_column(self._head(column), width=column.width, key=column.key)
        for number in self._written.keys() - rows.keys():
            self.remove_row(str(number))
            del self._written[number]
        for number, entries in rows.items():
            self._write(number, entries)
        self._entries = dict(rows)
        if self.sorted_by not in self.keys:
            self.sorted_by, self.descending = "number", self._first
        self._arrange(chosen)

    def sort_by(self, key: str, *, descending: bool) -> None:
        """Sort by column `key`."""
        chosen = self.chosen
        self.sorted_by, self.descending = key, descending
        for column in self._shown:
            self.columns[ColumnKey(column.key)].label = self._head(column)
        self._arrange(chosen, anew=True)

    def sort_beside(self, direction: int) -> None:
        """Sort by the next column to the left (-1) or the right (+1)."""
        # An arrow over a column without a name would seem to be that of its neighbour.
        named = [column.key for column in self._shown if column.label or self._leads(column)]
        if named:
            index = named.index(self.sorted_by) + direction
            self._sort_afresh(named[index % len(named)])

    def invert(self) -> None:
        """Sort the other way round."""
        self.sort_by(self.sorted_by, descending=not self.descending)

    @on(DataTable.HeaderSelected)
    def _head_clicked(self, event: DataTable.HeaderSelected) -> None:
        key = str(event.column_key.value)
        if key == self.sorted_by:
            self.invert()
        else:
            self._sort_afresh(key)

    def notify_style_update(self) -> None:
        """A theme has changed: write every cell anew."""
        super().notify_style_update()
        # Textual calls this before it has set the new colours of the component classes.
        self.call_after_refresh(self._restyle)

    def _restyle(self) -> None:
        """Write everything with the colours of now."""
        for column in self._shown:
            self.columns[ColumnKey(column.key)].label = self._head(column)
        rows, self._written = self._entries, {number: {} for number in self._written}
        for number in self._written:
            self._write(number, rows[number])

    # -- inside ----------------------------------------------------------------------------

    def _sort_afresh(self, key: str) -> None:
        # The best, or the most, comes first.
        first = self._first if key == "number" else not key.startswith(self._rising)
        self.sort_by(key, descending=first)

    def _write(self, number: int, entries: Entries) -> None:
        """Write the cells of a row that have changed."""
        written = self._written.get(number)
        if written is entries:
            return
        self._written[number] = entries
        if written is None:
            self.add_row(*(self._text(entries[key]) for key in self.keys), key=str(number))
            return
        for key in self.keys:
            if written.get(key) != entries[key]:
                self.update_cell(str(number), key, self._text(entries[key]))

    def _arrange(self, chosen: int | None, *, anew: bool = False) -> None:
        """Put the rows in order, and the cursor back on its row."""
        order = self._order()
        if anew or [int(str(row.key.value)) for row in self.ordered_rows] != order:
            place = {number: i for i, number in enumerate(order)}
            self.sort("number", key=lambda cell: place[int(cell.plain)])
        if chosen in self._entries and self.chosen != chosen:
            self.move_cursor(row=self.get_row_index(str(chosen)), animate=False)

    def _order(self) -> list[int]:
        """Numbers of the rows in order: of equal rows the newest first, rows without rank last."""
        newest: Sequence[int] = sorted(self._entries, reverse=True)
        ranks = {n: self._entries[n][self.sorted_by].rank for n in newest}
        there = [n for n in newest if ranks[n] is not None]
        there.sort(key=lambda n: ranks[n] or (), reverse=self.descending)
        return there + [n for n in newest if ranks[n] is None]

    def _leads(self, column: Column) -> bool:
        return column.key == self.sorted_by

    def _head(self, column: Column) -> Text:
        """A column's label, with an arrow in front where the rows are sorted by it."""
        here = self._leads(column)
        arrow = ("↓" if self.descending else "↑") if here else " "
        first, *more = column.label.split("\n")
        lines = [arrow + first, *(f" {line}" for line in more)]
        room = column.width - max(0, column.gap - 1)
        lines = [line.ljust(room) if column.gap else line for line in lines]
        lines = [line.rjust(column.width) for line in lines]
        return Text("\n".join(lines), self._look("accent" if here else "label"), no_wrap=True)

    def _text(self, entry: Entry) -> Text:
        return Text(entry.text, self._look(entry.look), no_wrap=True, end="")

    def _look(self, name: str) -> Style:
        return self.get_component_rich_style(f"canvas--{name}", partial=True)

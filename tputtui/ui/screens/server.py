"""One server alone: throughput, batch, latencies, and what it reports of itself."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container
from textual.screen import Screen
from textual.widgets import Footer

from tputtui.attach.fleet import Looked
from tputtui.ui.canvas import Canvas
from tputtui.ui.panels.served import (
    served_about,
    served_batch,
    served_header,
    served_latency,
    served_throughput,
)

__all__ = ["ALWAYS", "ServerScreen"]

ALWAYS: tuple[BindingType, ...] = (
    Binding("question_mark", "app.show_help", "help", key_display="?", tooltip="This page"),
    Binding("ctrl+p", "app.command_palette", "commands", show=False, key_display="Ctrl+P",
            tooltip="Themes and commands"),
    Binding("ctrl+z", "app.suspend_process", "suspend", show=False, key_display="Ctrl+Z",
            tooltip="Give the terminal back to the shell, until `fg`"),
    Binding("q", "app.leave", "quit", tooltip="Leave; so does Ctrl+C"),
)  # fmt: skip
"""Keys of both screens of servers."""


class ServerScreen(Screen[None]):
    """Shows the server at `place`.

    alone: whether it is the only one, without a table to go back to.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (36, "-tall")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left_square_bracket", "cycle(-1)", "server", key_display="[ ]",
                tooltip="The server before, or the next"),
        Binding("right_square_bracket", "cycle(1)", "next", show=False),
        Binding("escape", "back", "all servers", key_display="esc",
                tooltip="Back to the table of servers"),
        *ALWAYS,
    ]  # fmt: skip

    def __init__(self, place: int, *, alone: bool) -> None:
        super().__init__()
        self._place = place
        self._alone = alone
        self._looked: Looked | None = None
        self._header = Canvas(id="header")
        self._throughput = Canvas(" throughput ", id="served-throughput")
        self._batch = Canvas(" batch ", id="served-batch")
        self._latency = Canvas(" latency ", id="served-latency")
        self._about = Canvas(" server ", id="served-about")

    def compose(self) -> ComposeResult:
        """A header, four panels."""
        yield self._header
        yield Container(self._throughput, self._batch, self._latency, self._about, id="served")
        yield Footer(show_command_palette=False, compact=True)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show no keys that lead to other servers where there are none."""
        return not (self._alone and action in ("cycle", "back"))

    def on_resize(self) -> None:
        """Paint anew once everything has its size."""
        self.call_after_refresh(self._paint)

    def show(self, looked: Looked) -> None:
        """Paint the server in `looked`; only cells that differ are written."""
        self._looked = looked
        self._paint()

    def action_cycle(self, direction: int) -> None:
        """Show the server before, or the next."""
        if self._looked is not None:
            self._place = (self._place + direction) % len(self._looked.servers)
            self._paint()

    def action_back(self) -> None:
        """Go back to the table."""
        self.dismiss()

    def _paint(self) -> None:
        if self._looked is None or not self._header.size.area:
            return
        server = self._looked.servers[self._place]
        self._header.paint([served_header(server, self._header.size.width)])
        for canvas, panel in (
            (self._throughput, served_throughput),
            (self._batch, served_batch),
            (self._latency, served_latency),
            (self._about, served_about),
        ):
            if canvas.size.area:
                canvas.paint(panel(server, *canvas.size))

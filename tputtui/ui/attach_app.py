"""The application that watches servers which run elsewhere. Main thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import Screen

from tputtui.attach.fleet import Fleet
from tputtui.ui.keys import listed_of
from tputtui.ui.screens.fleet import FleetScreen
from tputtui.ui.screens.help import HelpScreen
from tputtui.ui.screens.server import ServerScreen
from tputtui.ui.terminal_app import TerminalApp

__all__ = ["AttachApp"]

_TICK_S = 0.25
_MEANINGS = (
    ("tok/s", "generated tokens: the counter's increase ÷ the true time between two scrapes. A "
     "restart, or a counter that went back, leaves a gap; no rate reaches across it."),
    ("window", "up to a minute of scrapes since the last restart."),
    ("p50 p90 p99", "bucketed: the server counts latencies in buckets. A percentile lies between "
     "the bounds shown, with 95 % confidence; ≤ and > where one end is not bounded or does not "
     "fit. The mean is exact: sum ÷ count."),
    ("TTFT", "to the first token, from when the server took the request: a queue in front of the "
     "server is not in it."),
    ("TPOT, ITL", "time per output token of a request; gaps between tokens, pooled."),
    ("KV, hit", "share of the KV cache in use, the mean over engines; cached ÷ looked-up tokens "
     "of prompts over the window."),
    ("run / N", "max_num_seqs is not in vLLM's /metrics: it stands there where the server tells "
     "it by another route."),
    ("● live", "figures are current. ◌ asleep: put to sleep by its owner."),
    ("↻ restarted", "within the last minute; │ on the charts."),
    ("‖ stale", "no figures for three periods: what is shown is old."),
    ("✖ down", "no figures yet, and why. … connecting: none yet."),
    ("⇄ mixed", "several servers take turns at this address (a load balancer): their counters are "
     "not one counter. Attach to each of them."),
)  # fmt: skip


class AttachApp(TerminalApp):
    """Shows a table of servers, or the server itself if there is one only."""

    def __init__(
        self,
        fleet: Fleet,
        servers: int,
        *,
        theme: str = "dark",
        leave_now: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(theme, leave_now)
        self._fleet = fleet
        self._first: FleetScreen | ServerScreen = (
            FleetScreen() if servers > 1 else ServerScreen(0, alone=True)
        )

    def get_default_screen(self) -> Screen[None]:
        """The table, or the only server."""
        return self._first

    def on_ready(self) -> None:
        """The first frame is out: now paint four times a second."""
        self._tick()
        self.set_interval(_TICK_S, self._tick)

    def on_fleet_screen_opened(self, opened: FleetScreen.Opened) -> None:
        """Show one server alone."""
        self.push_screen(ServerScreen(opened.place, alone=False))
        self.call_after_refresh(self._tick)

    def action_show_help(self) -> None:
        """Keys and meanings."""
        bindings: list[BindingType] = [*FleetScreen.BINDINGS, *ServerScreen.BINDINGS]
        keys = dict(listed_of(bindings))
        self.push_screen(HelpScreen(keys.items(), _MEANINGS))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Everything that has a key, and the themes."""
        yield SystemCommand("Help", "Keys and meanings", self.action_show_help)
        yield SystemCommand("Theme", "Dark, light, the terminal's own", self.action_change_theme)
        yield SystemCommand("Quit", "Leave", self.action_leave)

    def _tick(self) -> None:
        if not self.is_running:
            return
        looked = self._fleet.look()
        screen = self.looked_at
        if not self.behind and isinstance(screen, FleetScreen | ServerScreen):
            screen.show(looked)

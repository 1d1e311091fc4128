"""What a screen needs of a run, whether it goes on or is over."""

from __future__ import annotations

from typing import Protocol

from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import Frame
from tputtui.measure.history import History

__all__ = ["Steers", "Tunes", "Watched"]


class Tunes(Protocol):
    """What can be done with the tuner."""

    def start(self, plan: Plan) -> None:
        """Search for the best setting."""

    def finish(self) -> str:
        """Try no more."""

    def take(self, *, boot: bool = False) -> str:
        """Put on what was found."""


class Steers(Protocol):
    """What can be done from the screens that list settings; a run that is over refuses."""

    @property
    def boot_cost(self) -> str:
        """What another boot costs."""

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Go back to a row."""

    def pin(self, number: int | None) -> None:
        """Compare with a row."""

    def undo(self) -> str:
        """Take back the last turn."""

    def redo(self) -> str:
        """Do it again."""

    def sweep(self) -> None:
        """Sweep the load."""

    def stop_experiment(self) -> None:
        """Break off a sweep or an A/B."""

    @property
    def tuner(self) -> Tunes:
        """What searches for a setting."""


class Watched(Protocol):
    """A run that can be looked at."""

    @property
    def steer(self) -> Steers:
        """What turns it."""

    @property
    def history(self) -> History:
        """It second by second, for charts."""

    @property
    def latest(self) -> Frame:
        """How everything stood when it was last moved on."""

    def advance(self) -> Frame:
        """Move on what goes by itself, and look."""

    def clear_points(self) -> None:
        """Forget the points of the frontier."""

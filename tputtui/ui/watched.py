"""What a screen needs of a run, whether it goes on or is over."""

from __future__ import annotations

from typing import Protocol

from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import Frame
from tputtui.measure.history import History

__all__ = ["Steers", "Watched"]


class Boots(Protocol):
    """The engine, as far as those screens name it."""

    @property
    def boot_cost(self) -> str:
        """What another boot costs, in a sentence."""


class Experiments(Protocol):
    """What changes settings by itself."""

    def sweep(self) -> None:
        """Sweep the load."""

    def stop(self, why: str = ...) -> None:
        """End what is under way."""

    def tune(self, plan: Plan) -> None:
        """Search for the best setting."""

    def finish_tuning(self) -> str:
        """Try no more settings."""


class Steers(Protocol):
    """What can be done from the screens that list settings; a run that is over refuses."""

    @property
    def engine(self) -> Boots:
        """The engine."""

    @property
    def experiments(self) -> Experiments:
        """Sweep, A/B, tuner."""

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Go back to a row."""

    def take(self, *, boot: bool = False) -> str:
        """Put on what the tuner settled on."""

    def pin(self, number: int | None) -> None:
        """Compare with a row."""

    def undo(self) -> str:
        """Take back the last change."""

    def redo(self) -> str:
        """Do it again."""


class Watched(Protocol):
    """A run that can be looked at."""

    @property
    def steer(self) -> Steers:
        """What changes it."""

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

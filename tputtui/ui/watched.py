"""What a screen needs of a run, live or recorded."""

from __future__ import annotations

from typing import Protocol

from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import Frame
from tputtui.measure.history import History

__all__ = ["Steers", "Watched"]


class SteersEngine(Protocol):
    """The engine, as far as these screens use it."""

    @property
    def boot_cost(self) -> str:
        """What another boot costs, in a sentence."""


class SteersExperiments(Protocol):
    """The experiments that these screens start and end."""

    def sweep(self, *, anyway: bool = False) -> None:
        """Sweep the load."""

    def stop(self, why: str = ...) -> None:
        """End the experiment under way."""

    def tune(self, plan: Plan, *, anyway: bool = False) -> None:
        """Search for the best setting."""

    def finish_tuning(self) -> str:
        """Try no more settings; returns what happens next, in a sentence."""


class Steers(Protocol):
    """What can be done from the screens that list settings; a recorded run refuses it."""

    @property
    def engine(self) -> SteersEngine:
        """The engine."""

    @property
    def experiments(self) -> SteersExperiments:
        """Sweep, A/B, tuner."""

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Apply the setting of row `number` again; returns a sentence."""

    def take(self, *, boot: bool = False) -> str:
        """Apply the setting that the tuner chose; returns a sentence."""

    def pin(self, number: int | None) -> None:
        """Compare with row `number` from now on; None: with the row before."""

    def undo(self) -> str:
        """Undo the last change; returns it in words."""

    def redo(self) -> str:
        """Redo the change that was undone last; returns it in words."""


class Watched(Protocol):
    """A run that a screen can show."""

    @property
    def steer(self) -> Steers:
        """What changes it."""

    @property
    def history(self) -> History:
        """The run second by second, for charts."""

    @property
    def latest(self) -> Frame:
        """The frame that `advance` made last."""

    def advance(self) -> Frame:
        """Let experiments and guard act on the newest samples; returns the new frame."""

    def clear_points(self) -> None:
        """Forget the points of the frontier."""

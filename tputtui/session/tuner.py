"""What a person can do with the tuner: start, stop, take what it found. Front end's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from tputtui.engine.host import Clock
from tputtui.engine.orders import Orders
from tputtui.errors import UsageError
from tputtui.experiments.setting import Setting
from tputtui.experiments.tuner.plan import Plan
from tputtui.experiments.under_way import Experiments
from tputtui.knobs import Knobs
from tputtui.profile import EngineSpec
from tputtui.session.asked import Asked
from tputtui.session.helm import Helm

__all__ = ["Tuner"]


class GoTo(Protocol):
    """Puts on another setting, with a boot if that is allowed; what was done, in words."""

    def __call__(
        self, what: str, engine: EngineSpec, setting: Setting, booted: Knobs, *, boot: bool
    ) -> str: ...


class Tuner:
    """One of the experiments.

    limits: those in force, or KnobError. break_off: ends what is under way. go_to: turns to
    another setting, to be undone.
    """

    def __init__(
        self,
        host: Orders,
        asked: Asked,
        helm: Helm,
        experiments: Experiments,
        clock: Clock,
        limits: Callable[[], Knobs],
        break_off: Callable[[str], None],
        go_to: GoTo,
    ) -> None:
        self._host = host
        self._asked = asked
        self._helm = helm
        self._experiments = experiments
        self._clock = clock
        self._limits = limits
        self._break_off = break_off
        self._go_to = go_to

    def start(self, plan: Plan) -> None:
        """Search for the best setting by `plan`; then everything is put back, to be taken or not.

        Raises UsageError or KnobError for what cannot be carried out.
        """
        self._limits()
        self._break_off("Started again.")
        status, goals = self._host.status, self._asked.profile.goals
        first = self._experiments.tune(plan, self._helm.present, status, goals, self._clock())
        self._helm.grant(first)

    def finish(self) -> str:
        """Try no more: confirm the best; a second time, end. What is done, in words.

        Raises UsageError when it is not under way.
        """
        return self._experiments.finish(self._clock())

    def take(self, *, boot: bool = False) -> str:
        """Put on what was found, to be undone like any turn; what was done, in words.

        Raises UsageError when there is nothing to take, and BootNeeded when it is of another
        engine, unless `boot` allows one.
        """
        self._limits()
        found = self._experiments.found
        if found is None or self._experiments.under_way == "the tuner":
            raise UsageError("The tuner has found nothing to take.", "t shows how it stands.")
        return self._go_to("the tuner's find", *found, self._helm.facts.booted, boot=boot)

    def came_of(self) -> str:
        """How the setting that stands was found, in a sentence; empty for a person's own."""
        found, state = self._experiments.found, self._experiments.tuner_state
        standing = self._asked.profile.engine, (self._asked.knobs, self._asked.profile.load)
        return f"tuner: {state.verdict}" if state and found == standing else ""

"""Everything that a person can change in a run, and the experiments. Front end's thread.

steer.limits.set("max_num_seqs", 48)   steer.load.toggle()   steer.engine.boot_cost
steer.experiments.sweep()              steer.undo()          steer.jump(3)

Each part checks its own changes and orders them through the helm; the orders come into force on the
engine thread between two steps. This module holds what concerns several parts.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from tputtui.engine.host import Clock
from tputtui.engine.orders import Orders
from tputtui.errors import BootNeeded, KnobError
from tputtui.experiments.setting import Setting
from tputtui.frame import Frame
from tputtui.frame.tried import TriedSettings
from tputtui.knobs import Knobs, kept_limits
from tputtui.load.sections import difference
from tputtui.measure.recorder import Recorder
from tputtui.predict.foresight import Foresight
from tputtui.profile import EngineSpec
from tputtui.session.asked import Asked
from tputtui.session.changing import Changing
from tputtui.session.experimenting import ExperimentSteering
from tputtui.session.guard import Guard
from tputtui.session.helm import Helm, Windows
from tputtui.session.parts import EngineSteering, LimitSteering, LoadSteering
from tputtui.session.questioning import QuestionSteering

__all__ = ["Steering"]


class Steering:
    """Steers the engine that `host` runs.

    asked: what was asked for last. trials: every setting tried. windows: starts the measuring
    window anew after a change. guard: what a change must not break; None for no guard.
    """

    def __init__(
        self,
        host: Orders,
        recorder: Recorder,
        asked: Asked,
        trials: TriedSettings,
        clock: Clock,
        windows: Windows,
        guard: Guard | None,
        foresight: Foresight,
    ) -> None:
        self._helm = Helm(host, asked, clock, windows)
        self._trials = trials
        self._clock = clock
        self.experiments = ExperimentSteering(self._helm, recorder, trials, clock, foresight)
        self._changing = Changing(self._helm, recorder, self.experiments, trials, clock, guard)
        self.limits = LimitSteering(self._helm, recorder, self._changing, self.experiments)
        self.load = LoadSteering(self._helm, self._changing, self.experiments)
        self.engine = EngineSteering(self._helm, recorder, self.experiments)
        self.questions = QuestionSteering(self._helm, self.experiments)

    # -- what concerns limits, load and engine together --------------------------------------

    def undo(self) -> str:
        """Undo the last change of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to undo.
        """
        self._helm.check_up()
        return self._changing.undo()

    def redo(self) -> str:
        """Redo the change that was undone last; what was done, in words.

        Raises UsageError when nothing was undone since the last change.
        """
        self._helm.check_up()
        return self._changing.redo()

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Go back to the limits and load of row `number`; what was done, in words.

        Raises BootNeeded when the row ran on another engine and `boot` is false, UsageError when
        there is no such row.
        """
        self._helm.check_up()
        row = self._trials.find(number)
        setting = Setting(row.knobs, row.load)
        return self._go_to(f"row {number}", row.engine, setting, row.booted, boot=boot)

    def take(self, *, boot: bool = False) -> str:
        """Put on the setting that the tuner offers; what was done, in words. Undo works as usual.

        Raises UsageError when there is nothing to take, BootNeeded when it needs another engine and
        `boot` is false.
        """
        booted = self._helm.facts.booted
        engine, setting = self.experiments.tuned
        return self._go_to("the tuner's find", engine, setting, booted, boot=boot)

    def pin(self, number: int | None) -> None:
        """Compare every row with row `number` from now on; None: each with the row before it.

        Raises UsageError when there is no such row.
        """
        self._trials.pin(number, self._clock())

    @property
    def guard(self) -> str:
        """What a change must not break, as it was written; empty without a guard."""
        return self._changing.guard

    def set_guard(self, guard: Guard | None) -> None:
        """Guard changes by `guard` from now on; None: without a guard."""
        self._changing.set_guard(guard)

    def measure_anew(self) -> None:
        """Start a new window: figures count once the requests now in flight have left."""
        self._helm.measure_anew()

    # -- moved on by frames ------------------------------------------------------------------

    def notice(self) -> None:
        """Take over an engine that has just come up."""
        self._helm.notice()

    def follow(self, seen: Frame) -> Frame:
        """Move experiments and guard on by the frame `seen`; the frame with their states."""
        self.experiments.follow(seen)
        # The engine may be gone since the frame: then there is nothing to put on.
        with suppress(KnobError):
            # A leg is not a change by the person.
            if not self.experiments.legs:
                self._changing.follow(seen)
            self.experiments.follow_verify(seen)
            self.questions.follow(seen)
        shown = self.experiments.with_states(seen)
        return replace(shown, guard=self.guard, quality=self.questions.state)

    def news(self) -> list[str]:
        """What happened by itself since the last call, in sentences."""
        return self._changing.news() + self.experiments.news()

    # -- inside ------------------------------------------------------------------------------

    def _go_to(
        self, what: str, engine: EngineSpec, setting: Setting, booted: Knobs, *, boot: bool
    ) -> str:
        """Put on another setting; what was done, in words. boot: whether it may boot an engine.

        what: names the setting in texts. booted: the limits as booted, from which its limits were
        changed. Raises BootNeeded where `boot` is false and the setting needs another engine.
        """
        if engine != self._helm.engine:
            if not boot:
                cost = self.engine.boot_cost
                raise BootNeeded(f"{what.capitalize()} ran on another engine.", cost)
            self.engine.boot_with(engine.args, kept_limits(setting.knobs, booted), only=True)
            if setting.load != self._helm.load:
                self._helm.put_load(setting.load, difference(self._helm.load, setting.load))
            return f"Booting the engine of {what}."
        if setting == self.experiments.setting and not self.experiments.under_way:
            return "Already there."
        self._changing.about_to(what, "Another setting was chosen.")
        return self._helm.put_on(setting, what) or "Already there."

"""What happens with every change that a person makes, whatever is changed. Front end's thread.

Before the change, experiments end, and the present setting is remembered for undo. After it the
guard watches, and undoes a change that breaks its rule.
"""

from __future__ import annotations

from tputtui.engine.host import Clock
from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.frame.tried import TriedSettings
from tputtui.measure.recorder import Recorder
from tputtui.session.experimenting import ExperimentSteering
from tputtui.session.guard import Guard
from tputtui.session.guarding import Guarding
from tputtui.session.helm import Helm
from tputtui.session.undo import UndoStack

__all__ = ["Changing"]


class Changing:
    """Remembers the changes of a person, and undoes them.

    trials: every setting tried. guard: what a change must not break; None for no guard.
    """

    def __init__(
        self,
        helm: Helm,
        recorder: Recorder,
        experiments: ExperimentSteering,
        trials: TriedSettings,
        clock: Clock,
        guard: Guard | None,
    ) -> None:
        self._helm = helm
        self._recorder = recorder
        self._experiments = experiments
        self._trials = trials
        self._clock = clock
        self._guarding = Guarding(guard)
        self._remembered = UndoStack()
        self._engines = 0
        self._news: list[str] = []

    @property
    def guard(self) -> str:
        """What a change must not break, as it was written; empty without a guard."""
        return self._guarding.text

    def set_guard(self, guard: Guard | None) -> None:
        """Guard changes by `guard` from now on; None: without a guard."""
        self._guarding = Guarding(guard)

    def about_to(self, what: str, why: str) -> None:
        """Prepare for a change by the person of `what` (a limit's name, "load", …).

        Ends experiments for the reason `why`, a sentence, and remembers the present setting.
        Raises KnobError while no engine is up.
        """
        self._experiments.stop(why)
        self._experiments.forget()
        self._changes.made(self._experiments.setting, what, self._clock())
        self._guarding.about_to_change(self._recorder, self._clock())

    def undo(self) -> str:
        """Undo the last change of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to undo.
        """
        self._experiments.stop("Undone.")
        before = self._changes.undo(self._experiments.setting)
        if before is None:
            raise UsageError("Nothing to undo.", "Limits and load stand as they were started.")
        return self._helm.put_on(before, "undo")

    def redo(self) -> str:
        """Redo the change that was undone last; what was done, in words.

        Raises UsageError when nothing was undone since the last change.
        """
        self._experiments.stop("Done again.")
        after = self._changes.redo(self._experiments.setting)
        if after is None:
            raise UsageError("Nothing to do again.", "Only what was just undone can be done again.")
        return self._helm.put_on(after, "redo")

    def follow(self, seen: Frame) -> None:
        """Undo the last change where the frame `seen` breaks the guard's rule.

        Raises KnobError where the engine is gone.
        """
        changes = self._changes
        if not (broken := self._guarding.follow(seen, self._recorder)):
            return
        if (before := changes.undo(self._experiments.setting)) is not None:
            self._trials.note(f"undone by the guard: {broken}")
            done = self._helm.put_on(before, f"guard ({broken})")
            self._news.append(f"The guard took it back: {broken}. {done}")

    def news(self) -> list[str]:
        """What happened by itself since the last call, in sentences."""
        news, self._news = self._news, []
        return news

    @property
    def _changes(self) -> UndoStack:
        """The changes on the engine that is up; those on another engine cannot be undone."""
        self._helm.notice()
        if self._helm.engines != self._engines:
            self._engines = self._helm.engines
            self._remembered.clear()
            self._guarding.stand_down()
        return self._remembered

"""What every change of the person's entails, whatever is changed. Front end's thread.

Before it, experiments end and what stands is remembered, to be taken back; after it the guard
watches, and takes back by itself what breaks its rule.
"""

from __future__ import annotations

from tputtui.engine.host import Clock
from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.frame.tried import Trials
from tputtui.measure.recorder import Recorder
from tputtui.session.experimenting import ExperimentSteering
from tputtui.session.guard import Guard
from tputtui.session.guarding import Guarding
from tputtui.session.helm import Helm
from tputtui.session.undo import Changes

__all__ = ["Changing"]


class Changing:
    """Remembers the changes of a person, and takes them back.

    trials: every setting tried. guard: what a change must not break; None for nothing.
    """

    def __init__(
        self,
        helm: Helm,
        recorder: Recorder,
        experiments: ExperimentSteering,
        trials: Trials,
        clock: Clock,
        guard: Guard | None,
    ) -> None:
        self._helm = helm
        self._recorder = recorder
        self._experiments = experiments
        self._trials = trials
        self._clock = clock
        self._guarding = Guarding(guard)
        self._remembered = Changes()
        self._engines = 0
        self._news: list[str] = []

    @property
    def guard(self) -> str:
        """What a change must not break, as it was written; empty for nothing."""
        return self._guarding.text

    def set_guard(self, guard: Guard | None) -> None:
        """Guard changes from now on by this; None: no more."""
        self._guarding = Guarding(guard)

    def about_to(self, what: str, why: str) -> None:
        """The person is about to change `what` (a limit's name, "load", …).

        Ends experiments, telling them `why` in a sentence, and remembers what stands.
        Raises KnobError while no engine is up.
        """
        self._experiments.stop(why)
        self._experiments.forget()
        self._changes.made(self._experiments.setting, what, self._clock())
        self._guarding.turned(self._recorder, self._clock())

    def undo(self) -> str:
        """Take back the last change of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to take back.
        """
        self._experiments.stop("Undone.")
        before = self._changes.undo(self._experiments.setting)
        if before is None:
            raise UsageError("Nothing to undo.", "Limits and load stand as they were started.")
        return self._helm.put_on(before, "undo")

    def redo(self) -> str:
        """Do again what was undone last; what was done, in words.

        Raises UsageError when nothing was undone since the last change.
        """
        self._experiments.stop("Done again.")
        after = self._changes.redo(self._experiments.setting)
        if after is None:
            raise UsageError("Nothing to do again.", "Only what was just undone can be.")
        return self._helm.put_on(after, "redo")

    def follow(self, seen: Frame) -> None:
        """Take back the last change where `seen` breaks the guard's rule.

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
        """What happened by itself since this was last asked, in sentences."""
        news, self._news = self._news, []
        return news

    @property
    def _changes(self) -> Changes:
        """Those made on the engine that is up: nothing of another one can be taken back."""
        self._helm.notice()
        if self._helm.engines != self._engines:
            self._engines = self._helm.engines
            self._remembered.clear()
            self._guarding.stand_down()
        return self._remembered

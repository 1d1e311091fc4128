"""A recorded run, looked at as if it went on now: the same frames, at any time of it.

Front end's thread. It has of a session what a screen reads, and nothing that could be turned.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from tputtui.engine.protocol import State
from tputtui.errors import UsageError
from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import Frame, Trial
from tputtui.frame.observer import Observer
from tputtui.knobs import Knobs
from tputtui.measure.history import History
from tputtui.measure.samples import Mark
from tputtui.measure.splice import Spans, series_of
from tputtui.measure.window import Phase
from tputtui.record.line import TrialLine, restored
from tputtui.record.reading import Moment, Recording, differences_of

__all__ = ["Replay"]

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_KEPT_S = 3600
"""As many seconds as a live history keeps."""


class Replay:
    """Plays `recording`. clock: seconds that pass here.

    at_s: where it is, seconds from the run's beginning; at first, where the load began.
    length_s: seconds to the last board that was seen. speed: seconds of the run in one.
    """

    def __init__(self, recording: Recording, clock: Callable[[], float]) -> None:
        self.recording = recording
        # Before the first line there is nothing to see.
        self._first_s = recording.moments[0].t_s - recording.origin_s
        self.length_s = self._last_board_s()
        self._loaded_s = self._first(lambda moment: moment.status.state is State.RUNNING)
        self.at_s = self._loaded_s
        self.speed = 1.0
        self.playing = True
        self._clock = clock
        self._looked_s = clock()
        self._origin_s = recording.origin_s
        self._times = [moment.t_s for moment in recording.moments]
        self._observer = Observer(recording.recorder, self._origin_s)
        self._latest: Frame | None = None
        self._all = self._whole_history()
        self._trials: dict[int, tuple[TrialLine, Trial]] = {}
        self.history = History(self._origin_s)
        self.steer = _Over(self)

    # -- time ------------------------------------------------------------------------------

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every mark of the run."""
        return self.recording.moments[-1].marks

    def toggle(self) -> None:
        """Play, or stand still; from the end it begins anew."""
        self._move()
        if not self.playing and self.at_s >= self.length_s:
            self.at_s = self._loaded_s
        self.playing = not self.playing

    def change_speed(self, direction: int) -> None:
        """The next speed up (+1) or down (-1)."""
        self._move()
        index = SPEEDS.index(self.speed) + direction
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, index))]

    def seek(self, at_s: float) -> None:
        """Go to a time of the run, as near as there is."""
        self._move()
        self.at_s = max(self._first_s, min(self.length_s, at_s))

    def seek_mark(self, direction: int) -> str:
        """Go to the next mark (+1), or the one before (-1); what it says.

        Raises UsageError when there is none.
        """
        self._move()
        times = [(mark.t_s - self._origin_s, mark.text) for mark in self.marks]
        beyond = (
            [each for each in times if each[0] > self.at_s + 0.5]
            if direction > 0
            else [each for each in times if each[0] < self.at_s - 0.5][::-1]
        )
        if not beyond:
            raise UsageError(f"No mark {'after' if direction > 0 else 'before'} this.")
        self.at_s = max(self._first_s, beyond[0][0])
        return beyond[0][1]

    def seek_row(self, number: int) -> str:
        """Go to the time when the row `number` of the table was put on; says so.

        Raises UsageError when there is no such row.
        """
        line = next((t for t in self.recording.moments[-1].trials if t.number == number), None)
        if line is None:
            raise UsageError(f"There is no row {number}.")
        # The line after it shows it.
        self.seek(line.t_s - self._origin_s + 1.0)
        return f"At the time of row {number}."

    def _move(self) -> None:
        now_s = self._clock()
        if self.playing:
            self.at_s += (now_s - self._looked_s) * self.speed
            if self.at_s >= self.length_s:
                self.at_s, self.playing = self.length_s, False
        self._looked_s = now_s

    # -- what a screen reads ---------------------------------------------------------------

    @property
    def latest(self) -> Frame:
        """The picture that was made last; looking moves nothing."""
        return self._latest or self.advance()

    def advance(self) -> Frame:
        """Go on as far as time has; how everything stood at the time where the replay is."""
        self._move()
        now_s = self._origin_s + self.at_s
        moment = self._moment(now_s)
        self._stand(moment)
        self._show_history(now_s)
        # Between two lines time goes on, the window as it was seen last.
        window = replace(moment.window, end_s=max(moment.window.end_s, now_s))
        if moment.t_s < now_s - 2.0 or window.phase in (Phase.IDLE, Phase.SETTLING):
            window = moment.window
        seen = self._observer.picture(
            now_s, window, moment.status, moment.profile, moment.asked, moment.hardware
        )
        if self.at_s >= self.length_s:
            # What closed the run told last what came of it.
            moment = self.recording.moments[-1]
        self._latest = replace(
            seen,
            trials=tuple(self._trial(line, moment) for line in moment.trials),
            baseline=moment.baseline,
            compare=moment.compare,
            sweep=moment.sweep,
            tuner=moment.tuner,
            points=moment.points,
            guard=moment.guard,
        )
        return self._latest

    def clear_points(self) -> None:
        """What was measured stays."""
        raise _over()

    # -- inside ----------------------------------------------------------------------------

    def _last_board_s(self) -> float:
        """The end, but for what closed the engine: of that there is no board."""
        moments = self.recording.moments
        seen = [moment.t_s for moment in moments if moment.status.state is not State.STOPPED]
        if not seen or seen[-1] == moments[-1].t_s:
            return self.recording.length_s
        return seen[-1] - self.recording.origin_s

    def _first(self, wanted: Callable[[Moment], bool]) -> float:
        """When a moment was first as wanted, else the first of all; seconds from the beginning."""
        moments = self.recording.moments
        found = next((moment for moment in moments if wanted(moment)), moments[0])
        return found.t_s - self.recording.origin_s

    def _moment(self, now_s: float) -> Moment:
        index = max(0, bisect_right(self._times, now_s) - 1)
        return self.recording.moments[index]

    def _stand(self, moment: Moment) -> None:
        """What the recorder says of the present is what it was then."""
        recorder = self.recording.recorder
        recorder.accounting = moment.accounting
        recorder.kv_blocks = moment.kv_blocks
        recorder.oldest_due_s = moment.oldest_due_s
        recorder.generated_tokens = moment.generated_tokens
        recorder.preemptions = moment.preemptions
        recorder.wanted = moment.wanted
        recorder.marks = deque(moment.marks)

    def _whole_history(self) -> History:
        """Every second of the run, however long it took; as it grew while it went on."""
        history, recorder = History(self._origin_s), self.recording.recorder
        history.buckets = deque()
        for moment in self.recording.moments:
            if moment.status.facts is None:
                history.begin(moment.t_s)
            recorder.accounting = moment.accounting
            history.advance(recorder, moment.t_s)
        return history

    def _show_history(self, now_s: float) -> None:
        """The history as it stood at `now_s`."""
        whole, shown = self._all, self.history
        total = max(whole.first, min(whole.total, whole.index(now_s)))
        if total == shown.total and shown.first == whole.first:
            return
        count = total - whole.first
        first = max(0, count - _KEPT_S)
        shown.buckets = deque(list(whole.buckets)[first:count], maxlen=_KEPT_S)
        shown.first, shown.total = whole.first, total

    def _trial(self, line: TrialLine, moment: Moment) -> Trial:
        known = self._trials.get(line.number)
        if known is not None and known[0] is line:
            return known[1]
        profile = self.recording.profiles[line.profile]
        spans = ((line.start_s, line.start_s + line.length_s),) if line.length_s > 0 else ()
        if line.spans:
            spans = restored(line.spans, Spans)
        goals, found = moment.profile.goals, None
        if spans:
            found = series_of(self.recording.recorder, spans, goals, every=True)
        trial = Trial(
            number=line.number,
            t_s=line.t_s,
            turned=line.turned,
            knobs=restored(line.knobs, Knobs),
            load=profile.load,
            engine=profile.engine,
            booted=restored(line.booted, Knobs),
            series=found,
            phase=Phase(line.phase),
            against=line.against,
            differences=differences_of(line.differences),
            note=line.note,
            spans=spans,
            unjudged=line.unjudged,
            decided_s=math.nan if line.decided_s is None else line.decided_s,
            withdrawn_s=math.nan if line.withdrawn_s is None else line.withdrawn_s,
            withdrawn=line.withdrawn,
        )
        self._trials[line.number] = (line, trial)
        return trial


class _Over:
    """Steers a run that is over: it leads to the time of a row, and changes nothing."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.engine = _OverEngine()
        self.experiments = _OverExperiments()

    def jump(self, number: int, *, boot: bool = False) -> str:
        """To the time when row `number` was put on."""
        return self._replay.seek_row(number)

    def take(self, *, boot: bool = False) -> str:
        """Nothing is put on any more."""
        raise _over()

    def pin(self, number: int | None) -> None:
        """Rows stay compared as they were."""
        raise _over()

    def undo(self) -> str:
        """Nothing is taken back."""
        raise _over()

    def redo(self) -> str:
        """Nothing is done again."""
        raise _over()


class _OverEngine:
    """The engine of a run that is over: none."""

    @property
    def boot_cost(self) -> str:
        """Nothing boots."""
        raise _over()


class _OverExperiments:
    """The experiments of a run that is over: they refuse."""

    def sweep(self) -> None:
        """Nothing is measured any more."""
        raise _over()

    def stop(self, why: str = "") -> None:
        """Nothing is under way."""
        raise _over()

    def tune(self, plan: Plan) -> None:
        """Nothing is measured any more."""
        raise _over()

    def finish_tuning(self) -> str:
        """Nothing is under way."""
        raise _over()


def _over() -> UsageError:
    return UsageError("This run is over: nothing can be turned.", "`tputtui --profile` starts one.")

"""Replays a recorded run: shows the same frames again, at any time of the run.

Front end's thread. It offers what a screen reads of a session, but nothing can be changed.
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
from tputtui.frame import Frame, Tried
from tputtui.frame.observer import Observer, busy_shares
from tputtui.knobs import Knobs
from tputtui.measure.history import History
from tputtui.measure.samples import Mark
from tputtui.measure.splice import Spans, series_of
from tputtui.measure.window import Phase
from tputtui.record.kept import read_differences
from tputtui.record.line import TrialLine, restored
from tputtui.record.reading import Moment, Recording

__all__ = ["Replay"]

SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_ROUNDED_S = 1.5e-6
"""More than a time in a log is off: it is the sum of two, each of them in whole microseconds."""
_KEPT_S = 3600
"""Seconds shown at most: as many as a live history keeps."""


class Replay:
    """Plays `recording`. clock: the seconds that pass during the replay.

    at_s: the present position, in seconds from the run's beginning; first, where the load began.
    length_s: the position of the last frame before the engine stopped. speed: seconds of the run
    per second of the replay.
    """

    def __init__(self, recording: Recording, clock: Callable[[], float]) -> None:
        self.recording = recording
        # Before the first line there is nothing to show.
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
        self._trials: dict[int, tuple[TrialLine, Tried]] = {}
        self.history = History(self._origin_s)
        self.steer = _Over(self)

    # -- time ------------------------------------------------------------------------------

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Every mark of the run."""
        return self.recording.moments[-1].marks

    def toggle(self) -> None:
        """Play or pause; at the end, play again from where the load began."""
        self._move()
        if not self.playing and self.at_s >= self.length_s:
            self.at_s = self._loaded_s
        self.playing = not self.playing

    def change_speed(self, direction: int) -> None:
        """Choose the next higher (+1) or lower (-1) speed."""
        self._move()
        index = SPEEDS.index(self.speed) + direction
        self.speed = SPEEDS[max(0, min(len(SPEEDS) - 1, index))]

    def seek(self, at_s: float) -> None:
        """Go to `at_s` seconds from the run's beginning, limited to the recorded time."""
        self._move()
        self.at_s = max(self._first_s, min(self.length_s, at_s))
        self._observer.look_anew()

    def seek_mark(self, direction: int) -> str:
        """Go to the next mark (+1) or the one before (-1); the text of the mark.

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
        """Go to the time when row `number` of the table was put on; a sentence on it.

        Raises UsageError when there is no such row.
        """
        line = next((t for t in self.recording.moments[-1].trials if t.number == number), None)
        if line is None:
            raise UsageError(f"There is no row {number}.")
        # The next line of the log shows it.
        self.seek(line.t_s - self._origin_s + 1.0)
        return f"At the time of row {number}."

    def _move(self) -> None:
        now_s = self._clock()
        if self.playing:
            self.at_s += (now_s - self._looked_s) * self.speed
            if self.at_s >= self.length_s:
                self.at_s, self.playing = self.length_s, False
                self._observer.look_anew()
        self._looked_s = now_s

    # -- what a screen reads ---------------------------------------------------------------

    @property
    def latest(self) -> Frame:
        """The frame of the last `advance`; only the first access calls `advance` itself."""
        return self._latest or self.advance()

    def advance(self) -> Frame:
        """Move the position on by the time that has passed; how everything stood there."""
        self._move()
        now_s = self._origin_s + self.at_s
        moment = self._moment(now_s)
        self._stand(moment)
        self._show_history(now_s)
        # Between two lines, the window of the last line grows with time.
        window = replace(moment.window, end_s=max(moment.window.end_s, now_s))
        if moment.t_s < now_s - 2.0 or window.phase in (Phase.IDLE, Phase.SETTLING):
            window = moment.window
        seen = self._observer.picture(
            now_s,
            window,
            moment.status,
            moment.profile,
            moment.kept["asked"],
            moment.kept["hardware"],
        )
        if self.at_s >= self.length_s:
            # The last line, written while the run was closed, has the last states.
            moment = self.recording.moments[-1]
        self._latest = replace(
            seen,
            trials=tuple(self._trial(line, moment) for line in moment.trials),
            tuner=moment.tuner,
            **moment.kept,
        )
        return self._latest

    def clear_points(self) -> None:
        """Refuse: the points of a run that is over stay."""
        raise _over()

    # -- inside ----------------------------------------------------------------------------

    def _last_board_s(self) -> float:
        """The time of the last frame before the engine stopped, in seconds from the beginning."""
        moments = self.recording.moments
        seen = [moment.t_s for moment in moments if moment.status.state is not State.STOPPED]
        if not seen or seen[-1] == moments[-1].t_s:
            return self.recording.length_s
        return seen[-1] - self.recording.origin_s

    def _first(self, wanted: Callable[[Moment], bool]) -> float:
        """Time of the first moment that is `wanted`, else of the first one; from the beginning."""
        moments = self.recording.moments
        first = next((moment for moment in moments if wanted(moment)), moments[0])
        return first.t_s - self.recording.origin_s

    def _moment(self, now_s: float) -> Moment:
        """The moment of the frame that was seen at `now_s`.

        Later lines with the time of that frame tell what came after it: while the run was being
        closed, its requests were aborted.
        """
        moments = self.recording.moments
        index = max(0, bisect_right(self._times, now_s) - 1)
        while index and moments[index - 1].t_s == moments[index].t_s:
            before, status = moments[index - 1].status, moments[index].status
            if before is not status and status.state is not State.STOPPED:
                break
            index -= 1
        return moments[index]

    def _stand(self, moment: Moment) -> None:
        """Set the recorder's present values to those of `moment`."""
        recorder = self.recording.recorder
        recorder.accounting = moment.accounting
        recorder.kv_blocks = moment.kv_blocks
        recorder.oldest_due_s = moment.oldest_due_s
        recorder.generated_tokens = moment.generated_tokens
        recorder.preemptions = moment.preemptions
        recorder.wanted = moment.wanted
        recorder.marks = deque(moment.marks)

    def _whole_history(self) -> History:
        """The history of the whole run, without the limit of an hour."""
        history, recorder = History(self._origin_s), self.recording.recorder
        history.buckets = deque()
        for moment in self.recording.moments:
            if moment.status.facts is None:
                history.begin(moment.t_s)
            recorder.accounting = moment.accounting
            history.advance(recorder, moment.t_s, busy_shares(moment.kept["hardware"]))
        return history

    def _show_history(self, now_s: float) -> None:
        """Set `history` to what it was at `now_s`."""
        whole, shown = self._all, self.history
        total = max(whole.first, min(whole.total, whole.index(now_s)))
        if total == shown.total and shown.first == whole.first:
            return
        count = total - whole.first
        first = max(0, count - _KEPT_S)
        shown.buckets = deque(list(whole.buckets)[first:count], maxlen=_KEPT_S)
        shown.first, shown.total = whole.first, total

    def _trial(self, line: TrialLine, moment: Moment) -> Tried:
        known = self._trials.get(line.number)
        if known is not None and known[0] is line:
            return known[1]
        profile = self.recording.profiles[line.profile]
        spans: Spans = ()
        if line.spans:
            spans = restored(line.spans, Spans)
        elif line.length_s > 0:
            spans = ((line.start_s, line.start_s + line.length_s),)
        # A window may end with a step, and the log has the step's time in whole microseconds.
        spans = tuple((start_s + _ROUNDED_S, end_s + _ROUNDED_S) for start_s, end_s in spans)
        goals, series = moment.profile.judged, None
        if spans:
            series = series_of(self.recording.recorder, spans, goals, every=True)
        trial = Tried(
            number=line.number,
            t_s=line.t_s,
            changed=line.turned,
            knobs=restored(line.knobs, Knobs),
            load=profile.load,
            engine=profile.engine,
            booted=restored(line.booted, Knobs),
            got=restored(line.got or {}, dict[str, str]),
            series=series,
            phase=Phase(line.phase),
            against=line.against,
            differences=read_differences(line.differences),
            note=line.note,
            spans=spans,
            unjudged=line.unjudged,
            decided_s=math.nan if line.decided_s is None else line.decided_s,
            withdrawn_s=math.nan if line.withdrawn_s is None else line.withdrawn_s,
            withdrawn=line.withdrawn,
            predicted=line.predicted or {},
            predicted_from=line.predicted_from,
        )
        self._trials[line.number] = (line, trial)
        return trial


class _Over:
    """Steers a run that is over: it can go to the time of a row, and refuses every change."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self.engine = _OverEngine()
        self.experiments = _OverExperiments()

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Go to the time when row `number` was put on."""
        return self._replay.seek_row(number)

    def take(self, *, boot: bool = False) -> str:
        """Refuse: no setting can be put on."""
        raise _over()

    def pin(self, number: int | None) -> None:
        """Refuse: rows stay compared as they were."""
        raise _over()

    def undo(self) -> str:
        """Refuse: no change can be undone."""
        raise _over()

    def redo(self) -> str:
        """Refuse: no change can be redone."""
        raise _over()


class _OverEngine:
    """The engine of a run that is over: none."""

    @property
    def boot_cost(self) -> str:
        """Refuse: no engine boots."""
        raise _over()


class _OverExperiments:
    """The experiments of a run that is over: they refuse."""

    def sweep(self, *, anyway: bool = False) -> None:
        """Refuse: nothing can be measured."""
        raise _over()

    def stop(self, why: str = "") -> None:
        """Refuse: no experiment is under way."""
        raise _over()

    def tune(self, plan: Plan, *, anyway: bool = False) -> None:
        """Refuse: nothing can be measured."""
        raise _over()

    def finish_tuning(self) -> str:
        """Refuse: no experiment is under way."""
        raise _over()


def _over() -> UsageError:
    return UsageError(
        "This run is over: nothing can be changed.", "`tputtui --profile` starts one."
    )

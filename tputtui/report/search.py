"""What the tuner did in a run, for a reader who was not there. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator

from tputtui.frame import TunerState
from tputtui.goals import describe_goals
from tputtui.record.reading import Recording
from tputtui.text.format import clock, counted

__all__ = ["search_sentences", "searches"]


def searches(recording: Recording) -> Iterator[TunerState]:
    """The last state of each search of the run, also of one that was ended."""
    last: TunerState | None = None
    for moment in recording.moments:
        state = moment.tuner
        if state is None:
            continue
        if last is not None and len(state.trials) < len(last.trials):
            yield last
        last = state
    if last is not None and last.trials:
        yield last


def search_sentences(state: TunerState) -> str:
    """One search: what was searched for, how much was tried, what came of it, and how far
    predictions were off."""
    goals = state.of.goals if state.of else ()
    aim = f"the most goodput within {describe_goals(goals)}" if goals else "the most tokens/s"
    if state.load:
        aim = f"the most load that keeps {describe_goals(goals)}"
    took_s = math.fsum(trial.took_s for trial in state.trials)
    tried = counted(state.tried, "setting")
    if state.settings:
        tried = f"{state.tried} of {counted(state.settings, 'setting')}"
    sentences = [
        f"Tuner: searched {state.varied} for {aim}. {tried} tried in "
        f"{counted(len(state.trials), 'trial')}, {clock(took_s)}, on the running engine.",
        state.verdict or "It was ended before it found anything.",
    ]
    off = [
        abs(trial.value / trial.predicted - 1)
        for trial in state.trials
        if trial.predicted > 0 and trial.value > 0 and trial.holds
    ]
    if off:
        which = f"{counted(len(off), 'trial')}{' that met the goals' if goals else ''}"
        middle = statistics.median(off)
        sentences.append(f"Predicted and measured lie {middle:.0%} apart (median of {which}).")
    return " ".join(sentences)

"""Runs the tuner without a screen, and prints each trial as a line on stderr. Main thread."""

from __future__ import annotations

import math
from typing import TextIO

from tputtui.experiments.tuner.outcome import gave_text, missed_text
from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import Frame, TunerState, TunerTrial
from tputtui.goals import Goal
from tputtui.headless.progress import Progress
from tputtui.headless.running import Interrupted, pause
from tputtui.knobs import shorthand
from tputtui.session.session import Session
from tputtui.text.format import clock, rate

__all__ = ["trial_line", "tune"]


def tune(
    session: Session,
    plan: Plan,
    interrupted: Interrupted,
    stderr: TextIO,
    *,
    quiet: bool,
    anyway: bool = False,
) -> Frame:
    """Tune `session`, whose engine is up, until it is over or interrupted; the last frame.

    anyway: also beside requests of other people. Raises OthersError without, UsageError or
    KnobError for a plan that cannot be carried out.
    """
    session.steer.experiments.tune(plan, anyway=anyway)
    printed = len(plan.earlier_trials)
    with Progress(stderr, quiet=quiet) as progress:
        while True:
            frame = session.advance()
            state = frame.tuner
            assert state is not None
            for trial in state.trials[printed:]:
                progress.keep(trial_line(trial, state, frame.profile.judged))
            printed = len(state.trials)
            if state.over or interrupted.asked:
                return frame
            confirming = state.phase == "confirming"
            progress.tell(_line(state), state.phase, frame.elapsed_s, repeat=confirming)
            pause(session, interrupted)


def trial_line(trial: TunerTrial, state: TunerState, goals: tuple[Goal, ...]) -> str:
    """A trial in a line: setting, load, what it gave, its nearest goal, and why it ended."""
    held = "" if not goals else "met " if trial.holds else "missed "
    engine = f" on {state.engines[trial.engine]}" if state.engines[trial.engine] else ""
    predicted, unit = "", "req/s" if goals else "tok/s"
    if not math.isnan(trial.predicted):
        predicted = f", {rate(trial.predicted, 0)} predicted"
    return (
        f"{trial.number:>4} {trial.point.label:<2} {shorthand(trial.knobs):<16}{engine} "
        f"{trial.point.load:<14} {gave_text(trial):>16} {unit}{predicted}  "
        f"{held}{missed_text(trial, goals)} · {trial.point.window_s:.0f} s, {trial.why}"
        f"{' (again)' if trial.again else ''}"
    )


def _line(state: TunerState) -> str:
    return f"{state.phase} · {state.note} · {clock(state.left_s)} left at most"

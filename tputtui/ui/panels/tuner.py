"""The tuner: its plan, its trials as they come, and its outcome. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap
from typing import NamedTuple

from tputtui.errors import TputError
from tputtui.experiments.tuner.outcome import gave_text, missed_text
from tputtui.experiments.tuner.plan import Plan, engines_of, space_of
from tputtui.experiments.tuner.proposers import SEARCHES
from tputtui.experiments.tuner.space import Space, describe_axes
from tputtui.frame import Frame, TunerState, TunerTrial
from tputtui.goals import Goal, describe_goals
from tputtui.knobs import shorthand
from tputtui.load.notation import describe_all_arrivals
from tputtui.measure.frontier import AXES_X, AXES_Y, Axis, Point, pareto
from tputtui.measure.verdict import Difference
from tputtui.text.format import clock, counted, rate
from tputtui.ui.offered import refused_here
from tputtui.ui.panels.plot import plot
from tputtui.ui.panels.verdicts import OVER, difference_row
from tputtui.ui.rows import Row, fitted, shortened, spread, width_of

__all__ = ["plan_rows", "status_row", "tuner_rows"]

_WIDE = 110
"""Width from which on the drift stands beside the time left."""
_PLOT_FROM = 20
"""Fewest rows that have room for the plot."""
_SETTING, _PREDICTED, _GOAL = "seqs/tokens", "predicted", "nearest goal"
_PER_S = "req/s"
"""The end of a unit, where there is no room for all of it."""
_CUT_LOAD = 16
"""Cells of the load's name where there is no room for all of it."""
_NUMBER, _MET = 8, 7
"""Cells of a trial's number and letter, and of whether it met the goals."""


def status_row(frame: Frame, plan: Plan | None, width: int) -> Row:
    """What the tuner does, its best so far, and the time left. plan: None once it has begun."""
    state = frame.tuner
    if plan is not None or state is None:
        return fitted([(" tuner ", "accent"), ("what is to be searched", "text")], width)
    if state.over:
        outcome = "a better setting was found" if state.offered else "over"
        outcome = f"{outcome} · {counted(len(state.trials), 'trial')}"
        return fitted([(" tuner ", "accent"), (outcome, "text")], width)
    right: Row = [(f"at most {clock(state.left_s)} left ", "value")]
    if not math.isnan(state.drift) and width >= _WIDE:
        drift = f"the best measured again: {state.drift:+.1%} · "
        right.insert(0, (drift.replace("-", "−"), "muted"))
    phase = f" {state.phase} "
    # The time left is never pushed out.
    note = shortened(state.note, max(1, width - len(phase) - width_of(right) - 1))
    left: Row = [(phase, "accent"), (note, "text")]
    return spread(left, right, width)


def plan_rows(frame: Frame, plan: Plan, width: int, picked: str = "") -> list[Row]:
    """The plan, with the key that changes each part; and why it cannot be carried out, if so.

    picked: the part that the arrow keys change.
    """
    load, goals = frame.profile.load, frame.profile.judged
    space, refusal = _space(frame, plan)
    find = "the best limits for the load as it is"
    if plan.load:
        find = "the most load that meets the goals, and the limits for it"
    parts = [
        ("o", "goals", describe_goals(goals).replace(",", ", ") or "none: most tokens/s"),
        ("f", "find", find),
        ("", "load", describe_all_arrivals(load)),
        ("y", "vary", _varied(plan, space)),
        ("e", "boots", _engines(frame, plan)),
        ("m", "search", f"{plan.search}: {SEARCHES[plan.search]}"),
        ("b", "budget", f"{plan.budget_s / 60:g} min, the confirmation in pairs included"),
        ("g", "go on", "with the trials of the newest run of this engine, load and goals"),
    ]
    rows: list[Row] = []
    for key, label, text in parts:
        lines = wrap(text, max(20, width - 14)) or [""]
        here = label == picked
        rows.append(
            [
                (f"{'▸' if here else ' '}{key:<2}", "accent"),
                (f"{label:<10}", "accent" if here else "label"),
                (lines[0], "text"),
            ]
        )
        rows += [[(" " * 13, "text"), (line, "text")] for line in lines[1:]]
    rows.append([])
    intro = (
        "Enter starts. ↑↓ pick a line, ←→ change it. Each trial begins on an empty engine and "
        "serves the same requests; it ends as soon as it is surely worse. The best is then "
        "compared with the present setting, in pairs, on other requests; and everything is put "
        "back until you take it."
    )
    style = "bad" if refusal else "muted"
    return rows + [[(f" {line}", style)] for line in wrap(refusal or intro, max(20, width - 2))]


def tuner_rows(frame: Frame, width: int, height: int, *, over: bool = False) -> list[Row]:
    """The plot of the trials, the trials, and the outcome; over: of a run that is over."""
    state = frame.tuner
    assert state is not None
    # The goals that it began with: the profile's may have changed since.
    goals = state.of.judged if state.of else ()
    below = _verdict(state, width, "" if over else _taking(frame))
    room = height - len(below)
    rows: list[Row] = []
    lines = len(state.trials) + 1
    if room >= _PLOT_FROM:
        # The trials have their lines; what is left above them is the plot's.
        plotted = max(8, room - max(lines, room // 3) - 1)
        rows = [*_plotted(state, goals, width, plotted), []]
    return rows + _trials(state, goals, width, room - len(rows)) + below


# -- the plan ------------------------------------------------------------------------------------


def _space(frame: Frame, plan: Plan) -> tuple[Space | None, str]:
    """The space to search, or None; and why the plan cannot be carried out, in a sentence."""
    facts, asked = frame.status.facts, frame.asked
    if facts is None or asked is None or not frame.serving:
        return None, f"The engine is {frame.status.state.lower()}: the tuner needs it up."
    space = None
    try:
        space = space_of(plan, asked, facts, frame.profile.load)
        plan.check(frame.profile.load, frame.profile.judged)
    except TputError as error:
        return space, f"{error.message} {error.hint}"
    return space, ""


def _varied(plan: Plan, space: Space | None) -> str:
    if space is None:
        return plan.vary or "sequences and batched tokens"
    levels = f", {len(space.levels)} levels of the load" if len(space.levels) > 1 else ""
    return f"{describe_axes(space.axes)} ({len(space)} settings{levels})"


def _engines(frame: Frame, plan: Plan) -> str:
    if not plan.engines.strip():
        return "the engine that is up alone"
    try:
        count = len(engines_of(plan, frame.profile.engine))
    except TputError:
        return plan.engines
    return f"{plan.engines} ({count} engines, with the one that is up)"


# -- the trials ----------------------------------------------------------------------------------


def _plotted(state: TunerState, goals: Sequence[Goal], width: int, height: int) -> list[Row]:
    kept = any(trial.value > 0 for trial in state.trials)
    y, x = _axes(goals, goodput=bool(goals) and kept)
    newest: dict[tuple[str, float], Point] = {}
    for trial in state.trials:
        # A trial that misses a goal is shown, but is no part of the frontier.
        newest[trial.point.label, trial.level] = replace(trial.point, steady=trial.holds)
    if (top := state.best_trial) is not None:
        # The last one is drawn over others at its place.
        newest[top.point.label, top.level] = newest.pop((top.point.label, top.level))
    points = list(newest.values())
    best = pareto([point for point in points if point.steady], y, x, 0.01)
    return plot(points, best, y, x, width, height)


def _axes(goals: Sequence[Goal], *, goodput: bool) -> tuple[Axis, Axis]:
    """Goodput against the first goal's latency, at p90 or p50: p99 needs more than a trial has.

    Where no trial has goodput, tokens/s; without goals, against E2E.
    """
    key = "goodput_per_s" if goodput else "tokens_per_s"
    latency = "e2e_p90"
    if goals:
        latency = f"{goals[0].metric}_{'p50' if goals[0].percentile <= 50 else 'p90'}"
    y = next(axis for axis in AXES_Y if axis.key == key)
    x = next(axis for axis in AXES_X if axis.key == latency)
    return y, x


class _Columns(NamedTuple):
    """Cells of the trials' columns, each as wide as what stands in it; 0 for one left out."""

    setting: int
    load: int
    value: int
    predicted: int
    goal: int
    why: int
    """How long each was measured, and why no longer."""
    interval: bool = True
    """Whether values have their intervals."""

    @property
    def width(self) -> int:
        """Cells of all of them."""
        met = _MET if self.goal else 0
        parts = self.setting + self.load + self.value + self.predicted + met + self.goal
        return _NUMBER + parts + self.why


def _columns(state: TunerState, goals: Sequence[Goal], width: int) -> _Columns:
    """The columns that fit; the least telling ones are left out, the setting is cut at last."""
    trials = state.trials
    settings = [_setting(trial, state) for trial in trials]
    goal = _widest(_GOAL, [missed_text(trial, goals) for trial in trials]) + 1 if goals else 0
    values = [gave_text(trial) for trial in trials]
    plain = [gave_text(trial, interval=False) for trial in trials]
    whole = _Columns(
        setting=_widest(_SETTING, settings) + 2,
        load=_widest("load", [trial.point.load for trial in trials]) + 2,
        value=_widest(_unit(goals), values) + 2,
        predicted=len(_PREDICTED) + 2 if _foretold(state) else 0,
        goal=goal,
        why=6 + _widest("ended", [_ended(trial) for trial in trials]),
    )
    no_load = whole if state.load else whole._replace(load=0)
    brief = no_load._replace(why=0)
    short = brief._replace(value=_widest(_PER_S, values) + 2)
    bare = brief._replace(value=_widest(_PER_S, plain) + 2, interval=False)
    for columns in (whole, no_load, brief, short, bare):
        if columns.width <= width:
            return columns
    # The name of a load with several arrivals is cut before a setting is.
    columns = bare._replace(predicted=0, load=min(bare.load, _CUT_LOAD))
    return columns._replace(setting=max(10, columns.setting - max(0, columns.width - width)))


def _trials(state: TunerState, goals: Sequence[Goal], width: int, height: int) -> list[Row]:
    """As many of the newest trials as fit, and the best in any case."""
    if height < 2:
        return []
    columns = _columns(state, goals, width)
    setting, load, value, predicted, goal, why, _ = columns
    unit = _unit(goals)
    head = (
        f"{'':<{_NUMBER}}{_SETTING:<{setting}}{'load' if load else '':<{load}}"
        f"{unit if len(unit) <= value - 2 else unit[-len(_PER_S) :]:>{value - 2}}  "
        f"{f'{_PREDICTED:>{predicted - 2}}  ' if predicted else ''}"
        f"{'':<{_MET if goal else 0}}{_GOAL if goal else '':<{goal}}{'   s  ended' if why else ''}"
    )
    rows: list[Row] = [[(head[:width], "label")]]
    shown = list(state.trials[-(height - 1) :])
    best = state.best_trial
    if best is not None and best not in shown and shown:
        shown[0] = best
    return rows + [_trial(trial, state, goals, columns, width) for trial in shown]


def _trial(
    trial: TunerTrial, state: TunerState, goals: Sequence[Goal], columns: _Columns, width: int
) -> Row:
    here = trial.number == state.best
    look = "accent" if here else "text"
    setting = shortened(_setting(trial, state), columns.setting - 2)
    load = shortened(trial.point.load, columns.load - 2) if columns.load else ""
    value = gave_text(trial, interval=columns.interval)
    met = ("✓ met  ", "good") if trial.holds else ("✗ miss ", "warn")
    row: Row = [
        (f"{'►' if here else ' '}{trial.number:>3} {trial.point.label:<2} ", look),
        (f"{setting:<{columns.setting}.{columns.setting}}", look),
        (f"{load:<{columns.load}}", "text"),
        (f"{value:>{columns.value - 2}}  ", "value" if trial.holds else "muted"),
    ]
    if columns.predicted:
        row.append((f"{_predicted(trial):>{columns.predicted - 2}}  ", "muted"))
    if columns.goal:
        row += [met, (f"{missed_text(trial, goals):<{columns.goal}}", "text")]
    if columns.why:
        row.append((f"{trial.point.window_s:>4.0f}  {_ended(trial)}", "muted"))
        bound = f" · {trial.binding}" if trial.binding else ""
        if width_of(row) + len(bound) <= width:
            row.append((bound, "muted"))
    return fitted(row, width)


def _widest(head: str, texts: Sequence[str]) -> int:
    return max(len(head), *map(len, texts)) if texts else len(head)


def _ended(trial: TunerTrial) -> str:
    """Why a trial was not measured longer."""
    return f"{trial.why}{', again' if trial.again else ''}"


def _setting(trial: TunerTrial, state: TunerState) -> str:
    setting = shorthand(trial.knobs)
    engine = state.engines[trial.engine]
    return f"{setting} {engine}" if engine else setting


def _unit(goals: Sequence[Goal]) -> str:
    return f"goodput {_PER_S}" if goals else "tokens/s"


def _predicted(trial: TunerTrial) -> str:
    """What was predicted of a trial."""
    if math.isnan(trial.predicted):
        return "–"
    return rate(trial.predicted, 0) if trial.predicted > 0 else "0"


def _foretold(state: TunerState) -> bool:
    """Whether the trials have a column for what was predicted of them."""
    return any(not math.isnan(trial.predicted) for trial in state.trials)


# -- the outcome ---------------------------------------------------------------------------------


def _taking(frame: Frame) -> str:
    """The keys that what was found is taken or left with."""
    boots = "" if "verify" in refused_here(frame) else " v takes and verifies it,"
    return f" Enter takes it (u undoes that),{boots} r leaves it."


def _verdict(state: TunerState, width: int, keys: str) -> list[Row]:
    if not state.over:
        return []
    look = "good" if state.offered else "text"
    rows: list[Row] = [[], *([(f" {line}", look)] for line in wrap(state.verdict, width - 2))]
    if state.offered and keys:
        rows.append([(shortened(keys, width), "muted")])
    shown = state.differences[:6] if any(map(_known, state.differences)) else ()
    return rows + [
        [(" ", "text"), *difference_row(row, width - 1, -math.inf, OVER)] for row in shown
    ]


def _known(row: Difference) -> bool:
    return not math.isnan(row.change)

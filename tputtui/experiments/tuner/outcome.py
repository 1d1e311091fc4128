"""The tuner's result in sentences: the best setting, and whether it is offered. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tputtui.experiments.tuner.scoring import SATURATED
from tputtui.frame import TunerState, TunerTrial
from tputtui.goals import Goal
from tputtui.knobs import spoken
from tputtui.measure.attainment import Attainment, GoalVerdict
from tputtui.measure.normal import Z95
from tputtui.measure.verdict import Difference, Verdict
from tputtui.text.format import counted, rate, seconds

__all__ = ["gave_text", "limits_text", "missed_text", "outcome"]

_FROM_NONE = 99.0
"""From this change on its factor has no meaning: the old value is close to 0."""


def outcome(
    state: TunerState,
    goals: Sequence[Goal],
    broken: str,
    start: Sequence[Attainment] = (),
    best: Sequence[Attainment] = (),
) -> TunerState:
    """The state of a tuner that has ended, with its verdict, and whether there is one to take.

    broken: why it ended early, empty where it did not. start, best: how the start and the best
    setting kept the goals in the comparison, on other requests than those of the search.
    """
    text, offered = _judged(state, goals, bool(broken), _missing(start), _missing(best))
    return replace(state, verdict=f"{broken} {text}".strip(), offered=offered)


def _judged(
    state: TunerState, goals: Sequence[Goal], broken: bool, lost: str, missing: str
) -> tuple[str, bool]:
    """The verdict, and whether the best is offered. lost, missing: goals that start, best miss."""
    best = state.best_trial
    if best is None:
        return ("" if broken else "Nothing was measured."), False
    if not state.holds:
        return f"{_none_met(state)} {_closest(best, state.trials, goals)}", False
    at = f" at {best.point.load}" if state.load else ""
    gave = f"{rate(state.value, 0)} {'requests/s within the goals' if goals else 'tokens/s'}"
    if state.found == state.start and best.engine == 0:
        if state.load:
            carried = f"No other limits carry more than the start's: {best.point.load}, {gave}."
            return carried, not broken
        start = f"the start, {limits_text(state.start)}: {gave}"
        if state.tried == 1 and state.settings > 1:
            return f"There was time for the start only, {start.partition(', ')[2]}.", False
        return f"Nothing tried is better than {start}.", False
    setting = limits_text(state.found)
    if engine := state.engines[best.engine]:
        setting = f"{setting} on {engine}"
    if not state.differences or (broken and math.isnan(state.differences[0].low)):
        return (
            f"The best so far is {setting}{at}, {gave}; it was not compared with the start.",
            False,
        )
    headline = state.differences[0]
    name, how = headline.metric.label, _between(headline)
    better = headline.judgement is Verdict.BETTER
    if lost and not missing and not broken:
        # A goodput near 0 gives no useful ratio; but more than chance explains the missed goal.
        kept = f"{setting} keeps the goals{at}; the start does not: {lost}."
        return f"{kept} {name.capitalize()} {how}.", True
    if missing:
        text = f"{setting} was the best{at}, but on other requests it misses: {missing}."
        if better and not broken:
            return f"{text} Its {name} is better than the start's all the same: {how}.", True
    elif better:
        return f"{setting} is better than the start{at}: {name} {how}.", True
    elif headline.judgement is Verdict.WORSE:
        text = f"{setting} looked best, but in pairs{at} its {name} is worse, {how}."
    elif headline.judgement is Verdict.SAME:
        text = f"{setting} gives the same {name} as the start{at}, within 2 %."
    else:
        text = f"{setting} cannot be told from the start{at}: {name} {how or 'unknown'}."
    return f"{text} The start stays as it is.", False


def _none_met(state: TunerState) -> str:
    """The sentence that no setting met the goals, with the number of settings tried."""
    if state.tried >= state.settings:
        return f"None of the {counted(state.tried, 'setting')} met the goals."
    if state.tried == 1:
        return f"The start, the only one of {state.settings} settings tried, misses the goals."
    return f"None of the {state.tried} settings tried (of {state.settings}) met the goals."


def limits_text(values: Mapping[str, int]) -> str:
    """Limits by name, in few words: `max_num_seqs 64, max_num_batched_tokens 2048`."""
    return ", ".join(f"{name} {spoken(name, value)}" for name, value in values.items())


def gave_text(trial: TunerTrial, *, interval: bool = True) -> str:
    """What a trial gave, with the half-width of its 95 % interval: `32.2 ± 2.12`; 0 for none."""
    if not trial.value > 0:
        return "0"
    half = f" ± {rate(Z95 * trial.error * trial.value, 0)}" if interval else ""
    return f"{rate(trial.value, 0)}{half}"


def missed_text(trial: TunerTrial, goals: Sequence[Goal], observed_s: float | None = None) -> str:
    """The goal with a trial's greatest miss, what it observed and the limit; empty without goals.

    observed_s: replaces the trial's own observation.
    """
    if trial.worst == SATURATED:
        served, offered = trial.point.requests_per_s, trial.point.offered_per_s
        return f"saturated, {rate(served, 0)} of {rate(offered, 0)} req/s served"
    goal = next((goal for goal in goals if goal.name == trial.worst), None)
    if goal is None:
        return ""
    limit = seconds(goal.limit_s, 0)
    seen_s = trial.observed_s if observed_s is None else observed_s
    return f"{goal.name} {seconds(seen_s, 0)} of {limit}"


def _missing(attained: Sequence[Attainment]) -> str:
    """The goals missed by more than chance explains, with the share of requests that kept them."""
    return ", ".join(
        f"{each.goal.name} kept by {each.frac:.1%} of {each.n:,}"
        for each in attained
        if each.verdict is GoalVerdict.MISSED
    )


def _closest(trial: TunerTrial, trials: Sequence[TunerTrial], goals: Sequence[Goal]) -> str:
    """The sentence on the setting that comes closest to the goals, over all its trials."""
    same = [t for t in trials if (t.point.label, t.index) == (trial.point.label, trial.index)]
    goal = next((goal for goal in goals if goal.name == trial.worst), None)
    missed = missed_text(trial, goals) or "nothing ended in time"
    if goal is not None and len(same) > 1:
        seconds_all = math.fsum(t.point.window_s for t in same)
        miss = math.fsum(t.miss * t.point.window_s for t in same) / seconds_all
        missed = missed_text(trial, goals, goal.limit_s * math.exp(miss))
        missed += f" over its {len(same)} trials"
    bound = f"; what held it back there: {trial.binding}" if trial.binding else ""
    return (
        f"The closest was {limits_text(trial.knobs)} at {trial.point.load}: {missed}{bound}. "
        "The start stays as it is."
    )


def _between(row: Difference) -> str:
    if math.isnan(row.low) or math.isnan(row.high):
        return ""
    if row.change >= _FROM_NONE:
        return "from next to none"
    return f"{_by(row.change)} ({_by(row.low)} to {_by(row.high)})"


def _by(change: float) -> str:
    """A change in percent; from tenfold on as a factor."""
    return f"×{1 + change:,.0f}" if change >= 9 else f"{change:+.1%}"

"""The line on what holds: goals, guard, and how far the experiment under way is. Pure."""

from __future__ import annotations

import math

from tputtui.engine.resolved import silently
from tputtui.frame import Frame, SweepState
from tputtui.goals import Goal
from tputtui.measure.attainment import GoalVerdict
from tputtui.text.format import clock, counted, seconds
from tputtui.ui.rows import Row, fitted, shortened, width_of

__all__ = ["goal_named", "level_left", "noteworthy", "standing"]

_SIGNS = {
    GoalVerdict.MET: ("✓", "good"),
    GoalVerdict.MISSED: ("✗", "bad"),
    GoalVerdict.UNRESOLVED: ("?", "warn"),
}


def noteworthy(frame: Frame, failed: str) -> bool:
    """Whether the line has more to say than that nothing is set."""
    goals, offered = frame.profile.judged, frame.tuner is not None and frame.tuner.offered
    return bool(failed or goals or frame.guard or offered or _warning(frame) or _doing(frame)[0])


def standing(frame: Frame, width: int, failed: str = "") -> Row:
    """Goals with their verdicts, the guard, what the boot switched off, how far an experiment is.

    failed: why the last boot failed, until it is acknowledged; that comes before everything else.
    """
    if failed:
        keys = "  Esc: seen, g: log"
        return [("✖ ", "bad"), (shortened(failed, width - len(keys) - 2), "bad"), (keys, "label")]
    doing, left = _doing(frame)
    row = _goals(frame)
    if frame.guard:
        row += [("  guard ", "label"), (frame.guard, "text")]
    if not doing:
        row += _offer(frame, width - width_of(row))
        return _warned(row, _warning(frame), width)
    progress: Row = [("  ▸ ", "accent"), (doing, "text"), (left, "label")]
    room = width - width_of(row)
    if width_of(progress) <= room:
        return [*row, *progress]
    # An experiment is why the person looks: the goals give way.
    shown = shortened(doing, width - len(left) - 3)
    return fitted([(" ▸ ", "accent"), (shown, "text"), (left, "label")], width)


def _warning(frame: Frame) -> str:
    return silently(frame.status.facts.resolved) if frame.serving and frame.status.facts else ""


def _warned(row: Row, warning: str, width: int) -> Row:
    """The row with what the boot did otherwise; where nothing else is set, that alone."""
    if not warning:
        return fitted(row, width)
    if len(row) == 1:
        row = []
    room = width - width_of(row) - 4
    return fitted([*row, ("  ⚠ ", "warn"), (shortened(warning, max(1, room)), "warn")], width)


def _goals(frame: Frame) -> Row:
    if not frame.profile.judged:
        return [(" no goals (o sets them)", "muted")]
    verdicts = {}
    if frame.window.phase.quotable:
        verdicts = {each.goal: each.verdict for each in frame.goodput.each}
    row: Row = [(" goals", "label")]
    for goal in frame.profile.judged:
        sign, look = _SIGNS[verdicts[goal]] if goal in verdicts else ("…", "muted")
        row += [(f" {goal_named(goal)} ", "text"), (sign, look)]
    return row


def goal_named(goal: Goal) -> str:
    """A goal in words: "chat TTFT p99 ≤ 500 ms"."""
    of = f"{goal.traffic} " if goal.traffic else ""
    return f"{of}{goal.metric.upper()} p{goal.percentile:g} ≤ {seconds(goal.limit_s, 0)}"


def _doing(frame: Frame) -> tuple[str, str]:
    """The experiment under way and how far it is, and the time that it has left, if that is known.

    Both empty without one. How many levels a sweep will take is not known: its present one is told.
    """
    compare, tuner, sweep = frame.compare, frame.tuner, frame.sweep
    if compare is not None and not compare.done:
        return f"{compare.title}: {compare.note}", _left(compare.left_s)
    if tuner is not None and not tuner.over:
        tried = f"{tuner.tried} of {tuner.settings} settings" if tuner.settings else tuner.note
        return f"tuner: {tuner.phase}, {tried}", _left(tuner.left_s)
    if sweep is not None and sweep.level is not None:
        text = f"sweep: now {sweep.named}, {counted(sweep.told, 'level')} done · {sweep.note}"
        return text, level_left(sweep)
    return "", ""


def _left(left_s: float, how: str = "left at most") -> str:
    return f"  {clock(left_s)} {how}" if math.isfinite(left_s) else ""


def level_left(sweep: SweepState) -> str:
    """How long a sweep's present level may still take; empty where that is not known."""
    return _left(sweep.left_s, "at most for this level")


def _offer(frame: Frame, room: int) -> Row:
    """Where the tuner's setting waits to be taken; empty without one, and where it has no room."""
    if frame.tuner is None or not frame.tuner.offered:
        return []
    offers = ("the tuner has found a better setting: t", "better setting: t")
    text = next((offer for offer in offers if len(offer) + 4 <= room), "")
    return [("  ▸ ", "accent"), (text, "text")] if text else []

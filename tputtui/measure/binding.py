"""What holds the engine back now, the evidence for it, and what to try next. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from tputtui.knobs import ADMISSION, Knobs
from tputtui.measure.bounds import Binding, Bound, raising
from tputtui.measure.limitbound import limit_bound
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats
from tputtui.measure.stepbound import step_bound
from tputtui.measure.steptime import StepTime, step_time

__all__ = ["Binding", "Bound", "binding", "in_common"]

_MATTERS = 0.2
"""A bound that holds for a smaller share of the time, or of the requests, does not bind."""
_IDLE = 0.1
_FEWEST = 20
_BATCH_FULL = 0.9
_GROWS = 0.8
"""Where at least this share of the busy time grows with the batch, more load gains ≤ a quarter."""


def binding(
    steps: Floats,
    length_s: float,
    knobs: Knobs,
    ceilings: Knobs,
    *,
    ended: int,
    cut_short: int,
    rejected: int = 0,
    throttled: Sequence[str] = (),
    overlapped: bool = False,
) -> Binding | None:
    """What binds over a window; None with fewer than 20 steps.

    steps: rows of `StepSample`, shape (n, fields), of a window `length_s` seconds long.
    ended: requests that ended in the window. cut_short: those of them that max_model_len cut.
    rejected: those of them that were refused when they arrived.
    throttled: NVML's reasons why the clocks of any GPU are held down.
    overlapped: whether the host works while the model does (async scheduling).

    The first of these that holds: a limit that keeps requests from running (`limit_bound`); LENGTH,
    where max_model_len cut a fifth of the requests; ADMISSION, where a fifth of them was refused by
    a limit on what is queued; LOAD, where the engine idles, or where nothing
    waits, the batch has room and more load would gain more than a quarter; otherwise what each
    step's time goes to (`step_bound`).
    """
    if len(steps) < _FEWEST or length_s <= 0:
        return None
    duration = steps[:, STEP["duration_s"]]
    busy_s = float(duration.sum())
    if busy_s <= 0:
        return None
    limit = limit_bound(steps, knobs, ceilings)
    if limit is not None:
        return limit
    if ended and cut_short / ended >= _MATTERS:
        part = cut_short / ended
        advice = raising("max_model_len", knobs, ceilings)
        return Binding(Bound.LENGTH, part, f"{part:.0%} of requests cut short", advice)
    shed = next((name for name in ADMISSION if knobs.get(name)), None)
    if shed is not None and ended and rejected / ended >= _MATTERS:
        part = rejected / ended
        evidence = f"{part:.0%} of requests refused"
        return Binding(Bound.ADMISSION, part, evidence, f"raise {shed}, or none for no limit")
    fit = step_time(steps, overlapped=overlapped)
    idle = max(0.0, 1 - busy_s / length_s)
    running = float(duration @ steps[:, STEP["running"]]) / busy_s
    waits = float(duration @ (steps[:, STEP["waiting"]] > 0)) / busy_s >= _MATTERS
    model = 1.0 if overlapped else 1 - float(steps[:, STEP["host_s"]].sum()) / busy_s
    has_room = not waits and running < _BATCH_FULL * knobs.max_num_seqs
    if idle >= _IDLE or (has_room and _growing(fit) * model < _GROWS):
        seen = f"idle {idle:.0%} of the time" if idle >= _IDLE else "nothing waits"
        evidence = f"{seen}, {running:.0f}/{knobs.max_num_seqs} run"
        return Binding(Bound.LOAD, idle, evidence, "+ adds load")
    return step_bound(steps, fit, knobs, ceilings, throttled=throttled, overlapped=overlapped)


def in_common(engines: Sequence[Binding | None]) -> Binding | None:
    """What binds most of several engines, as it does where it does so most; None for nothing.

    engines: what binds each of them.
    """
    counts = Counter(each.bound for each in engines if each is not None)
    if not counts:
        return None
    most = max(counts.values())
    often = [each for each in engines if each is not None and counts[each.bound] == most]
    shown = max(often, key=lambda each: each.share)
    return replace(shown, engines=f"{counts[shown.bound]} of {len(engines)} engines")


def _growing(fit: StepTime | None) -> float:
    """The share of the model's time that grows with the batch; 0 where the fit does not show it."""
    if fit is None or not fit.resolved:
        return 0.0
    return fit.compute_share + (fit.context_share if fit.split else 0.0)

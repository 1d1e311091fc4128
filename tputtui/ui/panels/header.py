"""The first line: model, load, engine and state. Pure."""

from __future__ import annotations

import math

from tputtui.engine.protocol import State
from tputtui.frame import Frame
from tputtui.load.members import sending
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.sections import describe
from tputtui.text.format import clock
from tputtui.ui.rows import Row, spread, width_of

__all__ = ["header"]

_LOOK = {
    State.RUNNING: ("▶", "good"),
    State.DRAINING: ("◐", "warn"),
    State.READY: ("■", "label"),
    State.PAUSED: ("‖", "warn"),
    State.FAILED: ("✖", "bad"),
}


def header(frame: Frame, width: int) -> Row:
    """One row: model, load and engine on the left, the state on the right."""
    facts, state = frame.status.facts, frame.status.state
    sign, look = _LOOK.get(state, ("…", "accent"))
    load = frame.profile.load
    synthetic = any(part.requests is None for part in sending(load).values())
    left: Row = [("tputtui ", "accent"), (frame.profile.engine.model, "value")]
    if frame.profile.engine.args.get("trust_remote_code"):
        left.append((" runs the model's own code", "warn"))
    simulated = facts.simulated if facts else ""
    doing, left_s = _experiment(frame) if frame.serving else ("", math.nan)
    right: Row = [(f"{sign} ", look), (doing, "accent") if doing else (state.value, look)]
    if state in (State.READY, State.DRAINING) and not doing:
        right.append((" load held", "muted"))
    if simulated:
        # Always shown, in full where that leaves room for the model.
        spare = width - width_of(left) - width_of(right) - 3
        left.append((f"  {simulated if len(simulated) <= spare else _brief(simulated)}", "warn"))
    if facts is not None and facts.notice and synthetic:
        spare = width - width_of(left) - width_of(right) - 3
        left.append(
            (f"  {facts.notice if len(facts.notice) <= spare else 'lengths approximate'}", "warn")
        )
    left, right = _narrowed(left, right, width)
    # The time left is shown only where model and state have their room.
    time_left = f", {clock(left_s)} left at most" if math.isfinite(left_s) else ""
    if time_left and width_of(left) + width_of(right) + len(time_left) < width:
        right.append((time_left, "accent"))
    if facts is not None and facts.live:
        middle: Row = [("  live traffic", "text")]
        more: Row = [(" · nothing is sent, a change is judged before/after", "muted")]
    else:
        middle = [(f"  {describe_all_arrivals(load)}", "text")]
        more = [(f" · {describe(load)}", "muted")]
    about: Row = []
    if facts is not None:
        version = facts.versions.get(facts.kind.lower(), "?")
        parts = (f"{facts.kind} {version}", facts.device, facts.dtype)
        about = [(f"  {' · '.join(filter(None, parts))}", "muted")]
    # As much as fits, the most telling first.
    for optional in (middle, more, about):
        if width_of(left) + width_of(optional) + width_of(right) + 1 <= width:
            left += optional
    return spread(left, right, width)


def _narrowed(left: Row, right: Row, width: int) -> tuple[Row, Row]:
    """Both sides, shortened until they fit: what the engine does, and that it is simulated, stay.

    In this order give way: READY beside "load held", our own name, all but the first word on the
    simulation, the end of the model's name.
    """

    def missing() -> int:
        return width_of(left) + width_of(right) + 1 - width

    if missing() > 0 and len(right) == 3:
        sign, state, held = right
        right = [sign, (held[0].strip(), held[1]) if state[0] == State.READY else state]
    if missing() > 0:
        left = left[1:]
    if missing() > 0:
        left = [(text.partition(",")[0] if "SIMULATED" in text else text, look)
                for text, look in left]  # fmt: skip
    if (cells := missing()) > 0:
        (model, look), *rest = left
        left = [(f"{model[: max(8, len(model) - cells - 1)]}…", look), *rest]
    return left, right


def _experiment(frame: Frame) -> tuple[str, float]:
    """The experiment under way and how far it is ("A/B pair 3"), and seconds left at most.

    An empty text without an experiment; NaN where the time left is not known.
    """
    compare, tuner, sweep = frame.compare, frame.tuner, frame.sweep
    if compare is not None and not compare.done:
        pair = f" pair {compare.pair + 1}" if compare.side else ""
        return f"{compare.title}{pair}", compare.left_s
    if tuner is not None and not tuner.over:
        return f"TUNER trial {len(tuner.trials) + 1}", tuner.left_s
    if sweep is not None and sweep.level is not None:
        return f"SWEEP level {sweep.told + 1}", sweep.left_s
    return "", math.nan


def _brief(simulated: str) -> str:
    """The first and the last part of the text: SIMULATED, and how far it can be trusted."""
    first, *_, last = simulated.split(", ")
    return f"{first}, {last}"

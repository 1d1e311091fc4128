"""The first line: what runs, under which load, in which state. Pure."""

from __future__ import annotations

from tputtui.engine.protocol import State
from tputtui.frame import Frame
from tputtui.load.notation import describe_arrivals
from tputtui.load.sections import describe
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
    """One row."""
    facts, state = frame.status.facts, frame.status.state
    sign, look = _LOOK.get(state, ("…", "accent"))
    load = frame.profile.load
    left: Row = [("tputtui ", "accent"), (frame.profile.engine.model, "value")]
    if frame.profile.engine.args.get("trust_remote_code"):
        left.append((" runs the model's own code", "warn"))
    simulated = facts.simulated if facts else ""
    state_part: Row = [(f"{sign} {state.value}", look)]
    if state in (State.READY, State.DRAINING):
        state_part.append((" load held", "muted"))
    if frame.sweep is not None and frame.sweep.level is not None:
        state_part.append((" sweep", "accent"))
    if frame.tuner is not None and not frame.tuner.over:
        state_part.append((" tuner", "accent"))
    right = state_part
    if simulated:
        # Always there, in full where that leaves room for what runs.
        spare = width - width_of(left) - width_of(right) - 3
        left.append((f"  {simulated if len(simulated) <= spare else _brief(simulated)}", "warn"))
    middle: Row = [(f"  {describe_arrivals(load.arrivals)}", "text")]
    more: Row = [(f" · {describe(load)}", "muted")]
    about: Row = []
    if facts is not None:
        version = facts.versions.get(facts.kind.lower(), "?")
        parts = (f"{facts.kind} {version}", facts.device, facts.dtype)
        about = [(f"  {' · '.join(filter(None, parts))}", "muted")]
    # What fits, most telling first.
    for optional in (middle, more, about):
        if width_of(left) + width_of(optional) + width_of(right) + 1 <= width:
            left += optional
    return spread(left, right, width)


def _brief(simulated: str) -> str:
    """SIMULATED and what it is worth."""
    first, *_, last = simulated.split(", ")
    return f"{first}, {last}"

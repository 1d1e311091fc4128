"""What `:` takes: a limit, the load, goals, the guard, quality, as a line. Main thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tputtui.errors import UsageError, nearest
from tputtui.goals import parse_goals
from tputtui.knobs import KNOBS, knob, parse_value
from tputtui.load.sections import from_texts
from tputtui.session.guard import parse_guard
from tputtui.session.session import Session

__all__ = ["EXAMPLES", "carry_out"]

EXAMPLES = "max_num_seqs 48 · load 8/s · goals ttft_p99=500ms · guard kv=0.97 · quality · undo"


def carry_out(session: Session, line: str) -> str:
    """Do what `line` says; returns a sentence, or nothing where the screen shows it by itself.

    Raises UsageError for a line that says nothing, and what the session raises.
    """
    # As it is pasted from elsewhere, with the key that opens the line.
    word, _, rest = line.strip().lstrip(":").strip().partition(" ")
    rest = rest.strip()
    if not word:
        raise UsageError("The line is empty.", "Write a limit and its value: max_num_seqs 48.")
    name = word.lstrip("-").replace("-", "_").lower()
    if name in _DOES:
        return _DOES[name](session, rest)
    limits = [each.name for each in KNOBS]
    # A beginning is enough where it can be one limit only.
    begun = [limit for limit in limits if limit.startswith(name)]
    if name in limits:
        begun = [name]
    if len(begun) != 1:
        among = f"{', '.join(begun)}: which?" if begun else ""
        takes = f"A line begins with a limit's name, or with {', '.join(_DOES)}."
        hint = among or nearest(name, [*limits, *_DOES]) or takes
        raise UsageError(f"{word!r} is no limit, and nothing else that : takes.", hint)
    if not rest:
        facts = session.latest.status.facts
        most = facts.ceilings.get(begun[0]) if facts else 48
        such = next(iter(knob(begun[0]).choices), min(48, most))
        raise UsageError(f"{begun[0]} needs a value.", f"Write: {begun[0]} {such}.")
    session.steer.limits.set(begun[0], parse_value(begun[0], rest))
    return ""


def _load(session: Session, rest: str) -> str:
    session.steer.load.set(from_texts(session.steer.load.asked, {"arrivals": rest}))
    return ""


def _goals(session: Session, rest: str) -> str:
    session.set_goals(parse_goals(rest))
    return ""


def _guard(session: Session, rest: str) -> str:
    session.steer.set_guard(parse_guard(rest) if rest else None)
    return ""


_DOES: Mapping[str, Callable[[Session, str], str]] = {
    "load": _load,
    "goal": _goals,
    "goals": _goals,
    "guard": _guard,
    "quality": lambda session, rest: session.steer.questions.begin(rest),
    "undo": lambda session, rest: f"Undone: {session.steer.undo()}",
    "redo": lambda session, rest: f"Done again: {session.steer.redo()}",
}

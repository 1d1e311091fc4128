"""The question for the exact value of a limit, with what it would do while it is typed."""

from __future__ import annotations

from collections.abc import Callable

from tputtui.errors import TputError
from tputtui.knobs import UNTOLD, checked, knob, parse_value, spoken
from tputtui.predict.outlook import FOLLOWED
from tputtui.session.session import Session
from tputtui.ui.panels.outlooks import outlook_line
from tputtui.ui.screens.dialog import Dialog

__all__ = ["limit_dialog"]

_WIDTH = 138
"""Cells of its two lines on what the value would do, less what wrapping may waste."""


def limit_dialog(session: Session, name: str, use: Callable[[int | str], None]) -> Dialog:
    """Asks for a value of the limit and hands it to `use`; what that refuses is shown.

    Raises KnobError while no engine is up.
    """
    ceilings, present = session.steer.limits.ceilings, session.steer.limits.asked(name)

    def ahead(texts: list[str]) -> str:
        facts, asked = session.latest.status.facts, session.latest.asked
        try:
            floor = facts.floor(name, asked) if facts and asked else 0
            value = checked(name, parse_value(name, texts[0]), ceilings, floor)
        except TputError:
            session.consider("")
            return ""
        session.consider(name, value)
        shown = [("", o) for o in session.latest.outlooks if (o.name, o.value) == (name, value)]
        return outlook_line(shown, _WIDTH)

    limit, ceiling = knob(name), ceilings.get(name)
    hint = f"{', '.join(limit.choices)}. {limit.trade}"
    if not limit.choices:
        most = f"Up to {ceiling:,}" if ceiling < UNTOLD else "1 or more"
        hint = f"{most}; {limit.reach}. 4k is 4,000, 4K 4,096."
    return Dialog(
        name,
        [("", spoken(name, present))],
        hint,
        lambda texts: use(parse_value(name, texts[0])),
        ahead if name in FOLLOWED else None,
    )

"""What became of draft tokens: how many were accepted, and at which places. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tputtui.measure.samples import POSITIONS, STEP
from tputtui.measure.stats import Floats

__all__ = ["NONE_CHECKED", "Acceptance", "acceptance_of"]


class Acceptance(NamedTuple):
    """Of the draft tokens that were checked in a window, as vLLM counts and averages them."""

    drafts: int = 0
    """How many times draft tokens of a sequence were checked; 0 where nothing was drafted."""
    frac: float = float("nan")
    """Accepted ÷ drafted tokens."""
    length: float = float("nan")
    """Tokens that a check brought on average, the model's own one included."""
    at: tuple[float, ...] = ()
    """Share of checks in which the first, second, … draft token was accepted, up to the last place
    with any; of the first eight."""


NONE_CHECKED = Acceptance()


def acceptance_of(steps: Floats) -> Acceptance:
    """What became of the draft tokens of `steps`, rows of `StepSample`, shape (n, fields)."""
    total = steps[:, STEP["drafts"] :].sum(axis=0) if len(steps) else None
    if total is None or not total[0]:
        return NONE_CHECKED
    drafts, drafted, accepted = (float(total[STEP[name] - STEP["drafts"]]) for name in _COUNTS)
    at = [float(total[STEP[name] - STEP["drafts"]]) / drafts for name in POSITIONS]
    while at and not at[-1]:
        at.pop()
    frac = accepted / drafted if drafted else float("nan")
    return Acceptance(int(drafts), frac, 1 + accepted / drafts, tuple(at))


_COUNTS = ("drafts", "checked_tokens", "accepted_tokens")

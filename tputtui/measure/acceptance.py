"""What became of draft tokens: how many were accepted, and at which places. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tputtui.measure.samples import CHECKED, POSITIONS, STEP
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
    if not steps[:, STEP["drafts"]].any():
        return NONE_CHECKED
    columns = [STEP[name] for name in CHECKED]
    total = dict(zip(CHECKED, steps[:, columns].sum(axis=0).tolist(), strict=True))
    drafts, drafted, accepted = (total[name] for name in CHECKED if name not in POSITIONS)
    at = [total[name] / drafts for name in POSITIONS]
    while at and not at[-1]:
        at.pop()
    frac = accepted / drafted if drafted else float("nan")
    return Acceptance(int(drafts), frac, 1 + accepted / drafts, tuple(at))

"""Who may change an engine's limits, until when, and how far. Pure but for the clock it is given.

One person controls at a time. Control is a lease: it runs out where it is not renewed, and then
the limits go back to what stood before it was taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from tputtui.engine.wire import HOLD_S
from tputtui.errors import KnobError, UsageError
from tputtui.knobs import KNOBS, Knobs, checked, knob, spoken

__all__ = ["Lease", "cost_to_others", "parse_bounds", "within"]


class Lease:
    """The lease on one engine.

    holder: who has it, in words; empty for nobody. before: the limits that stood when it was taken.
    keep: whether the limits stay as they are when it ends.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._until_s = 0.0
        self._name = ""
        self.holder = ""
        self.before: Knobs | None = None
        self.keep = False

    def take(self, name: str, holder: str, limits: Knobs, *, keep: bool = False) -> None:
        """Give it to `holder`. Raises UsageError while somebody else has it."""
        if self.holder and name != self._name:
            raise UsageError(f"{self.holder} controls this server.", "One person does at a time.")
        self._name, self.holder, self.before, self.keep = name, holder, limits, keep
        self._until_s = self._clock() + HOLD_S

    def renew(self, name: str) -> None:
        """Keep it for longer. Raises UsageError for whom does not have it."""
        self.check(name)
        self._until_s = self._clock() + HOLD_S

    def check(self, name: str) -> None:
        """Raise UsageError where `name` is not the lease that holds."""
        if not name or name != self._name:
            now = f"{self.holder} controls this server." if self.holder else "Nobody controls it."
            raise UsageError(f"This lease has run out. {now}", "Take control again.")

    def end(self) -> None:
        """Nobody controls the engine any more."""
        self._name, self.holder, self.before, self.keep = "", "", None, False

    @property
    def over(self) -> bool:
        """Whether it has run out, and what it changed is to be put back."""
        return bool(self.holder) and self._clock() >= self._until_s


_BOUND = re.compile(r"\s*([a-z_-]+)\s*=\s*(\d{1,12})\s*\.\.\s*(\d{1,12})\s*")


def parse_bounds(text: str) -> dict[str, tuple[int, int]]:
    """Bounds by limit, of `max_num_seqs=32..256,max_num_batched_tokens=512..8192`.

    Raises UsageError for anything else.
    """
    bounds: dict[str, tuple[int, int]] = {}
    for part in filter(str.strip, text.split(",")):
        match = _BOUND.fullmatch(part)
        if match is None:
            raise UsageError(
                f"TPUTTUI_BOUNDS: {part.strip()!r} is not a limit with its bounds.",
                "max_num_seqs=32..256, with commas between.",
            )
        name, least, greatest = match[1].replace("-", "_"), int(match[2]), int(match[3])
        if least > greatest:
            raise UsageError(f"TPUTTUI_BOUNDS: {name} is bounded by {least} above {greatest}.")
        bounds[knob(name).name] = (least, greatest)
    return bounds


def cost_to_others(old: Knobs, new: Knobs) -> str:
    """What a change would do to other people's requests, in words; empty for nothing."""
    if new.num_gpu_blocks < old.num_gpu_blocks:
        return "some would wait for room in the KV cache"
    for limit in KNOBS:
        before, then = old.get(limit.name), new.get(limit.name)
        if limit.absent and then and (then < before or not before):
            return "more that arrive could be refused"
    return ""


def within(
    limits: Knobs,
    changes: Mapping[str, int],
    ceilings: Knobs,
    fixed: Mapping[str, str],
    bounds: Mapping[str, tuple[int, int]],
) -> Knobs:
    """`limits` with `changes`. Raises KnobError for one that is not to be had here."""
    for name, value in changes.items():
        if knob(name).name in fixed:
            raise KnobError(f"{name} cannot be changed here: {fixed[name]}.")
        number = checked(name, value, ceilings)
        least, greatest = bounds.get(name, (0, number))
        if not least <= number <= greatest:
            told = f"{spoken(name, least)} to {spoken(name, greatest)}"
            raise KnobError(
                f"{name} {spoken(name, number)} is outside what this server's operator allows.",
                f"TPUTTUI_BOUNDS says {told}.",
            )
        limits = limits.with_value(name, number)
    return limits

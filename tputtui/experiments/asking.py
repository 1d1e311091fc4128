"""Asks a set of prompts of the engine that is up: alone, then beside its load.

Front end's thread; receives frames. What is asked alone begins with an empty prefix cache; beside
the load it finds there what was asked before, so that answers from the cache are compared as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum

from tputtui.engine.protocol import EngineFacts, State
from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.profile.evidence import Compared, Quality
from tputtui.quality.answers import Answers
from tputtui.quality.compare import Comparison, Sameness, compare, worst
from tputtui.quality.prompts import PromptSet

__all__ = ["Asking", "Next", "check_asked", "judged"]

_WARM_S = 3.0


class Next(Enum):
    """What the session must do now."""

    NOTHING = "nothing"
    STOP_LOAD = "stop the load"
    ASK_ALONE = "ask, on an empty prefix cache"
    RUN_LOAD = "run the load"
    ASK_BESIDE = "ask, beside the load"


def check_asked(facts: EngineFacts) -> None:
    """Raise UsageError for an engine whose answers cannot be compared."""
    if facts.simulated:
        raise UsageError("A simulated model has no answers to compare.")
    if facts.served:
        raise UsageError(
            "Answers are compared on an engine in this process, not on a server.",
            "Give --quality to `tputtui verify` without --served.",
        )


class Asking:
    """Asks alone `times` times, then once `beside` the load. Tell it the number of each order.

    alone: the answers of each round. beside: those under load; None without. broken: why it came to
    no end; empty while it may.
    """

    def __init__(self, times: int, *, beside: bool = True) -> None:
        self.alone: list[Answers] = []
        self.beside: Answers | None = None
        self.broken = ""
        self.over = False
        self._steps = [Next.STOP_LOAD, *[Next.ASK_ALONE] * times]
        self._steps += [Next.RUN_LOAD, Next.ASK_BESIDE] if beside else []
        self._at = 0
        self._order: int | None = None

    @property
    def note(self) -> str:
        """What it is doing, in words."""
        match self._steps[min(self._at, len(self._steps) - 1)]:
            case Next.ASK_ALONE:
                return f"asking, nothing else in flight (round {len(self.alone) + 1})"
            case Next.ASK_BESIDE:
                return "asking, under load"
            case _:
                return "waiting for the load to change"

    def ordered(self, number: int) -> None:
        """The order with this number carries out what was wanted last."""
        self._order = number

    def follow(self, frame: Frame) -> Next:
        """Take in a frame; what must be ordered now."""
        if self.over:
            return Next.NOTHING
        if frame.status.state is State.FAILED:
            self.broken, self.over = f"The engine failed: {frame.status.failure}", True
            return Next.NOTHING
        if self._order is not None:
            if self._steps[self._at] is Next.ASK_ALONE and frame.status.load_on:
                self.broken, self.over = "The load was started meanwhile.", True
                return Next.NOTHING
            if not self._carried_out(frame, self._order):
                return Next.NOTHING
            self._at, self._order = self._at + 1, None
        if self._at == len(self._steps):
            self.over = True
            return Next.NOTHING
        return self._steps[self._at]

    def _carried_out(self, frame: Frame, order: int) -> bool:
        """Whether the last order is carried out, and its effect there."""
        status = frame.status
        if status.carried_out < order:
            return False
        match self._steps[self._at]:
            case Next.STOP_LOAD:
                return not status.load_on and frame.accounting.in_flight == 0
            case Next.RUN_LOAD:
                return frame.t_s - status.load_run.began_s >= _WARM_S
        answered = status.answered
        if answered is None or answered.number != order:
            return False
        if self._steps[self._at] is Next.ASK_ALONE:
            self.alone.append(answered.answers)
        else:
            # Without a load, from then or until now, they were asked alone.
            self.beside = answered.answers if status.load_on else None
        return True


def judged(
    prompts: PromptSet, changes: Sequence[str], before: Asking, after: Asking
) -> tuple[Quality, list[Comparison]]:
    """Whether the engine of `after` answers as that of `before`, which was asked alone twice.

    The comparisons behind it, alone and under load, are for the screen only: they tell where single
    answers differ.
    """
    reference, again = before.alone
    found = [compare(reference, again, after.alone[0])]
    if before.beside is not None and after.beside is not None:
        found.append(compare(reference, before.beside, after.beside))
    kept = [
        Compared(each.verdict.value, each.prompts, each.differ, each.noise, float(f"{each.p:.2g}"))
        for each in found
    ]
    verdict: Sameness = worst(each.verdict for each in found)
    quality = Quality(
        verdict.value,
        list(changes),
        prompts.name,
        prompts.sha256,
        found[0].tokens,
        kept[0],
        kept[1] if len(kept) > 1 else None,
    )
    return quality, found

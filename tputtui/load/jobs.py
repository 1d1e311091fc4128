"""Jobs of several steps, some of which wait for others: which step is due when. Pure.

A step is due when all those it comes after have answered, and its tool's time has passed. The turns
of a conversation are steps, each after the one before it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Job", "Jobs", "Left", "Step", "chain"]


class Step(NamedTuple):
    """When a step of a job is due.

    after: places of the steps it waits for. wait_s: from their last answer to this step, in s.
    """

    after: tuple[int, ...] = ()
    wait_s: float = 0.0


class Job:
    """One job under way.

    timed: whether its latency is measured; that of a conversation is not, since people think.
    began_s: when its first step was due; NaN before that. flying: steps in flight. broken: whether
    a step got no answer, so that no other is sent. number: of its first request; -1 before that.
    """

    __slots__ = (
        "_followers", "_steps", "_todo", "_unanswered", "began_s", "broken", "flying", "number",
        "timed",
    )  # fmt: skip

    def __init__(self, steps: Sequence[Step], *, timed: bool) -> None:
        self.timed = timed
        self.began_s = math.nan
        self.number = -1
        self.flying = 0
        self.broken = False
        self._steps = steps
        self._todo = [len(step.after) for step in steps]
        self._unanswered = len(steps)
        self._followers: list[list[int]] = [[] for _ in steps]
        for place, step in enumerate(steps):
            for before in step.after:
                self._followers[before].append(place)

    def roots(self) -> list[tuple[float, int]]:
        """The steps that wait for no other: (seconds after the first of them, place), by time."""
        first = [(s.wait_s, place) for place, s in enumerate(self._steps) if not s.after]
        least_s = min(first)[0]
        return sorted((wait_s - least_s, place) for wait_s, place in first)

    def answered(self, place: int, end_s: float) -> list[tuple[float, int]]:
        """Note an answer; the steps that waited for it last: (when each is due, its place)."""
        self.flying -= 1
        self._unanswered -= 1
        if self.broken:
            return []
        ready = []
        for other in self._followers[place]:
            self._todo[other] -= 1
            if not self._todo[other]:
                ready.append((end_s + self._steps[other].wait_s, other))
        return ready

    @property
    def over(self) -> bool:
        """Whether nothing of it is in flight, or will be."""
        return not self.flying and (self.broken or not self._unanswered)


class Left(NamedTuple):
    """What the end of a request means.

    frees: whether its place is free: its job, or conversation, is over. job_s: how long the job
    took that it ended, from its first step due; NaN where it ended none. ready: the steps that are
    due next: (when, place in the job).
    """

    frees: bool = True
    job_s: float = math.nan
    ready: tuple[tuple[float, int], ...] = ()


class Jobs:
    """The jobs under way, by the numbers of their requests in flight."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[Job, int]] = {}
        self._under_way: set[Job] = set()

    @property
    def under_way(self) -> int:
        """How many jobs are not over."""
        return len(self._under_way)

    @property
    def thinking(self) -> int:
        """Places that they take beside their requests in flight; below 0 where steps run abreast.

        A job takes one place of a closed loop from its first step to its last answer.
        """
        return len(self._under_way) - len(self._asked)

    def sent(self, number: int, job: Job, place: int, due_s: float) -> bool:
        """Note that a request carries a step; whether it is the first of its job."""
        first = job.number < 0
        if first:
            job.number, job.began_s = number, due_s
            self._under_way.add(job)
        job.flying += 1
        self._asked[number] = job, place
        return first

    def answered(self, number: int, end_s: float) -> Left | None:
        """Note the whole answer of a request; None where it belongs to no job."""
        if (found := self._asked.pop(number, None)) is None:
            return None
        job, place = found
        ready = tuple(job.answered(place, end_s))
        # A broken job was counted when it broke.
        whole = job.over and job.timed and not job.broken
        return Left(self._closed(job), end_s - job.began_s if whole else math.nan, ready)

    def lost(self, number: int, end_s: float) -> Left | None:
        """Note that a request got no answer: its job is broken. None where it has no job."""
        if (found := self._asked.pop(number, None)) is None:
            return None
        job, _ = found
        job.flying -= 1
        breaks = job.timed and not job.broken
        job.broken = True
        return Left(self._closed(job), end_s - job.began_s if breaks else math.nan)

    def drop(self, job: Job) -> None:
        """End a job of which no step is sent any more."""
        job.broken = True
        self._closed(job)

    def _closed(self, job: Job) -> bool:
        if job.over:
            self._under_way.discard(job)
        return job.over


def chain(waits_s: Sequence[float]) -> tuple[Step, ...]:
    """Steps that come one after the other, as the turns of a conversation."""
    return tuple(Step((place - 1,) if place else (), wait) for place, wait in enumerate(waits_s))

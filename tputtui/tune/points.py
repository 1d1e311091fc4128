"""Collects one point for every setting that was measured: the throughput-latency frontier.

Front end's thread; fed one frame after another.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tputtui.frame import Frame
from tputtui.knobs import turned
from tputtui.load.notation import describe_arrivals
from tputtui.load.workload import Workload
from tputtui.measure.frontier import Point, letter
from tputtui.measure.window import Phase

__all__ = ["Points", "countable"]

MIN_REQUESTS = 30
MIN_WINDOW_S = 10.0
_KEPT = 200


def countable(frame: Frame) -> bool:
    """Whether the window is worth a point: long enough, with requests enough, and of one piece.

    One that is saturated counts as well: its throughput holds, and its latencies say how long
    they have grown for.
    """
    window, phase = frame.window, frame.window.phase
    whole = phase is Phase.STEADY or (phase is Phase.DRIFTING and frame.figures.saturated)
    return whole and window.length_s >= MIN_WINDOW_S and ended(frame) >= MIN_REQUESTS


def ended(frame: Frame) -> int:
    """Requests that finished in the window."""
    rate = frame.figures.achieved_per_s
    return 0 if math.isnan(rate) else round(rate * frame.window.length_s)


class Points:
    """The settings measured in one run, oldest first; the present one is measured on."""

    def __init__(self) -> None:
        self._done: list[Point] = []
        self._now: Point | None = None
        self._setting: object = None
        self._count = 0

    def all(self) -> tuple[Point, ...]:
        """Every point, the present setting's last if it counts already."""
        return (*self._done, self._now) if self._now else tuple(self._done)

    def clear(self) -> None:
        """Forget every point."""
        self._done.clear()
        self._now = None
        self._count = 0

    def follow(self, frame: Frame, *, swept: bool) -> None:
        """Take in a frame: a new setting closes the point of the one before."""
        knobs = frame.status.knobs
        load = frame.profile.load
        setting: tuple[object, ...] = (knobs, load, frame.profile.goals, frame.status.facts)
        # A staircase has a setting on each of its steps.
        level = frame.wanted.level if frame.wanted.period_s == 0 else math.nan
        if frame.window.phase is Phase.STEADY:
            setting = (*setting, f"{level:g}")
        elif self._setting is not None and not _same(setting, self._setting):
            self._close()
            self._setting = None
            return
        facts = frame.status.facts
        if not countable(frame) or knobs is None or facts is None:
            return
        if setting != self._setting:
            self._close()
            self._setting = setting
        label = self._now.label if self._now else letter(self._count)
        self._now = _point(frame, label, load, turned(knobs, facts.booted), swept)

    def _close(self) -> None:
        if self._now is not None:
            self._done.append(self._now)
            del self._done[:-_KEPT]
            self._count += 1
        self._now = None


def _same(setting: tuple[object, ...], other: object) -> bool:
    return isinstance(other, tuple) and other[: len(setting)] == setting


def _point(frame: Frame, label: str, load: Workload, knobs: dict[str, int], swept: bool) -> Point:
    found, latencies = frame.figures, frame.latencies
    point = Point(
        label=label,
        knobs=knobs,
        load=describe_arrivals(load.arrivals),
        level=frame.wanted.level,
        tokens_per_s=found.generated_per_s,
        requests_per_s=found.achieved_per_s,
        latency={"ttft": latencies.ttft, "tpot": latencies.tpot, "e2e": latencies.e2e},
        n=ended(frame),
        window_s=frame.window.length_s,
        offered_per_s=found.offered_per_s,
        tokens_per_joule=frame.tokens_per_joule,
        cost_per_mtok=frame.cost_per_mtok,
        saturated=found.saturated,
        steady=frame.window.phase is Phase.STEADY,
        swept=swept,
    )
    if not frame.profile.goals:
        return point
    return replace(point, goodput_per_s=frame.goodput.per_s)

"""What a session log keeps of a frame, field by field: how it is written, and read again. Pure.

A new field of `Frame` that a replay is to have is a row in `KEPT`: journal, reading and replay
follow the table. Fields that refer to profiles by number, or grow piece by piece (status, profile,
trials, tuner), have code of their own in `journal` and `reading`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any, NamedTuple

from tputtui.frame import CompareState, SweepState
from tputtui.hardware import GpuSample, HardwareSample
from tputtui.knobs import Knobs
from tputtui.load.carrier import Label
from tputtui.load.requests.counts import RequestCounts
from tputtui.measure.frontier import Point
from tputtui.measure.samples import EngineLoad
from tputtui.measure.series import METRICS, MORE
from tputtui.measure.verdict import Difference, Verdict
from tputtui.record.line import plain, restored

__all__ = ["KEPT", "Kept", "read_differences", "write_differences"]

_METRICS = {metric.key: metric for metric in (*METRICS, *MORE)}
_NUMBERS = ("old", "new", "change", "low", "high", "needs_s")


class Kept(NamedTuple):
    """One field. Its name is that in `Frame`."""

    name: str
    first: Any
    """The value before it is first written."""
    read: Callable[[Any], Any]
    """Makes the value of what `write` made; never called for None."""
    write: Callable[[Any], Any] = plain
    """Makes what stands in the log; never called for None."""
    stamp: Callable[[Any], Any] = lambda value: value
    """What tells a new value from the one written last."""


def _of(kind: Any) -> Callable[[Any], Any]:
    return lambda written: restored(written, kind)


def _write_hardware(sample: HardwareSample) -> Any:
    """Without the values that a GPU does not offer, and without processes.

    The names of other people's processes are private, and process numbers mean nothing later.
    """
    return plain(replace(sample, gpus=())) | {"gpus": [_gpu(gpu) for gpu in sample.gpus]}


def _gpu(gpu: GpuSample) -> Any:
    kept = {each.name: getattr(gpu, each.name) for each in fields(gpu) if each.name != "processes"}
    defaults = {each.name: each.default for each in fields(gpu)}
    return plain({name: value for name, value in kept.items() if value != defaults[name]})


def _write_compare(compare: CompareState) -> Any:
    return plain(
        {
            "side": compare.side,
            "pair": compare.pair,
            "note": compare.note,
            "done": compare.done,
            "title": compare.title,
            "sides": compare.sides,
            "left_s": compare.left_s,
            "differences": write_differences(compare.differences),
        }
    )


def _read_compare(written: Any) -> CompareState:
    return CompareState(
        written["side"],
        written["pair"],
        written["note"],
        written["done"],
        read_differences(written["differences"]),
        written["title"],
        # Version 0.1 did not name the sides.
        tuple(written.get("sides", ("", ""))),
        float(written.get("left_s", math.nan)),
    )


def write_differences(rows: tuple[Difference, ...]) -> Any:
    """The rows of a comparison, each with its metric's key."""
    return plain(
        [
            {
                "key": row.metric.key,
                **{name: getattr(row, name) for name in _NUMBERS},
                "judgement": row.judgement,
            }
            for row in rows
        ]
    )


def read_differences(written: Any) -> tuple[Difference, ...]:
    """The rows that `write_differences` wrote; none for None, none of a metric that is gone."""
    return tuple(
        Difference(
            metric=_METRICS[row["key"]],
            judgement=Verdict(row["judgement"]),
            **{name: float(row[name]) for name in _NUMBERS},
        )
        for row in written or ()
        if row["key"] in _METRICS
    )


KEPT = (
    Kept("asked", None, _of(Knobs)),
    Kept("hardware", None, _of(HardwareSample), _write_hardware, lambda each: each and each.t_s),
    Kept("compare", None, _read_compare, _write_compare),
    Kept("sweep", None, _of(SweepState)),
    Kept("points", (), _of(tuple[Point, ...])),
    Kept("baseline", None, _of(int)),
    Kept("guard", "", _of(str)),
    Kept("others", 0, _of(int)),
    Kept("engines", (), _of(tuple[EngineLoad, ...])),
    Kept("stops", (), _of(tuple[tuple[str, int], ...])),
    Kept("tiers", (), _of(tuple[tuple[str, int], ...])),
    Kept("requests", None, _of(RequestCounts)),
    # Logs without labels are of requests of one kind.
    Kept("labels", (Label(),), _of(tuple[Label, ...])),
)

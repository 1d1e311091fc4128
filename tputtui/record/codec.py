"""Rows of a recorder as columns of whole numbers, and back. Pure.

A time is kept as the step from the row before, in units of the quantum (a microsecond, unless the
log would grow too fast), a share in millionths, a count as it is. Whole numbers that change little
are what a compressor does best with, and a reader needs nothing but JSON.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tputtui.measure.samples import StepSample
from tputtui.measure.stats import Floats

__all__ = ["TABLES", "pack", "unpack"]

TIME, SECONDS, COUNT, SHARE = "tscf"
_STEP = {
    "end_s": TIME,
    "duration_s": SECONDS,
    "host_s": SECONDS,
    "kv_frac": SHARE,
}
TABLES = {
    "steps": "".join(_STEP.get(name, COUNT) for name in StepSample._fields),
    "gaps": TIME + SECONDS + COUNT,
    "first_tokens": TIME + SECONDS + SECONDS,
    "issued": TIME,
    # number, outcome, due; from due: submitted, scheduled, first token, end; prompt, output,
    # wanted, cached, preemptions
    "ended": COUNT + COUNT + TIME + 4 * SECONDS + 5 * COUNT,
}
"""Every table of a recorder: what kind each of its columns is."""
_SHARE = 1e-6

Packed = list[Any]


def pack(rows: Floats, kinds: str, origin_s: float, quantum_s: float) -> Packed:
    """Columns of `rows`, shape (n, len(kinds)), times counted from `origin_s`.

    A column of one value throughout is that value; NaN is None.
    """
    return [
        _column(rows[:, i] - origin_s if kind == TIME else rows[:, i], _unit(kind, quantum_s), kind)
        for i, kind in enumerate(kinds)
    ]


def unpack(packed: Packed, n: int, kinds: str, origin_s: float, quantum_s: float) -> Floats:
    """The `n` rows of `packed`. Raises ValueError when it is not as `pack` makes it."""
    if len(packed) != len(kinds):
        raise ValueError(f"{len(packed)} columns, not {len(kinds)}")
    rows = np.empty((n, len(kinds)))
    for i, (column, kind) in enumerate(zip(packed, kinds, strict=True)):
        values = np.array(column, dtype=np.float64)
        if values.ndim and len(values) != n:
            raise ValueError(f"{len(values)} rows, not {n}")
        if kind == TIME:
            values = np.cumsum(np.broadcast_to(values, n)) if values.ndim else values + np.zeros(n)
        rows[:, i] = values * _unit(kind, quantum_s)
        if kind == TIME:
            rows[:, i] += origin_s
    return rows


def _unit(kind: str, quantum_s: float) -> float:
    return {TIME: quantum_s, SECONDS: quantum_s, SHARE: _SHARE}.get(kind, 1.0)


def _column(values: Floats, unit: float, kind: str) -> Any:
    missing = np.isnan(values)
    scaled = np.where(missing, 0.0, values) / unit
    # A step that ended when a window did must not fall out of it: times are rounded down.
    whole = (np.floor(scaled - 1e-3) if kind == TIME else np.rint(scaled)).astype(np.int64)
    if len(whole) and not missing.any() and (whole == whole[0]).all():
        return int(whole[0])
    if kind == TIME:
        return np.diff(whole, prepend=0).tolist()
    listed: list[int | None] = whole.tolist()
    if missing.any():
        for i in np.flatnonzero(missing):
            listed[i] = None
    return listed

"""Rows of a recorder as columns of whole numbers, and back. Pure.

A time is stored as the difference from the row before, in units of the quantum (a microsecond,
unless the log would grow too fast); a share in millionths; a count unchanged. Whole numbers that
change little compress best, and a reader needs nothing but JSON.
"""

from __future__ import annotations

import math
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
_STEPS = "".join(_STEP.get(name, COUNT) for name in StepSample._fields)
TABLES = {
    "steps": _STEPS,
    "engine_steps": _STEPS + COUNT,
    "gaps": TIME + SECONDS + COUNT,
    "first_tokens": TIME + SECONDS + SECONDS + COUNT,
    "issued": TIME + COUNT + COUNT,
    # number, outcome, due; from due: submitted, scheduled, first token, end; prompt, output,
    # wanted, cached, preemptions, label; of a job
    "ended": COUNT + COUNT + TIME + 4 * SECONDS + 6 * COUNT + SECONDS,
}
"""By table of a recorder: the kind of each column, one letter a column."""
_SHARE = 1e-6

Packed = list[Any]


def pack(rows: Floats, kinds: str, origin_s: float, quantum_s: float) -> Packed:
    """The columns of `rows`, shape (n, len(kinds)); times count from `origin_s`.

    A column with one value throughout becomes that value; NaN becomes None.
    """
    return [
        _column(rows[:, i] - origin_s if kind == TIME else rows[:, i], _unit(kind, quantum_s), kind)
        for i, kind in enumerate(kinds)
    ]


def unpack(packed: Packed, n: int, kinds: str, origin_s: float, quantum_s: float) -> Floats:
    """The `n` rows of `packed`. Raises ValueError when `pack` cannot have made it.

    Last columns that an older version did not write are 0; seconds are NaN, as not known.
    """
    if not packed or len(packed) > len(kinds):
        raise ValueError(f"{len(packed)} columns, not {len(kinds)}")
    rows = np.empty((n, len(kinds)))
    for i in range(len(packed), len(kinds)):
        rows[:, i] = math.nan if kinds[i] == SECONDS else 0.0
    for i, (column, kind) in enumerate(zip(packed, kinds, strict=False)):
        if isinstance(column, int) and kind != TIME:
            rows[:, i] = column * _unit(kind, quantum_s)
            continue
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
    # Times are rounded down, so that a step that ends together with a window stays inside it.
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

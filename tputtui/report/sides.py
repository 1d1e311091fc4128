"""Two runs, or two settings of one run, side by side: their figures and differences. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tputtui.errors import UsageError
from tputtui.frame import Frame, Tried
from tputtui.knobs import differing
from tputtui.load.sections import difference
from tputtui.measure.verdict import Difference, Verdict, once
from tputtui.record.reading import Recording
from tputtui.report.content import last_frame

__all__ = ["RunSide", "Sides", "compared_runs"]


@dataclass(frozen=True, slots=True)
class RunSide:
    """One setting of one run."""

    name: str
    frame: Frame
    trial: Tried


@dataclass(frozen=True, slots=True)
class Sides:
    """B against A.

    rows: the headline first; all of them together hold with 95 %. changed: the limits that differ.
    apart: what differs besides the limits, in sentences; a verdict is about all of it.
    """

    a: RunSide
    b: RunSide
    rows: tuple[Difference, ...]
    changed: str
    apart: tuple[str, ...]


def compared_runs(
    a: Recording, b: Recording, setting_a: int | None = None, setting_b: int | None = None
) -> Sides:
    """Setting `setting_a` of run `a` against `setting_b` of `b`; None takes the last measured one.

    One measurement is the same as itself, without an interval around it. Raises UsageError where
    there is no such setting, or nothing was measured of it.
    """
    left, right = _side(a, setting_a), _side(b, setting_b)
    old, new = left.trial, right.trial
    assert old.series is not None
    assert new.series is not None
    rows = once(old.series, new.series, every=True)
    if a.path == b.path and old.number == new.number:
        rows = tuple(_itself(row) for row in rows)
    return Sides(left, right, rows, differing(old.knobs, new.knobs), tuple(_apart(left, right)))


def _itself(row: Difference) -> Difference:
    if math.isnan(row.change):
        return row
    return replace(row, low=0.0, high=0.0, judgement=Verdict.SAME, needs_s=math.nan)


def _side(run: Recording, number: int | None) -> RunSide:
    frame = last_frame(run)
    measured = {t.number: t for t in frame.trials if t.series is not None and t.series.n}
    if not measured:
        raise UsageError(f"{run.path}: nothing was measured in this run.")
    # The rows stand in the order in which they were last put on.
    chosen = next(reversed(measured)) if number is None else number
    if chosen not in measured:
        known = ", ".join(map(str, measured))
        raise UsageError(f"{run.path}: setting {chosen} was not measured.", f"Measured: {known}.")
    return RunSide(f"{run.path.name}, setting {chosen}", frame, measured[chosen])


def _apart(a: RunSide, b: RunSide) -> list[str]:
    differences = []
    old, new = a.trial, b.trial
    if old.engine.model != new.engine.model:
        differences.append(f"model {old.engine.model} → {new.engine.model}")
    for key in sorted({*old.engine.args, *new.engine.args}):
        before, after = (t.engine.args.get(key, "not given") for t in (old, new))
        if before != after:
            differences.append(f"engine {key} {before} → {after}")
    if old.load != new.load:
        differences.append(difference(old.load, new.load))
    for name in ("device", "dtype"):
        before, after = (getattr(s.frame.status.facts, name, "?") for s in (a, b))
        if before != after:
            differences.append(f"{name} {before} → {after}")
    versions = [side.frame.status.facts.versions if side.frame.status.facts else {}
                for side in (a, b)]  # fmt: skip
    for name in sorted({*versions[0], *versions[1]}):
        before, after = (each.get(name, "?") for each in versions)
        if before != after:
            differences.append(f"{name} {before} → {after}")
    return differences

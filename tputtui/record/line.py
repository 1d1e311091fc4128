"""What one line of a session log holds. Values only.

The log is JSON Lines, a line a second, each compressed on its own (a Zstandard frame with its
checksum). A line says what is new since the one before; what it leaves out stands as it stood.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

__all__ = ["FORMAT", "Head", "Line", "TrialLine", "plain", "restored"]

FORMAT = 1


class Head(msgspec.Struct, omit_defaults=True):
    """The first line. origin_s: what the engine's clock said when the run began; other times
    count from there. began: the same moment, in UTC."""

    tputtui_session: int
    tputtui: str
    began: str
    origin_s: float


class TrialLine(msgspec.Struct, omit_defaults=True):
    """One setting tried, as `Trial` has it; its figures follow from the rows.

    profile: its engine and load, by number. spans: when it was measured, (start, end) each time;
    version 0.1 wrote start_s and length_s of one.
    """

    number: int
    t_s: float
    turned: str
    knobs: Any
    profile: int
    booted: Any
    phase: str
    start_s: float = 0.0
    length_s: float = 0.0
    against: int | None = None
    differences: Any = None
    note: str = ""
    spans: Any = None
    unjudged: str = ""
    decided_s: Any = None
    withdrawn_s: Any = None
    withdrawn: str = ""


class Line(msgspec.Struct, omit_defaults=True):
    """One second of a run.

    t: seconds since the run began. quantum_us: precision of the times in `rows`; thinned: every
    how many rows one was kept (the log would have grown too fast).
    rows: by table, how many and their columns (`record.codec`).
    books: the fields of `Accounting`. totals: KV blocks, when the oldest request still waiting
    was due, generated tokens, preemptions. wanted: the fields of `Wanted`.
    window: the fields of `Window`. marks_gone: how many of the marks were taken back.
    profiles: texts of profiles by number, said once; profile: the one in force. trials: rows that
    are new or others, their engine and load by the number of a profile.
    tuner: its state without its trials; tuner_trials: those that are new; of a tuner that began
    anew, `tuner_anew`, the first.
    """

    t: float
    quantum_us: int = 1
    thinned: int = 1
    rows: dict[str, tuple[int, list[Any]]] = {}
    books: list[int] | None = None
    totals: Any = None
    wanted: Any = None
    window: Any = None
    marks: Any = None
    marks_gone: int = 0
    profiles: dict[str, str] = {}
    profile: int | None = None
    asked: Any = msgspec.UNSET
    status: Any = None
    hardware: Any = msgspec.UNSET
    trials: list[TrialLine] = []
    baseline: Any = msgspec.UNSET
    compare: Any = msgspec.UNSET
    sweep: Any = msgspec.UNSET
    points: Any = msgspec.UNSET
    guard: str | None = None
    tuner: Any = msgspec.UNSET
    tuner_trials: list[Any] = []
    tuner_anew: bool = False
    ended: str | None = None


def plain(value: Any) -> Any:
    """A value as JSON can hold it; numbers that are none as their words."""
    return _finite(msgspec.to_builtins(value))


def restored(value: Any, kind: Any) -> Any:
    """The value of `kind` that `plain` was given. Raises msgspec.ValidationError."""
    return msgspec.convert(value, kind, strict=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value

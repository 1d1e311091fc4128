"""What one line of a session log contains. Values only.

The log is JSON Lines, a line a second, each compressed on its own (a Zstandard frame with its
checksum). A line contains what is new since the line before; a field that it leaves out has not
changed.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

__all__ = ["FORMAT", "Head", "Line", "TrialLine", "plain", "restored"]

FORMAT = 1


class Head(msgspec.Struct, omit_defaults=True):
    """The first line of a log."""

    tputtui_session: int
    """Version of the log format."""
    tputtui: str
    """Version of tputtui that wrote the log."""
    began: str
    """When the run began, in UTC."""
    origin_s: float
    """The engine's clock at that moment; other times count from there."""


class TrialLine(msgspec.Struct, omit_defaults=True):
    """One setting tried. The fields are those of `Tried`; its figures follow from the rows."""

    number: int
    t_s: float
    turned: str
    knobs: Any
    profile: int
    """Number of the profile that has its engine and load."""
    booted: Any
    phase: str
    got: Any = None
    """What the boot resolved its arguments to, by name; None in logs that do not have it."""
    start_s: float = 0.0
    """Start of its only span, as version 0.1 wrote it."""
    length_s: float = 0.0
    """Length of that span in seconds."""
    against: int | None = None
    differences: Any = None
    note: str = ""
    spans: Any = None
    """(start, end) of each span; None without one."""
    unjudged: str = ""
    decided_s: Any = None
    """None where the headline was not decided."""
    withdrawn_s: Any = None
    """None where the judgement was not withdrawn."""
    withdrawn: str = ""
    predicted: Any = None
    """None where nothing was predicted."""
    predicted_from: int | None = None


class Line(msgspec.Struct, omit_defaults=True):
    """One second of a run. A field that is None, UNSET or empty has not changed."""

    t: float
    """Seconds since the run began."""
    quantum_us: int = 1
    """Precision of the times in `rows`, in microseconds."""
    thinned: int = 1
    """One of so many rows was kept; above 1 where the log would grow too fast."""
    rows: dict[str, tuple[int, list[Any]]] = {}
    """By table: the number of new rows, and their columns (`record.codec`)."""
    books: list[int] | None = None
    """The fields of `Accounting`."""
    totals: Any = None
    """KV blocks, due time of the oldest request without a first token, generated tokens,
    preemptions."""
    wanted: Any = None
    """The fields of `Wanted`."""
    window: Any = None
    """The fields of `Window`."""
    marks: Any = None
    """New marks."""
    marks_gone: int = 0
    """How many of the newest marks of earlier lines no longer exist."""
    profiles: dict[str, str] = {}
    """New profiles by number, as text; each is written once."""
    profile: int | None = None
    """Number of the profile in force."""
    asked: Any = msgspec.UNSET
    """The limits last asked for."""
    status: Any = None
    hardware: Any = msgspec.UNSET
    trials: list[TrialLine] = []
    """Trials that are new or have changed."""
    baseline: Any = msgspec.UNSET
    compare: Any = msgspec.UNSET
    sweep: Any = msgspec.UNSET
    points: Any = msgspec.UNSET
    guard: Any = msgspec.UNSET
    more: dict[str, Any] = {}
    """Other fields of the frame, by name (`record.kept`)."""
    tuner: Any = msgspec.UNSET
    """State of the tuner, without its trials."""
    tuner_trials: list[Any] = []
    """New trials of the tuner."""
    tuner_anew: bool = False
    """Whether the tuner began anew: `tuner_trials` are then its first ones."""
    ended: str | None = None
    """Why the run ended; only in the last line."""


def plain(value: Any) -> Any:
    """A value in the form that JSON can hold; NaN and infinities become text."""
    return _finite(msgspec.to_builtins(value))


def restored(value: Any, kind: Any) -> Any:
    """The value of type `kind` that `plain` received. Raises msgspec.ValidationError."""
    return msgspec.convert(value, kind, strict=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value

"""One picture of a run: its parts, and how they are computed from the samples."""

from tputtui.frame.frame import (
    SERVING,
    CompareState,
    Frame,
    QualityState,
    SweepState,
    Tried,
    TunerState,
    TunerTrial,
)

__all__ = [
    "SERVING",
    "CompareState",
    "Frame",
    "QualityState",
    "SweepState",
    "Tried",
    "TunerState",
    "TunerTrial",
]

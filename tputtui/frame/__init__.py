"""One picture of a run: what it is made of, and how it is made from what was measured."""

from tputtui.frame.frame import (
    SERVING,
    CompareState,
    Frame,
    SweepState,
    Trial,
    TunerState,
    TunerTrial,
)

__all__ = [
    "SERVING",
    "CompareState",
    "Frame",
    "SweepState",
    "Trial",
    "TunerState",
    "TunerTrial",
]

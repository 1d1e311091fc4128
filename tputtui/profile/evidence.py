"""What was measured of a profile, as it stands in the file. Values only.

A figure without the time it was taken over, how many requests it rests on, how sure it is, and on
what it ran is worth nothing a week later: all of that is part of it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = ["TUNED", "VERIFIED", "Attained", "Change", "Evidence", "Figure", "Machine", "Measured",
           "Model", "Span"]  # fmt: skip

TUNED: Final = "tuned live"
VERIFIED: Final = "verified"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What all parts of the evidence have in common."""


class Figure(_Part, frozen=True):
    """One figure, in the unit that its name ends in: `_per_s`, `_s` (seconds), `_frac`.

    low, high: 95 % interval, by how much generations of requests differ; not there when the window
    was too short to tell.
    n: samples it rests on: requests, tokens' gaps, or engine steps.
    drift_frac: how far it drifted within the window: of its thirds the highest above the lowest.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    drift_frac: float | None = None


class Span(_Part, frozen=True):
    """The window the figures are about.

    phase: what it is worth: steady, not steady, or measuring (too short to tell).
    requests: those that ended in it. saturated: more were due than it served.
    """

    phase: str
    length_s: float
    requests: int
    saturated: bool = False
    preemptions: int = 0


class Attained(_Part, frozen=True):
    """A goal: the share of `n` requests that kept it, with its 95 % interval."""

    verdict: str
    met_frac: float
    low: float
    high: float
    n: int


class Model(_Part, frozen=True):
    """Which model: its name, the hub's revision, and a hash of its configuration."""

    name: str
    revision: str = ""
    config_sha256: str = ""


class Machine(_Part, frozen=True):
    """What it ran on. versions: of tputtui, vllm, torch and python.

    simulated: what is to be said of a device that was only simulated; empty for a real one.
    """

    device: str = ""
    gpus: list[str] = []
    driver: str = ""
    versions: dict[str, str] = {}
    simulated: str = ""


class Measured(_Part, frozen=True, rename={"knobs": "limits"}):
    """One set of figures and everything they depend on.

    knobs: the limits in force; ceilings: what was booted. load: in a person's words; its seed.
    goals: each one's attainment, by its name.
    """

    date: str
    window: Span
    figures: dict[str, Figure]
    knobs: dict[str, int | bool | str]
    ceilings: dict[str, int | bool | str]
    load: str
    seed: int
    model: Model
    machine: Machine
    goals: dict[str, Attained] = {}

    @property
    def missed(self) -> list[str]:
        """The goals that were missed beyond chance, by their names."""
        return [name for name, goal in self.goals.items() if goal.verdict == "missed"]


class Change(_Part, frozen=True):
    """verified ÷ tuned - 1, with its 95 % interval, and what that says.

    The interval is wider by the drift that either window has shown: a boot lay between them.
    """

    change: float
    verdict: str
    low: float | None = None
    high: float | None = None


class Evidence(_Part, frozen=True):
    """What is known of a profile.

    state: *verified* once an engine was booted with exactly its values and measured again.
    note: why there are no figures, or how the tuner found the setting.
    difference: by the figures' names.
    """

    state: Literal["tuned live", "verified"]
    note: str = ""
    tuned: Measured | None = None
    verified: Measured | None = None
    difference: dict[str, Change] = {}

    def __post_init__(self) -> None:
        """Raise ValueError where a simulation is said to have verified anything."""
        if self.state == VERIFIED and self.simulated:
            raise ValueError("what was simulated is not verified")

    @property
    def standing(self) -> str:
        """What it is worth, in words."""
        return f"{self.state}, simulated" if self.simulated else self.state

    @property
    def simulated(self) -> bool:
        """Whether any of it is of a simulated device."""
        found = (self.tuned, self.verified)
        return any(each is not None and bool(each.machine.simulated) for each in found)

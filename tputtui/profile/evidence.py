"""Measured results of a profile, as the file contains them. Values only.

A figure is worthless a week later without its window, its number of requests, its uncertainty and
the machine it was measured on. So all of them are stored with it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

__all__ = [
    "TUNED",
    "VERIFIED",
    "Attained",
    "Change",
    "Compared",
    "Evidence",
    "Figure",
    "Got",
    "Machine",
    "Measured",
    "MeasuredWindow",
    "Model",
    "Quality",
]  # fmt: skip

TUNED: Final = "tuned live"
VERIFIED: Final = "verified"


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The base of all parts of the evidence."""


class Figure(_Part, frozen=True):
    """One figure, in the unit that its name ends in: `_per_s`, `_s` (seconds), `_frac`.

    low, high: 95 % interval, from the differences between generations of requests; missing if the
    window was too short.
    n: number of samples: requests, gaps between tokens, or engine steps.
    drift_frac: drift within the window: how far the highest third is above the lowest.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    drift_frac: float | None = None


class MeasuredWindow(_Part, frozen=True):
    """The window of the figures.

    phase: steady, not steady, or measuring (too short to decide).
    requests: how many ended in it. saturated: more requests were due than were served.
    """

    phase: str
    length_s: float
    requests: int
    saturated: bool = False
    preemptions: int = 0


class Attained(_Part, frozen=True):
    """A goal: the share of `n` requests that met it, with its 95 % interval."""

    verdict: str
    met_frac: float
    low: float
    high: float
    n: int


class Model(_Part, frozen=True):
    """The model: its name, the hub's revision, and a hash of its configuration."""

    name: str
    revision: str = ""
    config_sha256: str = ""


class Machine(_Part, frozen=True):
    """The machine of a measurement. versions: of tputtui, vllm, torch and python.

    simulated: a notice if the device was only simulated; empty for a real one.
    """

    device: str = ""
    gpus: list[str] = []
    driver: str = ""
    versions: dict[str, str] = {}
    simulated: str = ""


class Got(_Part, frozen=True):
    """What one argument of the boot came to; values as a person types them.

    asked: empty where it was left to vLLM. why: what vLLM's log said of it.
    """

    got: str
    asked: str = ""
    why: str = ""


class Measured(_Part, frozen=True, rename={"knobs": "limits"}):
    """One set of figures and everything they depend on.

    knobs: the limits in force; ceilings: what was booted; resolved: what its arguments came to
    where that is not what was asked for, by name. load: as a person writes it. seed: of the
    load. goals: the attainment of each goal, by its name (`chat:ttft_p99` of a class). traffic: the
    figures of each class of traffic, or of each adapter, by its name.
    """

    date: str
    window: MeasuredWindow
    figures: dict[str, Figure]
    knobs: dict[str, int | bool | str]
    ceilings: dict[str, int | bool | str]
    load: str
    seed: int
    model: Model
    machine: Machine
    goals: dict[str, Attained] = {}
    traffic: dict[str, dict[str, Figure]] = {}
    resolved: dict[str, Got] = {}

    @property
    def missed(self) -> list[str]:
        """Names of the goals that were missed by more than chance explains."""
        return [name for name, goal in self.goals.items() if goal.verdict == "missed"]


class Change(_Part, frozen=True):
    """verified ÷ tuned - 1, with its 95 % interval and verdict.

    The interval is widened by the drift in both windows, since there was a boot between them.
    """

    change: float
    verdict: str
    low: float | None = None
    high: float | None = None


class Compared(_Part, frozen=True):
    """Greedy answers against the reference's: how many of `prompts` differ.

    noise: how many differ where the reference itself is asked again. p: how often chance alone
    makes as many and as unlikely differences (a paired test).
    """

    verdict: str
    prompts: int
    differ: int
    noise: int
    p: float


class Quality(_Part, frozen=True):
    """Whether the setting answers as before. Of prompts and answers it has counts alone.

    verdict: unchanged within noise, changed, cannot tell, or not compared.
    changes: what of the profile may change answers; the reference is an engine without them, or,
    where there are none, the tuned setting.
    prompts: "builtin" or "file". sha256: of that file. tokens: of the reference's answers.
    alone, loaded: with nothing else in flight; beside the load.
    """

    verdict: str
    changes: list[str] = []
    prompts: str = ""
    sha256: str = ""
    tokens: int = 0
    alone: Compared | None = None
    loaded: Compared | None = None

    @property
    def sentence(self) -> str:
        """The verdict and the counts behind it."""
        if self.verdict == "not compared":
            return "answers not compared (--no-quality)"
        parts = [
            f"{where} {each.differ:,} of {each.prompts:,} differ (of the reference "
            f"itself {each.noise:,})"
            for where, each in (("alone", self.alone), ("under load", self.loaded))
            if each is not None
        ]
        verdict = {"cannot tell": "answers: cannot tell whether they changed"}.get(
            self.verdict, f"answers {self.verdict}"
        )
        return f"{verdict}: {', '.join(parts)}"


class Evidence(_Part, frozen=True):
    """The measured results of a profile.

    state: *verified* after an engine was booted with exactly its values and measured again; and,
    where something of it may change answers, after these were compared (or that was declined).
    note: why there are no figures or it is not called verified, or how the tuner chose the setting.
    difference: verified against tuned, by the names of the figures.
    served: the same values and load on vLLM's own server, over HTTP.
    served_difference: that against the figures of the engine in process.
    quality: whether it answers as before; None where that was neither asked nor declined.
    """

    state: Literal["tuned live", "verified"]
    note: str = ""
    tuned: Measured | None = None
    verified: Measured | None = None
    difference: dict[str, Change] = {}
    served: Measured | None = None
    served_difference: dict[str, Change] = {}
    quality: Quality | None = None

    @property
    def in_process(self) -> Measured | None:
        """The figures of the engine in process: as verified, else as tuned."""
        return self.verified or self.tuned

    def __post_init__(self) -> None:
        """Raise ValueError if simulated results are marked as verified."""
        if self.state == VERIFIED and self.simulated:
            raise ValueError("what was simulated is not verified")

    @property
    def standing(self) -> str:
        """The state in words, with a note if it is simulated."""
        return f"{self.state}, simulated" if self.simulated else self.state

    @property
    def simulated(self) -> bool:
        """Whether any result is from a simulated device."""
        results = (self.tuned, self.verified)
        return any(each is not None and bool(each.machine.simulated) for each in results)

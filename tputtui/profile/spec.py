"""A profile as a value: engine, limits, load and goals. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from tputtui.goals import Goal, goals_from
from tputtui.load.lengths import LogNormal
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile.evidence import Evidence

__all__ = ["DEFAULT_WORKLOAD", "EngineSpec", "EngineValue", "Profile", "Scalar", "class_goals",
           "may_render", "tokenizer_of"]  # fmt: skip

Scalar = bool | int | float | str
EngineValue = Scalar | None | list[Scalar] | dict[str, Any]


class EngineSpec(msgspec.Struct, frozen=True):
    """The part that needs a boot: the model and vLLM's engine arguments, under vLLM's names."""

    model: str
    args: dict[str, EngineValue] = {}

    def overridden(self, model: str | None, args: dict[str, EngineValue]) -> EngineSpec:
        """A copy with another model (None keeps it) and with `args` replacing arguments."""
        return EngineSpec(model or self.model, {**self.args, **args})


def tokenizer_of(spec: EngineSpec) -> str:
    """Path or hub id of the model's tokenizer; empty for a shape or a server without one."""
    named = spec.args.get("tokenizer")
    if isinstance(named, str) and named:
        return named
    return "" if spec.model.startswith(("shape:", "server:")) else spec.model


def may_render(spec: EngineSpec) -> bool:
    """Whether it may make prompts of messages itself: a server with a chat route does."""
    return spec.model.startswith("server:")


DEFAULT_WORKLOAD = Workload(
    arrivals=ClosedLoop(96),
    prompt=LogNormal(120, 0.5, 16, 512),
    output=LogNormal(80, 0.4, 16, 256),
)
"""The default load: short chats, with 96 requests in flight, 1.5 times 64 sequences."""


class Profile(msgspec.Struct, frozen=True):
    """What to boot, the limits, the load, and what is expected of them."""

    engine: EngineSpec
    load: Workload = DEFAULT_WORKLOAD
    knobs: dict[str, int] = {}
    """The live limits by name; a limit left out keeps its value from the boot."""
    about: str = ""
    """Its purpose, in a line."""
    evidence: Evidence | None = None
    """Measured results; None without any."""
    goals: tuple[Goal, ...] = ()
    """The times to serve requests within."""
    price_per_hour: float | None = None
    """Price of the machine, in any currency, for the cost of a million tokens; None if unknown."""
    serve: dict[str, EngineValue] = {}
    """Flags of vLLM's HTTP server; only exports use them."""

    @property
    def judged(self) -> tuple[Goal, ...]:
        """All goals: those for all requests, then those of each class of traffic."""
        return (*self.goals, *class_goals(self.load))


def class_goals(load: Workload) -> tuple[Goal, ...]:
    """The goals that the load's classes have of their own. Raises UsageError for a bad one."""
    return tuple(
        replace(goal, traffic=each.name)
        for each in load.classes or ()
        for goal in goals_from(each.goal)
    )

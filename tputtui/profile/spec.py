"""What a profile is: one setting of everything, as a value. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from tputtui.goals import Goal
from tputtui.load.lengths import LogNormal
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile.evidence import Evidence

__all__ = ["DEFAULT_WORKLOAD", "EngineSpec", "EngineValue", "Profile", "Scalar", "tokenizer_of"]

Scalar = bool | int | float | str
EngineValue = Scalar | None | list[Scalar] | dict[str, Any]


class EngineSpec(msgspec.Struct, frozen=True):
    """What needs a boot: the model and any of vLLM's engine arguments, named as vLLM names them."""

    model: str
    args: dict[str, EngineValue] = {}

    def overridden(self, model: str | None, args: dict[str, EngineValue]) -> EngineSpec:
        """A copy with another model and further arguments put on top."""
        return EngineSpec(model or self.model, {**self.args, **args})


def tokenizer_of(spec: EngineSpec) -> str:
    """Where the model's own tokenizer is: a path or a hub id; empty for a shape or a server."""
    named = spec.args.get("tokenizer")
    if isinstance(named, str) and named:
        return named
    return "" if spec.model.startswith(("shape:", "server:")) else spec.model


DEFAULT_WORKLOAD = Workload(
    arrivals=ClosedLoop(96),
    prompt=LogNormal(120, 0.5, 16, 512),
    output=LogNormal(80, 0.4, 16, 256),
)
"""The embedded default: short chats, half as many again in flight as 64 sequences can run."""


class Profile(msgspec.Struct, frozen=True):
    """One setting of everything.

    serve: flags of vLLM's HTTP server, without effect in process; for exports.
    knobs: the live limits by name; one left out stands at its ceiling.
    goals: what the load should be served within.
    price_per_hour: what the machine costs, in any currency; for the cost of a million tokens.
    evidence: what was measured of it; None when nothing was.
    """

    engine: EngineSpec
    load: Workload = DEFAULT_WORKLOAD
    knobs: dict[str, int] = {}
    about: str = ""
    evidence: Evidence | None = None
    goals: tuple[Goal, ...] = ()
    price_per_hour: float | None = None
    serve: dict[str, EngineValue] = {}

"""What load to put on the engine, as plain values that profiles hold. Pure.

Frozen `msgspec.Struct`s rather than dataclasses: the same types validate profile files.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

__all__ = [
    "ClosedLoop",
    "Fixed",
    "Lengths",
    "LogNormal",
    "OpenLoop",
    "Uniform",
    "Workload",
    "scaled",
]

Tokens = Annotated[int, msgspec.Meta(ge=1, le=16_777_216)]


class Fixed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="fixed"):
    """Every length is `tokens`."""

    tokens: Tokens


class Uniform(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="uniform"
):
    """Whole numbers from `min` to `max`, both included, all equally likely."""

    min: Tokens
    max: Tokens

    def __post_init__(self) -> None:
        _ordered(self.min, self.max)


class LogNormal(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lognormal"
):
    """exp(N(ln `median`, `sigma`²)), rounded; what falls outside `min`..`max` is put on the bound.

    sigma: standard deviation of the logarithm; 0.5 spreads the middle 95 % over a factor of 7.
    """

    median: Annotated[float, msgspec.Meta(gt=0)]
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)]
    min: Tokens = 1
    max: Tokens = 1_048_576

    def __post_init__(self) -> None:
        _ordered(self.min, self.max)


Lengths = Fixed | Uniform | LogNormal


class ClosedLoop(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="closed"
):
    """A fixed number of requests in flight: the next is due the moment one ends."""

    in_flight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]


class OpenLoop(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="poisson"
):
    """Poisson arrivals at `rate` requests/s, whatever the engine does with them."""

    rate: Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Arrivals, prompt and output lengths in tokens, and the seed that makes them repeatable."""

    arrivals: ClosedLoop | OpenLoop
    prompt: Lengths
    output: Lengths
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0


def _ordered(low: int, high: int) -> None:
    if low > high:
        raise ValueError(f"min {low} is above max {high}")


def scaled(workload: Workload, direction: int) -> Workload:
    """The same workload with a quarter more (+1) or a fifth less (-1) load, in round numbers."""
    factor = 1.25 if direction > 0 else 0.8
    arrivals = workload.arrivals
    if isinstance(arrivals, ClosedLoop):
        target = round(arrivals.in_flight * factor)
        target = max(target, arrivals.in_flight + 1) if direction > 0 else target
        new: ClosedLoop | OpenLoop = ClosedLoop(max(1, min(1_000_000, target)))
    else:
        new = OpenLoop(min(1e6, max(0.01, float(f"{arrivals.rate * factor:.3g}"))))
    return msgspec.structs.replace(workload, arrivals=new)

"""What load to put on the engine, as plain values that profiles hold. Pure.

Frozen `msgspec.Struct`s rather than dataclasses: the same types validate profile files.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from tputtui.load.lengths import Lengths, Pairs
from tputtui.load.levels import Bursts, Diurnal, Level, Ramp, Steps

__all__ = [
    "Arrivals", "ClosedLoop", "Constant", "Gamma", "Poisson", "Prefix", "Recorded",
    "Sessions", "TraceFile", "Workload", "level_of", "scaled", "with_level",
]  # fmt: skip


class _Arrivals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """What all arrival processes have in common: they are told apart by `kind`."""


class ClosedLoop(_Arrivals, frozen=True, tag="closed"):
    """A number of requests in flight: the next is due the moment one ends.

    in_flight: the number, or a curve of it (rounded down). With sessions: people, each in flight
    or thinking.
    """

    in_flight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | Ramp | Steps | Bursts | Diurnal


class Constant(_Arrivals, frozen=True, tag="constant"):
    """Arrivals at even distances: `rate` requests/s, or a curve of it."""

    rate: Level


class Poisson(_Arrivals, frozen=True, tag="poisson"):
    """Poisson arrivals at `rate` requests/s, or a curve of it (then a time-varying process)."""

    rate: Level


class Gamma(_Arrivals, frozen=True, tag="gamma"):
    """Gamma-distributed gaps at `rate` requests/s, or a curve of it.

    burstiness: the shape of the distribution, as `vllm bench serve --burstiness` has it: 1 is
    Poisson, less comes in clumps, more is more even. The gaps' coefficient of variation is
    1/√burstiness. Far below 0.001 the gaps are too short for a float: all would arrive at once.
    """

    rate: Level
    burstiness: Annotated[float, msgspec.Meta(ge=0.001, le=1000)]


class Recorded(_Arrivals, frozen=True, tag="recorded"):
    """The times of the trace, `speed` times as fast."""

    speed: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0


Arrivals = ClosedLoop | Constant | Poisson | Gamma | Recorded


class Prefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prompts that begin alike: a prefix of `tokens` in front of a `share` of the prompts.

    tokens: added to the prompt's own length. groups: how many different prefixes there are.
    zipf: the exponent of their popularity; 0 makes all alike, 1 is the classic.
    """

    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)]
    groups: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    zipf: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0


class Sessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conversations: arrivals begin them; each turn's prompt is all that was said, and a bit more.

    turns: how many requests a conversation has. think_s: mean of the exponentially distributed
    time from an answer to the next turn. What is said before is the engine's own answers.
    """

    turns: Lengths
    think_s: Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class TraceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests taken from a file: lengths, shared prefixes, and, with `recorded`, times.

    tokenizer: for traces of text; the model's own where empty. repeat: begin again at its end.
    """

    path: Annotated[str, msgspec.Meta(min_length=1)]
    tokenizer: str = ""
    repeat: bool = False


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Arrivals, what the requests are like, and the seed that makes them repeatable.

    prompt, output: lengths in tokens, drawn apart; or `pairs`, drawn together; or a `trace`.
    """

    arrivals: Arrivals
    prompt: Lengths | None = None
    output: Lengths | None = None
    pairs: Pairs | None = None
    prefix: Prefix | None = None
    sessions: Sessions | None = None
    trace: TraceFile | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0

    def __post_init__(self) -> None:
        apart = self.prompt is not None or self.output is not None
        if self.trace is not None:
            if apart or self.pairs is not None:
                raise ValueError("a trace brings its own lengths: leave prompt, output, pairs out")
            if self.prefix is not None or self.sessions is not None:
                raise ValueError("a trace brings its own prompts: leave prefix and sessions out")
        elif self.pairs is not None:
            if apart:
                raise ValueError("pairs are drawn together: leave prompt and output out")
        elif self.prompt is None or self.output is None:
            missing = "prompt" if self.prompt is None else "output"
            raise ValueError(f"{missing} is required, unless pairs or a trace gives the lengths")
        if isinstance(self.arrivals, Recorded) and self.trace is None:
            raise ValueError("recorded arrivals need a trace")


def level_of(arrivals: Arrivals) -> Level:
    """The level of any arrivals: requests in flight, requests/s, or the speed of a trace."""
    match arrivals:
        case ClosedLoop(level) | Constant(level) | Poisson(level) | Gamma(level, _):
            return level
        case Recorded(speed):
            return speed


def with_level(arrivals: Arrivals, level: Level) -> Arrivals:
    """The same kind of arrivals at another level; a number in flight is whole and at least 1."""
    match arrivals:
        case ClosedLoop():
            return ClosedLoop(max(1, round(level)) if isinstance(level, int | float) else level)
        case Recorded():
            return msgspec.structs.replace(arrivals, speed=level)
        case _:
            return msgspec.structs.replace(arrivals, rate=level)


def scaled(workload: Workload, direction: int) -> Workload:
    """The same workload with a quarter more (+1) or a fifth less (-1) load, in round numbers.

    A curve is scaled as a whole.
    """
    factor = 1.25 if direction > 0 else 0.8
    arrivals, whole = workload.arrivals, isinstance(workload.arrivals, ClosedLoop)

    def times(value: float) -> float:
        if whole:
            target = round(value * factor)
            return min(1_000_000, max(1, target, value + 1 if direction > 0 else 0))
        return min(1e6, max(0.01, float(f"{value * factor:.3g}"))) if value else 0.0

    level = level_of(arrivals)
    new: Level
    match level:
        case Ramp(start, end, over_s, curve):
            new = Ramp(times(start), times(end), over_s, curve)
        case Steps(values, each_s):
            new = Steps(tuple(times(value) for value in values), each_s)
        case Bursts(on, on_s, off_s, off):
            new = Bursts(times(on), on_s, off_s, times(off) if off else 0.0)
        case Diurnal(points, period_s):
            new = Diurnal(tuple((at, times(value)) for at, value in points), period_s)
        case _:
            # From nothing, plus brings something.
            new = times(level or (1 if direction > 0 else 0))
    return msgspec.structs.replace(workload, arrivals=with_level(arrivals, new))

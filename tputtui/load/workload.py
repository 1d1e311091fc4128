"""The description of a load, as plain values that profiles contain. Pure.

Frozen `msgspec.Struct`s instead of dataclasses: the same types validate profile files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Annotated

import msgspec

from tputtui.load.extras import Adapters, Answers, Cancel, Priorities, Structured
from tputtui.load.lengths import Lengths, Pairs
from tputtui.load.levels import Bursts, Diurnal, Level, Ramp, Steps
from tputtui.load.requests.file import RequestFile

__all__ = [
    "Arrivals", "ClosedLoop", "Constant", "Gamma", "Poisson", "Prefix", "Recorded",
    "Sessions", "TraceFile", "TrafficClass", "Workload", "at_level", "constant", "lead", "level_of",
    "scaled", "with_files", "with_level",
]  # fmt: skip

MOST_CLASSES = 32


class _Arrivals(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """The base of all arrival processes; `kind` names which one it is."""


class ClosedLoop(_Arrivals, frozen=True, tag="closed"):
    """A number of requests in flight: the next request is due as soon as one ends.

    in_flight: the number, or a curve of it (rounded down). With sessions it is the number of
    people, each with a request in flight or thinking.
    """

    in_flight: Annotated[int, msgspec.Meta(ge=0, le=1_000_000)] | Ramp | Steps | Bursts | Diurnal


class Constant(_Arrivals, frozen=True, tag="constant"):
    """Evenly spaced arrivals: `rate` requests/s, or a curve of it."""

    rate: Level


class Poisson(_Arrivals, frozen=True, tag="poisson"):
    """Poisson arrivals at `rate` requests/s, or a curve of it (then a time-varying process)."""

    rate: Level


class Gamma(_Arrivals, frozen=True, tag="gamma"):
    """Gamma-distributed gaps at `rate` requests/s, or a curve of it.

    burstiness: the shape of the distribution, as in `vllm bench serve --burstiness`: 1 is Poisson,
    a lower value gives clumps, a higher one more even arrivals. The gaps' coefficient of variation
    is 1/√burstiness. Far below 0.001 the gaps are too short for a float: all would arrive at once.
    """

    rate: Level
    burstiness: Annotated[float, msgspec.Meta(ge=0.001, le=1000)]


class Recorded(_Arrivals, frozen=True, tag="recorded"):
    """The times of the trace, or of the file of requests, `speed` times as fast."""

    speed: Annotated[float, msgspec.Meta(gt=0, le=1e6)] = 1.0


Arrivals = ClosedLoop | Constant | Poisson | Gamma | Recorded


class Prefix(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Prompts with a shared beginning: a `share` of them starts with a prefix of `tokens` tokens.

    tokens: added to the prompt's own length. groups: the number of different prefixes.
    zipf: the exponent of their popularity; with 0 all are equally popular, 1 is the usual value.
    """

    share: Annotated[float, msgspec.Meta(ge=0, le=1)]
    tokens: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)]
    groups: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1
    zipf: Annotated[float, msgspec.Meta(ge=0, le=10)] = 1.0


class Sessions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Conversations: each arrival begins one; each prompt is the history and a new part.

    turns: how many requests a conversation has. think_s: mean of the exponentially distributed
    time from an answer to the next turn. The history contains the engine's own answers.
    """

    turns: Lengths
    think_s: Annotated[float, msgspec.Meta(ge=0, le=1e6)]


class TraceFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Requests from a file: lengths, shared prefixes, and, with `recorded`, times.

    tokenizer: for traces of text; empty means the model's own. repeat: start anew at its end.
    """

    path: Annotated[str, msgspec.Meta(min_length=1)]
    tokenizer: str = ""
    repeat: bool = False


class TrafficClass(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One class of traffic: a `share` of the load's arrivals, or `arrivals` of its own.

    share: relative to the other classes that have one. prompt, output: its own lengths, both or
    neither. trace, requests: a file of its own, which needs arrivals of its own. priority, adapter:
    of all its requests. goal: what they should be served within, beside the goals of all requests.
    """

    name: Annotated[str, msgspec.Meta(pattern=r"^[\w.-]{1,20}$")]
    share: Annotated[float, msgspec.Meta(ge=0, le=1e6)] | None = None
    arrivals: Arrivals | None = None
    """When its requests are due, beside those of the load; None with a share."""
    prompt: Lengths | None = None
    output: Lengths | None = None
    trace: TraceFile | None = None
    requests: RequestFile | None = None
    priority: Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    adapter: str = ""
    goal: dict[str, str | float] = {}

    def __post_init__(self) -> None:
        if (self.prompt is None) is not (self.output is None):
            raise ValueError(f"class {self.name}: give prompt and output, or neither")
        if self.trace is not None and self.requests is not None:
            raise ValueError(f"class {self.name}: give a trace, or a file of requests, not both")
        if self.brings and self.prompt is not None:
            raise ValueError(f"class {self.name}: a file brings its own lengths: leave prompt and "
                             "output out")  # fmt: skip
        if self.brings and (self.share is not None or self.arrivals is None):
            raise ValueError(f"class {self.name}: a file of its own needs arrivals of its own, "
                             "in place of a share")  # fmt: skip
        if (self.share is None) is (self.arrivals is None):
            raise ValueError(f"class {self.name}: give a share, or arrivals of its own, "
                             "one of the two")  # fmt: skip

    @property
    def brings(self) -> bool:
        """Whether it has a file of its own."""
        return self.trace is not None or self.requests is not None


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Arrivals, the requests, and the seed that makes them repeatable.

    The lengths come from `prompt` and `output`, or from `pairs`, or from a `trace`; or a file of
    `requests` brings the prompts themselves.
    """

    arrivals: Arrivals
    prompt: Lengths | None = None
    """Tokens of a prompt, drawn independently of the output; None with pairs or a trace."""
    output: Lengths | None = None
    """Tokens of an output, drawn independently of the prompt; None with pairs or a trace."""
    pairs: Pairs | None = None
    """Lengths of prompt and output, drawn together; None without."""
    prefix: Prefix | None = None
    """Shared beginnings of prompts; None without."""
    sessions: Sessions | None = None
    """Conversations of several turns; None for single requests."""
    trace: TraceFile | None = None
    """The file that the requests come from; None if they are drawn."""
    requests: RequestFile | None = None
    """The file of real prompts that are sent; None without."""
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] = 0
    cancel: Cancel | None = None
    """Requests that their client gives up; None for none."""
    priority: Priorities | None = None
    """Shares of requests by priority; None to give none."""
    lora: Adapters | None = None
    """Shares of requests by LoRA adapter; None for the base model alone."""
    structured: Structured | None = None
    """Requests whose answer must have a form; None for none."""
    answers: Answers | None = None
    """Several answers, log-probabilities; None for one plain answer."""
    classes: Annotated[tuple[TrafficClass, ...], msgspec.Meta(max_length=MOST_CLASSES)] | None = (
        None
    )
    """Classes of traffic, which share the arrivals or have their own; None for one kind."""

    @property
    def carries(self) -> bool:
        """Whether requests carry anything beside prompt and length."""
        extras = (self.cancel, self.priority, self.lora, self.structured, self.answers)
        return bool(self.classes) or any(each is not None for each in extras)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, as they were given; empty without classes."""
        return tuple(each.name for each in self.classes or ())

    @property
    def apart(self) -> tuple[TrafficClass, ...]:
        """The classes with arrivals of their own."""
        return tuple(each for each in self.classes or () if each.arrivals is not None)

    @property
    def all_arrivals(self) -> tuple[Arrivals, ...]:
        """The load's own arrivals, unless no class is left for them, then those of classes."""
        apart = [each.arrivals for each in self.apart if each.arrivals is not None]
        return (*(() if self.only_apart else (self.arrivals,)), *apart)

    @property
    def only_apart(self) -> bool:
        """Whether every class has arrivals of its own, so that the load's own are nobody's."""
        return bool(self.classes) and all(each.share is None for each in self.classes or ())

    @property
    def traces(self) -> tuple[TraceFile, ...]:
        """All traces, those of classes too."""
        every = (self.trace, *(each.trace for each in self.apart))
        return tuple(each for each in every if each is not None)

    @property
    def request_files(self) -> tuple[RequestFile, ...]:
        """All files of real requests, those of classes too."""
        every = (self.requests, *(each.requests for each in self.apart))
        return tuple(each for each in every if each is not None)

    @property
    def closed(self) -> bool:
        """Whether each new request waits for an earlier one to end: all arrivals do."""
        return all(isinstance(each, ClosedLoop) for each in self.all_arrivals)

    def __post_init__(self) -> None:
        apart = self.prompt is not None or self.output is not None
        if self.requests is not None:
            drawn = (self.pairs, self.prefix, self.sessions, self.trace)
            if apart or any(each is not None for each in drawn):
                raise ValueError("a file of requests brings everything but the arrivals: leave "
                                 "lengths, prefix, sessions and trace out")  # fmt: skip
        elif self.trace is not None:
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
        names = self.class_names
        if len(names) > MOST_CLASSES:
            raise ValueError(f"{len(names)} classes are too many: {MOST_CLASSES} at most")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ValueError(f"two classes are called {twice[0]}")
        shared = [each for each in self.classes or () if each.share is not None]
        if self.only_apart:
            if level_of(self.arrivals) != 0:
                raise ValueError("every class has arrivals of its own, so nobody takes the load's: "
                                 "set those to 0, or give a class a share")  # fmt: skip
        elif names and not any(each.share for each in shared):
            raise ValueError("no class has a share")
        brings = self.trace is not None or self.requests is not None
        if brings and any(each.prompt for each in shared):
            raise ValueError("a file brings its own lengths: leave them out of the classes")
        if isinstance(self.arrivals, Recorded) and not brings:
            raise ValueError("recorded arrivals need a trace, or a file of requests")
        for each in self.apart:
            has_file = each.brings or (brings and each.prompt is None)
            if isinstance(each.arrivals, Recorded) and not has_file:
                raise ValueError(f"class {each.name}: recorded arrivals need a trace, or a file of "
                                 "requests")  # fmt: skip


def level_of(arrivals: Arrivals) -> Level:
    """The level of any arrivals: requests in flight, requests/s, or the speed of a trace."""
    match arrivals:
        case ClosedLoop(level) | Constant(level) | Poisson(level) | Gamma(level, _):
            return level
        case Recorded(speed):
            return speed


def with_level(arrivals: Arrivals, level: Level) -> Arrivals:
    """The same kind of arrivals at another level; a number in flight is rounded, at least to 1."""
    match arrivals:
        case ClosedLoop():
            return ClosedLoop(max(1, round(level)) if isinstance(level, int | float) else level)
        case Recorded():
            return msgspec.structs.replace(arrivals, speed=level)
        case _:
            return msgspec.structs.replace(arrivals, rate=level)


def with_files(
    workload: Workload,
    trace: Callable[[TraceFile], TraceFile] = lambda file: file,
    requests: Callable[[RequestFile], RequestFile] = lambda file: file,
) -> Workload:
    """The workload with each of its files changed, those of classes too."""

    def changed(of: TrafficClass | Workload) -> dict[str, TraceFile | RequestFile]:
        files: dict[str, TraceFile | RequestFile] = {}
        if of.trace is not None:
            files["trace"] = trace(of.trace)
        if of.requests is not None:
            files["requests"] = requests(of.requests)
        return files

    classes = tuple(
        msgspec.structs.replace(each, **changed(each)) if each.brings else each
        for each in workload.classes or ()
    )
    return msgspec.structs.replace(workload, classes=classes or None, **changed(workload))


def lead(workload: Workload) -> Arrivals:
    """The arrivals whose level stands for that of the whole load: its own, else a class's."""
    return workload.all_arrivals[0]


def constant(workload: Workload) -> bool:
    """Whether every level stands still, so that the load as a whole can be set to another one."""
    return all(
        isinstance(level_of(each), int | float) and not isinstance(each, Recorded)
        for each in workload.all_arrivals
    )


def at_level(workload: Workload, level: float) -> Workload:
    """The load with its leading arrivals at `level`, and all others in the same proportion.

    All levels must be constant, and the leading one more than 0. A number in flight is rounded.
    """
    before = level_of(lead(workload))
    assert isinstance(before, int | float)

    def put(arrivals: Arrivals) -> Arrivals:
        own = level_of(arrivals)
        assert isinstance(own, int | float)
        if not own:
            return arrivals
        same = own == before
        return with_level(arrivals, level if same else float(f"{own * level / before:.4g}"))

    return _each(workload, put)


def scaled(workload: Workload, direction: int) -> Workload:
    """The same workload with a quarter more (+1) or a fifth less (-1) load, rounded.

    All arrivals are scaled, those of classes too. A curve is scaled as a whole.
    """
    return _each(workload, lambda arrivals: _scaled(arrivals, 1.25 if direction > 0 else 0.8))


def _each(workload: Workload, change: Callable[[Arrivals], Arrivals]) -> Workload:
    """The workload with all arrivals changed that somebody takes."""
    classes = tuple(
        each if each.arrivals is None
        else msgspec.structs.replace(each, arrivals=change(each.arrivals))
        for each in workload.classes or ()
    )  # fmt: skip
    arrivals = workload.arrivals if workload.only_apart else change(workload.arrivals)
    return msgspec.structs.replace(workload, arrivals=arrivals, classes=classes or None)


def _scaled(arrivals: Arrivals, factor: float) -> Arrivals:
    whole, more = isinstance(arrivals, ClosedLoop), factor > 1

    def times(value: float) -> float:
        if whole:
            target = round(value * factor)
            return min(1_000_000, max(1, target, value + 1 if more else 0))
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
            # An increase from 0 starts at 1.
            new = times(level or (1 if more else 0))
    return with_level(arrivals, new)

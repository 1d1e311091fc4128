"""Traces of agents, a job a line: sessions as Weka's kv-cache-tester records them, and our own.

A session of Weka's is a list of requests with lengths and hash ids of their prompts' blocks;
sub-agents are lists of their own in it (github.com/callanjfox/kv-cache-tester,
docs/trace_replay_tester.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import UNSET, UnsetType

from tputtui.load.jobs import Step
from tputtui.load.lengths import LONGEST
from tputtui.load.trace_lines import Lines, TraceRecord, TraceStep
from tputtui.load.trace_objects import OwnTimes, objects

__all__ = ["OwnJobLine", "WekaLine", "own_jobs", "weka"]

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=LONGEST)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_LOCAL = 1 << 32
"""Block ids of one session are below this; each session has as many of its own."""


class WekaEntry(msgspec.Struct, frozen=True, gc=False):
    """A request, or a sub-agent with requests of its own. Times in s, lengths in tokens."""

    type: str = "n"
    t: _Seconds = 0.0
    input_tokens: _Tokens = msgspec.field(default=0, name="in")
    out: _Tokens = 0
    hash_ids: tuple[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)], ...] = ()
    think_time: _Seconds | None = None
    """From the answer before it to this request."""
    api_time: _Seconds | None = None
    """How long its answer took where it was recorded."""
    duration_ms: _Seconds | None = None
    """How long a sub-agent took there."""
    status: str | None = None
    requests: tuple[WekaEntry, ...] = ()


class WekaLine(msgspec.Struct, frozen=True, gc=False):
    """One session. hash_id_scope: "local" where a hash id means something in its session alone."""

    requests: tuple[WekaEntry, ...]
    block_size: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 64
    hash_id_scope: str = "local"
    models: object = None
    tool_tokens: object = None
    system_tokens: object = None


class OwnStep(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A step of a job by its lengths; `continues`: it begins with that step's prompt and answer."""

    prompt_tokens: _Tokens
    output_tokens: _Tokens
    id: str | UnsetType = UNSET
    after: tuple[str, ...] = ()
    wait_s: _Seconds = 0.0
    continues: str | UnsetType = UNSET


class OwnJobLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """One job."""

    steps: Annotated[tuple[OwnStep, ...], msgspec.Meta(min_length=1, max_length=100_000)]
    at_s: _Seconds | UnsetType = UNSET


def weka(lines: Lines) -> Iterator[TraceRecord]:
    """Sessions of Weka's, without times: only within a session are they recorded."""
    for number, row in enumerate(objects(lines, msgspec.json.Decoder(WekaLine))):
        local = row.hash_id_scope != "global"
        found: list[tuple[WekaEntry, Step]] = []
        _thread(row.requests, (), 0.0, found)
        if not found:
            raise lines.bad("requests: expected one at least, found none")
        steps = []
        for entry, step in found:
            prompt = max(1, entry.input_tokens)
            blocks = entry.hash_ids[: -(-prompt // row.block_size)]
            if local and max(blocks, default=0) >= _LOCAL:
                raise lines.bad(f"hash_ids: expected less than {_LOCAL:,} in one session")
            blocks = tuple(number * _LOCAL + block for block in blocks) if local else blocks
            record = TraceRecord(
                math.nan, prompt, max(1, entry.out), blocks, block_tokens=row.block_size
            )
            steps.append(TraceStep(record, step))
        yield _job(math.nan, steps)


def _thread(
    entries: Sequence[WekaEntry],
    after: tuple[int, ...],
    spawned_s: float,
    found: list[tuple[WekaEntry, Step]],
) -> tuple[int, ...]:
    """Add the steps of an agent to `found`; the places of those that the next one waits for.

    after, spawned_s: what its first step waits for, and how long after that. A sub-agent begins
    after the request before it, and the next request waits for it, unless it was launched to run
    on its own. Without `think_time` a step waits as long as it came after the end of the last one.
    """
    last = after
    joined: tuple[int, ...] = ()
    # When the step before answered, and when the last sub-agent since then ended.
    answered_s = joined_s = math.nan
    for entry in entries:
        if entry.type == "subagent":
            tails = _thread(entry.requests, last, _gap_s(entry.t, answered_s), found)
            if entry.status != "async_launched" and tails != last:
                joined += tails
                ended_s = entry.t + (entry.duration_ms or 0.0) / 1000
                joined_s = ended_s if math.isnan(joined_s) else max(joined_s, ended_s)
            continue
        wait_s = entry.think_time
        if wait_s is None:
            wait_s = _gap_s(entry.t, answered_s if math.isnan(joined_s) else joined_s)
        if math.isnan(answered_s) and not joined:
            wait_s += spawned_s
        waits = (*last, *joined)
        found.append((entry, Step(waits, wait_s if waits else 0.0)))
        last, joined = (len(found) - 1,), ()
        answered_s, joined_s = entry.t + (entry.api_time or 0.0), math.nan
    return (*last, *joined)


def _gap_s(at_s: float, since_s: float) -> float:
    """From then until now; 0 where nothing was before."""
    return 0.0 if math.isnan(since_s) else max(0.0, at_s - since_s)


def own_jobs(lines: Lines) -> Iterator[TraceRecord]:
    """Jobs by the lengths of their steps, in our own form."""
    times = OwnTimes(lines)
    for row in objects(lines, msgspec.json.Decoder(OwnJobLine)):
        at_s = times.at_s(row.at_s)
        places: dict[str, int] = {}
        steps = []
        for place, step in enumerate(row.steps):
            waits = {_place(lines, name, places) for name in step.after}
            before = None
            if step.continues is not UNSET:
                before = _place(lines, step.continues, places)
                waits.add(before)
            name = str(place) if step.id is UNSET else step.id
            if name in places:
                raise lines.bad(f"steps: two have the id {name[:40]!r}")
            places[name] = place
            record = TraceRecord(math.nan, max(1, step.prompt_tokens), max(1, step.output_tokens))
            steps.append(TraceStep(record, Step(tuple(sorted(waits)), step.wait_s), before))
        yield _job(at_s, steps)


def _place(lines: Lines, name: str, places: Mapping[str, int]) -> int:
    if name not in places:
        raise lines.bad(f"steps: none before it has the id {name[:40]!r}")
    return places[name]


def _job(at_s: float, steps: Sequence[TraceStep]) -> TraceRecord:
    first = steps[0].record
    return TraceRecord(at_s, first.prompt_tokens, first.output_tokens, steps=tuple(steps))

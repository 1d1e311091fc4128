"""The tokens of one step of an engine core, by what its scheduler gives. Engine thread only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tputtui.engine.vllm.scheduled import NONE_CHECKED, checked

__all__ = ["StepTokens", "tokens_of"]


class StepTokens(NamedTuple):
    """Tokens of a step: put out, found in the prefix cache, looked up there; how many requests were
    preempted, and the draft tokens that were checked, as `scheduled.checked` has them."""

    generated: int
    cached: int
    looked_up: int
    preempted: int
    checked: Mapping[str, int]


def tokens_of(scheduled: Any, outputs: Mapping[int, Any]) -> StepTokens:
    """Those of a step. scheduled: its `SchedulerOutput`. outputs: what the scheduler made of it,
    `EngineCoreOutputs` by client."""
    # Without draft tokens each output is one token: no need to look into hundreds of them.
    drafted = bool(getattr(scheduled, "scheduled_spec_decode_tokens", None))
    generated = cached = looked_up = 0
    of_drafts = NONE_CHECKED
    for each in outputs.values():
        put_out, stats = each.outputs, each.scheduler_stats
        generated += sum(len(one.new_token_ids) for one in put_out) if drafted else len(put_out)
        if stats is None:
            continue
        if stats.prefix_cache_stats is not None:
            looked_up += stats.prefix_cache_stats.queries
            cached += stats.prefix_cache_stats.hits
        if getattr(stats, "spec_decoding_stats", None) is not None:
            of_drafts = checked(stats)
    preempted = len(getattr(scheduled, "preempted_req_ids", None) or ())
    return StepTokens(generated, cached, looked_up, preempted, of_drafts)

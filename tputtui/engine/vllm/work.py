"""Converts a step of vLLM's scheduler into the work that it costs. Imports no vLLM."""

from __future__ import annotations

from typing import Any

from tputtui.simulate.work import Work

__all__ = ["work_of"]


def work_of(scheduled: Any) -> Work:
    """The work of one step, given as vLLM's `SchedulerOutput`."""
    handed, cached = scheduled.num_scheduled_tokens, scheduled.scheduled_cached_reqs
    prefills, tokens, pairs = 0, 0, 0.0
    for new in scheduled.scheduled_new_reqs:
        count = handed[new.req_id]
        prefills += 1
        tokens += count
        pairs += count * (new.num_computed_tokens + count / 2)
    decodes, context = len(cached.req_ids), sum(cached.num_computed_tokens)
    # Usually each other request decodes one token, and needs no closer look.
    if scheduled.total_num_scheduled_tokens - tokens > decodes:
        for name, computed in zip(cached.req_ids, cached.num_computed_tokens, strict=True):
            count = handed[name]
            if count > 1:
                decodes -= 1
                context -= computed
                prefills += 1
                tokens += count
                pairs += count * (computed + count / 2)
    return Work(decodes, context + decodes, prefills, tokens, pairs)

"""Converts a step of vLLM's scheduler into the work that it costs. Imports no vLLM."""

from __future__ import annotations

from typing import Any

from tputtui.engine.vllm.scheduled import composition
from tputtui.simulate.work import Work

__all__ = ["work_of"]


def work_of(scheduled: Any) -> Work:
    """The work that a step of vLLM's `SchedulerOutput` asks for."""
    step = composition(scheduled)
    return Work(
        step.decodes,
        step.decode_context + step.decodes,
        step.prefills,
        step.prefill_tokens,
        step.prefill_pairs,
    )

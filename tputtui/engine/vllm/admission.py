"""Refuses requests as vLLM's API server does, which an engine in process has not.

vLLM (`AsyncLLM.check_admission`, 0.29 and newer) answers HTTP 503 to a request that would be one
too many in flight, and to any while the prompts without a first token have so many tokens. Both
counts are of the API server: requests that wait and that run, whole prompts however much of them is
computed. Engine thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tputtui.engine.protocol import ShedError
from tputtui.errors import UsageError
from tputtui.knobs import ADMISSION, Knobs, knob

__all__ = ["check_admission", "check_admits"]


def check_admission(processor: Any, knobs: Knobs, n: int) -> None:
    """Raise ShedError for a request that vLLM's API server would refuse now.

    processor: vLLM's OutputProcessor, which counts. n: sequences the request takes, one each.
    """
    most = knobs.max_num_queued_reqs
    if most and processor.get_num_unfinished_requests() + n > most:
        raise ShedError(f"max_num_queued_reqs {most} is reached")
    most = knobs.max_num_queued_tokens
    if most and processor.get_num_queued_tokens() >= most:
        raise ShedError(f"max_num_queued_tokens {most} is reached")


def check_admits(arguments: Mapping[str, Any]) -> None:
    """Raise UsageError for arguments with which vLLM refuses every request."""
    for name in ADMISSION:
        if arguments.get(knob(name).argument) == 0:
            raise UsageError(
                f"With {knob(name).flag} 0 vLLM refuses every request.",
                "Leave it out: without it there is no such limit.",
            )

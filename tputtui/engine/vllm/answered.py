"""What vLLM tells of a request that has left it. Pure."""

from __future__ import annotations

import math
from typing import Any

from tputtui.engine.protocol import Ended

__all__ = ["ended_of", "logprobs_of"]


def ended_of(number: int, stats: Any, tokens: int, cached: int) -> Ended:
    """An `Ended` from vLLM's own request times, in which 0.0 means never reached."""

    def reached(name: str) -> float:
        return getattr(stats, name, 0.0) or math.nan

    return Ended(
        number=number,
        end_s=reached("last_token_ts"),
        output_tokens=tokens,
        scheduled_s=reached("scheduled_ts"),
        first_token_s=reached("first_token_ts"),
        cached_tokens=cached,
        preemptions=getattr(stats, "num_preemptions", 0),
    )


def logprobs_of(answer: Any) -> list[dict[int, float]]:
    """The log-probabilities at each position of an answer, by token id."""
    return [
        {token: each.logprob for token, each in position.items()} for position in answer.logprobs
    ]

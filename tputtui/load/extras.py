"""What a request can carry beside prompt and length, as plain values that profiles contain. Pure.

Each of them is drawn for every request by itself, from the seed: request i carries the same,
whatever the timing and the limits are.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

__all__ = ["Adapters", "Answers", "Cancel", "Priorities", "Structured"]

Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Priorities = Annotated[
    tuple[tuple[Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)], Share], ...],
    msgspec.Meta(min_length=1, max_length=64),
]
"""(priority, share) of each; the rest has priority 0. A lower number is served earlier."""
Adapters = Annotated[
    tuple[tuple[Annotated[str, msgspec.Meta(min_length=1)], Share], ...],
    msgspec.Meta(min_length=1, max_length=1024),
]
"""(name, share) of each LoRA adapter; the rest goes to the base model."""


class Cancel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Requests that the client gives up: a `share` of them, some time after they were due.

    after_s: median of the lognormal time in s. sigma: of its logarithm; 0 for one fixed time.
    A request that is served sooner is not cancelled. Cancelled ones are counted apart.
    """

    share: Share
    after_s: Annotated[float, msgspec.Meta(gt=0, le=1e6)]
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)] = 0.0

    def time_s(self, normal: float) -> float:
        """The time for a standard normal number."""
        return self.after_s * math.exp(self.sigma * normal)


class Structured(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Requests whose answer must have a form: a `share` of them.

    schema: a file with a JSON schema. regex: a regular expression. One of the two.
    Such an answer ends when the form is complete, at its drawn length at the latest.
    """

    share: Share
    schema: str = ""
    regex: str = ""

    def __post_init__(self) -> None:
        if bool(self.schema) is bool(self.regex):
            raise ValueError("give a schema or a regex, one of the two")


class Answers(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What is asked for beside the tokens.

    n: answers to each prompt. logprobs: of so many most likely tokens at each position.
    """

    n: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None

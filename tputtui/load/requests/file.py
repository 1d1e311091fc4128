"""Which file the real requests of a load come from, and how they are served. Pure."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

__all__ = ["RequestFile", "Sampling"]

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How tokens are chosen, under vLLM's names; None leaves a value as recorded."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=100)] | None = None
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    top_k: Annotated[int, msgspec.Meta(ge=-1, le=1_000_000)] | None = None
    min_p: _Share | None = None
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)] | None = None

    def given(self) -> dict[str, Any]:
        """The values that are given, by name."""
        return {name: value for name in self.__struct_fields__
                if (value := getattr(self, name)) is not None}  # fmt: skip


class RequestFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Real requests from a file: prompts, sampling, and, with `recorded` arrivals, times.

    Prompts and answers are in no profile, log or report: only counts, lengths, and a hash.
    """

    path: Annotated[str, msgspec.Meta(min_length=1)]
    tokenizer: str = ""
    """A folder or hub id of a tokenizer with its chat template; empty means the model's own."""
    chat_template: str = ""
    """A file with another chat template; empty means the tokenizer's."""
    repeat: bool = False
    """Start anew at the end of the file."""
    force_lengths: bool = False
    """Generate exactly as many tokens as were recorded (else as many as were allowed)."""
    detokenize: bool = True
    """Make text of the answers, as a server does."""
    sampling: Sampling | None = None
    """Put on top of the recorded sampling; None for none."""
    bad: _Share = 0.05
    """Share of lines that may be unusable before the load ends."""

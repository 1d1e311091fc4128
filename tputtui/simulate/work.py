"""The work of one step, as far as its cost depends on it. Values only."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Work"]


class Work(NamedTuple):
    """The work of a step.

    decodes: sequences that decode, one token each. decode_context: sum of tokens they attend to.
    prefills: sequences that prefill a chunk of their prompt. prefill_tokens: tokens of all chunks.
    prefill_pairs: number of pairs (token, token it attends to) over all chunks.
    """

    decodes: int = 0
    decode_context: int = 0
    prefills: int = 0
    prefill_tokens: int = 0
    prefill_pairs: float = 0.0

    @property
    def tokens(self) -> int:
        """Tokens scheduled."""
        return self.decodes + self.prefill_tokens

    @property
    def sequences(self) -> int:
        """Sequences scheduled."""
        return self.decodes + self.prefills

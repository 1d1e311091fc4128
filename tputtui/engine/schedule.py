"""The schedule of draft tokens by size of batch, as vLLM's speculative_config takes it. Pure."""

from __future__ import annotations

__all__ = ["SCHEDULE", "constant", "ladder"]

SCHEDULE = "num_speculative_tokens_per_batch_size"
"""vLLM's name of it: ranges of batch sizes from 1 on, (first, last, draft tokens)."""
_LARGEST_BATCH = 4096
"""Where max_num_seqs is vLLM's to choose; vLLM cuts a schedule at the largest batch it has."""


def constant(most: int, batch: int = _LARGEST_BATCH) -> list[tuple[int, int, int]]:
    """The schedule that drafts `most` tokens whatever the batch. batch: its most sequences."""
    return [(1, batch, most)]


def ladder(most: int, batch: int) -> list[tuple[int, int, int]]:
    """The schedule that has each number of draft tokens from 0 to `most`, as vLLM takes it.

    batch: the most sequences of a batch. The large batches have the steps of the ladder, one each,
    because vLLM captures graphs of a number of draft tokens up to the largest batch that has it.
    With fewer sizes of batch than numbers the highest numbers are there.
    """
    first = max(1, batch - most)
    below = [(1, first - 1, most)] if first > 1 else []
    return [*below, *((size, size, most - batch + size) for size in range(first, batch + 1))]

"""The loads of a calibration: batches of all sizes, decodes and prefills, alone and mixed. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tputtui.knobs import Knobs
from tputtui.load.lengths import Fixed, Lengths, LogNormal, Uniform
from tputtui.load.workload import ClosedLoop, Workload

__all__ = ["Load", "designed"]

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SHORT = 16


class Load(NamedTuple):
    """A load to measure. knobs: limits that differ from the booted ones for this load."""

    label: str
    workload: Workload
    knobs: Mapping[str, int]


def designed(ceilings: Knobs, kv_tokens: int) -> list[Load]:
    """The loads for an engine with these ceilings and a KV cache of `kv_tokens` tokens."""
    longest, step = ceilings.max_model_len, ceilings.max_num_batched_tokens
    room, short = min(longest, kv_tokens) // 2, max(1, min(_SHORT, longest // 6))
    batches = [n for n in _BATCHES if n <= ceilings.max_num_seqs and n * 3 * short <= kv_tokens]
    loads: list[Load] = []

    def add(label: str, n: int, prompt: Lengths, output: Lengths, **knobs: int) -> None:
        # Each load has its own seed; otherwise the prefix cache would contain its prompts.
        workload = Workload(ClosedLoop(n), prompt, output, seed=1000 + len(loads))
        loads.append(Load(label, workload, knobs))

    # Decodes with almost no context, one batch at a time: the outputs begin and end together.
    for n in batches[:: 2 if len(batches) > 5 else 1]:
        add(f"{n} decode", n, Fixed(short), Fixed(4 * short))
    # Decodes with a long context.
    long = max(short, room // 2)
    for n in batches[1::2]:
        if n * (long + 2 * short) <= 0.8 * kv_tokens:
            add(f"{n} decode at {long} tokens", n, Fixed(long), Fixed(2 * short))
    # Prompts one by one, and many in a step; prompts longer than a step are split into chunks.
    lengths = (short, 4 * short, room // 8, room // 2, int(1.8 * room))
    for prompt in sorted({max(1, min(length, longest - 2)) for length in lengths}):
        add(f"prompts of {prompt}", 2, Fixed(prompt), Fixed(1))
        n = max(2, min(step // prompt, ceilings.max_num_seqs, int(0.8 * kv_tokens) // prompt))
        if n > 2:
            add(f"{n} prompts of {prompt}", n, Fixed(prompt), Fixed(1))
    chunk = max(short, step // 8)
    add(f"chunks of {chunk}", 2, Fixed(min(longest - 2, 6 * chunk)), Fixed(2),
        max_num_batched_tokens=chunk)  # fmt: skip
    # Decodes and prefills together, as in normal use.
    most = min(3 * short, max(1, room // 2))
    for n in batches[len(batches) // 2 :: 2]:
        mean = max(1, min(room // 4, int(0.4 * kv_tokens) // n))
        prompts = LogNormal(mean, 0.7, 1, max(1, 2 * room - most))
        add(f"{n} mixed", n, prompts, Uniform(min(4, most), most))
    # Steps so small that their start dominates the time, not their arithmetic.
    n = batches[len(batches) // 2]
    add(f"{n} mixed, short", n, Fixed(2 * short), Uniform(min(4, most), most))
    return loads

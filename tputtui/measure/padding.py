"""How much of a decode step is padding, where CUDA graphs are used. Pure.

A CUDA graph runs one batch size. vLLM captures some sizes at boot, and runs a step as the smallest
captured one that holds the step's tokens (`CudagraphDispatcher.dispatch`, read in 0.32): the rest
of its slots compute nothing. A step above the largest captured size runs without a graph, and is
not padded. What tensor- or data-parallel ranks pad beyond that, to agree on a size, is not counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["Padding", "padding"]

_MOST_ADVISED = 2
_MATTERS = 0.05
"""Below this share of padding no further sizes are advised."""
_SAVES = 0.15
"""A size is advised where it saves so much of the padding that is there."""
_SPACING = 8
"""Sizes that vLLM chooses by itself are multiples of it, from it on."""


class Padding(NamedTuple):
    """Padding in steps that decode, and prefill nothing.

    frac: slots that are padding ÷ slots run, of steps that a captured size holds; NaN without any.
    beyond_frac: steps above the largest captured size ÷ all. capture: sizes that would save most,
    ascending; empty where it does not matter, and where several tokens a sequence are decoded.
    """

    frac: float
    beyond_frac: float
    capture: tuple[int, ...]


def padding(steps: Floats, sizes: Sequence[int]) -> Padding | None:
    """The padding of `steps`; None without captured sizes, or without a step of decodes alone.

    steps: rows as `Recorder.steps` has them, shape (n, fields of StepSample). sizes: those
    captured, in tokens, ascending.
    """
    tokens, prefill = steps[:, STEP["decode_tokens"]], steps[:, STEP["prefill_tokens"]]
    alone = (tokens > 0) & (prefill == 0)
    if not sizes or not alone.any():
        return None
    single = bool((tokens[alone] <= steps[alone, STEP["running"]]).all())
    values, times = np.unique(tokens[alone].astype(int), return_counts=True)
    counts = dict(zip(values.tolist(), times.tolist(), strict=True))
    held = {n: count for n, count in counts.items() if n <= sizes[-1]}
    beyond_frac = 1 - sum(held.values()) / sum(counts.values())
    if not held:
        return Padding(float("nan"), beyond_frac, ())
    empty, slots = _empty(held, sizes), _slots(held, sizes)
    advised: list[int] = []
    left = empty
    while single and len(advised) < _MOST_ADVISED and left > _MATTERS * slots:
        candidates = {size: _empty(held, [*sizes, *advised, size]) for size in _candidates(held)}
        best = min(candidates, key=candidates.__getitem__)
        if left - candidates[best] < _SAVES * empty:
            break
        advised.append(best)
        left = candidates[best]
    return Padding(empty / slots, beyond_frac, tuple(sorted(advised)))


def _candidates(counts: dict[int, int]) -> list[int]:
    return sorted({n if n < _SPACING else -(-n // _SPACING) * _SPACING for n in counts})


def _slots(counts: dict[int, int], sizes: Sequence[int]) -> int:
    """Slots run: each batch size as the smallest of `sizes` that holds it."""
    ordered = sorted(sizes)
    return sum(ordered[bisect_left(ordered, n)] * count for n, count in counts.items())


def _empty(counts: dict[int, int], sizes: Sequence[int]) -> int:
    return _slots(counts, sizes) - sum(n * count for n, count in counts.items())

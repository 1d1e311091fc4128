"""What a model's step time consists of, from how it varies with what was scheduled. Pure.

model time ≈ fixed + per_token · scheduled tokens + per_context · tokens computed before

Interpreted by the roofline model (Williams, Waterman, Patterson, "Roofline: an insightful visual
performance model for multicore architectures", CACM 52(4), 2009): arithmetic grows with the tokens
scheduled; the weights are read from memory once per step, whatever the number of tokens; attention
reads the keys and values of the tokens computed before. So the part that grows with tokens counts
as compute, the other two as memory bandwidth. This is inferred from timing, not from hardware
counters: the fixed part also contains kernel launches and every other fixed cost of a step. And the
roofline is the greater of compute and memory time; the sum is an approximation of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tputtui.measure.normal import Z95
from tputtui.measure.regression import fit_parts
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["StepTime", "step_time"]

_FEWEST = 20
_SURE = 0.15
_EXPLAINED = 0.5


@dataclass(frozen=True, slots=True)
class StepTime:
    """The fitted model of a step's time, and its errors. The three shares sum to 1."""

    fixed_s: float
    """Seconds that every step takes."""
    per_token_s: float
    """Seconds per scheduled token."""
    per_context_s: float
    """Seconds per token of context."""
    fixed_share: float
    """Part of the model time of all fitted steps that is fixed (weights)."""
    compute_share: float
    """Part that grows with scheduled tokens (compute)."""
    context_share: float
    """Part that grows with context (KV cache)."""
    compute_error: float
    """Half the width of compute_share's 95 % interval, steps assumed independent; infinite where
    scheduled tokens hardly varied by themselves."""
    context_error: float
    """The same for context_share."""
    r2: float
    """Part of the variance of model time explained, outliers weighted down."""

    @property
    def varied(self) -> bool:
        """Whether scheduled tokens varied enough by themselves to estimate compute."""
        return math.isfinite(self.compute_error)

    @property
    def resolved(self) -> bool:
        """Whether compute is separated from memory: its share to ± 15 points, r2 at least 0.5."""
        return self.compute_error <= _SURE and self.r2 >= _EXPLAINED

    @property
    def split(self) -> bool:
        """Whether the weights (fixed) are separated from the KV cache (context) as well."""
        return self.resolved and self.context_error <= _SURE

    def seconds(self, tokens: float, context: float) -> float:
        """Seconds of a step that schedules `tokens` for sequences with `context` tokens before."""
        return self.fixed_s + self.per_token_s * tokens + self.per_context_s * context


def step_time(steps: Floats, *, overlapped: bool = False) -> StepTime | None:
    """Fit the steps, rows of `StepSample` in order; None with fewer than 20 that ran the model.

    overlapped: async scheduling. Then a step's duration is the model's time for the tokens that the
    step before scheduled. Otherwise it is the host's time plus the model's time for its own tokens.

    Prefill's attention grows with tokens × context; the model does not contain that term.
    """
    # Draft tokens go through the model as the others do.
    kinds = [STEP[f"{kind}_tokens"] for kind in ("prefill", "decode", "draft")]
    tokens = steps[:, kinds].sum(axis=1)
    context, took_s = steps[:, STEP["context_tokens"]], steps[:, STEP["duration_s"]]
    if overlapped:
        tokens, context, took_s = tokens[:-1], context[:-1], took_s[1:]
    else:
        took_s = took_s - steps[:, STEP["host_s"]]
    ran = (tokens > 0) & (took_s > 0)
    if np.count_nonzero(ran) < _FEWEST:
        return None
    columns = np.column_stack([np.ones(len(ran)), tokens, context])[ran]
    fit = fit_parts(columns, took_s[ran])
    means = columns.mean(axis=0)
    total = float(means @ fit.coefficients)
    fixed_s, per_token_s, per_context_s = fit.coefficients.tolist()
    fixed, compute, of_context = (means * fit.coefficients / total).tolist()
    # A window without any context gives no estimate of its cost.
    _, compute_error, context_error = (
        Z95 * mean * error / total if mean > 0 else math.inf
        for mean, error in zip(means.tolist(), fit.errors.tolist(), strict=True)
    )
    return StepTime(
        fixed_s=fixed_s,
        per_token_s=per_token_s,
        per_context_s=per_context_s,
        fixed_share=fixed,
        compute_share=compute,
        context_share=of_context,
        compute_error=compute_error,
        context_error=context_error,
        r2=fit.r2,
    )

"""Where a model's step time goes, from how it varies with what was scheduled. Pure.

model time ≈ fixed + per_token · scheduled tokens + per_context · tokens computed before

Read with the roofline model (Williams, Waterman, Patterson, "Roofline: an insightful visual
performance model for multicore architectures", CACM 52(4), 2009): arithmetic grows with the tokens
scheduled; the weights are read from memory once a step however many those are; attention reads the
keys and values of what was computed before. So the part that grows with tokens is put down to
compute, the other two to memory bandwidth. That is inferred from timing, not counted by hardware:
the fixed part also holds launches and whatever else each step costs, and the roofline is the
greater of both, of which a sum is an approximation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tputtui.measure.regression import fit_parts
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["StepTime", "step_time"]

_FEWEST = 20
_Z95 = 1.959964
_SURE = 0.15
_EXPLAINED = 0.5


@dataclass(frozen=True, slots=True)
class StepTime:
    """The model of a step's time, and how far it can be trusted.

    fixed_s, per_token_s, per_context_s: seconds a step, a scheduled token, a token of context.
    fixed_share, compute_share, context_share: of the model time of all steps fitted; sum to 1.
    compute_error, context_error: half the width of their 95 % intervals (steps taken as
    independent); infinite where the window does not tell.
    r2: part of the variance of model time explained, outliers weighted down.
    """

    fixed_s: float
    per_token_s: float
    per_context_s: float
    fixed_share: float
    compute_share: float
    context_share: float
    compute_error: float
    context_error: float
    r2: float

    @property
    def varied(self) -> bool:
        """Whether scheduled tokens varied enough by themselves to say anything of compute."""
        return math.isfinite(self.compute_error)

    @property
    def resolved(self) -> bool:
        """Whether compute is told from memory: its share to ± 15 points, half explained."""
        return self.compute_error <= _SURE and self.r2 >= _EXPLAINED

    @property
    def split(self) -> bool:
        """Whether the weights (fixed) are told from the KV cache (context) as well."""
        return self.resolved and self.context_error <= _SURE

    def seconds(self, tokens: float, context: float) -> float:
        """Model time of a step that schedules `tokens` of sequences with `context` before them."""
        return self.fixed_s + self.per_token_s * tokens + self.per_context_s * context


def step_time(steps: Floats, *, overlapped: bool = False) -> StepTime | None:
    """Fit the steps, rows of `StepSample` in order; None with fewer than 20 that ran the model.

    overlapped: async scheduling. Then a step's duration is the model's time for what the step
    before it scheduled; else it is the model's after the host's time for what itself did.

    Prefill's attention grows with tokens × context, which is not in the model.
    """
    tokens = steps[:, STEP["prefill_tokens"]] + steps[:, STEP["decode_tokens"]]
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
    # A window without any context has nothing to tell of it.
    _, compute_error, context_error = (
        _Z95 * mean * error / total if mean > 0 else math.inf
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

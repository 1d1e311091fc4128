"""What binds when no limit does: what a step spends its time on. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tputtui.knobs import Knobs
from tputtui.measure.bounds import Binding, Bound, raising
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats
from tputtui.measure.steptime import StepTime

__all__ = ["step_bound"]

_HOST = 0.5
"""From this share on the host takes longer than the model. Then overlapping the two (asynchronous
scheduling: a step takes the greater of both instead of their sum) gains most, at best twofold."""
_HOST_OVERLAPPED = 0.9
"""With overlap, the host binds only from this share on: it hardly waits for the model."""


def step_bound(
    steps: Floats,
    fit: StepTime | None,
    knobs: Knobs,
    ceilings: Knobs,
    *,
    throttled: Sequence[str] = (),
    overlapped: bool = False,
) -> Binding:
    """What a step's time goes to: the host, a throttled GPU, compute, memory, or unknown (STEP).

    steps, throttled, overlapped: as in `binding`; at least one step. fit: of these steps.

    HOST: vLLM's own Python takes half of the time (nine tenths where it overlaps the model).
    POWER, THERMAL: clocks are held down. COMPUTE, MEMORY: by `StepTime`, the larger of the two
    where it exceeds the other by more than the fit's error. Otherwise STEP.
    """
    busy_s = float(steps[:, STEP["duration_s"]].sum())
    host = float(steps[:, STEP["host_s"]].sum()) / busy_s
    if host >= (_HOST_OVERLAPPED if overlapped else _HOST):
        mean_ms = busy_s / len(steps) * 1e3
        evidence = f"host {host:.0%} of a step: {host * mean_ms:.1f} of {mean_ms:.1f} ms"
        advice = "fewer and larger steps" if overlapped else "async scheduling, larger steps"
        return Binding(Bound.HOST, host, evidence, advice)
    hot = [reason for reason in throttled if "thermal" in reason]
    if hot:
        return Binding(Bound.THERMAL, 1.0, f"clocks held down: {hot[0]}", "cool the GPU")
    if throttled:
        return Binding(Bound.POWER, 1.0, f"clocks held down: {throttled[0]}", "raise its power cap")
    model = 1.0 if overlapped else 1 - host
    if fit is not None and fit.resolved and abs(fit.compute_share - 0.5) > fit.compute_error:
        if fit.compute_share > 0.5:
            return _of_compute(fit, model)
        return _of_memory(fit, model, knobs, ceilings)
    return _of_step(steps, fit)


def _of_compute(fit: StepTime, model: float) -> Binding:
    cost = f"{fit.per_token_s * 1e6:.2g} µs a token"
    share = fit.compute_share * model
    evidence = f"compute {share:.0%} of the step ({cost}){_memory(fit, model)}, by timing"
    return Binding(Bound.COMPUTE, share, evidence, "quantisation, more GPUs; smaller prompts")


def _of_memory(fit: StepTime, model: float, knobs: Knobs, ceilings: Knobs) -> Binding:
    share = (fit.fixed_share + fit.context_share) * model
    compute = f", compute {fit.compute_share * model:.0%}"
    evidence = f"{_memory(fit, model)[2:]} of the step{compute}, by timing"
    if fit.split and fit.context_share > fit.fixed_share:
        return Binding(Bound.MEMORY, share, evidence, "quantise the KV cache; shorter contexts")
    larger = raising("max_num_seqs", knobs, ceilings, "max_num_seqs")
    which = "weights" if fit.split else "weights or KV"
    advice = f"a larger batch amortises the weights: {larger}; or quantise {which}"
    return Binding(Bound.MEMORY, share, evidence, advice)


def _memory(fit: StepTime, model: float) -> str:
    weights, kv = fit.fixed_share * model, fit.context_share * model
    return f", weights {weights:.0%}, KV {kv:.0%}" if fit.split else f", memory {weights + kv:.0%}"


def _of_step(steps: Floats, fit: StepTime | None) -> Binding:
    if fit is None or not fit.varied:
        why = "compute and memory cannot be told apart: steps are all alike"
    elif not fit.resolved:
        why = "compute and memory cannot be told apart: steps vary by more than their load"
    else:
        why = f"compute {fit.compute_share:.0%} ± {fit.compute_error:.0%} of it, memory the rest"
    took_ms = float(np.median(steps[:, STEP["duration_s"]])) * 1e3
    evidence = f"a step takes {took_ms:.1f} ms; {why}"
    return Binding(Bound.STEP, 1.0, evidence, "a faster engine: quantisation, more GPUs")

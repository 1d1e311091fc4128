"""Which limit holds the engine back now, with its evidence and the next thing to try. Pure.

Every rule looks at the scheduler's own state, step by step: what it could not do although there
was something waiting. Shares are of the time the engine was busy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from tputtui.knobs import KNOBS, Knobs
from tputtui.measure.samples import StepSample
from tputtui.measure.stats import Floats

__all__ = ["Binding", "Bound", "binding"]

_COLUMN = {name: i for i, name in enumerate(StepSample._fields)}
_MATTERS = 0.2
"""A limit that was reached for less of the time than this does not bind."""
_FULL = 0.98
_TIGHT_KV = 0.8
_IDLE = 0.1
_FEWEST = 20


class Bound(StrEnum):
    """What binds."""

    SEQUENCES = "sequences"
    TOKENS = "tokens"
    KV = "KV cache"
    LENGTH = "model length"
    LOAD = "load"
    POWER = "GPU power"
    THERMAL = "GPU heat"
    STEP = "step time"


@dataclass(frozen=True, slots=True)
class Binding:
    """What binds, and why: `evidence` says what was seen, `advice` what to try next.

    share: of the busy time in which it did (of the whole time for LOAD).
    """

    bound: Bound
    share: float
    evidence: str
    advice: str


def binding(
    steps: Floats,
    length_s: float,
    knobs: Knobs,
    ceilings: Knobs,
    *,
    ended: int,
    cut_short: int,
    throttled: Sequence[str] = (),
) -> Binding | None:
    """What binds over a window; None with fewer than 20 steps to go by.

    steps: rows of `StepSample`, shape (n, fields), of a window `length_s` seconds long.
    ended, cut_short: requests that ended in it, and those of them that the length limit cut.
    throttled: NVML's reasons why clocks are held down, of any GPU.

    SEQUENCES: something waited with the batch at max_num_seqs. TOKENS: the step was full to 98 %.
    KV: requests were preempted, or something waited with room in batch and step and the cache at
    80 % or more. The one with the greatest share binds, from a fifth of the time on. Else LENGTH,
    when it cut a fifth of the requests; LOAD, when nothing waits; then what slows every step: the
    GPU's throttle, or just the step.
    """
    if len(steps) < _FEWEST or length_s <= 0:
        return None

    def column(name: str) -> Floats:
        return steps[:, _COLUMN[name]]

    duration = column("duration_s")
    busy_s = float(duration.sum())
    if busy_s <= 0:
        return None

    def share(mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
        return float(duration[mask].sum()) / busy_s

    waiting, running = column("waiting") > 0, column("running")
    at_limit = running >= column("max_num_seqs")
    used = column("prefill_tokens") + column("decode_tokens")
    full = used >= _FULL * column("max_num_batched_tokens")
    kv = column("kv_frac")
    preempted = int(column("preemptions").sum())
    held_back = waiting & ~at_limit & ~full & (kv >= _TIGHT_KV)
    of_kv = share(held_back | (column("preemptions") > 0))
    found = {
        Bound.SEQUENCES: share(waiting & at_limit),
        Bound.TOKENS: share(full),
        # A request that is thrown out costs far more than the step it happens in.
        Bound.KV: max(of_kv, _MATTERS) if preempted > len(steps) * 0.02 else of_kv,
    }
    bound, most = max(found.items(), key=lambda pair: pair[1])
    if found[Bound.KV] >= _MATTERS and preempted:
        bound, most = Bound.KV, found[Bound.KV]
    if most >= _MATTERS:
        return _of_limit(bound, most, steps, knobs, ceilings, preempted)
    if ended and cut_short / ended >= _MATTERS:
        part = cut_short / ended
        return Binding(
            Bound.LENGTH, part, f"{part:.0%} of requests cut short", _raise("max_model_len", knobs,
                                                                          ceilings)
        )  # fmt: skip
    idle = max(0.0, 1 - busy_s / length_s)
    mean_running = float(duration @ running) / busy_s
    if idle >= _IDLE or share(waiting) < _MATTERS:
        seen = f"idle {idle:.0%} of the time" if idle >= _IDLE else "nothing waits"
        evidence = f"{seen}, {mean_running:.0f}/{knobs.max_num_seqs} run"
        return Binding(Bound.LOAD, idle, evidence, "+ adds load")
    return _of_step(duration, throttled, mean_running)


def _of_limit(
    bound: Bound, share: float, steps: Floats, knobs: Knobs, ceilings: Knobs, preempted: int
) -> Binding:
    waiting = float(steps[:, _COLUMN["waiting"]].mean())
    if bound is Bound.SEQUENCES:
        evidence = f"{waiting:.0f} wait, {knobs.max_num_seqs}/{knobs.max_num_seqs} run, {share:.0%}"
        return Binding(bound, share, evidence, _raise("max_num_seqs", knobs, ceilings))
    if bound is Bound.TOKENS:
        evidence = f"{share:.0%} of steps full to {knobs.max_num_batched_tokens}"
        return Binding(bound, share, evidence, _raise("max_num_batched_tokens", knobs, ceilings))
    thrown = f", {preempted} preempted" if preempted else ""
    used = float(steps[:, _COLUMN["kv_frac"]].mean())
    evidence = f"{used:.0%} used, {waiting:.0f} wait{thrown}"
    return Binding(bound, share, evidence, "fewer sequences, or boot with more KV memory")


def _of_step(duration: Floats, throttled: Sequence[str], running: float) -> Binding:
    hot = [reason for reason in throttled if "thermal" in reason]
    if hot:
        return Binding(Bound.THERMAL, 1.0, f"clocks held down: {hot[0]}", "cool the GPU")
    if throttled:
        return Binding(Bound.POWER, 1.0, f"clocks held down: {throttled[0]}", "raise its power cap")
    evidence = f"{running:.0f} running, a step takes {float(np.median(duration)) * 1e3:.1f} ms"
    return Binding(Bound.STEP, 1.0, evidence, "a faster engine: quantisation, more GPUs")


def _raise(name: str, knobs: Knobs, ceilings: Knobs) -> str:
    """The next thing to try with a limit that binds."""
    now, ceiling = knobs.get(name), ceilings.get(name)
    if now < ceiling:
        return f"raise it to {min(ceiling, now * 2):,}"
    flag = next(knob.flag for knob in KNOBS if knob.name == name)
    return f"boot with {flag} {now * 2}"

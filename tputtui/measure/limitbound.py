"""Which limit keeps requests from running, from the scheduler's own state at every step. Pure.

Waiting requests are counted just after a step is scheduled. vLLM 0.32 admits waiting requests (a
part of a prompt if need be) until the batch is full, the step is full, or the blocks for the next
request cannot be allocated (`Scheduler.schedule`, `KVCacheManager.allocate_slots`): the blocks for
its tokens in this step (with scheduler_reserve_full_isl: for its whole prompt), plus the watermark
unless nothing runs. So if batch and step have room and a request waits, the KV cache was the
reason, however much of it is free. long_prefill_token_threshold only makes a request's part
smaller. LoRA adapters above `max_loras` are counted by themselves; a grammar that is still compiled
holds its own request back for a moment. Our requests use nothing else that could hold them back:
encoders, KV connectors, data parallelism. With chunked prefill off, a prompt longer than what is
left of a step waits too, and is counted as KV.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tputtui.knobs import Knobs
from tputtui.measure.bounds import Binding, Bound, raising
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["limit_bound"]

_MATTERS = 0.2
"""A limit that was reached for a smaller share of the busy time does not bind."""
_FULL = 0.98
"""A step is full from this share on: drafts or block alignment can leave an unusable rest."""
_OFTEN = 0.02


def limit_bound(steps: Floats, knobs: Knobs, ceilings: Knobs) -> Binding | None:
    """The limit that the scheduler ran into for at least a fifth of the busy time; None for none.

    Of several limits, the one that it ran into for the longest time.
    steps: rows of `StepSample`, shape (n, fields), with a total duration above 0.

    SEQUENCES: requests waited and the batch was at max_num_seqs. TOKENS: the step was full to 98 %.
    CADENCE: requests waited for a step that prefills (prefill_schedule_interval).
    ADAPTERS: requests waited because the batch has as many LoRA adapters as it may have.
    KV: requests were preempted, or requests waited although batch and step had room.
    """

    def column(name: str) -> Floats:
        return steps[:, STEP[name]]

    duration = column("duration_s")
    busy_s = float(duration.sum())

    def share(mask: NDArray[np.bool_]) -> float:
        return float(duration[mask].sum()) / busy_s

    waiting, running = column("waiting") > 0, column("running")
    at_limit = running >= column("max_num_seqs")
    used = column("prefill_tokens") + column("decode_tokens") + column("draft_tokens")
    full = used >= _FULL * column("max_num_batched_tokens")
    # A step that schedules nothing while requests run only waits for the tokens of an earlier step.
    adapters = (column("adapter_waiting") > 0) & ~at_limit & ~full
    held_back = waiting & ~at_limit & ~full & ~adapters & ((used > 0) | (running == 0))
    # Steps between those that prefill admit nobody, however much room there is.
    between = (knobs.prefill_schedule_interval > 1) & (column("prefill_tokens") == 0)
    cadence, held_back = held_back & between, held_back & ~between
    preempted = int(column("preemptions").sum())
    of_kv = share(held_back | (column("preemptions") > 0))
    shares = {
        Bound.SEQUENCES: share(waiting & at_limit),
        Bound.TOKENS: share(full),
        # A preempted request costs far more than the step in which it is preempted.
        Bound.KV: max(of_kv, _MATTERS) if preempted > len(steps) * _OFTEN else of_kv,
        Bound.ADAPTERS: share(adapters),
        Bound.CADENCE: share(cadence),
    }
    bound, most = max(shares.items(), key=lambda pair: pair[1])
    if shares[Bound.KV] >= _MATTERS and preempted:
        bound, most = Bound.KV, shares[Bound.KV]
    if most < _MATTERS:
        return None
    waits = float(column("waiting").mean())
    if bound is Bound.SEQUENCES:
        evidence = f"{waits:.0f} wait, {knobs.max_num_seqs}/{knobs.max_num_seqs} run, {most:.0%}"
        return Binding(bound, most, evidence, raising("max_num_seqs", knobs, ceilings))
    if bound is Bound.TOKENS:
        evidence = f"{most:.0%} of steps full to {knobs.max_num_batched_tokens}"
        return Binding(bound, most, evidence, raising("max_num_batched_tokens", knobs, ceilings))
    if bound is Bound.ADAPTERS:
        held = float(column("adapter_waiting")[adapters].mean())
        evidence = f"{held:.0f} wait for a place of their adapter, {most:.0%}"
        return Binding(bound, most, evidence, "boot with a higher --max-loras, or fewer adapters")
    if bound is Bound.CADENCE:
        fewer = max(1, knobs.prefill_schedule_interval // 2)
        evidence = f"{waits:.0f} wait for a step that prefills, {most:.0%}"
        return Binding(bound, most, evidence, f"lower it to {fewer}")
    thrown = f", {preempted} preempted" if preempted else ""
    kept = _kept_free(steps[held_back], knobs.watermark_blocks)
    # The KV cache's use at the steps in which it held requests back, not its mean over all steps.
    short = column("kv_frac")[held_back | (column("preemptions") > 0)]
    evidence = f"{float(short.mean()):.0%} used, {waits:.0f} wait{thrown}"
    if kept:
        evidence += f", {knobs.watermark_blocks:,} kept free by the watermark"
    return Binding(bound, most, evidence, _more_kv(kept, knobs, ceilings))


def _kept_free(held_back: Floats, watermark_blocks: int) -> bool:
    """Whether the watermark held requests back for at least half of the time in which any were.

    That is: enough blocks were free for a request like the running ones, but not enough for the
    request and the watermark. How many blocks the waiting request needed is not known.
    """
    running = held_back[:, STEP["running"]]
    blocks, used = held_back[:, STEP["kv_blocks"]], held_back[:, STEP["kv_frac"]]
    free, typical = (1 - used) * blocks, used * blocks / np.maximum(running, 1)
    kept = (running > 0) & (free >= typical) & (free < typical + watermark_blocks)
    duration = held_back[:, STEP["duration_s"]]
    return bool(kept.any()) and float(duration[kept].sum()) >= 0.5 * float(duration.sum())


def _more_kv(kept: bool, knobs: Knobs, ceilings: Knobs) -> str:
    if knobs.num_gpu_blocks < ceilings.num_gpu_blocks:
        more = min(ceilings.num_gpu_blocks, knobs.num_gpu_blocks * 2)
        return f"give blocks back: raise num_gpu_blocks to {more:,}"
    if kept:
        return "lower watermark_blocks, or boot with more KV memory"
    return "fewer sequences, or boot with more KV memory"

"""What binds, from steps made by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tputtui.knobs import Knobs
from tputtui.measure.binding import Bound, binding
from tputtui.measure.bounds import Binding
from tputtui.measure.samples import StepSample

KNOBS, CEILINGS = Knobs(64, 2048, 2048), Knobs(256, 2048, 4096)
COLUMN = {name: i for i, name in enumerate(StepSample._fields)}


def steps(n: int = 100, **values: float) -> NDArray[np.float64]:
    base: dict[str, Any] = dict.fromkeys(StepSample._fields, 0) | {
        "duration_s": 0.01, "running": 30, "decode_tokens": 30, "generated_tokens": 30,
        "kv_frac": 0.3, "max_num_seqs": 64, "max_num_batched_tokens": 2048,
    }  # fmt: skip
    rows = [StepSample(**(base | values | {"end_s": 0.01 * i})) for i in range(1, n + 1)]
    return np.array(rows, dtype=float)


def varied(
    fixed_s: float,
    per_token_s: float,
    per_context_s: float = 0.0,
    host_s: float = 0.0,
    n: int = 200,
    **values: float,
) -> NDArray[np.float64]:
    """A full batch, a quarter of whose steps also prefill; their durations by the three costs."""
    rng = np.random.default_rng(5)
    rows = steps(n, running=62, decode_tokens=62, **values)
    rows[:, COLUMN["prefill_tokens"]] = rng.integers(100, 1500, n) * (rng.random(n) < 0.25)
    rows[:, COLUMN["context_tokens"]] = rng.integers(10_000, 60_000, n)
    tokens = rows[:, COLUMN["prefill_tokens"]] + 62
    model_s = fixed_s + per_token_s * tokens + per_context_s * rows[:, COLUMN["context_tokens"]]
    model_s *= np.exp(rng.normal(0, 0.02, n))
    rows[:, COLUMN["host_s"]] = host_s
    rows[:, COLUMN["duration_s"]] = model_s + host_s
    rows[:, COLUMN["end_s"]] = np.cumsum(rows[:, COLUMN["duration_s"]])
    return rows


def bound(
    rows: NDArray[np.float64],
    length_s: float | None = None,
    knobs: Knobs = KNOBS,
    ceilings: Knobs = CEILINGS,
    **more: Any,
) -> Binding | None:
    values = {"ended": 100, "cut_short": 0} | more
    length_s = rows[:, COLUMN["duration_s"]].sum() if length_s is None else length_s
    return binding(rows, length_s, knobs, ceilings, **values)


def test_sequences_bind_when_something_waits_behind_a_full_batch() -> None:
    found = bound(steps(running=64, decode_tokens=64, waiting=32))
    assert found.bound is Bound.SEQUENCES
    assert found.share == pytest.approx(1.0)
    assert found.evidence == "32 wait, 64/64 run, 100%"
    assert found.advice == "raise it to 128"
    full = bound(steps(running=64, decode_tokens=64))
    assert full.bound is not Bound.SEQUENCES


def test_tokens_bind_when_steps_are_full_and_at_the_ceiling_it_says_to_boot() -> None:
    rows = np.concatenate([steps(70, prefill_tokens=2018, waiting=5), steps(30)])
    found = bound(rows)
    assert found.bound is Bound.TOKENS
    assert found.share == pytest.approx(0.7)
    assert found.advice == "boot with --max-num-batched-tokens 4096"


def test_the_greater_share_binds() -> None:
    both = np.concatenate(
        [steps(40, running=64, waiting=9), steps(60, prefill_tokens=2018, waiting=9)]
    )
    assert bound(both).bound is Bound.TOKENS
    assert bound(both[:70]).bound is Bound.SEQUENCES


def test_kv_binds_when_requests_wait_with_room_or_are_preempted() -> None:
    found = bound(steps(waiting=12, kv_frac=0.97))
    assert found.bound is Bound.KV
    assert found.evidence == "97% used, 12 wait"
    thrown = np.concatenate([steps(95, running=64, waiting=5), steps(5, preemptions=2)])
    found = bound(thrown)
    assert found.bound is Bound.KV
    assert "10 preempted" in found.evidence
    # As full as when it bound: half of these seconds are of before the cache filled up.
    before = steps(50, kv_frac=0.1)
    found = bound(np.concatenate([before, steps(50, waiting=12, kv_frac=0.97)]))
    assert found.evidence.startswith("97% used")


def test_kv_binds_however_much_of_the_cache_is_free() -> None:
    """With room in batch and step, nothing else keeps vLLM from admitting what waits."""
    assert bound(steps(waiting=1, kv_frac=0.1)).bound is Bound.KV
    # Nothing runs at all, so that nothing was scheduled either.
    assert bound(steps(waiting=1, running=0, decode_tokens=0)).bound is Bound.KV
    # Asynchronous scheduling: the step only waited for an earlier one's tokens.
    assert bound(steps(waiting=1, decode_tokens=0)).bound is not Bound.KV


def test_a_step_that_is_full_is_not_held_back_by_the_kv_cache() -> None:
    found = bound(steps(waiting=12, prefill_tokens=1980, kv_frac=0.99))
    assert found.bound is Bound.TOKENS


def test_kv_with_blocks_held_back_says_to_give_them_back() -> None:
    knobs, ceilings = replace(KNOBS, num_gpu_blocks=500), replace(CEILINGS, num_gpu_blocks=3000)
    found = bound(steps(waiting=12, kv_frac=0.97), knobs=knobs, ceilings=ceilings)
    assert found.advice == "give blocks back: raise num_gpu_blocks to 1,000"
    knobs = replace(knobs, num_gpu_blocks=2000)
    found = bound(steps(waiting=12, kv_frac=0.97), knobs=knobs, ceilings=ceilings)
    assert found.advice == "give blocks back: raise num_gpu_blocks to 3,000"
    found = bound(steps(waiting=12, kv_frac=0.97), knobs=ceilings, ceilings=ceilings)
    assert found.advice == "fewer sequences, or boot with more KV memory"


def test_the_watermark_is_named_when_a_request_would_have_fitted_without_it() -> None:
    """Thirty run on 900 of 1,000 blocks: another would take about 30."""
    knobs = replace(KNOBS, watermark_blocks=100)
    found = bound(steps(waiting=12, kv_frac=0.9, kv_blocks=1000), knobs=knobs)
    assert found.evidence == "90% used, 12 wait, 100 kept free by the watermark"
    assert found.advice == "lower watermark_blocks, or boot with more KV memory"
    ceilings = replace(CEILINGS, num_gpu_blocks=2000)
    less = replace(knobs, num_gpu_blocks=1001)
    found = bound(steps(waiting=12, kv_frac=0.9, kv_blocks=1000), knobs=less, ceilings=ceilings)
    assert found.advice == "give blocks back: raise num_gpu_blocks to 2,000"


@pytest.mark.parametrize(
    ("kv_frac", "watermark", "why"),
    [
        (0.9, 0, "there is none"),
        (0.99, 100, "it would not have fitted without it either"),
        (0.7, 100, "it would have fitted beside it: the one that waits is a large one"),
        (0.95, 10, "neither"),
    ],
)
def test_the_watermark_is_not_named(kv_frac: float, watermark: int, why: str) -> None:
    knobs = replace(KNOBS, watermark_blocks=watermark)
    found = bound(steps(waiting=12, kv_frac=kv_frac, kv_blocks=1000), knobs=knobs)
    assert found.bound is Bound.KV
    assert "watermark" not in found.evidence + found.advice, why


def test_only_steps_that_held_something_back_tell_of_the_watermark() -> None:
    knobs = replace(KNOBS, watermark_blocks=100)
    both = np.concatenate(
        [
            steps(70, kv_frac=0.9, kv_blocks=1000),
            steps(30, waiting=5, kv_frac=0.99, kv_blocks=1000),
        ]
    )
    assert bound(both, knobs=knobs).bound is Bound.KV
    assert "watermark" not in bound(both, knobs=knobs).evidence
    # Alone, the last request that waits is admitted whatever the watermark.
    alone = steps(waiting=1, running=0, decode_tokens=0, kv_frac=0.0, kv_blocks=1000)
    assert "watermark" not in bound(alone, knobs=replace(knobs, watermark_blocks=2000)).evidence


def test_length_binds_when_it_cuts_requests_short() -> None:
    found = bound(steps(), cut_short=30)
    assert found.bound is Bound.LENGTH
    assert found.advice == "raise it to 4,096"


def test_admission_binds_where_it_refuses_a_fifth_of_the_requests() -> None:
    found = bound(steps(), knobs=replace(KNOBS, max_num_queued_reqs=32), rejected=40)
    assert found.bound is Bound.ADMISSION
    assert found.evidence == "40% of requests refused"
    assert found.advice == "raise max_num_queued_reqs, or none for no limit"
    # Too few to matter; or refused for another reason, by an engine without such a limit.
    few = bound(steps(), knobs=replace(KNOBS, max_num_queued_reqs=32), rejected=10)
    assert few.bound is bound(steps(), rejected=40).bound is Bound.LOAD


def test_the_cadence_of_prefill_binds_where_requests_wait_for_its_step() -> None:
    knobs = replace(KNOBS, prefill_schedule_interval=4)
    decoding, prefilling = steps(75, waiting=6), steps(25, prefill_tokens=900, waiting=0)
    found = bound(np.concatenate([decoding, prefilling]), knobs=knobs)
    assert found.bound is Bound.CADENCE
    assert found.share == pytest.approx(0.75)
    assert found.advice == "lower it to 2"
    # A step that prefills and still leaves some waiting has no room in the KV cache.
    short = steps(100, prefill_tokens=900, waiting=6, kv_frac=0.99)
    assert bound(short, knobs=knobs).bound is Bound.KV


def test_the_load_binds_when_nothing_waits_or_the_engine_is_idle() -> None:
    found = bound(steps())
    assert found.bound is Bound.LOAD
    assert found.evidence == "nothing waits, 30/64 run"
    assert bound(steps(), length_s=2.0).evidence == "idle 50% of the time, 30/64 run"


def test_the_host_binds_from_half_of_a_step_on() -> None:
    found = bound(steps(running=64, duration_s=0.0053, host_s=0.0031))
    assert found.bound is Bound.HOST
    assert found.share == pytest.approx(0.585, abs=0.001)
    assert found.evidence == "host 58% of a step: 3.1 of 5.3 ms"
    assert found.advice == "async scheduling, larger steps"
    assert bound(steps(running=64, host_s=0.0049)).bound is Bound.STEP
    # By time: a few long steps without it outweigh many short ones.
    mixed = np.concatenate(
        [steps(90, running=64, duration_s=0.001, host_s=0.001), steps(10, running=64)]
    )
    assert bound(mixed).bound is Bound.STEP


def test_a_host_that_overlaps_the_model_binds_only_when_it_never_waits() -> None:
    rows = steps(running=64, host_s=0.008)
    assert bound(rows).bound is Bound.HOST
    assert bound(rows, overlapped=True).bound is not Bound.HOST
    found = bound(steps(running=64, host_s=0.0095), overlapped=True)
    assert found.bound is Bound.HOST
    assert found.advice == "fewer and larger steps"


def test_compute_binds_when_most_of_the_time_grows_with_the_tokens() -> None:
    found = bound(varied(0.002, 5e-5))
    assert found.bound is Bound.COMPUTE
    assert found.share == pytest.approx(0.88, abs=0.01)
    assert (
        found.evidence == "compute 88% of the step (50 µs a token), weights 12%, KV 0%, by timing"
    )
    assert found.advice == "quantisation, more GPUs; smaller prompts"


def test_the_host_takes_its_part_of_the_step_from_the_model() -> None:
    alone = bound(varied(0.002, 5e-5))
    rows = varied(0.002, 5e-5, host_s=0.008)
    found = bound(rows)
    host = rows[:, COLUMN["host_s"]].sum() / rows[:, COLUMN["duration_s"]].sum()
    assert host > 0.3
    assert found.bound is Bound.COMPUTE
    assert found.share == pytest.approx(alone.share * (1 - host))


def test_overlapped_steps_took_the_time_of_what_the_step_before_them_scheduled() -> None:
    rows = varied(0.002, 5e-5)
    rows[1:, COLUMN["duration_s"]] = rows[:-1, COLUMN["duration_s"]].copy()
    rows[:, COLUMN["host_s"]] = rows[:, COLUMN["duration_s"]] * 0.4
    assert bound(rows).bound is not Bound.COMPUTE
    found = bound(rows, overlapped=True)
    assert found.bound is Bound.COMPUTE
    assert found.share == pytest.approx(0.88, abs=0.01)


def test_memory_binds_when_weights_are_read_for_few_tokens() -> None:
    found = bound(varied(0.02, 1e-5))
    assert found.bound is Bound.MEMORY
    assert found.evidence == "weights 87%, KV 0% of the step, compute 12%, by timing"
    assert found.advice == (
        "a larger batch amortises the weights: raise max_num_seqs to 128; or quantise weights"
    )
    at_ceiling = bound(varied(0.02, 1e-5), ceilings=KNOBS)
    assert "boot with --max-num-seqs 128" in at_ceiling.advice


def test_memory_binds_when_much_context_is_read() -> None:
    found = bound(varied(0.001, 1e-6, 1e-6))
    assert found.bound is Bound.MEMORY
    assert found.evidence == "weights 3%, KV 97% of the step, compute 1%, by timing"
    assert found.advice == "quantise the KV cache; shorter contexts"


def test_weights_and_kv_that_cannot_be_told_apart_are_one() -> None:
    rows = varied(0.02, 1e-5)
    rows[:, COLUMN["context_tokens"]] = 30_000
    found = bound(rows)
    assert found.bound is Bound.MEMORY
    assert found.evidence == "memory 88% of the step, compute 12%, by timing"
    assert found.advice.endswith("or quantise weights or KV")


def test_steps_that_are_all_alike_or_weigh_alike_tell_nothing_of_compute_and_memory() -> None:
    alike = bound(steps(running=64))
    assert alike.bound is Bound.STEP
    assert alike.evidence == (
        "a step takes 10.0 ms; compute and memory cannot be told apart: steps are all alike"
    )
    noise = varied(0.005, 1e-7)
    noise[:, COLUMN["duration_s"]] *= np.exp(np.random.default_rng(6).normal(0, 0.5, len(noise)))
    assert "steps vary by more than their load" in bound(noise).evidence
    even = bound(varied(0.005665, 2e-5))
    assert even.bound is Bound.STEP
    assert even.evidence.endswith("compute 50% ± 0% of it, memory the rest")


def test_more_load_is_no_help_where_the_steps_grow_with_it() -> None:
    """Nothing waits and the batch has room, but a larger one would be slower in proportion."""
    roomy = replace(KNOBS, max_num_seqs=128)
    assert bound(varied(0.02, 1e-5), knobs=roomy).bound is Bound.LOAD
    assert bound(varied(0.004, 5e-5), knobs=roomy).bound is Bound.LOAD
    assert bound(varied(0.002, 5e-5), knobs=roomy).bound is Bound.COMPUTE
    assert bound(varied(0.002, 5e-5, host_s=0.005), knobs=roomy).bound is Bound.LOAD
    # An engine that idles is not slow, whatever its steps are made of.
    rows = varied(0.002, 5e-5)
    idle = bound(rows, length_s=rows[:, COLUMN["duration_s"]].sum() * 1.3, knobs=roomy)
    assert idle.bound is Bound.LOAD


@pytest.mark.parametrize(
    ("throttled", "binds", "advice"),
    [
        (("power cap",), Bound.POWER, "raise its power cap"),
        (("power cap", "hw thermal"), Bound.THERMAL, "cool the GPU"),
    ],
)
def test_clocks_held_down_bind_before_what_they_slow(
    throttled: tuple[str, ...], binds: Bound, advice: str
) -> None:
    found = bound(varied(0.002, 5e-5), throttled=throttled)
    assert (found.bound, found.advice) == (binds, advice)
    assert bound(steps(running=64, host_s=0.008), throttled=throttled).bound is Bound.HOST


def test_too_little_says_nothing() -> None:
    assert bound(steps(19)) is None
    assert bound(steps(), length_s=0.0) is None

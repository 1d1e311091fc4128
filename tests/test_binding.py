"""What binds, from steps made by hand."""

import numpy as np
import pytest

from tputtui.knobs import Knobs
from tputtui.measure.binding import Bound, binding
from tputtui.measure.samples import StepSample

KNOBS, CEILINGS = Knobs(64, 2048, 2048), Knobs(256, 2048, 4096)


def steps(n=100, **values):
    base = dict.fromkeys(StepSample._fields, 0) | {
        "duration_s": 0.01, "running": 30, "decode_tokens": 30, "generated_tokens": 30,
        "kv_frac": 0.3, "max_num_seqs": 64, "max_num_batched_tokens": 2048,
    }  # fmt: skip
    rows = [StepSample(**(base | values | {"end_s": 0.01 * i})) for i in range(1, n + 1)]
    return np.array(rows, dtype=float)


def bound(rows, length_s=1.0, **more):
    values = {"ended": 100, "cut_short": 0} | more
    return binding(rows, length_s, KNOBS, CEILINGS, **values)


def test_sequences_bind_when_something_waits_behind_a_full_batch():
    found = bound(steps(running=64, decode_tokens=64, waiting=32))
    assert found.bound is Bound.SEQUENCES
    assert found.share == pytest.approx(1.0)
    assert found.evidence == "32 wait, 64/64 run, 100%"
    assert found.advice == "raise it to 128"
    full = bound(steps(running=64, decode_tokens=64))
    assert full.bound is not Bound.SEQUENCES


def test_tokens_bind_when_steps_are_full_and_at_the_ceiling_it_says_to_boot():
    rows = np.concatenate([steps(70, prefill_tokens=2018, waiting=5), steps(30)])
    found = bound(rows)
    assert found.bound is Bound.TOKENS
    assert found.share == pytest.approx(0.7)
    assert found.advice == "boot with --max-num-batched-tokens 4096"


def test_the_greater_share_binds():
    both = np.concatenate(
        [steps(40, running=64, waiting=9), steps(60, prefill_tokens=2018, waiting=9)]
    )
    assert bound(both).bound is Bound.TOKENS
    assert bound(both[:70]).bound is Bound.SEQUENCES


def test_kv_binds_when_requests_wait_with_room_or_are_preempted():
    found = bound(steps(waiting=12, kv_frac=0.97))
    assert found.bound is Bound.KV
    assert found.evidence == "97% used, 12 wait"
    thrown = np.concatenate([steps(95, running=64, waiting=5), steps(5, preemptions=2)])
    found = bound(thrown)
    assert found.bound is Bound.KV
    assert "10 preempted" in found.evidence
    # Room in batch, step and cache: something else holds them back for a moment.
    assert bound(steps(waiting=12, kv_frac=0.5)).bound is not Bound.KV


def test_length_binds_when_it_cuts_requests_short():
    found = bound(steps(), cut_short=30)
    assert found.bound is Bound.LENGTH
    assert found.advice == "raise it to 4,096"


def test_the_load_binds_when_nothing_waits_or_the_engine_is_idle():
    found = bound(steps())
    assert found.bound is Bound.LOAD
    assert found.evidence == "nothing waits, 30/64 run"
    assert bound(steps(), length_s=2.0).evidence == "idle 50% of the time, 30/64 run"


@pytest.mark.parametrize(
    ("throttled", "binds"),
    [((), Bound.STEP), (("power cap",), Bound.POWER), (("power cap", "hw thermal"), Bound.THERMAL)],
)
def test_else_it_is_the_step_or_what_slows_it(throttled, binds):
    assert bound(steps(waiting=3), throttled=throttled).bound is binds


def test_too_little_says_nothing():
    assert bound(steps(19)) is None
    assert bound(steps(), length_s=0.0) is None

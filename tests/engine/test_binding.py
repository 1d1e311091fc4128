"""What binds, on vLLM's own scheduler: each situation made, and named."""

from __future__ import annotations

import time

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import PATIENCE_S
from tests.engine.conftest import Served
from tputtui.load.lengths import Uniform
from tputtui.measure.binding import Bound, binding
from tputtui.measure.bounds import Binding
from tputtui.measure.samples import StepSample
from tputtui.measure.steptime import step_time

COLUMN = {name: i for i, name in enumerate(StepSample._fields)}
pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]


def rows_of(served: Served, last: int = 60) -> NDArray[np.float64]:
    return np.array(served.steps[-last:], dtype=float)


def bound(served: Served, last: int = 60, overlapped: bool = False) -> Binding | None:
    """What binds in the last steps."""
    rows = rows_of(served, last)
    ended = served.ended
    cut = sum(sample.outcome == "cut" for sample in ended)
    status = served.host.status
    return binding(
        rows,
        # The busy part only: between two turns the test itself takes time.
        float(rows[:, COLUMN["duration_s"]].sum()),
        status.knobs,
        status.facts.ceilings,
        ended=len(ended),
        cut_short=cut,
        overlapped=overlapped,
    )


@pytest.mark.costly
def test_sequences(simulated: Served) -> None:
    simulated.session.steer.limits.set("max_num_seqs", 16)
    simulated.start(64, Uniform(16, 32), Uniform(20, 40), seed=41)
    simulated.turn(80)
    found = bound(simulated)
    assert found.bound is Bound.SEQUENCES
    assert found.advice == "raise it to 32"


def test_tokens(simulated: Served) -> None:
    simulated.session.steer.limits.set("max_num_batched_tokens", 128)
    simulated.start(64, Uniform(400, 600), Uniform(2, 6), seed=42)
    simulated.turn(80)
    assert bound(simulated).bound is Bound.TOKENS


def test_kv(simulated: Served) -> None:
    simulated.start(256, Uniform(900, 1000), Uniform(300, 500), seed=43)
    simulated.turn_until(lambda: bool(simulated.steps) and simulated.steps[-1].kv_frac > 0.95, 400)
    simulated.turn(60)
    found = bound(simulated)
    assert found.bound is Bound.KV
    assert "wait" in found.evidence


def test_kv_with_blocks_held_back(simulated: Served) -> None:
    """A fifth of the cache: what it holds is full, and the advice is to give the rest back."""
    ceiling = simulated.session.steer.limits.ceilings.num_gpu_blocks
    simulated.session.steer.limits.set("num_gpu_blocks", ceiling // 5)
    simulated.start(200, Uniform(200, 300), Uniform(100, 200), seed=46)
    simulated.turn(120)
    found = bound(simulated)
    assert found.bound is Bound.KV
    assert found.advice == f"give blocks back: raise num_gpu_blocks to {ceiling // 5 * 2:,}"


def test_kv_by_the_watermark_with_half_of_the_cache_free(simulated: Served) -> None:
    """Far from full, and still nothing but the KV cache keeps requests waiting."""
    watermark = simulated.session.steer.limits.ceilings.watermark_blocks
    simulated.session.steer.limits.set("watermark_blocks", watermark)
    simulated.start(250, Uniform(300, 500), Uniform(100, 200), seed=47)
    simulated.turn(150)
    found = bound(simulated)
    assert rows_of(simulated)[:, COLUMN["kv_frac"]].mean() < 0.7
    assert found.bound is Bound.KV
    assert f"{watermark:,} kept free by the watermark" in found.evidence
    assert found.advice.startswith("lower watermark_blocks")
    # The same load with the watermark taken away fills the cache or finds room.
    simulated.session.steer.limits.set("watermark_blocks", 0)
    simulated.turn(150)
    later = bound(simulated)
    assert "watermark" not in later.evidence


@pytest.mark.parametrize(
    ("name", "value"), [("long_prefill_token_threshold", 64), ("scheduler_reserve_full_isl", 0)]
)
def test_limits_that_hold_nobody_back_leave_no_kv(simulated: Served, name: str, value: int) -> None:
    """Requests are admitted in smaller parts, or sooner: with room in the cache nothing waits."""
    simulated.session.steer.limits.set(name, value)
    simulated.start(40, Uniform(200, 300), Uniform(10, 20), seed=48)
    simulated.turn(100)
    assert bound(simulated).bound in (Bound.LOAD, Bound.TOKENS)


def test_the_host_when_everything_fits(simulated: Served, scheduling: str) -> None:
    """No model, a batch filled to the limit and nothing waiting: vLLM's own Python is all."""
    limit = simulated.session.steer.limits.ceilings.max_num_seqs
    simulated.start(limit, Uniform(8, 16), Uniform(100, 200), seed=49)
    simulated.turn(80)
    overlapped = scheduling == "async"
    found = bound(simulated, overlapped=overlapped)
    assert found.bound is Bound.HOST
    assert found.share > 0.7
    assert found.advice.startswith("fewer" if overlapped else "async")


def test_load(simulated: Served) -> None:
    simulated.start(12, Uniform(16, 32), Uniform(20, 40), seed=44)
    simulated.turn(80)
    found = bound(simulated)
    assert found.bound is Bound.LOAD
    assert "nothing waits" in found.evidence


def test_length(simulated: Served) -> None:
    simulated.start(40, Uniform(30, 40), Uniform(60, 80), seed=45)
    simulated.turn(40)
    simulated.session.steer.limits.set("max_model_len", 85)
    simulated.turn(40)
    assert bound(simulated).bound is Bound.LENGTH


@pytest.mark.long
def test_a_step_of_the_real_model_is_taken_apart(cpu: Served) -> None:
    """Which of the two binds is the machine's affair; that one can be told is ours."""
    cpu.session.steer.limits.set("max_num_seqs", 32)
    cpu.start(32, Uniform(20, 1000), Uniform(60, 140), seed=50)
    cpu.turn(60)
    cpu.begin()
    # Other programs on the machine spoil steps: as many of them as it takes to see through that.
    end = time.monotonic() + PATIENCE_S / 2
    while not told_apart(rows := rows_of(cpu, 0)):
        assert time.monotonic() < end, step_time(rows)
        cpu.turn(120)
    found = step_time(rows)
    assert found.per_token_s > 0
    assert found.fixed_share + found.compute_share + found.context_share == pytest.approx(1.0)
    even = abs(found.compute_share - 0.5) <= found.compute_error
    binds = (Bound.STEP,) if even else (Bound.COMPUTE, Bound.MEMORY)
    assert bound(cpu, 0).bound in binds


def told_apart(rows: NDArray[np.float64]) -> bool:
    """Whether the two are, and every other step tells the time of those between."""
    if len(rows) < 120 or not step_time(rows).resolved:
        return False
    fitted, between = step_time(rows[::2]), rows[1::2]
    tokens = between[:, COLUMN["prefill_tokens"]] + between[:, COLUMN["decode_tokens"]]
    context = between[:, COLUMN["context_tokens"]]
    told_s = [fitted.seconds(*step) for step in zip(tokens, context, strict=True)]
    took_s = between[:, COLUMN["duration_s"]] - between[:, COLUMN["host_s"]]
    return bool(np.median(took_s / told_s) == pytest.approx(1.0, abs=0.2))

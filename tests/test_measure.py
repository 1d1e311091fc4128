"""Every figure against a hand-computed example, or against NumPy."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tputtui.measure.history import History
from tputtui.measure.recorder import Recorder, Ring
from tputtui.measure.samples import Accounting, Outcome, RequestSample, StepSample
from tputtui.measure.stats import quantiles
from tputtui.measure.window import Settling, figures, latencies


def step(end_s: float, duration_s: float = 0.1, running: int = 4, **values: int) -> StepSample:
    base: dict[str, Any] = {
        "waiting": 0, "prefill_tokens": 0, "decode_tokens": 4, "generated_tokens": 4,
        "cached_tokens": 0, "looked_up_tokens": 0, "preemptions": 0, "kv_frac": 0.5,
        "max_num_seqs": 8, "max_num_batched_tokens": 100,
    }  # fmt: skip
    return StepSample(end_s, duration_s, running, **(base | values))


def request(
    end_s: float,
    due_s: float = 0.0,
    first_s: float = 0.5,
    tokens: int = 11,
    outcome: Outcome = Outcome.FINISHED,
) -> RequestSample:
    return RequestSample(0, outcome, due_s, due_s, due_s, first_s, end_s, 100, tokens, tokens, 0, 0)


def test_request_latencies_by_hand() -> None:
    sample = request(end_s=3.5, due_s=1.0, first_s=1.5, tokens=11)
    assert sample.ttft_s == 0.5
    assert sample.e2e_s == 2.5
    assert sample.tpot_s == pytest.approx(0.2)
    assert math.isnan(request(end_s=2.0, tokens=1).tpot_s)


def test_what_a_requests_time_is_made_of_by_hand() -> None:
    sample = RequestSample(0, Outcome.FINISHED, 1.0, 1.2, 1.7, 2.5, 4.5, 100, 11, 11, 0, 0)
    assert sample.queue_s == pytest.approx(0.5)
    assert sample.prefill_s == pytest.approx(0.8)
    assert sample.decode_s == pytest.approx(2.0)
    recorder = Recorder()
    recorder.add_first_token(2.5, due_s=1.0, submitted_s=1.2)
    recorder.add_ended(sample)
    found = latencies(recorder, 0.0, 5.0)
    parts = (found.lag.p50, found.queue.p50, found.prefill.p50, found.decode.p50)
    assert parts == pytest.approx((0.2, 0.5, 0.8, 2.0))
    # They add up to what the person waits: lag + queue + prefill is TTFT, with decode E2E.
    assert sum(parts[:3]) == pytest.approx(found.ttft.p50)
    assert sum(parts) == pytest.approx(found.e2e.p50)


def test_accounting_balances_only_when_every_request_is_in_one_place() -> None:
    whole = Accounting(7, running=1, waiting=1, finished=2, cut=1, aborted=1, failed=1)
    assert whole.balanced
    assert not Accounting(issued=7, finished=6).balanced


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 50)), min_size=1, max_size=60))
def test_weighted_quantiles_equal_numpy_on_the_repeated_values(
    pairs: list[tuple[float, int]],
) -> None:
    values = np.array([value for value, _ in pairs])
    counts = np.array([count for _, count in pairs], dtype=float)
    found = quantiles(values, counts)
    repeated = np.repeat(values, counts.astype(int))
    expected = np.percentile(repeated, [50, 90, 99])
    assert (found.p50, found.p90, found.p99) == pytest.approx(tuple(expected), abs=1e-12)
    assert found.n == len(repeated)
    plain = quantiles(repeated)
    assert (plain.p50, plain.p90, plain.p99) == pytest.approx(tuple(expected), abs=1e-12)
    assert (plain.p99_low, plain.p99_high) == (found.p99_low, found.p99_high)


def test_the_p99_interval_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    true = -math.log(0.01)
    hits = 0
    for _ in range(400):
        found = quantiles(rng.exponential(size=2000))
        hits += found.p99_low <= true <= found.p99_high
    assert 0.92 <= hits / 400 <= 0.98


def test_a_small_sample_cannot_bound_p99_and_none_gives_nan() -> None:
    few = quantiles(np.arange(50, dtype=np.float64))
    assert few.p99_high == math.inf
    assert not few.p99_resolved
    none = quantiles(np.array([]))
    assert none.n == 0
    assert math.isnan(none.p50)


def test_figures_by_hand() -> None:
    recorder = Recorder()
    # 0.1 s at 4 of 8 sequences, 0.3 s at 8 of 8; 60 prefill + 4 decode of 100, then 8 of 100.
    recorder.add_step(
        step(1.1, 0.1, 4, prefill_tokens=60, cached_tokens=30, looked_up_tokens=90), []
    )
    recorder.add_step(step(1.4, 0.3, 8, decode_tokens=8, generated_tokens=8, preemptions=1), [])
    recorder.add_step(step(9.0, 0.3, 8), [])
    found = figures(recorder, 1.0, 3.0)
    assert found.generated_per_s == 12 / 2
    assert found.prompt_computed_per_s == 60 / 2
    assert found.prompt_cached_per_s == 30 / 2
    assert found.cached_frac == pytest.approx(30 / 90)
    assert found.sequences_frac == pytest.approx(0.25 * 0.5 + 0.75 * 1.0)
    assert found.prefill_frac == pytest.approx(0.25 * 0.60)
    assert found.decode_frac == pytest.approx(0.25 * 0.04 + 0.75 * 0.08)
    assert found.tokens_frac == pytest.approx(0.15 + 0.07)
    assert found.preemptions == 1
    assert found.busy_frac == pytest.approx(0.2)
    assert found.step.p50 == pytest.approx(0.2)


def test_offered_against_achieved_says_saturated_beyond_chance_only() -> None:
    recorder = Recorder()
    for i in range(100):
        recorder.add_issued(i / 10)
    for i in range(85):
        recorder.add_ended(request(end_s=i / 10))
    assert not figures(recorder, -1.0, 10.0).saturated
    other = Recorder()
    for i in range(100):
        other.add_issued(i / 10)
    for i in range(70):
        other.add_ended(request(end_s=i / 10))
    found = figures(other, -1.0, 10.0)
    assert found.saturated
    assert (found.offered_per_s, found.achieved_per_s) == (100 / 11, 70 / 11)


def test_a_burst_that_is_being_served_is_no_queue() -> None:
    # Half of 5 s × 20/s come in the last second, and each takes one.
    def of(waiting: int, took_s: float) -> bool:
        recorder = Recorder()
        for i in range(100):
            recorder.add_issued(i / 12.5 if i < 50 else 4.0 + (i - 50) / 50)
            recorder.add_step(step(end_s=(i + 1) / 20, waiting=waiting), [])
        for i in range(60):
            recorder.add_ended(request(end_s=i / 12, due_s=i / 12 - took_s))
        return figures(recorder, -0.1, 5.0).saturated

    assert not of(0, 1.2)
    assert of(3, 1.2)
    # Each takes a tenth of a second: forty under way are too many.
    assert of(0, 0.1)


def test_latencies_by_hand_and_only_good_requests_count() -> None:
    recorder = Recorder()
    recorder.add_first_token(0.5, due_s=0.0, submitted_s=0.2)
    recorder.add_step(step(1.0), [(0.010, 3), (0.030, 1)])
    recorder.add_ended(request(end_s=1.5))
    recorder.add_ended(request(end_s=1.6, outcome=Outcome.CUT, tokens=3))
    found = latencies(recorder, 0.0, 2.0)
    assert (found.ttft.n, found.ttft.p50) == (1, 0.5)
    assert (found.itl.n, found.itl.p50) == (4, 0.010)
    assert (found.tpot.n, found.e2e.n, found.e2e.p50) == (1, 1, 1.5)
    assert found.tpot.p50 == pytest.approx(0.1)


FULL = Accounting(issued=100, running=8)
"""Books with eight requests in flight."""


def test_a_window_restarts_when_the_old_requests_have_left_and_the_limit_is_in_force() -> None:
    settling = Settling(0.0)
    assert settling.window(10.0, FULL, left=0, oldest_s=9.0, in_force=True).length_s == 10.0
    settling.change(10.0, in_flight=8)
    early = settling.window(11.0, FULL, left=8, oldest_s=10.5, in_force=True)
    assert not early.settled
    assert early.turnover == "8 of 8 old requests finished"
    # However long the last of them takes, and however many younger ones have left meanwhile.
    late = settling.window(500.0, FULL, left=7, oldest_s=9.5, in_force=True)
    assert not late.settled
    assert late.turnover == "7 of 8 old requests finished"
    assert not settling.window(501.0, FULL, left=8, oldest_s=10.5, in_force=False).settled
    assert settling.window(502.0, FULL, left=8, oldest_s=10.5, in_force=True).settled
    later = settling.window(506.0, FULL, left=8, oldest_s=505.0, in_force=True)
    assert (later.start_s, later.length_s) == (502.0, 4.0)
    assert settling.window(800.0, FULL, left=0, oldest_s=799.0, in_force=True).length_s == 60.0


def test_those_that_waited_behind_a_queue_of_before_are_waited_for_as_well() -> None:
    settling = Settling(0.0)
    settling.change(10.0, in_flight=100)
    queued = Accounting(issued=500, running=8, waiting=42)
    now = settling.window(20.0, queued, left=100, oldest_s=10.5, in_force=True)
    assert not now.settled
    assert now.turnover == "100 of 150 old requests finished"
    assert settling.older_s == 20.0
    assert not settling.window(29.0, queued, left=140, oldest_s=19.0, in_force=True).settled
    # The queue shrinks no more, by more than chance: it is the setting's own.
    own = Accounting(issued=600, running=8, waiting=37)
    assert settling.window(30.0, own, left=150, oldest_s=21.0, in_force=True).settled
    settling.change(40.0, in_flight=45)
    # All of it runs at once: nobody waited behind anybody.
    assert settling.window(50.0, FULL, left=45, oldest_s=41.0, in_force=True).settled


def test_requests_of_the_setting_itself_are_waited_for_only_so_long() -> None:
    settling = Settling(0.0)
    settling.change(10.0, in_flight=8, longest_s=60.0)
    assert not settling.window(69.0, FULL, left=7, oldest_s=9.5, in_force=True).settled
    assert settling.window(70.0, FULL, left=7, oldest_s=9.5, in_force=True).settled


def test_a_leg_that_warms_up_has_no_figures_before_it_is_warm() -> None:
    settling = Settling(0.0)
    settling.change(10.0, in_flight=0, warming=True)
    assert not settling.window(40.0, FULL, left=0, oldest_s=39.0, in_force=True).settled
    settling.begin(41.0)
    assert settling.window(45.0, FULL, left=0, oldest_s=44.0, in_force=True).start_s == 41.0


def test_a_ring_keeps_the_newest_rows_in_order_past_its_capacity() -> None:
    ring = Ring(2, 4096)
    for i in range(10_000):
        ring.append((float(i), 2.0 * i))
    rows = ring.between(-1.0)
    assert len(rows) == 4096 - 1024
    assert rows[-1].tolist() == [9999.0, 19998.0]
    assert (np.diff(rows[:, 0]) == 1).all()
    assert ring.between(9000.0, 9002.0)[:, 0].tolist() == [9001.0, 9002.0]
    assert len(ring.between(20_000.0)) == 0
    assert len(Ring(2, 4096).between(0.0)) == 0


def test_history_buckets_by_hand_and_an_idle_second_is_zero_not_missing() -> None:
    recorder = Recorder()
    history = History(100.0)
    recorder.add_step(step(100.4, running=2, generated_tokens=10), [])
    recorder.add_step(step(100.9, running=4, generated_tokens=20), [])
    assert not history.advance(recorder, 100.95)
    assert history.advance(recorder, 102.1)
    first, second = history.buckets
    assert (first.generated, first.running, first.max_num_seqs) == (30, 3, 8)
    assert (second.generated, second.running) == (0, 0)
    assert history.index(101.5) == 1
    history.advance(recorder, 1_000_000.0)
    assert history.total == 999_900

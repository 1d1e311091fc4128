"""Limits turned under load on a real engine: what the scheduler does, what we count of it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.engine.conftest import CPU, Served
from tputtui import profile
from tputtui.engine.orders import HoldLoad, RunLoad, SetLimits
from tputtui.engine.protocol import State
from tputtui.load.lengths import Uniform
from tputtui.load.prompts import Piece, Prompt, TokenSource
from tputtui.load.request import RequestSpec
from tputtui.load.workload import Poisson, Workload
from tputtui.measure.samples import Outcome

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

ROOT = Path(__file__).resolve().parents[2]


def outcomes(served: Served) -> Counter[Outcome]:
    return Counter(sample.outcome for sample in served.ended)


def test_boot_facts_are_what_the_engine_has(cpu: Served) -> None:
    facts, config = cpu.host.status.facts, cpu.llm_engine.vllm_config
    assert CPU.args.items() <= facts.ceilings.as_dict().items()
    assert facts.booted.clamped(facts.ceilings) == facts.booted
    assert facts.device == "cpu"
    assert facts.kv_tokens == (config.cache_config.num_gpu_blocks - 1) * facts.block_size
    assert facts.vocab_size == 8192
    assert cpu.host.status.knobs == facts.booted


def test_tokens_are_those_vllm_counted_and_those_the_requests_had(cpu: Served) -> None:
    counted = cpu.counted_by_vllm()
    cpu.start(40, Uniform(16, 64), Uniform(4, 48), seed=1)
    cpu.turn(20)
    cpu.session.steer.load.stop()
    cpu.turn()
    cpu.session.steer.load.toggle()
    cpu.turn(20)
    cpu.session.steer.limits.set("max_model_len", 60)
    cpu.drain(at_most=200)
    assert cpu.generated == cpu.counted_by_vllm() - counted
    assert cpu.generated == sum(sample.output_tokens for sample in cpu.ended)
    assert cpu.generated == sum(step.generated_tokens for step in cpu.steps)
    for outcome in (Outcome.FINISHED, Outcome.CUT, Outcome.ABORTED):
        assert sum(s.output_tokens for s in cpu.ended if s.outcome is outcome) > 0


def test_fewer_sequences_drain_and_more_fill_up_with_nothing_lost(cpu: Served) -> None:
    cpu.start(110, Uniform(16, 48), Uniform(16, 40), seed=2)
    cpu.turn_until(lambda: bool(cpu.steps) and cpu.steps[-1].running == 64, at_most=10)
    cpu.turn(3)
    assert cpu.recorder.accounting.in_flight >= 100

    before = len(cpu.steps)
    cpu.session.steer.limits.set("max_num_seqs", 16)
    cpu.turn_until(lambda: cpu.steps[-1].running <= 16, at_most=60)
    cpu.turn(5)
    running = cpu.steps[before - 1].running
    for step in cpu.steps[before:]:
        assert step.max_num_seqs == 16
        assert step.running <= max(16, running)
        running = step.running
    assert cpu.steps[before].running > 16
    assert running == 16

    before = len(cpu.steps)
    cpu.session.steer.limits.set("max_num_seqs", 48)
    cpu.turn_until(lambda: cpu.steps[-1].running == 48, at_most=10)
    cpu.turn(3)
    assert all(step.max_num_seqs == 48 and step.running <= 48 for step in cpu.steps[before:])

    assert cpu.recorder.accounting.in_flight >= 100
    cpu.drain(at_most=300)
    assert set(outcomes(cpu)) == {Outcome.FINISHED}
    assert len(cpu.ended) > 110
    assert all(sample.output_tokens == sample.wanted_tokens for sample in cpu.ended)


def test_token_limit_holds_from_the_next_step_and_nothing_is_lost(cpu: Served) -> None:
    cpu.start(120, Uniform(64, 192), Uniform(2, 6), seed=3)
    cpu.turn(3)
    cpu.session.steer.limits.set("max_num_batched_tokens", 256)
    cpu.turn(12)
    cpu.session.steer.limits.set("max_num_batched_tokens", 2048)
    cpu.turn(3)
    assert cpu.recorder.accounting.in_flight >= 100
    assert [step.max_num_batched_tokens for step in cpu.steps] == [2048] * 3 + [256] * 12 + [
        2048
    ] * 3
    scheduled = [step.prefill_tokens + step.decode_tokens for step in cpu.steps]
    assert all(
        tokens <= step.max_num_batched_tokens
        for tokens, step in zip(scheduled, cpu.steps, strict=True)
    )
    # The limits were really pressed against, on both sides of the turn.
    assert max(scheduled[:3]) > 256
    assert set(scheduled[3:15]) == {256}
    assert max(scheduled[15:]) > 256
    cpu.drain(at_most=100)
    assert set(outcomes(cpu)) == {Outcome.FINISHED}
    assert all(sample.output_tokens == sample.wanted_tokens for sample in cpu.ended)


def test_shorter_length_cuts_what_is_past_it_and_stops_the_rest_on_it(cpu: Served) -> None:
    cpu.start(100, Uniform(16, 160), Uniform(8, 96), seed=4)
    cpu.turn(12)
    cpu.host.order(HoldLoad())
    present, before = cpu.lengths(), len(cpu.ended)
    assert len(present) >= 90
    # About 96, and exactly the present length of some request that runs.
    running = [request.num_tokens for request in cpu.scheduler.running]
    limit = min(running, key=lambda tokens: abs(tokens - 96))

    cpu.session.steer.limits.set("max_model_len", limit)
    cpu.turn()
    past = {number for number, tokens in present.items() if tokens >= limit}
    cut = {sample.number: sample for sample in cpu.ended[before:]}
    assert past <= set(cut)
    assert not past & set(cpu.lengths())
    assert past & {live.number for live in cpu.vllm._live.values()} == set()

    # Two batches of at most `limit` steps each, and room for their prefills.
    cpu.drain(at_most=2 * limit + 20)
    ended = {sample.number: sample for sample in cpu.ended[before:]}
    assert set(ended) == set(present)
    seen: Counter[tuple[str, bool]] = Counter()
    for number, sample in ended.items():
        total = sample.prompt_tokens + sample.output_tokens
        if number in past:
            case, expected = "past the limit", (Outcome.CUT, present[number])
        elif sample.prompt_tokens + sample.wanted_tokens > limit:
            case, expected = "stopped on the limit", (Outcome.CUT, limit)
        else:
            case, expected = "short enough", (Outcome.FINISHED, total)
            assert sample.output_tokens == sample.wanted_tokens
        assert (sample.outcome, total) == expected, case
        seen[case, sample.output_tokens > 0] += 1
    # Running ones and those that had not begun were past it; every other case came up too.
    assert {("past the limit", True), ("past the limit", False)} <= set(seen)
    assert {("stopped on the limit", True), ("short enough", True)} <= set(seen)


def test_length_raised_again_gives_requests_in_flight_what_they_asked_for(cpu: Served) -> None:
    cpu.session.steer.limits.set("max_num_seqs", 32)
    cpu.start(100, Uniform(16, 64), Uniform(40, 72), seed=5)
    cpu.turn(8)
    cpu.host.order(HoldLoad())
    cpu.session.steer.limits.set("max_model_len", 68)
    cpu.turn(8)
    cut = outcomes(cpu)[Outcome.CUT]
    assert cut > 0
    assert len(cpu.lengths()) > 32

    before = len(cpu.ended)
    in_flight = set(cpu.lengths())
    cpu.session.steer.limits.set("max_model_len", 2048)
    cpu.drain(at_most=400)
    late = cpu.ended[before:]
    assert {sample.number for sample in late} == in_flight
    assert {sample.outcome for sample in late} == {Outcome.FINISHED}
    assert all(sample.output_tokens == sample.wanted_tokens for sample in late)
    assert any(sample.prompt_tokens + sample.output_tokens > 68 for sample in late)
    assert outcomes(cpu)[Outcome.CUT] == cut


def test_requests_that_arrive_under_a_shorter_length_are_clamped_and_finish(cpu: Served) -> None:
    clamped = cpu.recorder.accounting.clamped
    cpu.session.steer.limits.set("max_model_len", 40)
    cpu.start(30, Uniform(8, 64), Uniform(8, 48), seed=6)
    cpu.turn(20)
    cpu.drain(at_most=60)
    assert set(outcomes(cpu)) == {Outcome.FINISHED}
    assert max(s.prompt_tokens + s.output_tokens for s in cpu.ended) == 40
    assert cpu.recorder.accounting.clamped > clamped


def test_first_tokens_are_as_many_as_requests_that_had_one_and_times_are_in_order(
    cpu: Served,
) -> None:
    cpu.session.steer.limits.set("max_num_seqs", 24)
    cpu.start(48, Uniform(16, 96), Uniform(1, 32), seed=7)
    cpu.turn(30)
    assert cpu.recorder.accounting.waiting > 0
    cpu.session.steer.load.stop()
    cpu.turn()
    ended = cpu.ended
    assert len(cpu.first_tokens) == sum(sample.output_tokens > 0 for sample in ended)
    assert len(cpu.first_tokens) < len(ended)
    for _, from_due_s, from_submit_s in cpu.first_tokens:
        assert from_due_s >= from_submit_s > 0
    # A place in the closed loop is due the moment it is free, before it can be submitted.
    assert any(from_due_s > from_submit_s for _, from_due_s, from_submit_s in cpu.first_tokens)
    finished = [sample for sample in ended if sample.outcome is Outcome.FINISHED]
    assert len(finished) > 24
    for sample in finished:
        assert sample.due_s <= sample.submitted_s <= sample.scheduled_s
        assert sample.scheduled_s <= sample.first_token_s <= sample.end_s
        assert (sample.first_token_s == sample.end_s) == (sample.output_tokens == 1)
    measured = sorted(at_s for at_s, _, _ in cpu.first_tokens)
    told = sorted(s.first_token_s for s in ended if not math.isnan(s.first_token_s))
    assert measured == told


def test_open_loop_requests_count_from_when_they_were_due(cpu: Served) -> None:
    load = Workload(Poisson(50.0), Uniform(16, 32), Uniform(2, 8), seed=8)
    cpu.session.steer.load.set(load)
    cpu.host.order(RunLoad())
    cpu.turn_until(lambda: len(cpu.ended) >= 10, at_most=5_000_000)
    cpu.drain(at_most=500)
    assert set(outcomes(cpu)) == {Outcome.FINISHED}
    for sample in cpu.ended:
        assert sample.due_s < sample.submitted_s <= sample.scheduled_s <= sample.first_token_s


def test_inter_token_gaps_are_one_less_than_tokens_for_each_request(cpu: Served) -> None:
    before = cpu.recorder.gaps.count
    cpu.start(20, Uniform(16, 64), Uniform(1, 24), seed=9)
    cpu.turn(12)
    cpu.drain(at_most=60)
    rows = cpu.recorder.gaps.between(-math.inf)
    gaps = rows[len(rows) - (cpu.recorder.gaps.count - before) :]
    assert gaps[:, 2].sum() == sum(sample.output_tokens - 1 for sample in cpu.ended)
    assert (gaps[:, 1] > 0).all()


def test_prefill_and_decode_tokens_add_up_to_what_the_requests_needed(cpu: Served) -> None:
    cpu.session.steer.limits.set("max_num_batched_tokens", 100)
    cpu.start(20, Uniform(64, 256), Uniform(2, 12), seed=10)
    cpu.turn(20)
    cpu.drain(at_most=200)
    assert sum(step.preemptions for step in cpu.steps) == 0
    cached = sum(step.cached_tokens for step in cpu.steps)
    prompts = sum(sample.prompt_tokens for sample in cpu.ended)
    assert sum(step.prefill_tokens for step in cpu.steps) == prompts - cached
    # The last token of a request is never fed back.
    decoded = sum(sample.output_tokens - 1 for sample in cpu.ended)
    assert sum(step.decode_tokens for step in cpu.steps) == decoded


def test_stopping_the_load_leaves_the_scheduler_empty(cpu: Served) -> None:
    cpu.start(100, Uniform(16, 64), Uniform(16, 64), seed=11)
    cpu.turn(8)
    in_flight, gone = set(cpu.lengths()), len(cpu.ended)
    assert len(in_flight) == 100
    cpu.session.steer.load.stop()
    cpu.turn()
    aborted = cpu.ended[gone:]
    assert {sample.number for sample in aborted} == in_flight
    assert {sample.outcome for sample in aborted} == {Outcome.ABORTED}
    assert cpu.host.status.state is State.READY
    assert cpu.scheduler.get_request_counts() == (0, 0)
    assert not cpu.scheduler.requests
    assert not cpu.vllm._live
    assert not cpu.vllm._watch.awaiting
    assert not cpu.llm_engine.has_unfinished_requests()
    assert cpu.scheduler.kv_cache_manager.usage == 0.0
    cpu.session.steer.load.toggle()
    cpu.turn(3)
    cpu.drain(at_most=200)
    assert outcomes(cpu)[Outcome.FINISHED] >= 100


def test_a_prompt_the_engine_refuses_is_rejected_and_the_rest_go_on(
    cpu: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = cpu.host._generator
    due = generator.arriving

    def with_one_too_long(
        now_s: float, in_flight: int, max_model_len: int
    ) -> Iterator[RequestSpec]:
        monkeypatch.setattr(generator, "arriving", due)
        too_long = RequestSpec(
            1_000_000, now_s, Prompt(TokenSource(0, 8192), (Piece(3000),), 3000), 4, False
        )
        # First: what is not taken within 20 ms waits for the next turn.
        yield too_long
        yield from due(now_s, in_flight, max_model_len)

    monkeypatch.setattr(generator, "arriving", with_one_too_long)
    cpu.start(20, Uniform(16, 32), Uniform(4, 12), seed=12)
    cpu.turn(5)
    assert outcomes(cpu)[Outcome.REJECTED] == 1
    cpu.drain(at_most=60)
    (rejected,) = [sample for sample in cpu.ended if sample.outcome is Outcome.REJECTED]
    assert rejected.number == 1_000_000
    assert rejected.output_tokens == 0
    assert math.isnan(rejected.first_token_s)
    assert set(outcomes(cpu)) == {Outcome.FINISHED, Outcome.REJECTED}
    assert not cpu.llm_engine.has_unfinished_requests()


def test_nothing_above_a_ceiling_reaches_vllm(cpu: Served) -> None:
    ceilings = cpu.session.steer.limits.ceilings
    for name in ceilings.as_dict():
        cpu.host.order(SetLimits(ceilings.with_value(name, 1_000_000), "too high"))
    cpu.start(80, Uniform(16, 32), Uniform(4, 8), seed=13)
    cpu.turn(3)
    assert cpu.host.status.knobs == ceilings
    assert cpu.scheduler.max_num_active_reqs == ceilings.max_num_seqs
    assert cpu.scheduler.max_num_running_reqs == ceilings.max_num_seqs
    assert cpu.scheduler.max_num_scheduled_tokens == ceilings.max_num_batched_tokens
    assert cpu.scheduler.max_model_len == ceilings.max_model_len


SECOND_PROCESS = """
import json, sys
from pathlib import Path

from tests.engine.simulated import executor_class
from tputtui import profile
from tputtui.engine.orders import Boot, Start
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.session.session import Session

saved = profile.load(Path(sys.argv[1]))
session = Session(lambda: VllmEngine(executor_class()), saved)
session.host.order(Boot(Start(saved.engine, saved.knobs), load=True))
for _ in range(30):
    session.host.run_pass()
scheduler = session.host._engine._engine.engine_core.engine_core.scheduler
steps = session.recorder.steps.between(float("-inf"))
print(json.dumps({
    "failure": str(session.host.status.failure),
    "knobs": session.host.status.knobs.as_dict(),
    "ceilings": session.steer.limits.ceilings.as_dict(),
    "scheduler": [scheduler.max_num_active_reqs, scheduler.max_num_scheduled_tokens],
    "most_running": max(steps[:, 2]),
    "most_tokens": max(steps[:, 4] + steps[:, 5]),
    "longest": max(
        s.prompt_tokens + s.output_tokens for s in session.recorder.request_log
    ),
}))
"""


@pytest.mark.long
def test_a_saved_profile_has_the_same_limits_in_force_in_a_new_process(
    cpu: Served, tmp_path: Path
) -> None:
    tuned = {
        "max_num_seqs": 24,
        "max_num_batched_tokens": 512,
        "max_model_len": 64,
        "long_prefill_token_threshold": 128,
        "num_gpu_blocks": 100,
        "enable_prefix_caching": 0,
    }
    for name, value in tuned.items():
        cpu.session.steer.limits.set(name, value)
    cpu.start(60, Uniform(16, 48), Uniform(4, 32), seed=14)
    cpu.turn(3)
    path = cpu.session.save(tmp_path / "tuned.yaml")
    assert profile.load(path).knobs == tuned
    done = subprocess.run(
        [sys.executable, "-c", SECOND_PROCESS, path],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["failure"] == "None"
    assert told["knobs"] == cpu.host.status.knobs.as_dict()
    assert tuned.items() <= told["knobs"].items()
    assert CPU.args.items() <= told["ceilings"].items()
    assert told["scheduler"] == [24, 512]
    assert told["most_running"] == 24
    assert 24 < told["most_tokens"] <= 512
    assert told["longest"] == 64


@pytest.mark.long
def test_a_second_boot_in_the_process_works_and_leaves_no_wrapper_behind(cpu: Served) -> None:
    cpu.start(20, Uniform(16, 32), Uniform(4, 12), seed=15)
    cpu.turn(3)
    scheduler, client = cpu.scheduler, cpu.llm_engine.engine_core
    assert "schedule" in vars(scheduler)
    assert "get_output" in vars(client)
    cpu.session.steer.limits.set("max_num_seqs", 8)
    cpu.session.steer.engine.boot_again()
    cpu.turn(10)
    assert "schedule" not in vars(scheduler)
    assert "get_output" not in vars(client)
    assert cpu.scheduler is not scheduler
    assert outcomes(cpu)[Outcome.ABORTED] == 20
    assert cpu.session.steer.limits.asked("max_num_seqs") == 8
    assert {step.running for step in cpu.steps[-3:]} == {8}
    cpu.begin()
    cpu.drain(at_most=100)
    assert set(outcomes(cpu)) == {Outcome.FINISHED}
    assert cpu.recorder.accounting.in_flight == 0

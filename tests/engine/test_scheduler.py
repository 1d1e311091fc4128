"""vLLM's own scheduler and KV cache at a larger scale, on the simulated executor."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from tests.engine.conftest import Served
from tputtui.engine.orders import Boot, HoldLoad, Start
from tputtui.engine.protocol import State
from tputtui.errors import EngineError, UsageError
from tputtui.load.lengths import Uniform
from tputtui.measure.samples import Outcome, RequestSample
from tputtui.profile import EngineSpec

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

CEILINGS = {"max_num_seqs": 256, "max_num_batched_tokens": 2048, "max_model_len": 2048}


def totals(samples: list[RequestSample]) -> dict[int, int]:
    return {sample.number: sample.prompt_tokens + sample.output_tokens for sample in samples}


def test_scheduling_is_the_kind_that_was_asked_for(simulated: Served, scheduling: str) -> None:
    core = simulated.llm_engine.engine_core.engine_core
    assert core.async_scheduling == (scheduling == "async")
    assert (core.batch_queue is not None) == (scheduling == "async")
    assert CEILINGS.items() <= simulated.session.steer.limits.ceilings.as_dict().items()


@pytest.mark.costly
@pytest.mark.parametrize("turns", [300, pytest.param(1000, marks=pytest.mark.long)])
def test_turns_of_the_limits_lose_no_request_and_no_token(simulated: Served, turns: int) -> None:
    rng = random.Random(20)
    counted = simulated.counted_by_vllm()
    issued = simulated.recorder.accounting.issued
    simulated.start(400, Uniform(16, 160), Uniform(8, 120), seed=20)
    # More than the KV cache holds: requests that were preempted are turned about like all others.
    simulated.turn_until(lambda: sum(step.preemptions for step in simulated.steps) > 0, 1000)
    limits = dict(CEILINGS)
    low = {"max_num_seqs": 1, "max_num_batched_tokens": 1, "max_model_len": 100}
    for _ in range(turns):
        name = rng.choice(list(CEILINGS))
        # Half of the turns go all the way up, so that work gets done between the others.
        limits[name] = rng.choice([CEILINGS[name], rng.randint(low[name], CEILINGS[name] // 8)])
        simulated.session.steer.limits.set(name, limits[name])
        steps = len(simulated.steps)
        running = simulated.scheduler.get_request_counts()[0]
        simulated.turn(rng.randint(1, 4))
        for step in simulated.steps[steps:]:
            assert step.max_num_seqs == limits["max_num_seqs"]
            assert step.max_num_batched_tokens == limits["max_num_batched_tokens"]
            assert step.prefill_tokens + step.decode_tokens <= limits["max_num_batched_tokens"]
            assert step.running <= max(running, limits["max_num_seqs"])
            assert step.running + step.waiting <= 400
            assert step.decode_tokens <= step.running
            running = step.running
        assert max(simulated.lengths().values()) <= limits["max_model_len"]
    assert len(simulated.steps) >= 2 * turns

    for name, ceiling in CEILINGS.items():
        simulated.session.steer.limits.set(name, ceiling)
    simulated.drain(at_most=2000)
    assert simulated.scheduler.get_request_counts() == (0, 0)
    assert simulated.scheduler.kv_cache_manager.usage == 0.0
    assert simulated.recorder.accounting.issued - issued == len(simulated.ended)
    assert simulated.generated == simulated.counted_by_vllm() - counted
    assert simulated.generated == sum(sample.output_tokens for sample in simulated.ended)
    assert len(simulated.first_tokens) == sum(s.output_tokens > 0 for s in simulated.ended)
    seen = Counter(sample.outcome for sample in simulated.ended)
    assert set(seen) == {Outcome.FINISHED, Outcome.CUT}
    for sample in simulated.ended:
        whole = sample.output_tokens == sample.wanted_tokens
        assert (sample.outcome is Outcome.FINISHED) == whole
    # The KV cache ran full on the way: preempted requests were counted on like all others.
    assert sum(step.preemptions for step in simulated.steps) > 0


def test_shorter_length_stops_running_requests_on_it_exactly(simulated: Served) -> None:
    limit = 100
    simulated.start(400, Uniform(16, 120), Uniform(60, 160), seed=21)
    simulated.turn(30)
    simulated.host.order(HoldLoad())
    present, before = simulated.lengths(), len(simulated.ended)
    simulated.session.steer.limits.set("max_model_len", limit)
    simulated.turn()
    past = {number for number, tokens in present.items() if tokens >= limit}
    assert 0 < len(past) < len(present)
    assert not past & set(simulated.lengths())
    simulated.drain(at_most=600)
    ended = simulated.ended[before:]
    whole = totals(ended)
    assert set(whole) == set(present)
    for sample in ended:
        if sample.number in past:
            assert sample.outcome is Outcome.CUT
            assert whole[sample.number] >= limit
        elif sample.prompt_tokens + sample.wanted_tokens > limit:
            assert sample.outcome is Outcome.CUT
            assert whole[sample.number] == limit
        else:
            assert sample.outcome is Outcome.FINISHED


def test_length_raised_before_a_request_reaches_the_limit_is_given_in_full(
    simulated: Served,
) -> None:
    simulated.start(300, Uniform(16, 64), Uniform(100, 140), seed=22)
    simulated.turn(20)
    simulated.host.order(HoldLoad())
    in_flight = set(simulated.lengths())
    simulated.session.steer.limits.set("max_model_len", 110)
    simulated.turn(10)
    simulated.session.steer.limits.set("max_model_len", 2048)
    left = set(simulated.lengths())
    assert len(left) > 100
    simulated.drain(at_most=1000)
    outcome = {sample.number: sample for sample in simulated.ended if sample.number in in_flight}
    assert set(outcome) == in_flight
    for number in left:
        assert outcome[number].outcome is Outcome.FINISHED
        assert outcome[number].output_tokens == outcome[number].wanted_tokens


def test_requests_aborted_with_work_under_way_are_gone_and_the_next_load_is_whole(
    simulated: Served,
) -> None:
    for seed in range(23, 28):
        simulated.start(400, Uniform(16, 64), Uniform(2, 40), seed=seed)
        simulated.turn(seed - 15)
        simulated.session.steer.load.stop()
        simulated.turn()
        assert simulated.idle
        assert not simulated.scheduler.requests
        assert simulated.scheduler.kv_cache_manager.usage == 0.0
    simulated.begin()
    simulated.start(400, Uniform(16, 64), Uniform(2, 40), seed=28)
    simulated.turn(10)
    simulated.drain(at_most=500)
    assert {sample.outcome for sample in simulated.ended} == {Outcome.FINISHED}
    assert simulated.generated == sum(sample.output_tokens for sample in simulated.ended)


def test_a_token_limit_below_the_running_batch_starves_some_and_loses_none(
    simulated: Served,
) -> None:
    simulated.start(300, Uniform(16, 32), Uniform(20, 40), seed=29)
    simulated.turn_until(lambda: bool(simulated.steps) and simulated.steps[-1].running == 256, 20)
    simulated.session.steer.limits.set("max_num_batched_tokens", 17)
    before = len(simulated.steps)
    simulated.turn(60)
    assert {s.prefill_tokens + s.decode_tokens for s in simulated.steps[before:]} == {17}
    simulated.session.steer.limits.set("max_num_batched_tokens", 2048)
    simulated.drain(at_most=500)
    assert {sample.outcome for sample in simulated.ended} == {Outcome.FINISHED}


@pytest.mark.costly
def test_a_full_cache_preempts_and_what_is_computed_again_is_prefill(simulated: Served) -> None:
    simulated.session.steer.limits.set("max_num_batched_tokens", 300)
    simulated.start(300, Uniform(100, 200), Uniform(100, 200), seed=30)
    simulated.turn_until(lambda: sum(step.preemptions for step in simulated.steps) > 100, 3000)
    simulated.drain(at_most=3000)
    assert {sample.outcome for sample in simulated.ended} == {Outcome.FINISHED}
    assert all(sample.output_tokens == sample.wanted_tokens for sample in simulated.ended)
    assert max(step.kv_frac for step in simulated.steps) > 0.99
    preemptions = sum(step.preemptions for step in simulated.steps)
    assert preemptions == sum(sample.preemptions for sample in simulated.ended)
    assert all(step.decode_tokens <= step.running for step in simulated.steps)
    # One token of a preempted request comes out of computing it again instead of a decode.
    decoded = sum(step.decode_tokens for step in simulated.steps)
    wanted = sum(sample.output_tokens - 1 for sample in simulated.ended)
    assert wanted - preemptions <= decoded <= wanted


@pytest.mark.costly
def test_a_boot_that_vllm_refuses_names_the_argument_and_the_next_boot_works(
    simulated: Served,
) -> None:
    refused = EngineSpec("shape:demo", {"max_num_seqs": 0})
    simulated.host.order(Boot(Start(refused, {}), load=False))
    with pytest.raises(UsageError, match=r"max_num_seqs: .* greater than or equal to 1\. "):
        simulated.turn()
    assert simulated.host.status.state is State.FAILED
    simulated.session.steer.engine.boot_again()
    simulated.start(20, Uniform(8, 16), Uniform(2, 4), seed=31)
    simulated.turn(3)
    simulated.drain(at_most=100)
    assert {sample.outcome for sample in simulated.ended} == {Outcome.FINISHED}


@pytest.mark.costly
def test_an_engine_that_dies_under_load_fails_its_requests_and_boots_again(
    simulated: Served,
) -> None:
    simulated.start(300, Uniform(16, 64), Uniform(20, 40), seed=32)
    simulated.turn(10)
    before = simulated.recorder.accounting

    def die(*_: object, **__: object) -> None:
        raise MemoryError("no more")

    simulated.llm_engine.model_executor.execute_model = die
    with pytest.raises(EngineError, match="MemoryError: no more"):
        simulated.turn()
    books = simulated.recorder.accounting
    assert simulated.host.status.state is State.FAILED
    assert books.balanced
    assert books.in_flight == 0
    assert books.failed - before.failed == 300
    simulated.session.steer.engine.boot_again()
    simulated.turn(3)
    assert simulated.recorder.accounting.in_flight > 200
    simulated.drain(at_most=500)
    ended = Counter(sample.outcome for sample in simulated.ended)
    assert ended[Outcome.FAILED] == 300
    assert ended[Outcome.FINISHED] >= 300

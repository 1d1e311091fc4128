"""Every live limit turned under load on vLLM's own scheduler; nothing is lost by any of them."""

from __future__ import annotations

import random

import pytest

from tests.engine.conftest import Served, all_whole
from tputtui.engine.orders import Preempt, ResetPrefixCache, RunLoad
from tputtui.engine.protocol import State
from tputtui.errors import CeilingError, KnobError
from tputtui.knobs import KNOBS, UNTOLD
from tputtui.load.lengths import Uniform
from tputtui.load.workload import ClosedLoop, Prefix, Workload
from tputtui.measure.samples import Outcome

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.mark.costly
def test_a_long_prompt_takes_no_more_of_a_step_than_the_threshold(simulated: Served) -> None:
    served = simulated
    served.session.steer.limits.set("long_prefill_token_threshold", 64)
    served.start(8, Uniform(900, 1000), Uniform(2, 4), seed=1)
    served.turn(20)
    assert max(step.prefill_tokens for step in served.steps[:10]) <= 8 * 64
    served.session.steer.limits.set("long_prefill_token_threshold", 0)
    before = len(served.steps)
    served.turn(20)
    assert max(step.prefill_tokens for step in served.steps[before:]) > 8 * 64
    served.drain(at_most=400)
    all_whole(served)


def test_held_blocks_shrink_the_cache_and_the_shown_usage_is_of_what_is_left(
    simulated: Served,
) -> None:
    served = simulated
    ceiling, block = (
        served.session.steer.limits.ceilings.num_gpu_blocks,
        served.host.status.facts.block_size,
    )
    served.start(128, Uniform(200, 300), Uniform(20, 40), seed=2)
    served.turn(10)
    free = served.scheduler.kv_cache_manager.block_pool.get_num_free_blocks
    smallest = served.host.status.facts.floor("num_gpu_blocks", served.host.status.knobs)
    wanted = smallest + 40
    served.session.steer.limits.set("num_gpu_blocks", wanted)
    served.turn_until(lambda: served.recorder.kv_blocks == wanted - 1, at_most=100)
    served.turn(20)
    step = served.steps[-1]
    assert step.kv_blocks == wanted - 1
    used = wanted - 1 - free()
    assert step.kv_frac == pytest.approx(used / (wanted - 1), abs=2 / (wanted - 1))
    assert step.running * 200 / block <= wanted
    assert step.waiting > 0
    served.session.steer.limits.set("num_gpu_blocks", ceiling)
    served.turn(10)
    assert served.recorder.kv_blocks == ceiling - 1
    assert served.steps[-1].running > step.running
    served.drain(at_most=600)
    all_whole(served)
    assert free() == ceiling - 1


def test_no_fewer_blocks_than_the_longest_request_needs(cpu: Served) -> None:
    facts = cpu.host.status.facts
    least = facts.floor("num_gpu_blocks", cpu.host.status.knobs)
    assert least == -(-2048 // facts.block_size) + 1
    with pytest.raises(KnobError, match="too low"):
        cpu.session.steer.limits.set("num_gpu_blocks", least - 1)
    cpu.session.steer.limits.set("num_gpu_blocks", least)
    # One request of the greatest length still gets through.
    cpu.start(1, Uniform(2040, 2040), Uniform(8, 8), seed=3)
    cpu.turn_until(lambda: len(cpu.ended) >= 1, at_most=60)
    cpu.session.steer.limits.set("max_model_len", 512)
    cpu.session.steer.limits.set("num_gpu_blocks", -(-512 // facts.block_size) + 1)
    with pytest.raises(KnobError, match="One request of 2,048 tokens needs"):
        cpu.session.steer.limits.set("max_model_len", 2048)


def test_a_watermark_keeps_blocks_free_when_requests_are_admitted(simulated: Served) -> None:
    served = simulated
    ceiling = served.session.steer.limits.ceilings
    # As high a share of the cache as it takes, so that it is what binds.
    served.session.steer.limits.set("watermark_blocks", ceiling.watermark_blocks)
    served.start(256, Uniform(700, 900), Uniform(60, 100), seed=4)
    served.turn(40)
    with_mark = max(step.running for step in served.steps)
    served.session.steer.limits.set("watermark_blocks", 0)
    before = len(served.steps)
    served.turn(40)
    assert max(step.running for step in served.steps[before:]) > with_mark * 1.3
    served.drain(at_most=2000)
    all_whole(served)


def test_prefix_look_ups_go_off_and_on(cpu: Served) -> None:
    session = cpu.session
    session.steer.load.set(
        Workload(ClosedLoop(8), Uniform(16, 32), Uniform(2, 4), prefix=Prefix(1.0, 256, 1), seed=5)
    )
    cpu.host.order(RunLoad())
    cpu.turn(30)
    assert sum(step.cached_tokens for step in cpu.steps) > 0
    session.steer.limits.set("enable_prefix_caching", "off")
    cpu.turn(2)
    before = len(cpu.steps)
    cpu.turn(20)
    assert sum(step.cached_tokens for step in cpu.steps[before:]) == 0
    session.steer.limits.set("enable_prefix_caching", "on")
    before = len(cpu.steps)
    cpu.turn(20)
    assert sum(step.cached_tokens for step in cpu.steps[before:]) > 0
    cpu.drain(at_most=100)
    all_whole(cpu)


def test_the_policy_puts_the_shortest_prompt_first_and_back(simulated: Served) -> None:
    served = simulated
    served.session.steer.limits.set("max_num_seqs", 2)
    served.start(60, Uniform(16, 600), Uniform(4, 8), seed=6)
    served.turn(3)
    served.session.steer.limits.set("scheduling_policy", "priority")
    served.turn()
    order = [request.num_prompt_tokens for request in served.scheduler.waiting]
    assert order == sorted(order)
    assert len(order) >= 50
    served.session.steer.limits.set("scheduling_policy", "fcfs")
    served.turn()
    arrived = [request.arrival_time for request in served.scheduler.waiting]
    assert arrived == sorted(arrived)
    served.session.steer.limits.set("max_num_seqs", 256)
    served.drain(at_most=300)
    all_whole(served)


def test_preempting_now_shrinks_the_batch_at_once_and_loses_nothing(simulated: Served) -> None:
    served = simulated
    served.start(120, Uniform(50, 100), Uniform(40, 60), seed=7)
    served.turn(12)
    assert served.steps[-1].running >= 100
    counted = served.counted_by_vllm() - served.generated
    served.session.steer.limits.set("max_num_seqs", 8)
    served.turn()
    assert served.steps[-1].running >= 90
    served.session.steer.engine.preempt()
    served.turn()
    assert served.steps[-1].running == 8
    assert served.recorder.marks[-1].text.endswith("preempted now")
    served.turn(5)
    served.session.steer.limits.set("max_num_seqs", 256)
    served.drain(at_most=800)
    all_whole(served)
    assert sum(sample.preemptions for sample in served.ended) >= 90
    assert served.generated == served.counted_by_vllm() - counted
    assert served.generated == sum(sample.output_tokens for sample in served.ended)


def test_preempting_now_on_the_real_model(cpu: Served) -> None:
    cpu.start(64, Uniform(20, 40), Uniform(20, 30), seed=8)
    cpu.turn(6)
    cpu.session.steer.limits.set("max_num_seqs", 8)
    cpu.turn()
    cpu.session.steer.engine.preempt()
    cpu.turn()
    assert cpu.steps[-1].running == 8
    cpu.session.steer.limits.set("max_num_seqs", 64)
    cpu.drain(at_most=400)
    all_whole(cpu)


def test_emptying_the_prefix_cache_preempts_and_loses_nothing(simulated: Served) -> None:
    served = simulated
    served.session.steer.limits.set(
        "num_gpu_blocks", served.session.steer.limits.ceilings.num_gpu_blocks - 100
    )
    served.start(60, Uniform(50, 100), Uniform(20, 30), seed=9)
    served.turn(8)
    served.session.steer.engine.reset_prefix_cache()
    served.turn()
    assert "prefix cache emptied, 60 preempted" in served.recorder.marks[-1].text
    assert served.recorder.kv_blocks == served.session.steer.limits.ceilings.num_gpu_blocks - 101
    served.drain(at_most=400)
    all_whole(served)


def test_a_paused_engine_stands_still_and_goes_on_where_it_was(simulated: Served) -> None:
    served = simulated
    served.start(40, Uniform(50, 100), Uniform(20, 30), seed=10)
    served.turn(8)
    served.session.steer.engine.toggle()
    served.turn()
    assert served.host.status.state is State.PAUSED
    books, steps = served.recorder.accounting, len(served.steps)
    served.turn(20)
    assert (served.recorder.accounting, len(served.steps)) == (books, steps)
    # A limit turned meanwhile is in force by the first step after.
    served.session.steer.limits.set("max_num_seqs", 24)
    served.turn()
    assert served.host.status.knobs.max_num_seqs == 24
    states = [served.host.status.state]
    served.session.steer.engine.toggle()
    served.turn(2)
    assert [*states, served.host.status.state] == [State.PAUSED, State.RUNNING]
    assert served.steps[steps].max_num_seqs == 24
    served.drain(at_most=400)
    all_whole(served)


def test_every_limit_is_refused_out_of_bounds(cpu: Served) -> None:
    ceilings, fixed = cpu.session.steer.limits.ceilings, cpu.host.status.facts.fixed
    for knob in KNOBS:
        if knob.name in fixed:
            with pytest.raises(KnobError, match="cannot be changed here"):
                cpu.session.steer.limits.set(knob.name, 1)
            continue
        refused = CeilingError if knob.boots else KnobError
        if not knob.choices and ceilings.get(knob.name) < UNTOLD:
            with pytest.raises(refused, match="above its ceiling"):
                cpu.session.steer.limits.set(knob.name, ceilings.get(knob.name) + 1)
        with pytest.raises(KnobError):
            cpu.session.steer.limits.set(knob.name, -1)
        with pytest.raises(KnobError, match=r"is not (a whole number|one of its words)"):
            cpu.session.steer.limits.set(knob.name, "many")


def test_a_storm_of_turns_ends_on_the_last_with_few_marks_and_nothing_lost(
    simulated: Served,
) -> None:
    served, chance = simulated, random.Random(11)
    served.start(150, Uniform(20, 200), Uniform(10, 40), seed=11)
    served.turn(5)
    ceilings, marks = served.session.steer.limits.ceilings, len(served.recorder.marks)
    for _ in range(100):
        for _ in range(50):
            knob = chance.choice(KNOBS)
            ceiling = ceilings.get(knob.name)
            highest = ceiling if ceiling < UNTOLD else 5000
            try:
                served.session.steer.limits.set(knob.name, chance.randint(knob.minimum, highest))
            except KnobError:
                # Below what the longest request needs, or fixed: the storm goes on.
                continue
        if chance.random() < 0.1:
            served.host.order(Preempt())
        if chance.random() < 0.1:
            served.host.order(ResetPrefixCache())
        served.turn()
        assert served.host.status.knobs == served.session._asked.knobs
    assert len(served.recorder.marks) - marks <= 500
    facts = served.host.status.facts
    for name, value in facts.booted.as_dict().items():
        if name not in facts.fixed:
            served.session.steer.limits.set(name, value)
    served.drain(at_most=3000)
    cut = [sample for sample in served.ended if sample.outcome is Outcome.CUT]
    refused = (Outcome.CUT, Outcome.REJECTED)
    rest = [sample for sample in served.ended if sample.outcome not in refused]
    assert all(s.outcome is Outcome.FINISHED for s in rest)
    assert all(s.output_tokens == s.wanted_tokens for s in rest)
    assert len(cut) + len(rest) >= 150

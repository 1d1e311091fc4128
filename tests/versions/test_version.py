"""The adapter on one release of vLLM: its own scheduler and KV cache, turned every way there is.

Every generated token is checked: the simulated executor answers with the place of each, so one
that is lost, repeated or out of order shows.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import os
import random
import statistics
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.engine import simulated as simulation
from tests.engine.conftest import Served
from tests.engine.test_contract import FIELDS, names
from tputtui.engine import dispatch
from tputtui.engine.orders import Boot, HoldLoad, Preempt, ResetPrefixCache, SetLimits, Start
from tputtui.engine.protocol import EngineFacts, StepReport
from tputtui.engine.virtual import VirtualHost
from tputtui.engine.vllm.args import OLDEST, import_vllm
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.engine.vllm.internals import IN_THE_ENGINE
from tputtui.engine.vllm.simulated import SimulatedEngine
from tputtui.errors import EngineError
from tputtui.knobs import KNOBS, Knobs
from tputtui.load.lengths import Uniform
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import Outcome
from tputtui.plugin.core import Question, Reply, answer
from tputtui.plugin.local import socket_needed
from tputtui.profile import EngineSpec, Profile
from tputtui.session.session import Session
from tputtui.simulate.clock import VirtualTime
from tputtui.simulate.simulation import simulation_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

RELEASE = os.environ.get("TPUTTUI_VLLM_RELEASE", "")
SPEC = EngineSpec(
    "shape:demo",
    {
        "max_num_seqs": 64,
        "max_num_batched_tokens": 2048,
        "max_model_len": 2048,
        "block_size": 16,
    },
)
# Fields that came later than the oldest release supported, by minor version. Without its own count
# of preemptions a request says 0; the steps count them in every release.
SINCE = {"num_preemptions": 30}
IN_FLIGHT = 130
PROMPT, OUTPUT = Uniform(16, 160), Uniform(8, 120)


def minor() -> int:
    """33 for vLLM 0.33.0."""
    return int(import_vllm().split(".")[1])


class Exact(Served):
    """Also keeps the tokens of every request that ends, as `tokens` by number."""

    def __init__(self) -> None:
        self.tokens: dict[int, list[int]] = {}
        super().__init__(lambda: VllmEngine(simulation.executor_class()), SPEC)
        step = self.vllm.step

        def kept() -> StepReport:
            report = step()
            self.tokens |= {ended.number: list(ended.token_ids) for ended in report.ended}
            return report

        self.vllm.step = kept  # type: ignore[method-assign]
        self.counted = self.counted_by_vllm()

    @property
    def facts(self) -> EngineFacts | None:
        return self.host.status.facts

    @property
    def knobs(self) -> Knobs:
        return self.host.status.knobs

    def limit(self, **values: int) -> None:
        """Order limits and turn once; they must be in force exactly as ordered."""
        wanted = self.knobs.overridden(values)
        self.host.order(SetLimits(wanted, ""))
        self.turn()
        assert self.knobs == wanted

    def load(self, seed: int, turns: int) -> None:
        """More requests than there are slots, until they are well under way."""
        self.start(IN_FLIGHT, PROMPT, OUTPUT, seed)
        self.turn(turns)
        assert self.recorder.accounting.in_flight >= 120

    def preemptions(self) -> int:
        """As counted step by step; of each request as well, where this release counts those."""
        counted = sum(step.preemptions for step in self.steps)
        if minor() >= SINCE["num_preemptions"]:
            assert counted == sum(sample.preemptions for sample in self.ended)
        return counted

    def drain_and_compare(self) -> Counter[Outcome]:
        """Serve what is in flight to its end; nothing may be lost, repeated or counted twice."""
        self.drain(at_most=4000)
        books = self.recorder.accounting
        assert books.balanced, books
        assert books.issued == len(self.ended)
        assert len({sample.number for sample in self.ended}) == len(self.ended)
        assert self.scheduler.get_request_counts() == (0, 0)
        held = self.facts.booted.num_gpu_blocks - 1 - self.recorder.kv_blocks
        pool = self.scheduler.kv_cache_manager.block_pool
        assert pool.get_num_free_blocks() + held == self.facts.booted.num_gpu_blocks - 1
        assert self.generated == self.counted_by_vllm() - self.counted
        assert self.generated == sum(sample.output_tokens for sample in self.ended)
        assert len(self.first_tokens) == sum(s.output_tokens > 0 for s in self.ended)
        for sample in self.ended:
            whole = sample.output_tokens == sample.wanted_tokens
            assert (sample.outcome is Outcome.FINISHED) == whole, sample
            # Those that the adapter ended itself leave no tokens behind.
            if sample.number in self.tokens:
                places = range(sample.prompt_tokens, sample.prompt_tokens + sample.output_tokens)
                assert self.tokens[sample.number] == [4 + place % 1000 for place in places]
        return Counter(sample.outcome for sample in self.ended)


@pytest.fixture(autouse=True)
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that is due is sent in one pass, and again what was refused: no time decides."""
    monkeypatch.setattr(dispatch, "_SENDING_S", math.inf)
    monkeypatch.setattr(dispatch, "REFUSED_WAIT_S", 0.0)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What vLLM and its adapter put into the environment ends with the test."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(params=["sync", "async"])
def scheduling(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def served(scheduling: str) -> Iterator[Exact]:
    """Booted for each test: a boot without a model takes half a second."""
    is_async = scheduling == "async"
    with simulation.async_scheduling_on_the_cpu() if is_async else contextlib.nullcontext():
        served = Exact()
        yield served
        assert served.session.close(60.0)
        served.host.run_pass()


# -- what is there -------------------------------------------------------------------------


@pytest.mark.skipif(not RELEASE, reason="the release is named by tests/versions/run.py")
def test_it_is_the_release_that_was_asked_for() -> None:
    import vllm

    assert import_vllm() == RELEASE
    folder = Path(vllm.__file__).parent
    assert folder.parent.name == RELEASE
    assert not list(folder.rglob("*.so")), "Python files only"


@pytest.mark.parametrize("version", ["0.18.1", "0.19.0", "0.18.1+cpu", "0.9.2"])
def test_versions_before_the_oldest_are_refused_in_words(
    monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    import vllm

    monkeypatch.setattr(vllm, "__version__", version)
    with pytest.raises(EngineError, match="is too old") as refusal:
        import_vllm()
    assert version in refusal.value.message
    assert ".".join(map(str, OLDEST)) in refusal.value.hint


@pytest.mark.parametrize("version", ["0.19.1", "0.20.0rc1", "0.34.0", "1.0.0", "0.32.0+cpu", "dev"])
def test_newer_versions_are_let_try(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    import vllm

    monkeypatch.setattr(vllm, "__version__", version)
    assert import_vllm() == version


def test_boots_as_asked(served: Exact, scheduling: str) -> None:
    core = served.llm_engine.engine_core.engine_core
    assert core.async_scheduling == (scheduling == "async")
    assert (core.batch_queue is not None) == (scheduling == "async")
    assert type(served.scheduler).__name__ == f"{'Async' * core.async_scheduling}Scheduler"
    asked = {knob.name: SPEC.args[knob.name] for knob in KNOBS if knob.name in SPEC.args}
    assert asked.items() <= served.facts.ceilings.as_dict().items()
    assert served.facts.block_size == 16
    assert served.facts.kv_tokens == (served.facts.booted.num_gpu_blocks - 1) * 16
    assert served.facts.versions["vllm"] == import_vllm()
    served.load(seed=16, turns=10)
    # Between two turns a step is under way, or asynchronous scheduling would be so by name only.
    assert len(core.batch_queue or ()) == int(core.async_scheduling)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


def test_limits_that_this_release_has_not_are_named_and_no_others(served: Exact) -> None:
    since = {"watermark_blocks": 24, "max_num_queued_reqs": 29, "max_num_queued_tokens": 29,
             "prefill_schedule_interval": 33}  # fmt: skip
    lacking = {name for name, first in since.items() if minor() < first}
    # No speculation is configured here.
    assert set(served.facts.fixed) == lacking | {"num_speculative_tokens"}
    for name in lacking:
        assert served.facts.ceilings.get(name) == served.facts.booted.get(name)


def test_everything_inside_vllm_that_the_adapter_relies_on_is_there(served: Exact) -> None:
    gone = []
    for path, purpose, version in IN_THE_ENGINE:
        found = served.llm_engine
        for part in path.split("."):
            if not hasattr(found, part):
                gone.append(f"{path} (vLLM {version}; for: {purpose})")
                break
            found = getattr(found, part)
    assert not gone, "\n".join(gone)


def test_every_field_that_the_adapter_reads_is_there(served: Exact) -> None:
    gone = {}
    for path, fields in FIELDS:
        module, _, name = path.rpartition(".")
        wanted = {field for field in fields if minor() >= SINCE.get(field, 0)}
        gone[path] = wanted - names(getattr(__import__(module, fromlist=[name]), name))
    assert not any(gone.values()), gone


# -- turned under load ---------------------------------------------------------------------


def test_sequences_and_tokens_turned_under_load(served: Exact) -> None:
    served.load(seed=1, turns=30)
    assert served.steps[-1].running == 64
    served.limit(max_num_seqs=16)
    served.turn_until(lambda: served.steps[-1].running <= 16, at_most=300)
    before = len(served.steps)
    served.turn(40)
    assert max(step.running for step in served.steps[before:]) == 16
    served.limit(max_num_batched_tokens=512)
    served.limit(max_num_seqs=48)
    before = len(served.steps)
    served.turn(60)
    assert max(step.running for step in served.steps[before:]) == 48
    for step in served.steps[before:]:
        assert step.prefill_tokens + step.decode_tokens <= 512
        assert step.running + step.waiting == IN_FLIGHT
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


def test_length_lowered_under_load_cuts_exactly_there(served: Exact) -> None:
    served.load(seed=2, turns=40)
    served.host.order(HoldLoad())
    present = served.lengths()
    served.limit(max_model_len=150)
    past = {number for number, tokens in present.items() if tokens >= 150}
    assert 0 < len(past) < len(present)
    assert not past & set(served.lengths())
    served.drain_and_compare()
    for sample in served.ended:
        if sample.number not in present or sample.number in past:
            continue
        wanted = sample.prompt_tokens + sample.wanted_tokens
        assert sample.prompt_tokens + sample.output_tokens == min(wanted, 150)


def test_long_prompts_take_no_more_of_a_step_than_their_limit(served: Exact) -> None:
    served.limit(long_prefill_token_threshold=100)
    served.start(8, Uniform(400, 400), Uniform(4, 4), seed=3)
    served.turn()
    assert served.steps[-1].prefill_tokens == 800
    served.limit(long_prefill_token_threshold=0)
    # The rest of every prompt, in one step.
    assert served.steps[-1].prefill_tokens == min(8 * 300, 2048)
    served.turn(20)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


def test_preempted_now_all_are_served_in_full(served: Exact) -> None:
    served.load(seed=4, turns=30)
    served.host.order(SetLimits(served.knobs.with_value("max_num_seqs", 8), ""))
    served.host.order(Preempt())
    served.turn()
    assert served.steps[-1].running <= 8
    served.turn(30)
    assert served.steps[-1].running == 8
    served.limit(max_num_seqs=64)
    served.turn(30)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}
    # vLLM tells of a preemption with the next token of the request: some time after it.
    assert served.preemptions() >= 50


def test_preempted_and_let_in_again_by_the_very_next_step(served: Exact) -> None:
    """What was computed in the step under way must neither be lost nor counted twice."""
    served.load(seed=5, turns=30)
    for _ in range(10):
        served.host.order(SetLimits(served.knobs.with_value("max_num_seqs", 4), ""))
        served.host.order(Preempt())
        served.host.order(SetLimits(served.knobs.with_value("max_num_seqs", 64), ""))
        served.turn(3)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}
    assert served.preemptions() >= 300


def test_all_but_few_blocks_held_and_given_back(served: Exact) -> None:
    served.load(seed=6, turns=30)
    served.limit(max_model_len=320)
    few = served.facts.floor("num_gpu_blocks", served.knobs)
    assert few == 21
    served.limit(num_gpu_blocks=few)
    served.turn_until(lambda: served.steps[-1].kv_blocks == few - 1, at_most=2000)
    before = len(served.steps)
    served.turn(200)
    assert all(0.0 <= step.kv_frac <= 1.0 for step in served.steps[before:])
    assert max(step.kv_frac for step in served.steps[before:]) > 0.5
    assert sum(step.generated_tokens for step in served.steps[before:]) > 0
    served.limit(num_gpu_blocks=served.facts.ceilings.num_gpu_blocks)
    assert served.steps[-1].kv_blocks == served.facts.ceilings.num_gpu_blocks - 1
    served.turn(50)
    assert served.steps[-1].running == 64
    assert set(served.drain_and_compare()) <= {Outcome.FINISHED, Outcome.CUT}


def test_drained_with_blocks_still_held(served: Exact) -> None:
    served.limit(max_model_len=320, num_gpu_blocks=60)
    served.load(seed=7, turns=200)
    assert sum(step.preemptions for step in served.steps) > 0
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}
    assert served.recorder.kv_blocks == 59


def test_prefix_cache_emptied_under_load(served: Exact) -> None:
    served.load(seed=8, turns=30)
    running = served.scheduler.get_request_counts()[0]
    assert served.vllm.reset_prefix_cache() == running
    served.turn(10)
    for _ in range(8):
        served.host.order(ResetPrefixCache())
        served.turn(3)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}
    assert served.vllm.reset_prefix_cache() == 0


def test_prefix_cache_emptied_while_blocks_are_held(served: Exact) -> None:
    served.limit(max_model_len=320, num_gpu_blocks=100)
    served.load(seed=9, turns=30)
    running = served.scheduler.get_request_counts()[0]
    assert running
    assert served.vllm.reset_prefix_cache() == running
    served.turn(10)
    assert served.recorder.kv_blocks == 99
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


def test_look_ups_turned_off_and_on(served: Exact) -> None:
    served.load(seed=10, turns=20)
    served.limit(enable_prefix_caching=0)
    before = len(served.steps)
    served.turn(40)
    assert sum(step.cached_tokens for step in served.steps[before:]) == 0
    served.limit(enable_prefix_caching=1)
    served.turn(40)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}
    assert served.vllm.reset_prefix_cache() == 0


def test_policy_changed_with_a_queue(served: Exact) -> None:
    served.limit(max_num_seqs=8)
    served.load(seed=11, turns=10)
    for policy in (1, 0, 1, 0):
        served.limit(scheduling_policy=policy)
        assert served.scheduler.policy.value == ("fcfs", "priority")[policy]
        served.turn(40)
        assert served.steps[-1].running == 8
    served.limit(scheduling_policy=1, max_num_seqs=64)
    served.turn(30)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


def test_priority_takes_the_shortest_prompt_of_the_queue(served: Exact) -> None:
    served.limit(max_num_seqs=4)
    served.load(seed=12, turns=5)
    served.limit(scheduling_policy=1)
    waiting = [r for r in served.scheduler.requests.values() if r not in served.scheduler.running]
    shortest = min(request.num_prompt_tokens for request in waiting)
    there = {request.request_id for request in waiting}
    served.host.order(HoldLoad())
    served.turn_until(
        lambda: any(r.request_id in there for r in served.scheduler.running), at_most=300
    )
    next_in = [r for r in served.scheduler.running if r.request_id in there]
    assert min(request.num_prompt_tokens for request in next_in) == shortest
    served.drain_and_compare()


def test_admission_rules_turned_on_a_full_cache(served: Exact) -> None:
    served.limit(max_model_len=320, num_gpu_blocks=200)
    served.load(seed=13, turns=40)
    watermark = min(40, served.facts.ceilings.watermark_blocks)
    served.limit(watermark_blocks=watermark)
    served.turn(60)
    served.limit(scheduler_reserve_full_isl=1 - served.knobs.scheduler_reserve_full_isl)
    served.turn(60)
    served.limit(watermark_blocks=0)
    served.turn(60)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


@pytest.mark.parametrize("seed", [20, 21])
def test_a_storm_of_every_limit(served: Exact, seed: int) -> None:
    rng = random.Random(seed)
    served.load(seed=seed, turns=10)
    booted, ceilings = served.facts.booted, served.facts.ceilings
    low = {
        "max_num_seqs": 1,
        "max_num_batched_tokens": 16,
        "max_model_len": 60,
        "num_gpu_blocks": 60,
    }
    for _ in range(200):
        name = rng.choice([knob.name for knob in KNOBS] + ["preempt", "reset"])
        if name == "preempt":
            served.host.order(Preempt())
        elif name == "reset":
            served.host.order(ResetPrefixCache())
        else:
            high = min(ceilings.get(name), 20_000 if name.endswith("tokens") else 200)
            high = high if name.startswith("max_num_queued") else ceilings.get(name)
            value = rng.choice([booted.get(name), rng.randint(low.get(name, 0), high)])
            served.host.order(SetLimits(served.knobs.with_value(name, value), ""))
        running = served.scheduler.get_request_counts()[0]
        before = len(served.steps)
        served.turn(rng.randint(1, 4))
        for step in served.steps[before:]:
            assert step.prefill_tokens + step.decode_tokens <= served.knobs.max_num_batched_tokens
            assert step.running <= max(running, served.knobs.max_num_seqs)
            assert step.decode_tokens <= step.running
            running = step.running
    for knob in KNOBS:
        served.limit(**{knob.name: booted.get(knob.name)})
    ended = {Outcome.FINISHED, Outcome.CUT, Outcome.REJECTED}
    assert set(served.drain_and_compare()) <= ended


def test_arrivals_are_refused_where_this_release_can(served: Exact) -> None:
    name = "max_num_queued_reqs"
    if name in served.facts.fixed:
        assert minor() < 29
        assert served.facts.ceilings.get(name) == 0
        return
    served.load(seed=16, turns=10)
    served.limit(max_num_queued_reqs=40)
    served.turn_until(lambda: served.recorder.accounting.in_flight <= 40, at_most=400)
    served.turn(20)
    assert served.recorder.accounting.in_flight <= 40
    assert served.recorder.accounting.rejected > 20
    served.limit(max_num_queued_reqs=0, max_num_queued_tokens=600)
    served.turn(40)
    assert served.llm_engine.output_processor.get_num_queued_tokens() < 600 + 160
    served.limit(max_num_queued_tokens=0)
    assert set(served.drain_and_compare()) == {Outcome.FINISHED, Outcome.REJECTED}


def test_prefill_keeps_its_cadence_where_this_release_has_one(served: Exact) -> None:
    name = "prefill_schedule_interval"
    if minor() < 33:
        assert name in served.facts.fixed
        assert served.facts.ceilings.get(name) == 1
        return
    assert name not in served.facts.fixed
    # As many as there are slots, so that nobody is left waiting, and short enough to come and go.
    served.start(40, Uniform(16, 60), Uniform(8, 40), seed=17)
    served.turn(20)

    def prefills(turns: int) -> tuple[int, int]:
        """Steps with prefill, and how far the closest two are apart."""
        before = len(served.steps)
        served.turn(turns)
        at = [i for i, step in enumerate(served.steps[before:]) if step.prefill_tokens]
        return len(at), min((b - a for a, b in pairwise(at)), default=0)

    many, closest = prefills(80)
    assert closest == 1
    served.limit(prefill_schedule_interval=8)
    served.turn(20)
    few, closest = prefills(80)
    assert closest >= 8
    assert few < many / 2
    served.limit(prefill_schedule_interval=1)
    _, closest = prefills(80)
    assert closest == 1
    assert set(served.drain_and_compare()) == {Outcome.FINISHED}


# -- the end -------------------------------------------------------------------------------


def test_aborted_under_load_nothing_is_left(served: Exact) -> None:
    served.load(seed=14, turns=20)
    served.session.steer.load.stop()
    served.turn()
    assert served.idle
    assert not served.scheduler.requests
    assert served.recorder.accounting.in_flight == 0
    served.begin()


def test_shut_down_under_load_and_booted_again(served: Exact) -> None:
    served.load(seed=15, turns=20)
    served.session.steer.engine.boot_again()
    served.turn(2)
    assert served.recorder.accounting.in_flight > 0
    served.drain(at_most=2000)
    ended = Counter(sample.outcome for sample in served.ended)
    assert ended[Outcome.ABORTED] >= 120
    assert ended[Outcome.FINISHED] >= 120
    assert served.scheduler.get_request_counts() == (0, 0)


# -- a device that is not here -----------------------------------------------------------------


def test_a_simulated_gpu_serves_in_its_own_time() -> None:
    clock = VirtualTime()
    spec = EngineSpec("shape:llama-3.1-8b", {"max_model_len": 8192})
    load = Workload(ClosedLoop(48), PROMPT, OUTPUT, seed=7)
    session = Session(
        lambda: SimulatedEngine(simulation_of("h100"), clock),
        Profile(spec, load),
        clock,
        make_host=lambda make, recorder, load, _: VirtualHost(make, recorder, load, clock),
    )
    host, began_s = session.host, clock()
    assert isinstance(host, VirtualHost)
    host.order(Boot(Start(spec, {}), load=True))
    host.run_for(5.0)
    assert host.status.failure is None, host.status.failure
    facts = host.status.facts
    assert facts.overlapped
    assert (facts.ceilings.max_num_seqs, facts.ceilings.max_num_batched_tokens) == (1024, 8192)
    assert 400_000 < facts.kv_tokens < 480_000
    ended = list(session.recorder.request_log)
    assert len(ended) > 200
    for request in ended:
        times = (request.due_s, request.scheduled_s, request.first_token_s, request.end_s)
        assert began_s <= times[0] <= times[1] <= times[2] <= times[3] <= clock()
        assert request.output_tokens == request.wanted_tokens
    assert 0.006 < statistics.median(request.tpot_s for request in ended[-100:]) < 0.02
    assert session.close(10.0)


# -- the plugin ----------------------------------------------------------------------------


def test_routes_have_a_place_from_0_26_on_and_the_engine_a_queue_to_ask_through() -> None:
    import_vllm()
    from vllm.v1.engine import EngineCoreRequestType
    from vllm.v1.engine.core import EngineCoreProc

    assert socket_needed() == (minor() < 26)
    assert hasattr(EngineCoreRequestType, "ABORT")
    parameters = inspect.signature(EngineCoreProc._handle_client_request).parameters
    assert list(parameters) == ["self", "request_type", "request"]
    assert list(inspect.signature(EngineCoreProc._process_input_queue).parameters) == ["self"]
    assert "input_queue" in inspect.getsource(EngineCoreProc)


def test_the_plugin_changes_limits_between_two_steps_and_tells_of_these(
    served: Exact, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = served.llm_engine.engine_core.engine_core
    # Before 0.31 each step is told its limit of sequences: in a server by the plugin alone.
    monkeypatch.setattr(served.vllm._limits, "before_schedule", lambda: None)

    def ask(what: str, **more: Any) -> Reply:
        question = msgspec.json.encode(Question(what, "mine", **more)).decode()
        reply = msgspec.json.decode(answer(core, question), type=Reply)
        assert reply.problem is None, reply.problem
        return reply

    about = ask("about").engine
    assert about is not None
    assert about.ceilings == served.facts.ceilings.as_dict()
    since = ask("steps").steps.next
    ask("take", holder="me")
    ask("change", limits={"max_num_seqs": 9})
    served.load(seed=21, turns=30)
    told = ask("steps", since=since).steps
    assert max(row[2] for row in told.rows) == 9
    assert sum(row[6] for row in told.rows) == served.generated
    assert (told.running, told.others) == (9, told.running + told.waiting)
    ask("release")
    assert ask("about").engine.limits == about.limits
    served.drain_and_compare()

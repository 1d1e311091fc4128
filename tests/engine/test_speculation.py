"""Draft tokens as a limit: turned under load, counted as vLLM counts them, and nothing lost."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.engine import simulated as simulation
from tests.engine.conftest import CPU, Bench, Served, all_whole
from tests.engine.test_plugin import Asked
from tests.engine.test_real_requests import LIMITS, SMALL, chat
from tests.realserver import write_chat_model
from tputtui.engine.orders import HoldLoad, RunLoad
from tputtui.engine.schedule import SCHEDULE, ladder
from tputtui.engine.vllm.drafting import add_schedule, add_schedule_to_serve
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import CeilingError, KnobError
from tputtui.load.lengths import Uniform
from tputtui.load.requests.file import RequestFile
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import POSITIONS, STEP, StepSample
from tputtui.measure.window import figures
from tputtui.profile import EngineSpec, EngineValue

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    # vLLM's n-gram drafting hands numba a list.
    pytest.mark.filterwarnings(r"ignore:\s*Encountered the use of a type"),
]

NGRAM = {
    "method": "ngram",
    "num_speculative_tokens": 3,
    "prompt_lookup_max": 2,
    "prompt_lookup_min": 1,
}
BATCH = Path(__file__).parents[2] / "profiles" / "replay" / "requests.jsonl"
SPEC = EngineSpec(CPU.model, {**CPU.args, "speculative_config": NGRAM})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def ngram(bench: Bench, model: str) -> Served:
    """A small model on vLLM's CPU backend, for which three tokens are drafted by n-grams."""
    args: dict[str, EngineValue] = {
            "max_num_seqs": 16, "max_num_batched_tokens": 512, "max_model_len": 512,
            "dtype": "float32", "kv_cache_memory_bytes": 64 * 2**20, "enforce_eager": True,
            "speculative_config": NGRAM}  # fmt: skip
    return bench.serve("ngram", VllmEngine, EngineSpec(model, args))


@pytest.fixture
def drafting(bench: Bench, scheduling: str) -> Iterator[Served]:
    """64 sequences on no model, of whose three draft tokens some are accepted."""
    is_async = scheduling == "async"
    with simulation.async_scheduling_on_the_cpu() if is_async else contextlib.nullcontext():
        yield bench.serve(
            f"drafting, {scheduling}", lambda: VllmEngine(simulation.drafting_class()), SPEC
        )


def counters(served: Served) -> dict[str, Any]:
    """vLLM's own counters of speculation since its boot, by the end of their names."""
    of = {}
    for metric in served.llm_engine.get_metrics():
        if metric.name.startswith("vllm:spec_decode_"):
            name = metric.name.removeprefix("vllm:spec_decode_num_")
            of[name] = metric.values if hasattr(metric, "values") else metric.value
    return of


def counted(steps: list[StepSample]) -> dict[str, Any]:
    """The same by our samples."""

    def total(name: str) -> int:
        return int(sum(getattr(step, name) for step in steps))

    return {
        "drafts": total("drafts"),
        "draft_tokens": total("checked_tokens"),
        "accepted_tokens": total("accepted_tokens"),
        "accepted_tokens_per_pos": [total(name) for name in POSITIONS[:3]],
    }


def since(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    return {
        name: [b - a for a, b in zip(before[name], value, strict=True)]
        if isinstance(value, list)
        else value - before[name]
        for name, value in after.items()
    }


def step_on(served: Served, steps: int) -> list[StepSample]:
    """So many more steps; real prompts may still be on their way from another thread."""
    begun, end_s = len(served.steps), time.monotonic() + PATIENCE_S
    while len(served.steps) < begun + steps:
        served.turn()
        assert time.monotonic() < end_s
    return served.steps[begun:]


def turned_under_load(served: Served, workload: Workload) -> None:
    """Three draft tokens, none, three again, one: counted as vLLM does at every turn."""
    limits, before = served.session.steer.limits, counters(served)
    tokens = served.counted_by_vllm()
    served.session.steer.load.set(workload)
    served.host.order(RunLoad())
    step_on(served, 12)
    for most in (0, 3, 1, 3):
        limits.set("num_speculative_tokens", most)
        # What the step before has drafted is still checked.
        step_on(served, 3)
        steps = step_on(served, 12)
        assert all(step.draft_tokens <= most * step.running for step in steps)
        assert sum(step.draft_tokens for step in steps) > 0 or not most
        assert served.host.status.knobs.num_speculative_tokens == most
    served.host.order(HoldLoad())
    served.turn()
    served.turn_until(lambda: served.idle, at_most=600)
    all_whole(served)
    assert since(before, counters(served)) == counted(served.steps)
    assert counted(served.steps)["accepted_tokens"] > 0
    assert sum(step.generated_tokens for step in served.steps) == served.generated
    assert served.generated == served.counted_by_vllm() - tokens
    assert served.generated == sum(sample.output_tokens for sample in served.ended)


def test_draft_tokens_are_turned_under_load_and_counted_as_vllm_counts(
    ngram: Served, tmp_path: Path
) -> None:
    facts = ngram.host.status.facts
    assert (facts.booted.num_speculative_tokens, facts.ceilings.num_speculative_tokens) == (3, 3)
    assert "num_speculative_tokens" not in facts.fixed
    # Every number was there when the engine was booted, so it has what each of them needs.
    schedule = getattr(ngram.llm_engine.vllm_config.speculative_config, SCHEDULE)
    assert {drafts for _, _, drafts in schedule} == {0, 1, 2, 3}
    assert set(ngram.scheduler.dynamic_sd_lookup) == {3}
    lines = [chat(f"number {i}", max_tokens=50, temperature=0) for i in range(40)]
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    requests = RequestFile(str(path), repeat=True, force_lengths=True)
    turned_under_load(ngram, Workload(ClosedLoop(12), requests=requests))
    with pytest.raises(KnobError, match="above its ceiling 3"):
        ngram.session.steer.limits.set("num_speculative_tokens", 4)


@pytest.mark.long
@pytest.mark.skipif(not SMALL.is_dir(), reason="`make small-model` fetches it")
def test_the_same_on_a_real_model_with_real_prompts(bench: Bench) -> None:
    args = {**LIMITS, "max_num_seqs": 16, "speculative_config": NGRAM}
    served = bench.serve("small ngram", VllmEngine, EngineSpec(str(SMALL), args))
    requests = RequestFile(str(BATCH), repeat=True, force_lengths=True)
    turned_under_load(served, Workload(ClosedLoop(12), requests=requests))


def test_the_same_on_the_simulated_executor(drafting: Served) -> None:
    loop = Workload(ClosedLoop(90), Uniform(20, 60), Uniform(40, 60), seed=3)
    turned_under_load(drafting, loop)


def test_a_step_is_split_without_its_draft_tokens_and_filled_with_them(drafting: Served) -> None:
    served = drafting
    served.start(40, Uniform(20, 60), Uniform(60, 90), seed=4)
    served.turn(20)
    some = [step for step in served.steps[8:] if step.draft_tokens]
    assert some
    for step in some:
        # A sequence that decodes has one token of its own, however many are guessed after it.
        assert 0 < step.decode_tokens <= step.running
        assert step.draft_tokens <= 3 * step.decode_tokens
    last = figures(served.recorder, some[0].end_s - some[0].duration_s, math.inf)
    assert last.draft_frac > last.decode_frac > 0
    assert last.tokens_frac == pytest.approx(last.prefill_frac + last.decode_frac + last.draft_frac)
    served.drain(at_most=600)
    all_whole(served)


def test_the_time_of_a_token_is_of_every_token_and_a_gap_of_an_output(drafting: Served) -> None:
    served = drafting
    served.start(8, Uniform(20, 30), Uniform(40, 60), seed=5)
    served.turn(10)
    served.drain(at_most=300)
    all_whole(served)
    gaps = served.recorder.gaps.between(-math.inf)
    gaps = gaps[gaps[:, 0] > served.steps[0].end_s - served.steps[0].duration_s]
    # One gap for each output after the first of a request; a token more than that was accepted.
    outputs = int(gaps[:, 2].sum()) + len(served.ended)
    accepted = served.generated - outputs
    assert 0 < accepted <= sum(step.accepted_tokens for step in served.steps)
    for sample in served.ended:
        assert sample.tpot_s * (sample.output_tokens - 1) == pytest.approx(sample.decode_s)


def test_a_request_that_is_preempted_while_tokens_are_drafted_loses_none(drafting: Served) -> None:
    served = drafting
    served.start(60, Uniform(20, 60), Uniform(40, 60), seed=6)
    served.turn(8)
    served.session.steer.limits.set("max_num_seqs", 12)
    served.session.steer.engine.preempt()
    served.session.steer.limits.set("num_speculative_tokens", 0)
    served.turn(6)
    served.session.steer.limits.set("num_speculative_tokens", 2)
    served.drain(at_most=900)
    all_whole(served)
    assert served.generated == sum(sample.output_tokens for sample in served.ended)


# -- through the plugin ----------------------------------------------------------------------------


def test_the_plugin_turns_it_and_tells_what_was_accepted(drafting: Served) -> None:
    served, asked = drafting, Asked(drafting)
    engine = asked("about").engine
    assert engine is not None
    assert engine.ceilings["num_speculative_tokens"] == 3
    assert engine.fixed.keys() - {"prefill_schedule_interval"} == {"max_model_len"}
    since = asked.steps().next
    asked("take", "a", holder="ann@desk")
    served.start(40, Uniform(20, 60), Uniform(30, 50), seed=7)
    served.turn(10)
    rows: list[StepSample] = []
    for most in (0, 2, 3):
        acted = asked("change", "a", limits={"num_speculative_tokens": most}).acted
        assert acted is not None
        assert acted.limits["num_speculative_tokens"] == most
        served.turn(3)
        begun = len(served.steps)
        served.turn(10)
        steps = served.steps[begun:]
        assert (sum(step.draft_tokens for step in steps) > 0) == (most > 0)
        assert all(step.draft_tokens <= most * step.decode_tokens for step in steps)
    served.drain(at_most=600)
    all_whole(served)
    rows += [StepSample(*row) for row in asked.steps(since).rows]  # type: ignore[arg-type]
    assert counted(rows) == counted(served.steps)
    # A step that was scheduled ahead for requests that have ended since is never computed.
    ahead = max(step.draft_tokens for step in served.steps[-3:])
    drafted = sum(step.draft_tokens for step in served.steps)
    assert drafted - ahead <= sum(row.draft_tokens for row in rows) <= drafted
    assert sum(row.generated_tokens for row in rows) == served.generated
    asked("change", "a", limits={"num_speculative_tokens": 1})
    asked("release", "a")
    assert asked.limits()["num_speculative_tokens"] == 3
    assert set(served.scheduler.dynamic_sd_lookup) == {3}
    asked.core._tputtui.unwatch()
    del asked.core._tputtui


@pytest.mark.parametrize(
    ("given", "batch", "engines", "schedule"),
    [
        (NGRAM, 64, 1, ladder(3, 64)),
        (NGRAM, None, 1, [(1, 4096, 3)]),
        (NGRAM, 64, 2, None),
        ({**NGRAM, "method": "suffix"}, 64, 1, None),
        ({"model": "a/draft", "num_speculative_tokens": 3}, 64, 1, None),
        (None, 64, 1, None),
    ],
)
def test_a_server_of_ours_gets_a_schedule_where_it_can_be_turned(
    given: dict[str, Any] | None, batch: int | None, engines: int, schedule: Any
) -> None:
    arguments = SimpleNamespace(
        speculative_config=given, max_num_seqs=batch, data_parallel_size=engines
    )
    add_schedule_to_serve(arguments)
    assert (arguments.speculative_config or {}).get(SCHEDULE) == schedule


# -- where it cannot be turned ---------------------------------------------------------------------


def test_without_speculation_it_is_fixed_at_none(cpu: Served) -> None:
    facts = cpu.host.status.facts
    assert facts.ceilings.num_speculative_tokens == 0
    with pytest.raises(KnobError, match="booted without --speculative-config"):
        cpu.session.steer.limits.set("num_speculative_tokens", 1)


def test_a_schedule_of_ones_own_stays_and_is_lowered(bench: Bench) -> None:
    own = [[1, 4, 3], [5, 64, 1]]
    spec = EngineSpec(SPEC.model, {**SPEC.args, "speculative_config": {**NGRAM, SCHEDULE: own}})
    served = bench.serve("own schedule", lambda: VllmEngine(simulation.drafting_class()), spec)
    lookup = served.scheduler.dynamic_sd_lookup
    assert (lookup[1:5], set(lookup[5:])) == ([3] * 4, {1})
    served.session.steer.limits.set("num_speculative_tokens", 2)
    served.turn()
    assert served.scheduler.dynamic_sd_lookup[4:6] == [2, 1]
    served.session.steer.limits.set("num_speculative_tokens", 3)
    served.turn()
    assert served.scheduler.dynamic_sd_lookup == lookup
    with pytest.raises((KnobError, CeilingError)):
        served.session.steer.limits.set("num_speculative_tokens", 4)


def configured(method: str = "ngram", engines: int = 1, **more: Any) -> Any:
    """vLLM's configuration as far as it is looked at."""
    speculative = SimpleNamespace(
        method=method, num_speculative_tokens=3, **{SCHEDULE: None}, **more
    )
    return SimpleNamespace(
        speculative_config=speculative,
        parallel_config=SimpleNamespace(data_parallel_size=engines),
        scheduler_config=SimpleNamespace(max_num_seqs=64),
    )


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (configured(engines=2), "with data parallelism"),
        (configured("suffix"), "constant number with the method suffix"),
        (configured(), "started without num_speculative_tokens_per_batch_size"),
    ],
)
def test_where_vllm_drafts_a_constant_number_the_reason_is_told(config: Any, why: str) -> None:
    from tputtui.engine.vllm.drafting import Drafting

    scheduler = SimpleNamespace(vllm_config=config, dynamic_sd_lookup=None)
    limit = Drafting(scheduler)
    assert limit.booted == 3
    assert why in limit.fixed
    limit.apply(1)
    assert scheduler.dynamic_sd_lookup is None


def test_an_older_vllm_is_named_as_the_reason() -> None:
    from tputtui.engine.vllm.drafting import Drafting

    assert Drafting(SimpleNamespace(vllm_config=configured())).fixed.startswith("this vLLM")


def test_a_schedule_is_added_only_where_it_can_be_turned() -> None:
    def arguments() -> Any:
        return SimpleNamespace(speculative_config=dict(NGRAM), spec_tokens=3)

    for config in (configured(engines=2), configured("medusa")):
        assert not add_schedule(arguments(), config)
    given = arguments()
    assert add_schedule(given, configured())
    assert given.speculative_config == {**NGRAM, SCHEDULE: ladder(3, 64)}
    assert given.spec_tokens is None


@pytest.mark.parametrize(("most", "batch"), [(3, 64), (3, 4), (3, 2), (1, 1), (5, 6), (8, 1)])
def test_the_schedule_is_one_that_vllm_takes_and_has_every_number(most: int, batch: int) -> None:
    pytest.importorskip("vllm.v1.spec_decode.dynamic.utils")
    from vllm.v1.spec_decode.dynamic.utils import build_dynamic_sd_schedule_lookup

    table = build_dynamic_sd_schedule_lookup(ladder(most, batch), batch, most)[1:]
    assert table[-1] == most
    # With fewer sizes of batch than numbers, the highest are there.
    assert set(table) == set(range(max(0, most - batch + 1), most + 1))


def test_the_columns_of_speculation_are_the_last_ones() -> None:
    assert StepSample._fields[STEP["accepted_tokens"] + 1 :] == POSITIONS

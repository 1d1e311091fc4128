"""What requests carry, on a real engine: its books, vLLM's own, and what it answers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.adapters import make_adapter, make_model
from tests.engine.conftest import CPU, Bench, Served
from tputtui.engine.orders import RunLoad
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import UsageError
from tputtui.load.carrier import Carrier, Label
from tputtui.load.lengths import Fixed
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.binding import Bound, binding
from tputtui.measure.samples import Outcome
from tputtui.profile import EngineSpec, Scalar

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(900),
    # vLLM 0.32 with xgrammar 0.2.
    pytest.mark.filterwarnings("ignore:max_rollback_tokens is deprecated:DeprecationWarning"),
]
BASE = Workload(ClosedLoop(12), Fixed(40), Fixed(20))
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2, 3]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> EngineSpec:
    """A tiny model with a tokenizer and three adapters, of which two fit into a batch."""
    folder = tmp_path_factory.mktemp("carried")
    modules: list[Scalar] = [
        f"{name}={make_adapter(folder / name, seed)}" for seed, name in enumerate("abc")
    ]
    return EngineSpec(
        str(make_model(folder / "model")),
        {
            **CPU.args, "load_format": "dummy", "enforce_eager": True, "block_size": 32,
            "kv_cache_memory_bytes": 64 * 2**20, "dtype": "float32", "enable_lora": True,
            "max_loras": 2, "max_lora_rank": 8, "lora_modules": modules,
        },
    )  # fmt: skip


@pytest.fixture
def served(bench: Bench, made: EngineSpec) -> Served:
    return bench.serve("carried", VllmEngine, made)


@pytest.fixture
def answers(served: Served, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What vLLM answers from now on, as it gives it to us."""
    seen: list[Any] = []
    step: Callable[[], list[Any]] = served.llm_engine.step

    def watched() -> list[Any]:
        outputs = step()
        seen.extend(output for output in outputs if output.finished)
        return outputs

    monkeypatch.setattr(served.llm_engine, "step", watched)
    return seen


def run(served: Served, turns: int = 250, ended: int = 0, **texts: str) -> None:
    """Serve a load with these fields for some turns, and what is in flight to its end.

    ended: until so many requests have, at least. A form is compiled beside the engine, and its
    requests wait for that as long as it takes.
    """
    before = served.counted_by_vllm()
    served.session.steer.load.set(from_texts(BASE, texts))
    served.host.order(RunLoad())
    served.turn(turns)
    served.turn_until(lambda: len(served.ended) >= ended, 200_000)
    served.session.advance()
    served.drain(600)
    assert served.counted_by_vllm() - before == served.generated


def test_a_mix_of_adapters_reaches_vllm_in_its_shares(served: Served, answers: list[Any]) -> None:
    run(served, turns=250, lora="a=0.5 b=0.3")
    used = Counter(
        output.lora_request.lora_name if output.lora_request else "" for output in answers
    )
    labels = served.recorder.labels
    ours = Counter(labels[sample.label].adapter for sample in served.ended)
    assert ours == used
    assert {"a", "b", ""} == set(used)
    assert used["a"] > used["b"] > 0
    assert used["a"] / used.total() == pytest.approx(0.5, abs=0.12)
    assert all(sample.outcome is Outcome.FINISHED for sample in served.ended)


def test_adapters_above_max_loras_are_what_binds(served: Served) -> None:
    served.session.steer.load.set(from_texts(BASE, {"lora": "a=0.34 b=0.33 c=0.33"}))
    served.host.order(RunLoad())
    served.turn(300)
    assert max(step.adapter_waiting for step in served.steps) > 0
    # By the scheduler's own state: as many adapters run as may, and what waits is for the third.
    scheduler = served.scheduler
    waiting = {each.lora_request.lora_int_id for each in scheduler.waiting}
    running = {each.lora_request.lora_int_id for each in scheduler.running}
    assert len(running) <= 2
    if len(running) == 2:
        assert not waiting & running
    steps, status = np.array(served.steps), served.host.status
    length_s = steps[-1, 0] - steps[0, 0]
    found = binding(
        steps, length_s, status.knobs, status.facts.ceilings, ended=len(served.ended), cut_short=0
    )
    assert found.bound is Bound.ADAPTERS
    assert "--max-loras" in found.advice
    served.drain(600)
    assert Label(adapter="c") in served.recorder.labels


@pytest.mark.long
def test_adapters_that_fit_do_not_bind(served: Served) -> None:
    run(served, lora="a=0.5 b=0.5")
    assert not any(step.adapter_waiting for step in served.steps)


def test_an_adapter_that_was_not_booted_is_told_before_it_is_asked_for(served: Served) -> None:
    with pytest.raises(UsageError, match="adapter 'z'"):
        served.session.steer.load.set(from_texts(BASE, {"lora": "z=1"}))


def test_a_share_of_the_answers_keeps_the_schema(
    served: Served, answers: list[Any], tmp_path: Path
) -> None:
    path = tmp_path / "a schema.json"
    path.write_text(json.dumps(SCHEMA, indent=1))
    run(served, ended=150, output="60", structured=f"share=0.3 schema='{path}'")
    tokenizer = served.llm_engine.get_tokenizer()
    ended = {sample.number: sample for sample in served.ended}
    stopped = 0
    for output in answers:
        (answer,), sample = output.outputs, ended[int(output.request_id[1:])]
        assert sample.outcome is Outcome.FINISHED
        assert sample.output_tokens == len(answer.token_ids)
        if answer.finish_reason == "stop":
            stopped += 1
            read = json.loads(tokenizer.decode(answer.token_ids, skip_special_tokens=True))
            assert read.keys() == {"ok", "n"}
            assert read["n"] in (1, 2, 3)
    assert stopped / len(answers) == pytest.approx(0.3, abs=0.12)
    assert len(ended) == len(answers)


def test_a_regex_is_kept_too(served: Served, answers: list[Any]) -> None:
    run(served, turns=120, output="30", structured="share=1 regex=[ab]{3,9}c")
    tokenizer = served.llm_engine.get_tokenizer()
    for output in answers:
        text = tokenizer.decode(output.outputs[0].token_ids, skip_special_tokens=True)
        assert re.fullmatch("[ab]{3,9}c", text)
    assert answers


def test_several_answers_are_one_request(served: Served, answers: list[Any]) -> None:
    run(served, answers="n=3 logprobs=2")
    assert all(len(output.outputs) == 3 for output in answers)
    assert all(len(a.token_ids) == 20 for output in answers for a in output.outputs)
    assert all(len(a.logprobs) == 20 for output in answers for a in output.outputs)
    assert len(served.ended) == len(answers)
    assert served.generated == 3 * 20 * len(answers)
    assert all(sample.output_tokens == sample.wanted_tokens == 20 for sample in served.ended)
    assert all(sample.ttft_s > 0 and sample.tpot_s > 0 for sample in served.ended)
    assert len(served.first_tokens) == len(answers)


@pytest.mark.long
def test_several_answers_are_given_up_together(served: Served) -> None:
    run(served, answers="n=2", output="200", cancel="share=0.6 after=0.3s~0.5")
    outcomes = Counter(sample.outcome for sample in served.ended)
    assert outcomes[Outcome.CANCELLED] > 0
    assert outcomes.keys() <= {Outcome.CANCELLED, Outcome.FINISHED}
    assert not served.vllm._live


def test_a_given_priority_is_vllms(served: Served) -> None:
    served.session.steer.limits.set("scheduling_policy", "priority")
    served.session.steer.limits.set("max_num_seqs", 2)
    served.session.steer.load.set(from_texts(BASE, {"priority": "0=0.5 7=0.5"}))
    served.host.order(RunLoad())
    served.turn(40)
    assert {request.priority for request in served.scheduler.requests.values()} <= {0, 7}
    served.turn(150)
    served.drain(800)
    carrier, load = Carrier(0), served.session.workload
    waits: dict[int | None, list[float]] = {0: [], 7: []}
    for sample in served.ended:
        waits[carrier.carried(load, sample.number).priority].append(sample.queue_s)
    assert min(map(len, waits.values())) > 5
    assert np.median(waits[0]) < np.median(waits[7])


def test_without_one_the_prompts_length_decides(served: Served) -> None:
    served.session.steer.load.set(BASE)
    served.host.order(RunLoad())
    served.turn(5)
    assert {request.priority for request in served.scheduler.requests.values()} == {40}
    served.drain(600)


def test_classes_reach_vllm_with_their_lengths_priorities_and_adapters(
    served: Served, answers: list[Any]
) -> None:
    text = "chat share=0.7 prompt=24 output=8; batch share=0.3 prompt=96 output=32 priority=9 "
    run(served, classes=text + "adapter=b goal=e2e_p90=60s")
    labels = served.recorder.labels
    for sample, output in zip(sorted(served.ended), sorted(answers, key=_number), strict=True):
        batch = labels[sample.label].traffic == "batch"
        assert len(output.prompt_token_ids) == (96 if batch else 24)
        assert len(output.outputs[0].token_ids) == (32 if batch else 8)
        assert (output.lora_request is not None) is batch
    kinds = Counter(labels[sample.label].traffic for sample in served.ended)
    assert kinds["chat"] / kinds.total() == pytest.approx(0.7, abs=0.12)


def _number(output: Any) -> int:
    return int(output.request_id[1:])

"""Real prompts on a real vLLM: natural ends, forced lengths, stop strings, conversations."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.engine.conftest import Bench, Served
from tests.realserver import write_chat_model
from tputtui.engine.orders import RunLoad
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.engine.vllm.sampling import sampling_of
from tputtui.load.request import RequestSpec
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.rendered import RenderedPrompt, Serving
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import Outcome
from tputtui.profile import EngineSpec, EngineValue

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

SMALL = Path(__file__).parents[2] / ".models" / "smollm2"
LIMITS: dict[str, EngineValue] = {
    "max_num_seqs": 8,
    "max_num_batched_tokens": 512,
    "max_model_len": 512,
    "enforce_eager": True,
    "dtype": "float32",
    "block_size": 32,
    "kv_cache_memory_bytes": 64 * 2**20,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_chat_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def chats(bench: Bench, model: str) -> Served:
    return bench.serve("chats", VllmEngine, EngineSpec(model, LIMITS))


def serve(served: Served, path: Path, lines: list[Any], answers: int = 1, **fields: Any) -> int:
    """Serve every line to its end, compare both books; returns the tokens by vLLM's count.

    answers: to each line; a sample has the tokens of one.
    """
    path.write_text("\n".join(map(json.dumps, lines)))
    before = served.counted_by_vllm()
    served.session.steer.load.set(
        Workload(ClosedLoop(6), requests=RequestFile(str(path), **fields))
    )
    stops = Counter(dict(served.recorder.stops))
    served.host.order(RunLoad())
    end_s = time.monotonic() + PATIENCE_S
    served.turn()
    while not (served.host.status.load_run.ended and served.idle):
        served.turn()
        assert time.monotonic() < end_s
    assert served.host.status.load_failure is None
    tokens = int(served.counted_by_vllm() - before)
    assert answers * sum(sample.output_tokens for sample in served.ended) == tokens
    assert tokens == served.generated
    new = Counter(dict(served.recorder.stops)) - stops
    finished = sum(sample.outcome is Outcome.FINISHED for sample in served.ended)
    assert sum(new.values()) == finished
    return tokens


def chat(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **more}


def test_answers_end_where_the_model_ends_them(chats: Served, tmp_path: Path) -> None:
    lines = [chat(f"number {i}", max_tokens=120, temperature=1, seed=i) for i in range(60)]
    serve(chats, tmp_path / "a.jsonl", lines)
    assert len(chats.ended) == 60
    assert {sample.outcome for sample in chats.ended} == {Outcome.FINISHED}
    short = [sample for sample in chats.ended if sample.output_tokens < sample.wanted_tokens]
    # One of 320 tokens ends an answer: of 60 answers about 19 end before they are 120 long.
    assert 2 < len(short) < 50


# vLLM 0.32 with xgrammar 0.2.
@pytest.mark.filterwarnings("ignore:max_rollback_tokens is deprecated:DeprecationWarning")
def test_a_recorded_form_is_the_answers(chats: Served, tmp_path: Path) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes"]}}}
    bad = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "nothing"}}}
    lines = [chat("x", max_tokens=40, response_format=schema, logprobs=True)] * 8
    lines.append(chat("x", max_tokens=40, response_format=bad))
    serve(chats, tmp_path / "a.jsonl", lines)
    lengths = Counter((sample.outcome, sample.output_tokens) for sample in chats.ended)
    # `"yes"` is five bytes, and the end of the answer; no engine can follow the last one.
    assert lengths == {(Outcome.FINISHED, 6): 8, (Outcome.REJECTED, 0): 1}
    assert chats.recorder.requests.undone == ()


def test_lengths_are_forced_when_they_are_asked_for(chats: Served, tmp_path: Path) -> None:
    lines = [chat("x", max_tokens=120, stop=["a", "e"], output_tokens=i) for i in range(20, 40)]
    assert serve(chats, tmp_path / "a.jsonl", lines, force_lengths=True) == sum(range(20, 40))
    assert all(sample.output_tokens == sample.wanted_tokens for sample in chats.ended)


def test_stop_strings_end_an_answer_also_without_text_being_asked_for(
    chats: Served, tmp_path: Path
) -> None:
    stop = [chr(letter) for letter in range(33, 127)]
    lines = [chat(f"{i}", max_tokens=200, stop=stop, temperature=1) for i in range(12)]
    serve(chats, tmp_path / "a.jsonl", lines, detokenize=False)
    assert sum(sample.output_tokens < 200 for sample in chats.ended) > 8


def test_a_conversation_finds_what_was_said_in_the_cache(chats: Served, tmp_path: Path) -> None:
    texts = ("tell me " * 16, "and more", "and more")
    line = {"turns": [{"text": text, "max_tokens": 10} for text in texts]}
    chats.session.steer.engine.reset_prefix_cache()
    chats.turn()
    chats.begin()
    serve(chats, tmp_path / "a.jsonl", [line])
    first, second, third = sorted(chats.ended, key=lambda sample: sample.number)
    assert first.cached_tokens == 0
    # Whole blocks of the turn before, whose prompt this one begins with.
    assert second.cached_tokens >= first.prompt_tokens // 32 * 32 - 32
    assert third.prompt_tokens > second.prompt_tokens > first.prompt_tokens


def test_jobs_of_agents_are_served_with_equal_books(chats: Served, tmp_path: Path) -> None:
    plan = {"id": "plan", "messages": [{"role": "user", "content": "plan it"}]}
    job = {"steps": [
        plan,
        {"id": "a", "continues": "plan", "messages": [{"role": "user", "content": "on"}]},
        {"id": "b", "after": ["plan"], "wait_s": 0.05, "messages": plan["messages"]},
        {"messages": [{"role": "user", "answer_of": "a"}, {"role": "user", "answer_of": "b"}]},
    ], "max_tokens": 12}  # fmt: skip
    serve(chats, tmp_path / "a.jsonl", [job] * 5)
    assert {sample.outcome for sample in chats.ended} == {Outcome.FINISHED}
    took = [sample.job_s for sample in chats.ended if sample.job_s == sample.job_s]
    assert (len(chats.ended), len(took)) == (20, 5)
    assert min(took) > 0.05


def test_hits_of_chats_are_those_of_their_texts_and_vllms_own(
    chats: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each turn finds the whole blocks of the turn before: its prompt, and its real answer."""
    sent: dict[int, RequestSpec] = {}
    said: dict[int, list[int]] = {}
    submit, step = VllmEngine.submit, chats.llm_engine.step

    def submitted(engine: VllmEngine, request: RequestSpec) -> None:
        sent[request.number] = request
        submit(engine, request)

    def stepped() -> list[Any]:
        outputs: list[Any] = step()
        for output in outputs:
            if output.finished:
                said[int(output.request_id[1:])] = list(output.outputs[0].token_ids)
        return outputs

    def by_vllm() -> int:
        metrics = chats.llm_engine.get_metrics()
        return int(sum(m.value for m in metrics if m.name == "vllm:prefix_cache_hits"))

    monkeypatch.setattr(VllmEngine, "submit", submitted)
    monkeypatch.setattr(chats.llm_engine, "step", stepped)
    assert chats.llm_engine.reset_prefix_cache()
    before = by_vllm()
    turns = [f"{number} of six: tell me of it" for number in range(6)]
    lines = [{"turns": [{"text": text, "max_tokens": 10 + place} for place in range(4)]}
             for text in turns]  # fmt: skip
    serve(chats, tmp_path / "a.jsonl", lines)
    samples = {sample.number: sample for sample in chats.ended}
    assert len(samples) == 24
    for number, request in sent.items():
        prompt, found = request.ids(), 0
        for other, earlier in sent.items():
            # The newest token of an answer has no KV entry: the model has not seen it.
            cached = [*earlier.ids(), *said[other][:-1]]
            if other < number and earlier.turn == request.turn - 1:
                pairs = enumerate(zip(prompt, cached, strict=False))
                shorter = min(len(prompt), len(cached))
                found = max(found, next((i for i, (a, b) in pairs if a != b), shorter))
        assert samples[number].cached_tokens == min(found, len(prompt) - 1) // 32 * 32
    ours = sum(sample.cached_tokens for sample in chats.ended)
    assert ours == sum(step.cached_tokens for step in chats.steps) == by_vllm() - before > 0


def test_several_answers_and_a_bias_reach_vllm(chats: Served, tmp_path: Path) -> None:
    # A bias that none of the 320 tokens can resist: the end of the answer comes at once.
    end = chats.llm_engine.get_tokenizer().eos_token_id
    lines = [chat("x", max_tokens=30, logit_bias={str(end): 100})] * 4
    serve(chats, tmp_path / "a.jsonl", lines)
    assert [sample.output_tokens for sample in chats.ended] == [1] * 4
    assert chats.recorder.requests.undone == ()
    chats.begin()
    several = [chat("x", max_tokens=30, temperature=1, n=3, ignore_eos=True)] * 4
    assert serve(chats, tmp_path / "b.jsonl", several, answers=3) == 4 * 3 * 30
    assert chats.recorder.requests.undone == ()


@pytest.mark.long
@pytest.mark.skipif(not SMALL.is_dir(), reason="`make small-model` fetches it")
def test_a_small_real_model_answers_a_batch_file_and_ends_by_itself(
    bench: Bench, tmp_path: Path
) -> None:
    served = bench.serve("small", VllmEngine, EngineSpec(str(SMALL), LIMITS))
    asked = ("Say the number {}.", "What comes after {}?", "Is {} even? Yes or no.")
    lines = [
        {
            "custom_id": f"request-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": chat(asked[number % 3].format(number), max_tokens=64),
        }
        for number in range(500)
    ]
    serve(served, tmp_path / "a.jsonl", lines)
    assert len(served.ended) == 500
    # Greedy or not, an instructed model ends so short an answer; a random one seldom would.
    assert sum(sample.output_tokens < 64 for sample in served.ended) >= 250


def test_what_is_recorded_reaches_vllm() -> None:
    class Model:
        skip_tokenizer_init = False

        @staticmethod
        def get_diff_sampling_param() -> dict[str, Any]:
            return {"temperature": 0.6, "top_k": 20, "max_tokens": 5}

    def made(serving: Serving | None, model: Any = Model) -> Any:
        request = RequestSpec(0, 0.0, RenderedPrompt([1, 2]), 9, False, serving=serving)
        return sampling_of(model)(request)

    synthetic = made(None)
    assert (synthetic.ignore_eos, synthetic.detokenize, synthetic.temperature) == (True, False, 1.0)
    sampling = {"top_p": 0.5, "stop": ["x"], "min_tokens": 50}
    natural = made(Serving(sampling, natural=True, detokenize=False))
    assert (natural.temperature, natural.top_k, natural.top_p) == (0.6, 20, 0.5)
    assert (natural.ignore_eos, natural.stop, natural.max_tokens) == (False, ["x"], 9)
    assert natural.detokenize
    # No request can want more tokens than it may have.
    assert natural.min_tokens == 9
    forced = made(Serving(sampling, natural=False, detokenize=True))
    assert (forced.ignore_eos, forced.stop, forced.detokenize) == (True, [], True)
    bare = SimpleNamespace(
        skip_tokenizer_init=True, get_diff_sampling_param=Model.get_diff_sampling_param
    )
    without = made(Serving(sampling, natural=True, detokenize=True), bare)
    assert (without.detokenize, without.stop) == (False, [])

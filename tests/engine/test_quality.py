"""The quality gate on a real vLLM: equal settings, one damaged layer, beside a load, the books."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.engine.conftest import Bench, Served
from tests.engine.test_real_requests import SMALL
from tests.realserver import TEMPLATE, write_model, write_tokenizer
from tputtui.engine.orders import Ask, Boot, ResetPrefixCache, RunLoad, Start
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import Outcome
from tputtui.profile import EngineSpec, EngineValue
from tputtui.quality.answers import LOGPROBS, Answers, Question, Questions
from tputtui.quality.compare import Sameness, compare
from tputtui.quality.prompts import prompt_set

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

LIMITS: dict[str, EngineValue] = {
    "max_num_seqs": 8, "max_num_batched_tokens": 512, "max_model_len": 512,
    "enforce_eager": True, "dtype": "float32", "block_size": 32,
    "kv_cache_memory_bytes": 64 * 2**20,
}  # fmt: skip
LENGTH = 24
Questioned = tuple[Question, ...]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from torch import manual_seed

    folder = tmp_path_factory.mktemp("model")
    # Another model would answer otherwise, and feel the damage more or less.
    manual_seed(0)
    write_model(folder)
    write_tokenizer(folder, TEMPLATE)
    return folder


@pytest.fixture(scope="module")
def questions(model: Path) -> Questioned:
    shipped = prompt_set("builtin", str(model))
    assert len(shipped.questions) > 150
    assert not shipped.private
    return tuple(Question(each.ids, LENGTH) for each in shipped.questions[::3])


def damaged(model: Path, folder: Path, layer: int = 1) -> Path:
    """The same model with one layer off by as much as its weights' size."""
    from safetensors.torch import load_file, save_file
    from torch import Generator, randn

    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    name = f"model.layers.{layer}.mlp.down_proj.weight"
    noise = randn(weights[name].shape, generator=Generator().manual_seed(0))
    weights[name] += (weights[name].std() * noise).to(weights[name].dtype)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def ask(served: Served, questions: Questioned, seed: int, *, cold: bool) -> Answers:
    if cold:
        served.host.order(ResetPrefixCache())
    number = served.host.order(Ask(Questions(questions, seed, private=False)))
    served.turn_until(
        lambda: bool((found := served.host.status.answered) and found.number == number), 5000
    )
    return served.host.status.answered.answers


def test_answers_are_greedy_and_have_their_probabilities(
    bench: Bench, model: Path, questions: Questioned
) -> None:
    served = bench.serve("quality", VllmEngine, EngineSpec(str(model), LIMITS))
    before = served.counted_by_vllm()
    answers = ask(served, questions, 1, cold=True)
    assert all(answers)
    assert served.counted_by_vllm() - before == sum(len(each.token_ids) for each in answers)
    for answer in answers:
        assert 0 < len(answer.token_ids) <= LENGTH
        assert len(answer.logprobs) == len(answer.token_ids)
        for token, known in zip(answer.token_ids, answer.logprobs, strict=True):
            assert LOGPROBS <= len(known) <= LOGPROBS + 1
            assert known[token] == max(known.values()) < 0
    assert all(each.outcome is Outcome.FINISHED for each in served.ended)
    # Nothing of it is left in the books, and the load goes on where it was.
    assert served.host.status.load_on is False
    assert served.recorder.accounting.in_flight == 0


def test_a_prompt_that_does_not_fit_has_no_answer(
    bench: Bench, model: Path, questions: Questioned
) -> None:
    served = bench.serve("quality", VllmEngine, EngineSpec(str(model), LIMITS))
    long, refused = Question((5,) * 600, 8), Question((10**6,), 8)
    answers = ask(served, (questions[0], long, refused), 1, cold=True)
    assert [each is not None for each in answers] == [True, False, False]


def test_beside_a_load_the_load_is_none_the_wiser(
    bench: Bench, model: Path, questions: Questioned
) -> None:
    served = bench.serve("quality", VllmEngine, EngineSpec(str(model), LIMITS))
    served.session.steer.load.set(Workload(ClosedLoop(5), Fixed(40), Fixed(30)))
    served.host.order(RunLoad())
    served.turn(40)
    answers = ask(served, questions, 1, cold=False)
    assert all(answers)
    asked = [each for each in served.ended if each.number >= 1 << 40]
    load = [each for each in served.ended if each.number < 1 << 40]
    assert len(asked) == len(questions)
    assert len(load) > 10
    # The load's requests keep their numbers, and as many of them are in flight.
    assert sorted(each.number for each in load) == list(range(len(load)))
    assert served.recorder.accounting.in_flight == 5


@pytest.mark.long
def test_equal_settings_are_equal_and_one_damaged_layer_is_found_every_time(
    bench: Bench, model: Path, questions: Questioned, tmp_path: Path
) -> None:
    told_apart(bench, model, damaged(model, tmp_path / "d"), questions)


@pytest.mark.long
@pytest.mark.skipif(not SMALL.is_dir(), reason="`make small-model` fetches it")
def test_the_same_on_a_real_model(bench: Bench, tmp_path: Path) -> None:
    shipped = prompt_set("builtin", str(SMALL))
    asked = tuple(Question(each.ids, LENGTH) for each in shipped.questions[::3])
    told_apart(bench, SMALL, damaged(SMALL, tmp_path / "d", layer=14), asked)


def told_apart(bench: Bench, model: Path, other_model: Path, questions: Questioned) -> None:
    """Four passes of one model and one of another, dealt anew by prompt a hundred times."""
    served = bench.serve("quality", VllmEngine, EngineSpec(str(model), LIMITS))
    rounds = [ask(served, questions, seed, cold=True) for seed in range(3)]
    # The same setting for the answers: other limits, booted anew.
    served.host.order(Boot(Start(EngineSpec(str(model), LIMITS | {"max_num_seqs": 4}), {}), False))
    rounds.append(ask(served, questions, 3, cold=True))
    served.host.order(Boot(Start(EngineSpec(str(other_model), LIMITS), {}), False))
    other = ask(served, questions, 4, cold=True)
    bench.close()
    random = np.random.default_rng(0)
    equal, found = [], []
    for _ in range(100):
        dealt = [random.permutation(4) for _ in questions]
        own, again, same = (
            tuple(rounds[each[place]][i] for i, each in enumerate(dealt)) for place in range(3)
        )
        equal.append(compare(own, again, same).verdict)
        drawn = random.integers(len(questions), size=len(questions))
        one, twice, theirs = (tuple(each[i] for i in drawn) for each in (own, again, other))
        found.append(compare(one, twice, theirs).verdict)
    assert equal.count(Sameness.UNCHANGED) >= 95
    assert found.count(Sameness.CHANGED) == 100

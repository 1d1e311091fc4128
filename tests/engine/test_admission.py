"""The limits of admission on vLLM's own books, refused as vLLM's own API server would."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from tests.engine import simulated as simulation
from tests.engine.conftest import Bench, Served
from tputtui.engine import dispatch
from tputtui.engine.protocol import ShedError
from tputtui.engine.vllm.admission import check_admission
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import UsageError
from tputtui.knobs import Knobs
from tputtui.load.extras import Answers
from tputtui.load.lengths import Uniform
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import Outcome
from tputtui.profile import EngineSpec, EngineValue

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def refused_clients_try_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no test waits, and each turn has refusals."""
    monkeypatch.setattr(dispatch, "REFUSED_WAIT_S", 0.0)


@pytest.mark.costly
def test_limits_turned_under_load_refuse_what_vllms_front_would(simulated: Served) -> None:
    """At every turn with every limit: by vLLM's own method on the same counts."""
    from vllm.v1.engine.async_llm import AsyncLLM, MaxQueuedTokensError, QueueOverflowError

    served, rng, decided = simulated, random.Random(4), set()
    processor = served.llm_engine.output_processor
    served.start(90, Uniform(16, 300), Uniform(4, 40), seed=4)
    for _ in range(120):
        served.turn()
        in_flight = processor.get_num_unfinished_requests()
        queued = processor.get_num_queued_tokens()
        for _ in range(8):
            n = rng.choice([1, 1, 1, 4])
            most = rng.choice([None, in_flight + n - 1, in_flight + n, rng.randint(1, 200)])
            tokens = rng.choice([None, queued, queued + 1, rng.randint(1, 9000)])
            config = SimpleNamespace(
                max_num_queued_reqs=most or None, max_num_queued_tokens=tokens or None
            )
            front = SimpleNamespace(
                scheduler_config=config,
                admission_stats=None,
                get_num_unfinished_requests=processor.get_num_unfinished_requests,
                get_num_queued_tokens=processor.get_num_queued_tokens,
                _record_admission_rejection=lambda reason: None,
            )
            knobs = Knobs(1, 1, 2, max_num_queued_reqs=most or 0, max_num_queued_tokens=tokens or 0)
            try:
                AsyncLLM.check_admission(front, n)
                theirs = ""
            except QueueOverflowError:
                theirs = "max_num_queued_reqs"
            except MaxQueuedTokensError:
                theirs = "max_num_queued_tokens"
            try:
                check_admission(processor, knobs, n)
                ours = ""
            except ShedError as shed:
                ours = str(shed).partition(" ")[0]
            assert ours == theirs, (config, n, in_flight, queued)
            decided.add(ours)
    assert decided == {"", "max_num_queued_reqs", "max_num_queued_tokens"}
    served.drain(at_most=600)


def test_turned_under_load_the_books_are_equal_and_nothing_is_lost(simulated: Served) -> None:
    served = simulated
    steer = served.session.steer.limits
    processor = served.llm_engine.output_processor
    before = served.recorder.accounting
    served.start(120, Uniform(16, 160), Uniform(8, 60), seed=5)
    served.turn(10)
    assert served.recorder.accounting.in_flight > 100
    steer.set("max_num_queued_reqs", 40)
    served.turn()
    served.turn_until(lambda: served.recorder.accounting.in_flight <= 40, at_most=200)
    rejected = served.recorder.accounting.rejected
    for _ in range(60):
        served.turn()
        assert processor.get_num_unfinished_requests() <= 40
        assert served.steps[-1].running <= 40
    assert served.recorder.accounting.rejected > rejected + 60
    steer.set("max_num_queued_reqs", "none")
    steer.set("max_num_queued_tokens", 500)
    served.turn()
    for _ in range(60):
        served.turn()
        assert processor.get_num_queued_tokens() < 500 + 160
    steer.set("max_num_queued_tokens", "none")
    rejected = served.recorder.accounting.rejected
    served.turn(20)
    assert served.recorder.accounting.in_flight > 100
    assert served.recorder.accounting.rejected == rejected
    served.drain(at_most=600)
    books = served.recorder.accounting
    ended = books.finished - before.finished + books.rejected - before.rejected
    assert books.issued - before.issued == ended
    for sample in served.ended:
        whole = sample.output_tokens == sample.wanted_tokens
        assert whole is (sample.outcome is Outcome.FINISHED)
        assert sample.outcome in (Outcome.FINISHED, Outcome.REJECTED)
    assert served.generated == sum(sample.output_tokens for sample in served.ended)


def test_each_answer_of_a_request_counts(simulated: Served) -> None:
    served = simulated
    load = Workload(ClosedLoop(30), Uniform(16, 60), Uniform(8, 20), seed=6, answers=Answers(n=4))
    served.session.steer.load.set(load)
    served.session.steer.limits.set("max_num_queued_reqs", 42)
    served.session.steer.load.toggle()
    for _ in range(30):
        served.turn()
        assert served.llm_engine.output_processor.get_num_unfinished_requests() <= 40
    assert served.recorder.accounting.rejected > 20
    served.drain(at_most=300)


def test_an_argument_of_the_boot_is_in_force_and_0_is_refused_in_a_sentence(bench: Bench) -> None:
    bench.close()
    args: dict[str, EngineValue] = {
        "max_num_seqs": 64,
        "max_num_queued_reqs": 24,
        "max_num_queued_tokens": 4096,
    }
    served = Served(lambda: VllmEngine(simulation.executor_class()), EngineSpec("shape:demo", args))
    facts = served.host.status.facts
    assert (facts.booted.max_num_queued_reqs, facts.booted.max_num_queued_tokens) == (24, 4096)
    served.start(60, Uniform(16, 60), Uniform(8, 20), seed=7)
    served.turn(20)
    assert 12 < served.recorder.accounting.in_flight <= 24
    served.session.steer.limits.set("max_num_queued_reqs", "none")
    served.turn(5)
    assert served.recorder.accounting.in_flight > 40
    served.drain(at_most=300)
    assert served.session.close(60)
    served.host.run_pass()
    with pytest.raises(UsageError, match="With --max-num-queued-reqs 0 vLLM refuses every"):
        Served(
            lambda: VllmEngine(simulation.executor_class()),
            EngineSpec("shape:demo", {"max_num_queued_reqs": 0}),
        )

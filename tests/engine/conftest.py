"""Real vLLM engines, one at a time in this process, turned by hand on the test's own thread."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.engine import simulated as simulation
from tputtui.engine import dispatch
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, HoldLoad, RunLoad, Start
from tputtui.engine.protocol import Engine, State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.frame import SERVING
from tputtui.load.lengths import Uniform
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import Accounting, Outcome, RequestSample, StepSample
from tputtui.profile import EngineSpec, Profile
from tputtui.session.session import Session

CPU = EngineSpec(
    "shape:demo", {"max_num_seqs": 64, "max_num_batched_tokens": 2048, "max_model_len": 2048}
)
LARGE = EngineSpec("shape:demo", {"max_num_seqs": 256})


class Served:
    """A session on a real engine. Every turn compares the books of requests.

    steps, ended: samples of the steps run and the requests ended since `begin`.
    """

    def __init__(self, make_engine: Callable[[], Engine], spec: EngineSpec) -> None:
        nothing = Workload(ClosedLoop(0), Uniform(1, 1), Uniform(1, 1))
        self.session = Session(make_engine, Profile(spec, nothing))
        host = self.session.host
        assert isinstance(host, Host)
        self.host = host
        self.recorder = self.session.recorder
        self.host.order(Boot(Start(spec, {}), load=False))
        self.steps: list[StepSample] = []
        self.ended: list[RequestSample] = []
        self._seen = Accounting()
        self.turn()
        self.begin()

    # -- vLLM's own objects ----------------------------------------------------------------

    @property
    def vllm(self) -> VllmEngine:
        engine = self.host._engine
        assert isinstance(engine, VllmEngine)
        return engine

    @property
    def llm_engine(self) -> Any:
        return self.vllm._engine

    @property
    def scheduler(self) -> Any:
        return self.llm_engine.engine_core.engine_core.scheduler

    def counted_by_vllm(self) -> int:
        """vLLM's own counter of generated tokens, since its boot."""
        metrics = self.llm_engine.get_metrics()
        return sum(m.value for m in metrics if m.name == "vllm:generation_tokens")

    def lengths(self) -> dict[int, int]:
        """Number to present length in tokens of every request inside the scheduler."""
        requests = self.scheduler.requests
        return {live.number: requests[name].num_tokens for name, live in self.vllm._live.items()}

    # -- turning ---------------------------------------------------------------------------

    def begin(self) -> None:
        """Forget what was: `steps`, `ended`, `generated` and `first_tokens` count from here."""
        self.steps.clear()
        self.ended.clear()
        self._generated = self.recorder.generated_tokens
        self._first_tokens = self.recorder.first_tokens.count

    @property
    def generated(self) -> int:
        return self.recorder.generated_tokens - self._generated

    @property
    def first_tokens(self) -> list[tuple[float, float, float]]:
        """(when, TTFT from due, TTFT from submit)."""
        n = self.recorder.first_tokens.count - self._first_tokens
        rows = self.recorder.first_tokens.between(float("-inf"))
        return [tuple(row[:3]) for row in rows[len(rows) - n :]]

    @property
    def idle(self) -> bool:
        return self.host.status.state is State.READY

    def start(self, in_flight: int, prompt: Uniform, output: Uniform, seed: int) -> None:
        """Let a closed loop of requests arrive from the next turn on."""
        self.session.steer.load.set(Workload(ClosedLoop(in_flight), prompt, output, seed=seed))
        self.host.order(RunLoad())

    def turn(self, times: int = 1) -> None:
        """Orders, arrivals, one step; every request must be in exactly one place after it."""
        for _ in range(times):
            seen = self.recorder.steps.count
            self.host.run_pass()
            if self.host.status.failure is not None:
                raise self.host.status.failure
            books = self.recorder.accounting
            assert books.balanced, books
            assert books.issued == _gone(books) + books.running + books.waiting
            new = _gone(books) - _gone(self._seen)
            log = self.recorder.request_log
            self.ended += islice(log, len(log) - new, None)
            self._seen = books
            if self.recorder.steps.count > seen:
                row = self.recorder.steps.between(float("-inf"))[-1]
                self.steps.append(StepSample(*row))

    def turn_until(self, reached: Callable[[], bool], at_most: int) -> None:
        """Turn until `reached`; fails when that takes more than `at_most` turns."""
        for _ in range(at_most):
            if reached():
                return
            self.turn()
        assert reached(), f"not reached in {at_most} turns: {self.recorder.accounting}"

    def drain(self, at_most: int) -> None:
        """Hold the load and serve what is in flight to its end."""
        self.host.order(HoldLoad())
        self.turn()
        self.turn_until(lambda: self.idle, at_most)
        assert self.recorder.accounting.in_flight == 0
        assert not self.scheduler.requests

    def reset(self) -> None:
        """Abort everything and put every limit back to where it was booted."""
        if self.host.status.state is State.PAUSED:
            self.session.steer.engine.toggle()
        self.session.steer.load.stop()
        facts = self.host.status.facts
        assert facts is not None
        # The KV budget first: a greater length may need it.
        for name in ("num_gpu_blocks", *facts.booted.as_dict()):
            if name not in facts.fixed:
                self.session.steer.limits.set(name, facts.booted.get(name))
        self.turn()
        self.begin()


def all_whole(served: Served) -> None:
    """Everything that ended was finished, with every token asked for."""
    assert served.ended
    assert all(sample.outcome is Outcome.FINISHED for sample in served.ended)
    assert all(sample.output_tokens == sample.wanted_tokens for sample in served.ended)


def _gone(books: Accounting) -> int:
    ended = books.finished + books.cut + books.aborted + books.rejected + books.failed
    return ended + books.cancelled


class Bench:
    """Whichever engine a test wants, booted when the one that is up is another."""

    def __init__(self) -> None:
        self._kind = ""
        self._served: Served | None = None

    def serve(self, kind: str, make_engine: Callable[[], Engine], spec: EngineSpec) -> Served:
        served = self._served
        if served is None or self._kind != kind or served.host.status.state not in SERVING:
            self.close()
            self._served = served = Served(make_engine, spec)
            self._kind = kind
        served.reset()
        return served

    def close(self) -> None:
        if self._served is not None:
            assert self._served.session.close(PATIENCE_S)
            self._served.host.run_pass()
        self._served = None


@pytest.fixture(scope="package", autouse=True)
def environment() -> Iterator[None]:
    """What vLLM and its adapter put into the environment ends with the tests of this folder."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass of the loop hands over everything that is due, however busy the machine is."""
    monkeypatch.setattr(dispatch, "_SENDING_S", math.inf)


@pytest.fixture(scope="package")
def bench(environment: None) -> Iterator[Bench]:
    """Closed when the last test of this folder has run."""
    import torch

    # A second thread gains little here and waits at barriers whenever another program is busy.
    torch.set_num_threads(1)
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture
def cpu(bench: Bench) -> Served:
    """The built-in demo on vLLM's CPU backend, idle, every limit at its ceiling."""
    return bench.serve("cpu", VllmEngine, CPU)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is costly and not marked for it runs the usual way only, but for `make test-long`."""
    for item in items:
        if item.get_closest_marker("costly"):
            assert isinstance(item, pytest.Function)
            if item.callspec.params["scheduling"] == "sync":
                item.add_marker(pytest.mark.long)


@pytest.fixture(scope="package", params=["sync", "async"])
def scheduling(request: pytest.FixtureRequest) -> str:
    """How vLLM schedules; of the package, so that tests are grouped by it and boots are few."""
    return str(request.param)


@pytest.fixture
def simulated(bench: Bench, scheduling: str) -> Iterator[Served]:
    """256 sequences on no model, idle, every limit at its ceiling."""
    is_async = scheduling == "async"
    with simulation.async_scheduling_on_the_cpu() if is_async else contextlib.nullcontext():
        yield bench.serve(scheduling, lambda: VllmEngine(simulation.executor_class()), LARGE)

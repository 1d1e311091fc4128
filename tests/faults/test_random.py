"""Anything a person can do, and anything that can go wrong, in any order: the books balance.

make faults        1,000 sequences on the deterministic engine (150 in `make test`), and 1,000 on
                   vLLM's own scheduler (12)
"""

from __future__ import annotations

import contextlib
import gc
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.engine import simulated as simulation
from tests.test_session import load
from tputtui import profile
from tputtui.engine.fake import FakeEngine
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, Start
from tputtui.engine.protocol import State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import EngineError, ProfileError, UsageError
from tputtui.experiments.tuner.plan import Plan
from tputtui.goals import parse_goals
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop
from tputtui.profile import EngineSpec, Profile
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log
from tputtui.session.session import Session
from tputtui.simulate.clock import VirtualTime

ARGS = {"max_num_seqs": 64, "max_num_batched_tokens": 512, "max_model_len": 512}
FAULTS = ("boot", "submit", "step", "end", "apply", "preempt", "reset_prefix_cache", "counts",
          "shutdown")  # fmt: skip
ERRORS = (
    RuntimeError("told to fail"), EngineError("A worker died.", "Boot again."), MemoryError(),
    AssertionError(), ValueError("refused"), SystemExit(1),
)  # fmt: skip
LOADS = [
    {"arrivals": "300/s"},
    {"arrivals": "gamma(0.2):150/s", "output": "zipf:1.1[1-60]"},
    {"arrivals": "constant:0..400/s over 3s", "prompt": "64~0.8"},
    {"arrivals": "300/s for 1s, 0 for 1s", "prefix": "share=0.5 tokens=64 groups=3"},
    {"arrivals": "10,60,5 each 1s", "sessions": "turns=1-4 think=0.2s"},
    {"arrivals": "60/s", "sessions": "turns=3 think=0s"},
    {"pairs": "10/5=1,300/40=2"},
]
PRESSED = (
    "load.toggle", "load.stop", "load.restart", "engine.toggle", "engine.preempt",
    "engine.reset_prefix_cache", "experiments.sweep", "experiments.compare", "experiments.verify",
    "experiments.stop", "undo", "redo", "measure_anew",
)  # fmt: skip
PLANS = (
    Plan(vary="max_num_seqs=2,16", search="random", budget_s=120),
    Plan(vary="max_num_seqs=2,16", search="random", budget_s=600, load=True),
    Plan(vary="scheduling_policy", search="grid", budget_s=120, engines="max_num_seqs=8,0"),
)
KNOBS = st.one_of(
    st.tuples(st.just("max_num_seqs"), st.integers(0, 80)),
    st.tuples(st.just("max_num_batched_tokens"), st.integers(0, 600)),
    st.tuples(st.just("max_model_len"), st.integers(1, 600)),
    st.tuples(st.just("long_prefill_token_threshold"), st.integers(0, 512)),
    st.tuples(st.just("num_gpu_blocks"), st.integers(1, 2000)),
    st.tuples(st.just("watermark_blocks"), st.integers(0, 300)),
    st.tuples(st.just("enable_prefix_caching"), st.integers(0, 1)),
    st.tuples(st.just("scheduling_policy"), st.integers(0, 1)),
    st.tuples(st.just("max_num_queued_reqs"), st.integers(0, 100)),
    st.tuples(st.just("max_num_queued_tokens"), st.integers(0, 9000)),
)


class Unreliable:
    """An engine that fails in the next call of each method in `plan`."""

    def __init__(self, engine: FakeEngine | VllmEngine, plan: dict[str, BaseException]) -> None:
        self._engine = engine
        self._plan = plan

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._engine, name)

        def call(*words: Any, **options: Any) -> Any:
            if name == "shutdown":
                method(*words, **options)
            if name in self._plan:
                raise self._plan.pop(name)
            return None if name == "shutdown" else method(*words, **options)

        return call


class AnythingGoes(RuleBasedStateMachine):
    """A session whose loop is turned by hand, on an engine that may fail at any call."""

    def make_engine(self) -> Any:
        return Unreliable(FakeEngine(self.clock), self.plan)

    @initialize(logged=st.booleans())
    def begin(self, logged: bool) -> None:
        self.clock = VirtualTime()
        self.plan: dict[str, BaseException] = {}
        self.folder = Path(tempfile.mkdtemp())
        self.session = Session(
            self.make_engine, Profile(EngineSpec("shape:demo", dict(ARGS)), load(ClosedLoop(12))),
            self.clock,
        )  # fmt: skip
        host = self.session.host
        assert isinstance(host, Host)
        self.host = host
        self.journal = None
        if logged:
            path = self.folder / "run.jsonl.zst"
            self.journal = Journal(path, self.session.recorder, self.clock())
            self.session.watch(self.journal.see)
        self.threads = threading.active_count()

    # -- what a person does ----------------------------------------------------------------

    def do(self, act: Callable[..., object], *words: object) -> None:
        """Refusals are sentences; anything else is a bug."""
        with contextlib.suppress(UsageError):
            act(*words)

    @rule(loaded=st.booleans())
    def start(self, loaded: bool) -> None:
        self.session.host.order(Boot(Start(self.session.engine, {}), load=loaded))

    @rule()
    def boot_again(self) -> None:
        self.do(self.session.steer.engine.boot_again)

    @rule(seqs=st.integers(1, 96))
    def boot_with(self, seqs: int) -> None:
        self.do(self.session.steer.engine.boot_with, {**ARGS, "max_num_seqs": seqs}, {})

    @rule(turn=KNOBS)
    def turn_a_limit(self, turn: tuple[str, int]) -> None:
        self.do(self.session.steer.limits.set, *turn)

    @rule(number=st.integers(0, 60))
    def load_closed(self, number: int) -> None:
        self.do(self.session.steer.load.set, load(ClosedLoop(number)))

    @rule(texts=st.sampled_from(LOADS))
    def load_other(self, texts: dict[str, str]) -> None:
        self.do(self.session.steer.load.set, from_texts(load(ClosedLoop(12)), texts))

    @rule(name=st.sampled_from(PRESSED))
    def press(self, name: str) -> None:
        self.do(attrgetter(name)(self.session.steer))

    @rule(plan=st.sampled_from(PLANS), goals=st.sampled_from(("", "ttft_p50=1s", "e2e_p90=1ms")))
    def tune(self, plan: Plan, goals: str) -> None:
        self.session.set_goals(parse_goals(goals))
        self.do(self.session.steer.experiments.tune, plan)

    @rule()
    def finish_tuning(self) -> None:
        self.do(self.session.steer.experiments.finish_tuning)

    @rule(boot=st.booleans())
    def take_tuned(self, boot: bool) -> None:
        self.do(lambda: self.session.steer.take(boot=boot))

    @rule()
    def save(self) -> None:
        path = self.folder / "kept.yaml"
        saved = self.session.save(path, overwrite=True)
        try:
            profile.load(saved)
        except ProfileError as error:
            raise AssertionError(saved.read_text()) from error

    # -- what goes wrong -------------------------------------------------------------------

    @rule(name=st.sampled_from(FAULTS), error=st.sampled_from(ERRORS))
    def fail_next(self, name: str, error: BaseException) -> None:
        # What an engine may raise anywhere but from its boot is an Exception.
        if isinstance(error, SystemExit) and name != "boot":
            error = RuntimeError("told to fail")
        self.plan[name] = error.__class__(*error.args) if not isinstance(error, EngineError) else (
            EngineError(error.message, error.hint)
        )  # fmt: skip

    # -- time passes -----------------------------------------------------------------------

    @rule(turns=st.integers(1, 40))
    def run(self, turns: int) -> None:
        for _ in range(turns):
            wait_s = self.host.run_pass()
            assert self.session.recorder.accounting.balanced
            if wait_s > 0:
                self.clock.advance(min(wait_s, 0.05))

    @rule()
    def write(self) -> None:
        if self.journal:
            self.journal.write_new()
            assert not self.journal.failure

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "session"):
            return
        frame = self.session.advance()
        books = frame.accounting
        assert books.balanced, books
        for rate in (frame.figures.generated_per_s, frame.now.generated_per_s):
            # Without a window there is none.
            assert rate >= 0 or math.isnan(rate)
        assert 0 <= frame.kv_frac <= 1
        status = frame.status
        assert (status.failure is not None) == (status.state is State.FAILED)
        if status.failure is not None:
            assert status.failure.message
            assert books.in_flight == 0
            assert self.host._engine is None

    def teardown(self) -> None:
        if hasattr(self, "session"):
            try:
                self.end()
            finally:
                shutil.rmtree(self.folder)

    def end(self) -> None:
        self.plan.clear()
        self.session.host.close(0)
        while self.session.host.status.state is not State.STOPPED:
            self.host.run_pass()
        books = self.session.advance().accounting
        assert books.balanced
        assert books.in_flight == 0
        assert self.host._engine is None
        assert threading.active_count() == self.threads
        if self.journal:
            self.journal.write_new("left")
            assert not self.journal.failure
            assert read_log(self.journal.path).ended == "left"


class OnVllm(AnythingGoes):
    """The same on vLLM's own engine, scheduler and KV cache, with no model in it."""

    def make_engine(self) -> Any:
        return Unreliable(VllmEngine(simulation.executor_class()), self.plan)


@pytest.fixture(autouse=True)
def garbage_is_collected_as_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole collections, ours and vLLM's around each boot, would take nearly all of the time."""
    monkeypatch.setattr(gc, "collect", lambda *_: 0)
    monkeypatch.setattr(gc, "freeze", lambda: None)


TestAnythingGoes = AnythingGoes.TestCase
TestAnythingGoes.settings = settings(
    max_examples=int(os.environ.get("FAULT_SEQUENCES", "150")), stateful_step_count=12,
    deadline=None,
)  # fmt: skip
TestOnVllm = pytest.mark.engine(OnVllm.TestCase)
TestOnVllm.settings = settings(
    max_examples=int(os.environ.get("FAULT_SEQUENCES", "12")), stateful_step_count=25,
    deadline=None, suppress_health_check=list(HealthCheck),
)  # fmt: skip

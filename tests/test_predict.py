"""What a setting would give, by what steps have cost: against the engine that serves it."""

from __future__ import annotations

import math
import os
import signal
import threading
from typing import Any

import msgspec
import numpy as np
import pytest

from tests import PATIENCE_S
from tests.rig import Rig
from tputtui.engine.fake import FakeEngine
from tputtui.engine.orders import BeginLeg
from tputtui.experiments.tuner.scoring import score
from tputtui.goals import parse_goals
from tputtui.knobs import Knobs
from tputtui.load.lengths import Fixed, Uniform
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Poisson, Recorded, TraceFile, Workload
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import StepSample
from tputtui.predict.book import StepBook
from tputtui.predict.costs import StepCosts, learnt
from tputtui.predict.forecast import Forecast, Query, Wanted, answered, forecast
from tputtui.predict.foresight import Foresight, Running
from tputtui.predict.process import OtherProcess
from tputtui.predict.scheduler import Machine, served
from tputtui.profile import EngineSpec, Profile

GOALS = parse_goals("ttft_p90=2s,tpot_p90=20ms")
LENGTHS = ((60, 16, 0.4), (120, 24, 0.4), (200, 40, 0.2))
CLOSED = Workload(ClosedLoop(48), pairs=LENGTHS, seed=7)
OWN_ARRIVALS = "chat at=20/s; batch at=12 prompt=200 output=40; rest share=1"
MACHINE = Machine(FakeEngine.BLOCK_SIZE)
WARM_S, LENGTH_S = 3.0, 12.0


def leg(rig: Rig, load: Workload, **limits: int) -> Knobs:
    """Run a leg on the deterministic engine; its limits."""
    knobs = rig.host.status.knobs.overridden(FakeEngine.BOOTED.as_dict()).overridden(limits)
    rig.host.order(BeginLeg(knobs, load, "leg"))
    rig.turn()
    end_s = rig.clock() + WARM_S + LENGTH_S
    while rig.clock() < end_s:
        rig.turn()
    return knobs


@pytest.fixture(scope="module")
def book() -> StepBook:
    """The steps of one leg, with the limits as booted."""
    rig = Rig.booted(CLOSED)
    leg(rig, CLOSED)
    made = StepBook()
    made.follow(rig.session.recorder)
    return made


@pytest.fixture(scope="module")
def costs(book: StepBook) -> StepCosts:
    found = learnt(book.kept, book.newest)
    assert found is not None
    return found


class TestScheduler:
    @pytest.mark.parametrize(
        ("load", "limits"),
        [
            (CLOSED, {}),
            (CLOSED, {"max_num_seqs": 24}),
            (CLOSED, {"max_num_seqs": 8}),
            (CLOSED, {"max_num_seqs": 64, "max_num_batched_tokens": 128}),
            (msgspec.structs.replace(CLOSED, arrivals=Poisson(60.0)), {"max_num_seqs": 16}),
            (msgspec.structs.replace(CLOSED, arrivals=Poisson(14.0)), {}),
            (msgspec.structs.replace(CLOSED, arrivals=ClosedLoop(5)), {}),
            (CLOSED, {"max_num_queued_reqs": 24}),
            (CLOSED, {"max_num_seqs": 16, "max_num_queued_tokens": 600}),
            (
                msgspec.structs.replace(CLOSED, arrivals=Poisson(120.0)),
                {"max_num_seqs": 16, "max_num_queued_reqs": 32},
            ),
            (from_texts(CLOSED, {"classes": OWN_ARRIVALS}), {"max_num_seqs": 24}),
            (from_texts(CLOSED, {"classes": OWN_ARRIVALS}), {"max_num_queued_reqs": 24}),
        ],
    )
    def test_it_serves_as_the_engine_does_from_the_steps_of_another_setting(
        self, costs: StepCosts, load: Workload, limits: dict[str, int]
    ) -> None:
        """The engine batches as vLLM does; `tests/engine/test_forecast.py` asks vLLM itself."""
        rig = Rig.booted(load)
        knobs = leg(rig, load, **limits)
        recorder, end_s = rig.session.recorder, rig.clock()
        measured = score(recorder, end_s - LENGTH_S, end_s, GOALS, must_keep_up=False).seen
        predicted = forecast(Wanted(knobs, load, LENGTH_S), costs, MACHINE, GOALS)
        assert predicted.value == pytest.approx(measured.value, rel=0.03, abs=0.2)
        assert predicted.miss == pytest.approx(measured.miss, abs=0.03)

    @pytest.mark.parametrize("goal", ["ttft_p90=3s", "tpot_p50=9ms"])
    def test_a_goal_of_a_class_is_for_its_requests(self, book: StepBook, goal: str) -> None:
        load = from_texts(
            CLOSED, {"classes": f"{OWN_ARRIVALS}; more share=2 prompt=90 output=9 goal={goal}"}
        )
        goals = Profile(EngineSpec("shape:demo"), load).judged
        assert [each.traffic for each in goals] == ["more"]
        rig = Rig.booted(load)
        knobs = leg(rig, load, max_num_seqs=24)
        recorder, end_s = rig.session.recorder, rig.clock()
        measured = score(recorder, end_s - LENGTH_S, end_s, goals, must_keep_up=False).seen
        wanted = (Wanted(knobs, load, LENGTH_S),)
        (predicted,) = answered(Query(book.kept, book.newest, MACHINE, goals, wanted))
        assert predicted.value == pytest.approx(measured.value, rel=0.05)
        assert predicted.miss == pytest.approx(measured.miss, abs=0.05)

    def test_what_is_refused_stands_among_what_ended(self, costs: StepCosts) -> None:
        knobs = FakeEngine.BOOTED.overridden({"max_num_queued_reqs": 16})
        ended = served(CLOSED, knobs, costs, MACHINE, LENGTH_S).ended
        good, rejected = (ended[:, ENDED[name]] > 0 for name in ("good", "rejected"))
        assert good.any()
        assert rejected.any()
        assert (good != rejected).all()
        assert np.isnan(ended[rejected, ENDED["ttft_s"]]).all()
        assert np.isfinite(ended[good, ENDED["ttft_s"]]).all()

    def test_a_small_kv_cache_preempts_and_serves_less(self, costs: StepCosts) -> None:
        knobs = FakeEngine.BOOTED
        plenty = forecast(Wanted(knobs, CLOSED, 10.0), costs, MACHINE, ())
        scarce = knobs.with_value("num_gpu_blocks", 60)
        little = forecast(Wanted(scarce, CLOSED, 10.0), costs, MACHINE, ())
        assert 0.2 * plenty.value < little.value < 0.9 * plenty.value

    def test_states_take_their_part_of_the_kv_cache(self, costs: StepCosts) -> None:
        # Room for eight sequences of four blocks each and five besides.
        load = Workload(ClosedLoop(16), Fixed(100), Fixed(20))
        knobs = FakeEngine.BOOTED.with_value("num_gpu_blocks", 1 + 8 * 9)
        plain = served(load, knobs, costs, MACHINE, 6.0)
        held = served(
            load, knobs, costs, MACHINE._replace(state_tokens=5 * MACHINE.block_size), 6.0
        )
        assert plain.most_decodes > held.most_decodes
        assert 7 <= held.most_decodes <= 9

    def test_what_the_prefix_cache_has_need_not_be_computed(self, costs: StepCosts) -> None:
        long = Workload(ClosedLoop(16), Fixed(800), Fixed(8), seed=3)
        cached = MACHINE._replace(hit_frac=0.9)
        with_hits = forecast(Wanted(FakeEngine.BOOTED, long, 5.0), costs, cached, ())
        without = forecast(Wanted(FakeEngine.BOOTED, long, 5.0), costs, MACHINE, ())
        off = FakeEngine.BOOTED.with_value("enable_prefix_caching", 0)
        switched_off = forecast(Wanted(off, long, 5.0), costs, cached, ())
        assert with_hits.value > 1.5 * without.value
        assert switched_off.value == without.value

    def test_with_asynchronous_scheduling_results_come_a_step_later(self, costs: StepCosts) -> None:
        alone = Workload(ClosedLoop(1), Fixed(64), Fixed(20), seed=3)
        late = MACHINE._replace(overlapped=True)
        sync = forecast(Wanted(FakeEngine.BOOTED, alone, 5.0), costs, MACHINE, ())
        overlapped = forecast(Wanted(FakeEngine.BOOTED, alone, 5.0), costs, late, ())
        assert overlapped.tpot_s.p50 == pytest.approx(sync.tpot_s.p50, rel=0.08)
        assert sync.ttft_s.p50 < overlapped.ttft_s.p50 < 2.2 * sync.ttft_s.p50

    def test_a_load_that_is_not_kept_up_with_misses_its_goals(self, costs: StepCosts) -> None:
        load = msgspec.structs.replace(CLOSED, arrivals=Poisson(200.0))
        goals = parse_goals("ttft_p90=1000s")
        wanted = Wanted(FakeEngine.BOOTED.with_value("max_num_seqs", 4), load, 10.0)
        kept_up = forecast(wanted, costs, MACHINE, goals)
        assert kept_up.miss < 0
        assert forecast(wanted, costs, MACHINE, goals, must_keep_up=True).miss > 0.5

    def test_batches_beyond_those_that_were_seen_are_told(self, costs: StepCosts) -> None:
        seen = forecast(Wanted(FakeEngine.BOOTED, CLOSED, 5.0), costs, MACHINE, ())
        many = msgspec.structs.replace(CLOSED, arrivals=ClosedLoop(200))
        beyond = forecast(Wanted(FakeEngine.BOOTED, many, 5.0), costs, MACHINE, ())
        assert (seen.beyond, beyond.beyond) == (False, True)


def recorded(rows: list[tuple[float, int, int, float]]) -> Recorder:
    """Steps of (duration, decodes, prefill tokens, gap before)."""
    recorder, now_s = Recorder(), 100.0
    for duration_s, decodes, prefill, gap_s in rows:
        now_s += gap_s + duration_s
        step = StepSample(now_s, duration_s, decodes, 0, prefill, decodes, decodes, 0, 0, 0, 0.1,
                          256, 2048, context_tokens=0)  # fmt: skip
        recorder.add_step(step, ())
    return recorder


def learnt_of(rows: list[tuple[float, int, int, float]]) -> StepCosts:
    book = StepBook()
    book.follow(recorded(rows))
    found = learnt(book.kept, book.newest)
    assert found is not None
    return found


class TestCosts:
    def test_the_loop_around_the_engine_counts_and_idle_time_does_not(self) -> None:
        busy = [(0.010, 4, 0, 0.001)] * 60
        idle = [(0.010, 4, 0, 5.0)] * 10
        found = learnt_of(busy + idle)
        base, _ = found.decode_only_s(8)
        assert base[4] == pytest.approx(0.011, rel=0.03)

    def test_padded_batches_are_learnt_size_by_size(self) -> None:
        random = np.random.default_rng(1)

        def padded_s(decodes: int) -> float:
            return 0.005 + 0.0002 * (1 << (decodes - 1).bit_length())

        counts = [int(n) for n in random.integers(1, 65, 3000)]
        noise = np.exp(0.01 * random.standard_normal(len(counts))).tolist()
        rows = [(padded_s(n) * f, n, 0, 0.0) for n, f in zip(counts, noise, strict=True)]
        base, _ = learnt_of(rows).decode_only_s(64)
        # Within a quarter of an octave the fit's slope remains; the fit alone is off by up to 40 %.
        for n in (4, 8, 16, 24, 31, 33, 40, 60, 64):
            assert base[n] == pytest.approx(padded_s(n), rel=0.08)

    def test_a_stall_does_not_make_steps_dearer_but_comes_again(self) -> None:
        rows = [(0.010, 4 + i % 8, 0, 0.0) for i in range(1000)]
        rows[200::400] = [(0.410, 4, 0, 0.0)] * 2
        found = learnt_of(rows)
        base, _ = found.decode_only_s(8)
        assert base[4] == pytest.approx(0.010, rel=0.02)
        assert found.stall_s == pytest.approx(0.400, rel=0.02)
        assert found.stalls_per_s == pytest.approx(0.2, rel=0.02)
        assert found.error(20.0) > 0.03

    def test_drift_is_kept_with_its_scale(self) -> None:
        rows = [(0.010 * (1 + 0.1 * math.sin(i / 300)), 4 + i % 8, 0, 0.0) for i in range(4000)]
        found = learnt_of(rows)
        assert found.levels.mean() == pytest.approx(1.0)
        assert 0.04 < found.levels.std() < 0.1
        assert 0.02 < found.error(5.0) < 0.1

    def test_with_asynchronous_scheduling_a_step_takes_what_the_one_before_scheduled(self) -> None:
        rows = [(0.020 if i % 2 else 0.010, 16 if i % 2 else 48, 0, 0.0) for i in range(400)]
        book = StepBook(overlapped=True)
        book.follow(recorded(rows))
        found = learnt(book.kept, book.newest)
        assert found is not None
        base, _ = found.decode_only_s(48)
        assert base[48] == pytest.approx(0.020, rel=0.05)
        assert base[16] == pytest.approx(0.010, rel=0.05)

    def test_a_size_passed_through_while_the_engine_fills_up_was_not_seen_often(self) -> None:
        filling = [(0.050, n, 400, 0.0) for n in range(1, 33) for _ in range(3)]
        steps = filling + [(0.020, 32, 0, 0.0)] * 300
        found = learnt_of(steps)
        assert found.often.tolist() == [32.0]
        assert found.octaves_off(8) > 1.5
        # Where nearly every step has prefill, there are no others to go by.
        mixed = learnt_of([(0.050, n, 400, 0.0) for n in (8, 32) for _ in range(200)])
        assert mixed.octaves_off(8) == 0.0

    def test_few_steps_tell_nothing(self) -> None:
        book = StepBook()
        book.follow(recorded([(0.01, 4, 0, 0.0)] * 20))
        assert learnt(book.kept, book.newest) is None

    def test_a_rare_size_is_kept_however_many_steps_there_are(self) -> None:
        recorder = recorded([(0.03, 64, 0, 0.0)] * 30 + [(0.01, 4, 0, 0.0)] * 6000)
        book = StepBook()
        book.follow(recorder)
        kept = book.kept
        assert np.count_nonzero(kept[:, 2] == 64) > 10
        assert len(kept) < 100


def query(book: StepBook, *loads: Workload) -> Query:
    wanted = tuple(Wanted(FakeEngine.BOOTED, load, 5.0) for load in loads)
    return Query(book.kept, book.newest, MACHINE, GOALS, wanted)


def waited(foresight: Foresight) -> Any:
    pause = threading.Event()
    for _ in range(int(PATIENCE_S / 0.05)):
        if not foresight.busy:
            return foresight.answer()
        pause.wait(0.05)
    raise AssertionError("no answer")


class TestForesight:
    def foresight(self, book: StepBook, **make: Any) -> Foresight:
        made = Foresight(**make)
        made._running = Running("engine", 32, False, 1000)
        made._books = {"engine": book}
        made._up = True
        return made

    def test_another_process_answers_the_same(self, book: StepBook) -> None:
        load = Workload(ClosedLoop(8), Uniform(20, 60), Fixed(10), seed=2)
        inline, apart = self.foresight(book), self.foresight(book, make=OtherProcess)
        wanted = [("this", Wanted(FakeEngine.BOOTED, load, 5.0))]
        assert inline.ask(wanted, GOALS)
        assert apart.ask(wanted, GOALS)
        answer = waited(apart)
        assert answer == inline.answer()
        assert isinstance(answer.forecasts[0], Forecast)
        assert answer.asked == ("this",)
        assert apart.answer() is None
        process = apart._computer
        assert isinstance(process, OtherProcess)
        apart.close()
        assert process._process.returncode is not None

    def test_a_process_that_was_killed_answers_nothing_and_stops_nobody(
        self, book: StepBook
    ) -> None:
        foresight = self.foresight(book, make=OtherProcess)
        assert foresight.ask([("one", Wanted(FakeEngine.BOOTED, CLOSED, 5.0))], GOALS)
        waited(foresight)
        process = foresight._computer
        assert isinstance(process, OtherProcess)
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait(PATIENCE_S)
        assert foresight.ask([("two", Wanted(FakeEngine.BOOTED, CLOSED, 5.0))], GOALS)
        assert waited(foresight).forecasts is None
        foresight.close()

    def test_a_trace_that_cannot_be_read_is_not_predicted(self, book: StepBook) -> None:
        gone = Workload(Recorded(), trace=TraceFile("/nowhere/trace.jsonl"))
        assert answered(query(book, gone)) is None
        assert answered(query(book, CLOSED)) is not None

    def test_every_engine_has_its_own_costs(self) -> None:
        rig = Rig.booted(CLOSED)
        rig.run(3.0)
        recorder, foresight = rig.session.recorder, Foresight()
        assert not foresight.ask([], GOALS)
        one, two = (Running(name, 32, False, 1000) for name in ("one", "two"))
        foresight.follow(recorder, one)
        rig.run(2.0)
        foresight.follow(recorder, two)
        assert len(foresight._books["one"].newest) > 100
        assert len(foresight._books["two"].newest) == 0
        rig.run(2.0)
        foresight.follow(recorder, two)
        assert len(foresight._books["two"].newest) > 100
        assert foresight.ask([], GOALS)
        # While another engine boots, nothing is known of the one that will run.
        foresight.follow(recorder, None)
        assert not foresight.ask([], GOALS)

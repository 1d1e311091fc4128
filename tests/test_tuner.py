"""The tuner on the deterministic engine: what it finds, what it says, and that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.rig import Rig
from tputtui import profile
from tputtui.engine.fake import FakeEngine
from tputtui.engine.orders import BeginLeg, Order
from tputtui.engine.protocol import EngineFacts, Report, StepReport
from tputtui.errors import BootNeeded, EngineError, KnobError, UsageError
from tputtui.experiments.tuner.plan import Plan, parse_engines
from tputtui.frame import TunerState
from tputtui.goals import parse_goals
from tputtui.load.levels import Bursts
from tputtui.load.workload import ClosedLoop, Poisson, Recorded, TraceFile, Workload
from tputtui.measure.verdict import Verdict
from tputtui.profile import EngineSpec, EngineValue
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log
from tputtui.record.resuming import resumed

LENGTHS = ((60, 16, 0.4), (120, 24, 0.4), (200, 40, 0.2))
CLOSED = Workload(ClosedLoop(48), pairs=LENGTHS, seed=7)
ARRIVING = Workload(Poisson(8.0), pairs=LENGTHS, seed=7)
SLOW = {"STEP_S": 0.024, "DECODE_S": 0.0006, "PREFILL_S": 48e-6}
"""Steps four times as long: fewer of them to compute for each virtual second."""
SMALL = "max_num_seqs=8,24,48,256"
"""Few settings, so that a test is over soon."""


@pytest.fixture(scope="module", autouse=True)
def slow() -> Iterator[None]:
    """Every engine here takes such steps."""
    with pytest.MonkeyPatch.context() as patch:
        for name, seconds in SLOW.items():
            patch.setattr(FakeEngine, name, seconds)
        yield


def tuned_rig(
    work: Workload = CLOSED,
    goals: str = "tpot_p90=44ms",
    *,
    finish: bool = True,
    **plan: Any,
) -> Rig:
    rig = Rig.booted(work)
    rig.session.set_goals(parse_goals(goals))
    rig.run(1.0)
    rig.session.steer.experiments.tune(Plan(**{"vary": SMALL, **plan}))
    while finish and rig.session.steer.experiments.under_way:
        rig.run(2.0)
    return rig


@pytest.fixture(scope="module")
def found() -> Rig:
    """48 in flight with a goal on TPOT that only fewer sequences keep."""
    return tuned_rig()


class TestFinding:
    def test_it_finds_what_meets_the_goal_and_offers_it(self, found: Rig) -> None:
        state = found.session.advance().tuner
        assert state.phase == "done"
        assert state.offered
        assert state.found == {"max_num_seqs": 24}
        assert "max_num_seqs 24 keeps the goals; the start does not: tpot_p90" in state.verdict
        headline = state.differences[0]
        assert headline.metric.key == "goodput_per_s"
        assert headline.judgement is Verdict.BETTER

    def test_every_trial_says_what_it_gave_and_why_it_ended(self, found: Rig) -> None:
        trials = found.session.advance().tuner.trials
        assert [trial.number for trial in trials] == list(range(1, len(trials) + 1))
        start, *rest = trials
        assert start.knobs == {"max_num_seqs": 256}
        assert not start.holds
        assert start.sure
        assert start.worst == "tpot_p90"
        assert start.observed_s > 0.044
        assert start.why == "stopped early: goal missed"
        assert "48/256 run" in start.binding
        assert start.took_s < 12
        whole = [trial for trial in rest if trial.why == "measured"]
        assert whole
        assert all(trial.point.window_s >= 10 for trial in whole)
        assert all(trial.point.n > 100 for trial in whole)
        letters = {trial.knobs["max_num_seqs"]: trial.point.label for trial in trials}
        assert len(set(letters.values())) == len(letters) >= 3

    def test_trials_serve_the_same_requests_and_the_pairs_others(self) -> None:
        rig = Rig.booted(CLOSED)
        begun, give = [], rig.session.host.order

        def watch(order: Order) -> int:
            if isinstance(order, BeginLeg):
                begun.append((order.text, order.workload.seed, order.knobs.max_num_seqs))
            return give(order)

        rig.session.host.order = watch  # type: ignore[method-assign]
        rig.session.set_goals(parse_goals("tpot_p90=44ms"))
        rig.session.steer.experiments.tune(Plan(vary=SMALL))
        while rig.session.steer.experiments.under_way:
            rig.run(2.0)
        trials = {seed for text, seed, _ in begun if text.startswith("trial")}
        pairs = [(seed, seqs) for text, seed, seqs in begun if "pair" in text]
        assert trials == {1_000_010}
        assert pairs[:4] == [(8, 256), (8, 24), (9, 24), (9, 256)]
        assert begun[-1][:2] == ("tuner done", 7)

    def test_everything_is_put_back_and_nothing_of_it_is_a_trial_or_point_of_the_person(
        self, found: Rig
    ) -> None:
        frame = found.session.advance()
        assert frame.asked.max_num_seqs == 256
        assert frame.profile.load == CLOSED
        assert len(frame.trials) == 1
        assert not frame.sweep

    def test_without_goals_tokens_per_second_count_and_a_start_that_is_best_stays(self) -> None:
        rig = tuned_rig(goals="", vary="max_num_seqs=8,24,256")
        state = rig.session.advance().tuner
        assert not state.offered
        assert state.verdict.startswith("Nothing tried is better than the start, max_num_seqs 256")
        assert "tokens/s" in state.verdict
        with pytest.raises(UsageError, match="nothing to take"):
            rig.session.steer.take()

    def test_with_time_for_the_start_only_it_says_so(self) -> None:
        # Trials take longer than they are reckoned with before there are any.
        rig = tuned_rig(goals="e2e_p90=100s", budget_s=120.0)
        state = rig.session.advance().tuner
        assert state.tried == 1
        assert state.verdict.startswith("There was time for the start only, max_num_seqs 256: ")

    def test_budgets_that_can_try_nothing_are_refused_with_the_least_there_is(self) -> None:
        rig = Rig.booted(CLOSED)
        with pytest.raises(UsageError, match="too short to try anything") as refused:
            rig.session.steer.experiments.tune(Plan(budget_s=60.0))
        assert "120 s at least" in refused.value.hint

    def test_goals_that_cannot_be_met_end_with_the_closest_and_what_stood_in_the_way(self) -> None:
        rig = tuned_rig(goals="ttft_p90=80ms,tpot_p90=8ms")
        state = rig.session.advance().tuner
        assert not state.offered
        assert not state.differences
        none = f"None of the {state.tried} settings"
        if state.tried < state.settings:
            none += f" tried (of {state.settings})"
        assert state.verdict.startswith(f"{none} met the goals. The closest was max_num_seqs")
        assert "of 8.00 ms" in state.verdict or "of 80.0 ms" in state.verdict
        assert "what held it back there: " in state.verdict

    def test_arrivals_that_are_not_kept_up_with_miss_whatever_was_served(self) -> None:
        load = Workload(Poisson(25.0), pairs=LENGTHS, seed=7)
        rig = tuned_rig(load, goals="ttft_p90=60s", vary="max_num_seqs=4,64,256")
        trials = rig.session.advance().tuner.trials
        narrow = next(trial for trial in trials if trial.knobs["max_num_seqs"] == 4)
        assert narrow.worst == "saturated"
        assert not narrow.holds

    @pytest.mark.long
    def test_the_most_load_is_found_with_its_limits_and_taken_with_them(self) -> None:
        goals = "ttft_p90=1200ms,tpot_p90=44ms"
        rig = tuned_rig(ARRIVING, goals, load=True, budget_s=1200, vary="max_num_seqs=24,256")
        state = rig.session.advance().tuner
        best = next(trial for trial in state.trials if trial.number == state.best)
        assert best.holds
        assert best.level > 11
        held = {t.level for t in state.trials if t.knobs == best.knobs and t.holds}
        missed = {t.level for t in state.trials if t.knobs == best.knobs and not t.holds}
        assert min(missed) <= best.level * 1.11
        assert max(held) == best.level
        assert f"{best.level:g}/s" in state.verdict
        assert state.offered
        rig.session.steer.take()
        arrivals = rig.session.workload.arrivals
        assert isinstance(arrivals, Poisson)
        assert arrivals.rate == best.level
        assert rig.session.workload.seed == 7
        rig.session.steer.undo()
        assert rig.session.workload == ARRIVING

    def test_time_is_bounded_and_a_short_one_is_for_the_confirmation_too(self) -> None:
        rig = Rig.booted(CLOSED)
        rig.session.set_goals(parse_goals("tpot_p90=44ms"))
        began_s = rig.clock()
        rig.session.steer.experiments.tune(Plan(budget_s=150.0))
        left = []
        while rig.session.steer.experiments.under_way:
            rig.run(2.0)
            left.append(rig.session.advance().tuner.left_s)
        assert rig.clock() - began_s < 200
        assert left[0] == pytest.approx(150, abs=8)
        assert left[-1] == 0
        assert rig.session.advance().tuner.differences


class TestSteering:
    def test_what_was_found_is_taken_and_undone_like_any_turn(self) -> None:
        rig = tuned_rig()
        steer = rig.session.steer
        assert steer.take() == "max_num_seqs 256 → 24"
        rig.run(0.5)
        assert rig.session.host.status.knobs.max_num_seqs == 24
        assert "max_num_seqs 24" in rig.session.snapshot().evidence.note
        assert steer.take() == "Already there."
        steer.undo()
        rig.run(0.5)
        assert rig.session.host.status.knobs.max_num_seqs == 256

    def test_stopped_it_confirms_the_best_and_stopped_again_it_ends(self) -> None:
        rig = tuned_rig(finish=False)
        steer = rig.session.steer
        while not any(trial.holds for trial in rig.session.advance().tuner.trials):
            rig.run(1.0)
        assert "compared with the start" in steer.experiments.finish_tuning()
        rig.run(1.0)
        state = rig.session.advance().tuner
        assert state.phase == "confirming"
        assert steer.experiments.finish_tuning() == "The tuner is stopped."
        rig.run(1.0)
        state = rig.session.advance().tuner
        assert state.over
        assert not state.offered
        assert state.verdict.startswith(
            "Ended by the user before it was confirmed. The best so far is"
        )
        assert rig.session.advance().asked.max_num_seqs == 256
        with pytest.raises(UsageError, match="not under way"):
            steer.experiments.finish_tuning()

    def test_any_turn_breaks_it_off_from_where_it_was_begun(self) -> None:
        rig = tuned_rig(finish=False)
        rig.run(15.0)
        rig.session.steer.limits.set("max_num_batched_tokens", 1024)
        rig.run(1.0)
        frame = rig.session.advance()
        assert frame.tuner.over
        assert "A limit was changed." in frame.tuner.verdict
        assert (frame.asked.max_num_seqs, frame.asked.max_num_batched_tokens) == (256, 1024)
        assert frame.profile.load == CLOSED

    def test_other_goals_break_it_off(self) -> None:
        rig = tuned_rig(finish=False)
        rig.run(15.0)
        rig.session.set_goals(parse_goals("tpot_p90=44ms"))
        assert rig.session.steer.experiments.under_way == "the tuner"
        rig.session.set_goals(parse_goals("tpot_p90=48ms"))
        rig.run(1.0)
        assert rig.session.steer.experiments.under_way == ""
        assert rig.session.advance().tuner.over

    def test_a_profile_saved_meanwhile_holds_the_setting_before(self) -> None:
        rig = tuned_rig(finish=False)
        rig.run(15.0)
        saved = rig.session.snapshot()
        assert saved.knobs["max_num_seqs"] == 256
        assert saved.load == CLOSED
        assert "the tuner was under way" in saved.evidence.note

    def test_a_held_load_and_a_paused_engine_are_begun_by_it(self) -> None:
        rig = Rig.booted(CLOSED)
        rig.session.set_goals(parse_goals("tpot_p90=44ms"))
        rig.session.steer.load.toggle()
        rig.run(5.0)
        rig.session.steer.experiments.tune(Plan(vary=SMALL))
        rig.run(12.0)
        assert rig.session.advance().tuner.trials

    def test_a_load_that_ends_ends_it(self, tmp_path: Path) -> None:
        trace = tmp_path / "short.jsonl"
        row = '{{"timestamp": {}, "input_length": 64, "output_length": 8, "hash_ids": [{}]}}\n'
        rows = "".join(row.format(1000 * i, i) for i in range(3))
        trace.write_text(rows)
        rig = Rig.booted(Workload(Recorded(), trace=TraceFile(str(trace))))
        rig.session.steer.experiments.tune(Plan(vary=SMALL))
        for _ in range(60):
            rig.run(1.0)
        state = rig.session.advance().tuner
        assert state.over
        assert state.verdict == "The load ended before a trial was measured."

    def test_an_engine_that_fails_ends_it_and_keeps_its_trials(self) -> None:
        rig = tuned_rig(finish=False)
        while len(rig.session.advance().tuner.trials) < 2:
            rig.run(1.0)
        rig.host._engine.step = _fail  # type: ignore[method-assign]
        rig.run(2.0)
        state = rig.session.advance().tuner
        assert state.over
        assert len(state.trials) == 2

    @pytest.mark.parametrize(
        ("load", "goals", "plan", "says"),
        [
            (CLOSED, "", {"load": True}, "needs a goal"),
            (CLOSED, "", {"search": "best"}, "no search called 'best'"),
            (CLOSED, "", {"budget_s": 3.0}, "too short"),
            (CLOSED, "", {"vary": "max_num_seqs=512"}, "above its ceiling"),
            (CLOSED, "", {"engines": "block_size"}, "no engine argument with values"),
            (
                Workload(ClosedLoop(Bursts(8, 2, 2, 1)), pairs=LENGTHS),
                "tpot_p50=1s",
                {"load": True},
                "needs a constant one",
            ),
        ],
    )
    def test_what_cannot_be_carried_out_is_a_sentence_and_changes_nothing(
        self, load: Workload, goals: str, plan: dict[str, Any], says: str
    ) -> None:
        rig = Rig.booted(load)
        rig.session.set_goals(parse_goals(goals))
        with pytest.raises((UsageError, KnobError), match=says):
            rig.session.steer.experiments.tune(Plan(**plan))
        assert rig.session.steer.experiments.under_way == ""
        assert rig.session.advance().tuner is None


def _fail() -> None:
    raise EngineError("It broke.")


class EnginesRig(Rig):
    """With the arguments of each engine that was made."""

    made: list[dict[str, EngineValue]]


class TestEngines:
    def test_arguments_are_combined(self) -> None:
        assert parse_engines("block_size=16,32 --async-scheduling=true") == (
            {"block_size": 16, "async_scheduling": True},
            {"block_size": 32, "async_scheduling": True},
        )
        assert parse_engines(" ") == ()
        with pytest.raises(UsageError, match="20 engines"):
            parse_engines("a=1,2,3,4,5 b=1,2,3,4")

    @pytest.fixture(scope="class")
    def rig(self) -> EnginesRig:
        """A second engine takes longer steps, a third does not boot."""
        rig = EnginesRig(CLOSED)
        made: list[dict[str, EngineValue]] = []

        class Engine(FakeEngine):
            def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
                made.append(dict(spec.args))
                self.slow = spec.args.get("block_size") == 64
                if spec.args.get("block_size") == 128:
                    raise EngineError("Too large.")
                return super().boot(spec, report)

            def step(self) -> StepReport:
                self._clock.advance(0.08 if self.slow else 0.0)
                return super().step()

        rig.host._make_engine = lambda: Engine(rig.clock)
        rig.boot()
        rig.made = made
        rig.session.set_goals(parse_goals("tpot_p90=44ms"))
        rig.run(1.0)
        plan = Plan(vary=SMALL, engines="block_size=64,128", budget_s=900)
        rig.session.steer.experiments.tune(plan)
        while rig.session.steer.experiments.under_way:
            rig.run(2.0)
        rig.run(15.0)
        return rig

    def test_each_is_booted_searched_and_left_again(self, rig: EnginesRig) -> None:
        state = rig.session.advance().tuner
        assert state.engines == ("", "block_size=64", "block_size=128")
        assert {trial.engine for trial in state.trials} == {0, 1}
        assert [args.get("block_size") for args in rig.made] == [None, 64, 128, 64, None]
        assert rig.session.engine.args == {}
        assert rig.session.advance().serving
        assert rig.session.workload == CLOSED

    def test_the_best_of_all_is_found(self, rig: Rig) -> None:
        state = rig.session.advance().tuner
        assert state.offered
        assert state.found == {"max_num_seqs": 24}

    @pytest.mark.long
    def test_a_better_engine_is_confirmed_by_boots_and_taken_by_one(self) -> None:
        rig = Rig(CLOSED)

        class Engine(FakeEngine):
            def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
                self.slow = spec.args.get("block_size") != 64
                return super().boot(spec, report)

            def step(self) -> StepReport:
                self._clock.advance(0.04 if self.slow else 0.0)
                return super().step()

        rig.host._make_engine = lambda: Engine(rig.clock)
        rig.boot()
        rig.run(1.0)
        rig.session.steer.experiments.tune(
            Plan(vary="max_num_seqs=8,48,256", engines="block_size=64", budget_s=900)
        )
        while rig.session.steer.experiments.under_way:
            rig.run(2.0)
        rig.run(15.0)
        state = rig.session.advance().tuner
        assert state.offered
        assert "on block_size=64 is better than the start" in state.verdict
        assert rig.session.engine.args == {}
        with pytest.raises(BootNeeded, match="The tuner's find ran on another engine"):
            rig.session.steer.take()
        rig.session.steer.take(boot=True)
        rig.run(15.0)
        assert rig.session.engine.args == {"block_size": 64}
        assert rig.session.advance().serving


class AskedRig(Rig):
    """With the profile that its run was started from."""

    asked: profile.Profile


class TestRecorded:
    @pytest.fixture(scope="class")
    def log(self, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TunerState, AskedRig]:
        """A run broken off after a few trials, as a crash leaves it."""
        path = tmp_path_factory.mktemp("log") / "run.jsonl.zst"
        rig = AskedRig.booted(CLOSED)
        session = rig.session
        journal = Journal(path, session.recorder, session._observer._started_s)
        session.watch(journal.see)
        session.set_goals(parse_goals("tpot_p90=44ms"))
        rig.run(1.0)
        journal.write_new()
        session.steer.experiments.tune(Plan(vary=SMALL))
        while len(session.advance().tuner.trials) < 3:
            rig.run(1.0)
            journal.write_new()
        journal.write_new()
        rig.asked = profile.Profile(session.engine, CLOSED, {}, goals=session.goals)
        state = session.advance().tuner
        assert state is not None
        return path, state, rig

    def test_every_trial_is_read_back_as_it_was(
        self, log: tuple[Path, TunerState, AskedRig]
    ) -> None:
        path, state, _ = log
        read = read_log(path).moments[-1].tuner
        assert len(read.trials) == len(state.trials)
        for mine, theirs in zip(state.trials, read.trials, strict=True):
            for name in ("number", "knobs", "value", "miss", "sure", "why", "took_s", "index"):
                assert getattr(mine, name) == getattr(theirs, name)
            assert theirs.point.tokens_per_s == mine.point.tokens_per_s
        assert read.varied == state.varied

    def test_a_run_goes_on_from_its_trials(self, log: tuple[Path, TunerState, AskedRig]) -> None:
        path, state, before = log
        plan = resumed(Plan(), before.asked, str(path))
        assert plan.vary == state.varied
        rig = Rig.booted(CLOSED)
        rig.session.set_goals(parse_goals("tpot_p90=44ms"))
        rig.session.steer.experiments.tune(plan)
        assert len(rig.session.advance().tuner.trials) == 3
        while rig.session.steer.experiments.under_way:
            rig.run(2.0)
        after = rig.session.advance().tuner
        known = [trial.knobs for trial in state.trials]
        assert all(trial.again or trial.knobs not in known for trial in after.trials[3:])
        assert after.offered
        assert after.found == {"max_num_seqs": 24}

    def test_a_run_of_something_else_is_refused(
        self, log: tuple[Path, TunerState, AskedRig]
    ) -> None:
        path, _, before = log
        other = msgspec.structs.replace(before.asked, load=ARRIVING)
        with pytest.raises(UsageError, match="of another load"):
            resumed(Plan(), other, str(path))
        other = msgspec.structs.replace(before.asked, goals=())
        with pytest.raises(UsageError, match="of other goals"):
            resumed(Plan(), other, str(path))
        with pytest.raises(UsageError, match=r"\.zstx: "):
            resumed(Plan(), before.asked, str(path) + "x")

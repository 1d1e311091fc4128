"""What changes are judged to have done: before and after, A/B, history, guard, boots, redo."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.rig import Rig
from tputtui.engine.protocol import Engine, State
from tputtui.errors import BootNeeded, CeilingError, EngineError, KnobError, UsageError
from tputtui.frame import Frame
from tputtui.goals import parse_goals
from tputtui.load.lengths import Fixed, Uniform
from tputtui.load.workload import Arrivals, ClosedLoop, Poisson, Workload
from tputtui.measure.verdict import Difference, Verdict
from tputtui.session.guard import parse_guard


def load(arrivals: Arrivals, prompt: int = 100, output: int = 20, seed: int = 0) -> Workload:
    return Workload(arrivals, Fixed(prompt), Fixed(output), seed=seed)


@pytest.fixture
def rig() -> Rig:
    return Rig.booted(Workload(ClosedLoop(96), Uniform(60, 140), Uniform(15, 25)), max_num_seqs=64)


def row(frame: Frame, key: str) -> Difference:
    return next(d for d in frame.trials[-1].differences if d.metric.key == key)


class TestBeforeAfter:
    def test_a_turn_is_judged_against_the_setting_before(self, rig: Rig) -> None:
        rig.run(20.0)
        rig.session.steer.limits.set("max_num_seqs", 16)
        rig.run(1.0)
        frame = rig.session.advance()
        assert [trial.number for trial in frame.trials] == [1, 2]
        assert frame.trials[-1].changed == "max_num_seqs 64 → 16"
        assert frame.trials[-1].differences == ()
        rig.run(30.0)
        frame = rig.session.advance()
        assert frame.trials[-1].against == 1
        tokens = row(frame, "tokens_per_s")
        assert tokens.judgement is Verdict.WORSE
        assert tokens.old == frame.trials[0].value("tokens_per_s")
        assert tokens.new < tokens.old
        assert tokens.low <= tokens.change <= tokens.high < 0
        assert row(frame, "tpot_p50").judgement is Verdict.BETTER

    def test_a_row_is_measured_for_a_minute_and_then_stands(self, rig: Rig) -> None:
        rig.run(70.0)
        first = rig.session.advance().trials[-1].series
        assert 58.0 <= first.length_s <= 60.0 + 1e-6
        rig.run(20.0)
        assert rig.session.advance().trials[-1].series == first

    def test_a_pause_of_the_engine_is_not_in_the_figures(self, rig: Rig) -> None:
        rig.run(70.0)
        before = rig.session.advance().trials[-1].value("tokens_per_s")
        rig.session.steer.engine.toggle()
        rig.run(30.0)
        rig.session.steer.engine.toggle()
        rig.run(20.0)
        frame = rig.session.advance()
        assert len(frame.trials) == 1
        # Measured on after it, as one row of two windows.
        assert len(frame.trials[-1].spans) == 2
        assert frame.trials[-1].value("tokens_per_s") == pytest.approx(before, rel=1e-3)

    def test_a_key_held_down_is_one_row_one_mark_and_one_undo(self, rig: Rig) -> None:
        rig.run(10.0)
        marks = len(rig.session.advance().marks)
        for value in range(63, 40, -1):
            rig.session.steer.limits.set("max_num_seqs", value)
            rig.run(0.05)
        rig.run(3.0)
        frame = rig.session.advance()
        assert [trial.knobs.max_num_seqs for trial in frame.trials] == [64, 41]
        assert [mark.text for mark in frame.marks][marks:] == ["max_num_seqs 64 → 41"]
        rig.session.steer.undo()
        rig.turn()
        assert rig.session.advance().status.knobs.max_num_seqs == 64

    def test_a_pinned_baseline_is_what_others_are_compared_with(self, rig: Rig) -> None:
        rig.run(15.0)
        rig.session.steer.limits.set("max_num_seqs", 32)
        rig.run(15.0)
        rig.session.steer.limits.set("max_num_seqs", 16)
        rig.run(15.0)
        assert rig.session.advance().trials[-1].against == 2
        rig.session.steer.pin(1)
        rig.run(2.0)
        frame = rig.session.advance()
        assert (frame.baseline, frame.trials[-1].against) == (1, 1)
        rig.session.steer.pin(None)
        rig.run(2.0)
        assert rig.session.advance().trials[-1].against == 2
        with pytest.raises(UsageError, match="no row 9"):
            rig.session.steer.pin(9)


class TestAB:
    def test_it_finds_a_difference_and_puts_everything_back(self, rig: Rig) -> None:
        rig.run(5.0)
        rig.session.steer.limits.set("max_num_seqs", 32)
        rig.run(5.0)
        before = rig.session.workload
        assert "max_num_seqs 64 → 32" in rig.session.steer.experiments.compare()
        rig.run(30.0)
        frame = rig.session.advance()
        assert not frame.compare.done
        assert frame.compare.side in ("A", "B")
        assert len(frame.trials) == 2
        for _ in range(60):
            if rig.session.advance().compare.done:
                break
            rig.run(5.0)
        frame = rig.session.advance()
        assert frame.compare.done
        found = {d.metric.key: d for d in frame.compare.differences}
        assert found["tokens_per_s"].judgement is Verdict.WORSE
        assert found["tokens_per_s"].high < 0
        rig.turn()
        frame = rig.session.advance()
        assert frame.status.knobs.max_num_seqs == 32
        assert rig.session.workload == before
        assert frame.status.state is State.RUNNING
        assert frame.accounting.balanced
        # Both sides had the same requests: as many legs of A as of B.
        legs = [m.text.partition(", ")[2][:1] for m in frame.marks if m.kind == "leg"]
        assert legs.count("A") == legs.count("B") >= 3

    def test_a_turn_breaks_it_off_from_where_it_was_begun(self, rig: Rig) -> None:
        rig.run(5.0)
        rig.session.steer.limits.set("max_num_seqs", 32)
        rig.run(5.0)
        rig.session.steer.experiments.compare()
        rig.run(6.0)
        # Whichever leg is on: the person turns what stood when it began.
        assert rig.session.steer.limits.asked("max_num_seqs") == 32
        rig.session.steer.limits.set("max_num_batched_tokens", 1024)
        rig.run(1.0)
        frame = rig.session.advance()
        assert frame.compare is None
        assert frame.status.knobs.max_num_seqs == 32
        assert frame.status.knobs.max_num_batched_tokens == 1024
        rig.session.steer.undo()
        rig.run(1.0)
        assert rig.session.advance().status.knobs.max_num_batched_tokens == 2048

    def test_with_nothing_to_compare_it_says_what_to_do(self, rig: Rig) -> None:
        rig.run(2.0)
        with pytest.raises(UsageError, match="nothing to compare") as refusal:
            rig.session.steer.experiments.compare()
        assert "Change a limit" in refusal.value.hint

    def test_a_profile_saved_meanwhile_holds_the_setting_before(
        self, rig: Rig, tmp_path: Path
    ) -> None:
        rig.run(5.0)
        rig.session.steer.limits.set("max_num_seqs", 32)
        rig.run(5.0)
        rig.session.steer.experiments.compare()
        rig.run(1.0)
        saved = rig.session.snapshot()
        assert saved.knobs["max_num_seqs"] == 32
        assert saved.load.seed == 0
        assert "an A/B was under way" in saved.evidence.note


class TestHistory:
    def test_jump_goes_back_to_any_row_and_undo_takes_that_back(self, rig: Rig) -> None:
        rig.run(5.0)
        rig.session.steer.limits.set("max_num_seqs", 32)
        rig.run(5.0)
        rig.session.steer.load.set(load(Poisson(5.0)))
        rig.run(5.0)
        assert "max_num_seqs 32 → 64" in rig.session.steer.jump(1)
        rig.run(1.0)
        frame = rig.session.advance()
        assert frame.status.knobs.max_num_seqs == 64
        assert frame.profile.load.arrivals == ClosedLoop(96)
        rig.session.steer.undo()
        rig.run(1.0)
        frame = rig.session.advance()
        assert frame.status.knobs.max_num_seqs == 32
        assert frame.profile.load.arrivals == Poisson(5.0)

    def test_redo_does_again_what_was_undone_until_something_else_is_turned(self, rig: Rig) -> None:
        session = rig.session
        session.steer.limits.set("max_num_seqs", 32)
        rig.run(2.0)
        session.steer.limits.set("max_num_batched_tokens", 512)
        rig.run(2.0)
        session.steer.undo()
        session.steer.undo()
        assert "max_num_seqs 64 → 32" in session.steer.redo()
        assert "max_num_batched_tokens 2048 → 512" in session.steer.redo()
        with pytest.raises(UsageError, match="Nothing to do again"):
            session.steer.redo()
        session.steer.undo()
        session.steer.limits.set("max_num_seqs", 8)
        with pytest.raises(UsageError):
            session.steer.redo()

    def test_a_row_of_another_engine_needs_a_boot(self, rig: Rig) -> None:
        rig.run(5.0)
        with pytest.raises(CeilingError) as refusal:
            rig.session.steer.limits.set("max_num_seqs", 300)
        rig.session.steer.engine.boot_higher(refusal.value.name, refusal.value.value)
        rig.run(5.0)
        frame = rig.session.advance()
        assert frame.trials[-1].changed.startswith("another engine, max_num_seqs 64 → 300")
        with pytest.raises(BootNeeded, match="another engine"):
            rig.session.steer.jump(1)
        rig.session.steer.jump(1, boot=True)
        rig.run(5.0)
        frame = rig.session.advance()
        assert frame.status.facts.ceilings.max_num_seqs == 256
        assert frame.status.knobs.max_num_seqs == 64


class TestBoots:
    def test_limits_turned_stay_the_load_goes_on_and_history_too(self, rig: Rig) -> None:
        rig.run(5.0)
        rig.session.steer.limits.set("max_num_batched_tokens", 512)
        rig.session.steer.limits.set("enable_prefix_caching", "off")
        rig.run(5.0)
        before, marks = rig.session.advance().accounting, len(rig.session.advance().marks)
        rig.session.steer.engine.boot_higher("max_num_seqs", 512)
        rig.run(20.0)
        frame = rig.session.advance()
        assert frame.status.knobs.max_num_seqs == 512
        assert frame.status.knobs.max_num_batched_tokens == 512
        assert frame.status.knobs.enable_prefix_caching == 0
        assert len(frame.marks) > marks
        assert rig.session.history.total > 20
        assert frame.accounting.aborted == before.in_flight > 80
        assert frame.accounting.balanced
        assert min(s.number for s in list(rig.session.recorder.request_log)[-20:]) >= before.issued

    def test_a_boot_that_fails_goes_back_and_says_why(self, rig: Rig) -> None:
        rig.run(5.0)
        rig.session.steer.limits.set("max_num_seqs", 16)
        rig.run(5.0)
        real = rig.host._make_engine
        boots: list[int] = []

        def make_engine() -> Engine:
            boots.append(1)
            rig.engine_options = {"fail_boot": EngineError("no memory", "less")}
            engine = real()
            rig.engine_options = {}
            return real() if len(boots) > 1 else engine

        rig.host._make_engine = make_engine
        rig.session.steer.engine.boot_with({"max_num_seqs": 999}, {})
        rig.run(5.0)
        frame = rig.session.advance()
        assert frame.status.state is State.RUNNING
        assert frame.status.refused.message == "no memory"
        assert frame.status.knobs.max_num_seqs == 16
        assert rig.session.engine.args == {}
        assert len(boots) == 2
        rig.session.steer.limits.set("max_num_seqs", 17)

    def test_a_held_load_stays_held(self, rig: Rig) -> None:
        rig.run(2.0)
        rig.session.steer.load.toggle()
        rig.session.steer.engine.boot_higher("max_num_seqs", 512)
        rig.run(2.0)
        assert rig.session.advance().status.state is State.READY

    def test_limits_cannot_be_turned_while_it_boots(self, rig: Rig) -> None:
        rig.run(2.0)
        rig.session.steer.engine.boot_higher("max_num_seqs", 512)
        with pytest.raises(KnobError):
            rig.session.steer.limits.set("max_num_seqs", 3)
        rig.run(2.0)
        rig.session.steer.limits.set("max_num_seqs", 3)


class TestGuard:
    def guarded(self, text: str, arrivals: Arrivals | None = None) -> Rig:
        rig = Rig.booted(load(arrivals or ClosedLoop(48)), max_num_seqs=64)
        rig.session.steer.set_guard(parse_guard(text))
        rig.run(12.0)
        return rig

    def test_a_turn_that_breaks_it_is_undone_by_itself_and_marked(self) -> None:
        rig = self.guarded("ttft_p90=500ms")
        rig.session.steer.limits.set("max_num_seqs", 4)
        rig.run(20.0)
        frame = rig.session.advance()
        assert frame.status.knobs.max_num_seqs == 64
        assert "guard (" in frame.marks[-1].text
        assert "max_num_seqs 4 → 64" in frame.marks[-1].text
        notes = [trial.note for trial in frame.trials]
        assert any("undone by the guard" in note for note in notes)
        assert any("took it back" in news for news in rig.session.news())
        assert rig.session.news() == []

    def test_a_turn_that_keeps_it_stands(self) -> None:
        rig = self.guarded("ttft_p90=500ms,kv=0.97")
        rig.session.steer.limits.set("max_num_seqs", 60)
        rig.run(70.0)
        assert rig.session.advance().status.knobs.max_num_seqs == 60

    def test_a_turn_that_starves_everything_is_seen_by_who_waits(self) -> None:
        rig = self.guarded("ttft_p99=1s")
        rig.session.steer.limits.set("max_num_batched_tokens", 1)
        rig.run(30.0)
        assert rig.session.advance().status.knobs.max_num_batched_tokens == 2048

    def test_the_cache_is_guarded_too(self) -> None:
        rig = self.guarded("kv=0.5")
        rig.session.steer.limits.set("num_gpu_blocks", 100)
        rig.run(10.0)
        frame = rig.session.advance()
        assert frame.status.knobs.num_gpu_blocks == 1025
        assert "KV cache" in frame.marks[-1].text

    def test_what_was_broken_before_a_turn_is_not_its_doing(self) -> None:
        rig = Rig.booted(load(ClosedLoop(200)), max_num_seqs=8)
        rig.session.steer.set_guard(parse_guard("ttft_p90=500ms"))
        rig.run(20.0)
        rig.session.steer.limits.set("max_num_seqs", 12)
        rig.run(20.0)
        assert rig.session.advance().status.knobs.max_num_seqs == 12

    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("", "empty"),
            ("kv=2", "from 0 to 1"),
            ("kv=x", "from 0 to 1"),
            ("ttft=1s", "percentile"),
        ],
    )
    def test_what_cannot_be_read_is_a_sentence(self, text: str, says: str) -> None:
        with pytest.raises(UsageError, match=says):
            parse_guard(text)


def test_goals_are_compared_as_well(rig: Rig) -> None:
    rig.session.set_goals(parse_goals("ttft_p90=300ms"))
    rig.run(15.0)
    rig.session.steer.limits.set("max_num_seqs", 96)
    rig.run(20.0)
    frame = rig.session.advance()
    assert frame.trials[-1].differences[0].metric.key == "goodput_per_s"


def test_turns_in_every_state_are_carried_out_or_refused_with_a_sentence(rig: Rig) -> None:
    session = rig.session
    sentences = set()
    for step in range(1000):
        act = (
            partial(session.steer.limits.set, "max_num_seqs", 1 + step * 7 % 256),
            session.steer.load.toggle,
            session.steer.engine.toggle,
            session.steer.engine.preempt,
            session.steer.undo,
            session.steer.redo,
            session.steer.experiments.compare,
            session.steer.experiments.sweep,
            session.steer.load.stop,
            session.steer.engine.reset_prefix_cache,
            partial(session.steer.engine.boot_higher, "max_num_seqs", 256),
        )[step * step % 11]
        try:
            act()
        except UsageError as refusal:
            sentences.add(refusal.message)
        if step % 3 == 0:
            rig.turn()
            assert session.advance().accounting.balanced
    assert all(sentence.endswith(".") for sentence in sentences)
    rig.run(1.0)
    frame = session.advance()
    assert frame.status.failure is None
    assert frame.serving

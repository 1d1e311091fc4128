"""The loop and the session on the deterministic engine: accounting, limits, undo, failures."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

from tests.rig import Rig
from tputtui import profile
from tputtui.engine.fake import FakeEngine
from tputtui.engine.orders import SetLimits
from tputtui.engine.protocol import EngineFacts, Report, State
from tputtui.errors import EngineError, KnobError, UsageError
from tputtui.load.lengths import Fixed
from tputtui.load.sections import from_texts
from tputtui.load.workload import Arrivals, ClosedLoop, Poisson, Workload
from tputtui.measure.samples import Outcome
from tputtui.measure.window import finished_per_s
from tputtui.profile import EngineSpec
from tputtui.report.summary import summary


def load(arrivals: Arrivals, prompt: int = 100, output: int = 20) -> Workload:
    return Workload(arrivals, Fixed(prompt), Fixed(output))


@pytest.fixture
def rig() -> Rig:
    return Rig.booted(load(ClosedLoop(96)), max_num_seqs=64)


def test_a_boot_goes_through_its_stages_and_times_them() -> None:
    rig = Rig(load(ClosedLoop(4)))
    assert rig.session.advance().status.state is State.COLD
    rig.boot()
    frame = rig.session.advance()
    assert frame.status.state is State.RUNNING
    assert frame.status.stages == (
        ("importing vLLM", 6.0),
        ("loading the model, sizing the KV cache", 2.0),
    )


def test_load_queues_behind_the_limit_and_every_frame_balances(rig: Rig) -> None:
    for _ in range(300):
        rig.turn()
        frame = rig.session.advance()
        assert frame.accounting.balanced
        assert frame.accounting.running <= 64
    assert 64 <= frame.accounting.in_flight <= 96
    assert frame.accounting.waiting == 32
    assert frame.accounting.finished > 100
    tokens = sum(sample.output_tokens for sample in rig.session.recorder.request_log)
    assert frame.generated_tokens >= tokens > 0


def test_lowering_sequences_is_in_force_at_once_and_drains(rig: Rig) -> None:
    rig.run(2.0)
    assert rig.session.steer.limits.set("max_num_seqs", 16)
    rig.turn()
    frame = rig.session.advance()
    assert frame.status.knobs.max_num_seqs == 16
    assert frame.draining_seqs > 0
    assert not frame.window.settled
    rig.run(5.0)
    frame = rig.session.advance()
    assert frame.accounting.running <= 16
    assert frame.draining_seqs == 0
    assert frame.window.settled
    assert frame.marks[-1].text == "max_num_seqs 64 → 16"


def test_limits_out_of_bounds_are_refused_with_the_bounds_and_the_flag(rig: Rig) -> None:
    with pytest.raises(KnobError, match="above its ceiling 256") as refusal:
        rig.session.steer.limits.set("max_num_seqs", 257)
    assert "--max-num-seqs 257" in refusal.value.hint
    with pytest.raises(KnobError, match="max_num_seqs 99999999999999999999 is above its ceiling"):
        rig.session.steer.limits.set("max_num_seqs", 99999999999999999999)
    with pytest.raises(KnobError, match="too low"):
        rig.session.steer.limits.set("max_num_batched_tokens", 0)
    with pytest.raises(KnobError, match="whole number"):
        rig.session.steer.limits.set("max_num_seqs", 3.5)  # type: ignore[arg-type]
    assert rig.session.steer.limits.asked("max_num_seqs") == 64


def test_nothing_gets_past_the_ceiling_even_from_inside(rig: Rig) -> None:
    rig.session.host.order(
        SetLimits(rig.session.steer.limits.ceilings.with_value("max_num_seqs", 10_000), "x")
    )
    rig.turn()
    assert rig.session.advance().status.knobs.max_num_seqs == 256


def test_limits_cannot_be_turned_before_the_engine_is_up() -> None:
    rig = Rig(load(ClosedLoop(4)))
    with pytest.raises(KnobError, match="The engine is cold"):
        rig.session.steer.limits.set("max_num_seqs", 4)
    with pytest.raises(KnobError):
        rig.session.steer.undo()


def test_undo_takes_back_limits_and_load_in_order(rig: Rig) -> None:
    session = rig.session
    session.steer.limits.set("max_num_seqs", 32)
    session.steer.load.set(load(ClosedLoop(10)))
    session.steer.limits.set("max_model_len", 512)
    assert not session.steer.limits.set("max_model_len", 512)
    assert "max_model_len 512 → 2048" in session.steer.undo()
    assert "10 in flight → 96 in flight" in session.steer.undo()
    assert session.workload == load(ClosedLoop(96))
    assert "max_num_seqs 32 → 64" in session.steer.undo()
    with pytest.raises(UsageError, match="Nothing to undo"):
        session.steer.undo()
    rig.turn()
    assert session.advance().status.knobs.max_num_seqs == 64


def test_a_lowered_length_cuts_and_never_counts_as_finished(rig: Rig) -> None:
    rig.run(1.0)
    before = rig.session.advance().accounting
    rig.session.steer.limits.set("max_model_len", 105)
    rig.run(4.0)
    frame = rig.session.advance()
    assert frame.accounting.cut > 0
    assert frame.accounting.clamped > before.clamped
    assert frame.accounting.balanced
    for sample in rig.session.recorder.request_log:
        short = sample.output_tokens < sample.wanted_tokens
        assert (sample.outcome is Outcome.CUT) == short


def test_pause_drains_and_stop_aborts_and_begins_again(rig: Rig) -> None:
    rig.run(1.0)
    rig.session.steer.load.toggle()
    rig.turn()
    assert rig.session.advance().status.state is State.DRAINING
    rig.run(10.0)
    frame = rig.session.advance()
    assert frame.status.state is State.READY
    assert frame.accounting.in_flight == 0
    assert frame.accounting.aborted == 0
    rig.session.steer.load.toggle()
    rig.run(1.0)
    rig.session.steer.load.stop()
    rig.turn()
    frame = rig.session.advance()
    assert frame.status.state is State.READY
    assert frame.accounting.aborted == 96
    rig.session.steer.load.toggle()
    rig.turn()
    assert min(s.number for s in list(rig.session.recorder.request_log)[-5:]) >= 0
    assert rig.session.advance().accounting.balanced


def test_open_loop_beyond_capacity_says_saturated_and_latency_counts_from_due() -> None:
    rig = Rig.booted(load(Poisson(400.0)), max_num_seqs=8)
    rig.run(12.0)
    frame = rig.session.advance()
    assert frame.figures.saturated
    assert frame.figures.achieved_per_s < frame.figures.offered_per_s
    assert frame.accounting.waiting > 100
    assert frame.latencies.ttft.p50 > 1.0


def test_a_cache_kept_too_small_for_the_engine_that_is_booted_is_raised_and_that_is_said() -> None:
    rig = Rig(load(ClosedLoop(4)), {"num_gpu_blocks": 3})
    rig.boot()
    status = rig.session.advance().status
    facts, knobs = status.facts, status.knobs
    assert facts is not None
    assert knobs is not None
    least = facts.floor("num_gpu_blocks", knobs)
    assert 3 < least == knobs.num_gpu_blocks == rig.session.advance().asked.num_gpu_blocks
    said = [mark.text for mark in rig.session.advance().marks]
    assert f"the longest request needs that: num_gpu_blocks 3 → {least}" in said
    rig.session.steer.limits.set("max_num_seqs", 8)


def test_an_engine_that_dies_leaves_a_reason_and_can_boot_again() -> None:
    rig = Rig(load(ClosedLoop(16)), fail_at_step=50)
    rig.boot()
    rig.run(10.0)
    frame = rig.session.advance()
    assert frame.status.state is State.FAILED
    assert "told to fail" in frame.status.failure.message
    assert frame.accounting.failed == 16
    assert frame.accounting.balanced
    with pytest.raises(KnobError, match="failed"):
        rig.session.steer.limits.set("max_num_seqs", 3)
    rig.engine_options.clear()
    rig.session.steer.engine.boot_again()
    rig.run(12.0)
    frame = rig.session.advance()
    assert frame.status.state is State.RUNNING
    assert frame.accounting.finished > 0
    assert frame.accounting.balanced


@pytest.mark.parametrize(
    "error", [EngineError("no memory", "less"), RuntimeError("bad\nworse"), SystemExit("bad")]
)
def test_a_boot_that_fails_says_why(error: BaseException) -> None:
    rig = Rig(load(ClosedLoop(4)), fail_boot=error)
    rig.boot()
    status = rig.session.advance().status
    assert status.state is State.FAILED
    assert status.failure.message in ("no memory", "RuntimeError: bad", "SystemExit: bad")


def test_a_saved_profile_starts_another_session_with_the_same_limits(
    rig: Rig, tmp_path: Path
) -> None:
    rig.session.steer.limits.set("max_num_seqs", 24)
    rig.run(6.0)
    path = rig.session.save(tmp_path / "tuned.yaml")
    saved = profile.load(path)
    assert saved.knobs["max_num_seqs"] == 24
    found = saved.evidence.tuned
    assert saved.evidence.state == "tuned live"
    assert found.figures["tokens_per_s"].value > 0
    assert found.figures["ttft_p50_s"].n > 0
    assert found.knobs["max_num_seqs"] == 24
    assert found.ceilings["max_num_seqs"] == 256
    assert found.machine.versions["vllm"]
    assert found.seed == rig.session.workload.seed
    again = Rig.of(saved)
    again.boot()
    assert again.session.advance().status.knobs == rig.session.advance().status.knobs
    assert again.session.workload == rig.session.workload


def test_the_engine_thread_runs_and_stops(tmp_path: Path) -> None:
    rig = Rig(load(ClosedLoop(8)))
    rig.session.start()
    assert rig.session.close(5.0)
    assert rig.session.host.status.state is State.STOPPED


def test_a_traces_bad_line_stops_the_load_says_where_and_the_engine_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        # The first 1,000 records are checked before it is taken.
        + "2023-11-16 18:15:46,50,9\n" * 1000
        + "2023-11-16 18:15:48,x,9\n"
    )
    rig = Rig.booted(load(ClosedLoop(4)))
    rig.session.steer.load.set(from_texts(load(ClosedLoop(256)), {"trace": str(path)}))
    rig.run(60.0)
    frame = rig.session.advance()
    assert "azure.csv: line 1002" in frame.status.load_failure.message
    assert frame.status.state is State.READY
    assert frame.accounting.balanced
    assert frame.marks[-1].text.startswith("load stopped: ")
    rig.session.steer.load.set(load(ClosedLoop(4)))
    rig.session.steer.load.toggle()
    rig.run(2.0)
    frame = rig.session.advance()
    assert frame.status.load_failure is None
    assert frame.accounting.running == 4


def test_a_trace_that_ends_holds_the_load_and_space_starts_it_again(tmp_path: Path) -> None:
    path = tmp_path / "ours.jsonl"
    path.write_text('{"at_s": 0, "prompt_tokens": 5, "output_tokens": 5}\n' * 6)
    rig = Rig.booted(from_texts(load(ClosedLoop(4)), {"trace": str(path)}))
    rig.run(5.0)
    frame = rig.session.advance()
    assert frame.accounting.finished == 6
    assert frame.status.state is State.READY
    assert "the trace has ended" in frame.marks[-1].text
    rig.session.steer.load.toggle()
    rig.run(5.0)
    assert rig.session.advance().accounting.finished == 12


def test_what_is_saved_during_a_sweep_is_the_load_before_it(rig: Rig) -> None:
    rig.run(3.0)
    rig.session.steer.experiments.sweep()
    rig.run(3.0)
    saved = rig.session.snapshot()
    assert saved.load == load(ClosedLoop(96))
    assert "sweep" in saved.evidence.note


def test_a_window_that_has_only_begun_is_not_quoted_when_one_leaves(rig: Rig) -> None:
    rig.run(30)
    frame = rig.session.advance()
    assert frame.window.phase.quotable
    told = [line for line in summary(frame, [], Path("log")) if "figures" in line]
    assert "tok/s generated, " in told[0]
    begun = replace(frame, figures=replace(frame.figures, generated_per_s=math.nan))
    told = [line for line in summary(begun, [], Path("log")) if "figures" in line]
    assert told == ["  figures   none of now: the window had only begun"]


class Importing(FakeEngine):
    """Its first boot takes 14 s, of which 6 are imports."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        return replace(super().boot(spec, report), boot_s=14.0, once_s=6.0)


def test_another_boot_is_as_long_as_the_last_without_what_a_process_does_once() -> None:
    rig = Rig(load(ClosedLoop(8)), kind=Importing)
    rig.boot()
    told = rig.session.steer.engine.boot_cost
    assert told.startswith("The load pauses for about 8 s, as long as the last boot took but for")
    # Another process imports all of it again.
    assert "imports everything anew (tens of s" in rig.session.steer.engine.server_cost


def test_the_books_that_remain_on_the_terminal_are_the_boards_own(rig: Rig) -> None:
    rig.run(10)
    frame = rig.session.advance()
    books = replace(frame.accounting, running=3, waiting=2, aborted=718, finished=1200, issued=1923)
    assert books.balanced
    told = summary(replace(frame, accounting=books), [], Path("log"))
    wanted = "  requests  1,923 issued, 1,200 finished, 5 in flight at the end, 718 aborted"
    assert wanted in told


def test_a_servers_requests_are_counted_up_to_when_it_has_told_of_them() -> None:
    rig = Rig.booted(Workload(ClosedLoop(8), Fixed(40), Fixed(20)))
    rig.run(12.0)
    recorder, status = rig.session.recorder, rig.host.status
    assert status.facts is not None
    rig.host.status = replace(status, facts=replace(status.facts, live=True))
    live = rig.session.advance()
    told_s = live.t_s - 1.5
    assert live.now.achieved_per_s == finished_per_s(recorder, told_s - 1.0, told_s) > 0
    since_s = min(live.window.start_s, told_s - 1.0)
    assert live.figures.achieved_per_s == finished_per_s(recorder, since_s, told_s) > 0


def test_what_was_changed_on_live_traffic_is_told_as_the_servers_own_flags() -> None:
    rig = Rig.booted(Workload(ClosedLoop(8), Fixed(40), Fixed(20)))
    status = rig.host.status
    assert status.facts is not None
    assert status.knobs is not None
    rig.host.status = replace(status, facts=replace(status.facts, live=True, booted=status.knobs))
    rig.session.steer.limits.set("max_num_seqs", 48)
    rig.session.steer.limits.set("enable_prefix_caching", "off")
    with pytest.raises(UsageError, match="live traffic") as refused:
        rig.session.check_saves()
    told = "Start the server with --max-num-seqs 48 --no-enable-prefix-caching."
    assert refused.value.hint == told

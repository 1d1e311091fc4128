"""Loads that are over before anybody looks, and sources that would never end."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.rig import Rig
from tests.terminal import PROGRAM, environment
from tputtui.engine import dispatch
from tputtui.engine.orders import BeginLeg, Boot, Start
from tputtui.errors import UsageError
from tputtui.experiments.leg import LegWatch
from tputtui.experiments.measuring import Measuring, Stage
from tputtui.load.source import check_trace
from tputtui.load.workload import ClosedLoop, Poisson, Recorded, TraceFile, Workload

RECORD = '{"at_s": %s, "prompt_tokens": 100, "output_tokens": 10}\n'


@pytest.fixture
def trace(tmp_path: Path) -> Callable[..., TraceFile]:
    def trace(*times: float, repeat: bool = False) -> TraceFile:
        path = tmp_path / "trace.jsonl"
        path.write_text("".join(RECORD % at_s for at_s in times))
        return TraceFile(str(path), repeat=repeat)

    return trace


@pytest.mark.parametrize("times", [(0,), (3, 3, 3), (5,) * 1500])
def test_a_trace_that_takes_no_time_is_not_repeated_at_its_times(
    trace: Callable[..., TraceFile], times: tuple[int, ...]
) -> None:
    with pytest.raises(UsageError, match=r"trace\.jsonl: all its records have one time"):
        check_trace(Workload(Recorded(), trace=trace(*times, repeat=True)), "")


@pytest.mark.parametrize("arrivals", [ClosedLoop(8), Poisson(8.0)])
def test_repeated_at_another_rate_it_is_as_good_as_any(
    trace: Callable[..., TraceFile], arrivals: ClosedLoop | Poisson
) -> None:
    check_trace(Workload(arrivals, trace=trace(0, repeat=True)), "")


def test_a_trace_that_moves_late_is_repeated(trace: Callable[..., TraceFile]) -> None:
    check_trace(Workload(Recorded(), trace=trace(*[0] * 1200, 1, repeat=True)), "")


def test_a_turn_of_the_loop_ends_whatever_is_due_while_the_clock_stands_still(
    trace: Callable[..., TraceFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = 100
    monkeypatch.setattr(dispatch, "_SENT_AT_ONCE", at_once)
    rig = Rig(Workload(Recorded(), trace=trace(0, repeat=True)))
    rig.boot()
    issued = rig.session.recorder.accounting.issued
    # Before the step, and after it.
    assert 0 < issued <= 2 * at_once
    # What was not sent stays due.
    rig.turn()
    assert rig.session.recorder.accounting.issued > issued


@pytest.mark.parametrize("looks", [1, 8])
def test_a_load_that_began_and_ended_between_two_looks_has_ended(
    trace: Callable[..., TraceFile], looks: int
) -> None:
    rig = Rig(Workload(Recorded(), trace=trace(0)))
    rig.boot()
    measuring = Measuring(10.0)
    for _ in range(looks):
        rig.run(0.5)
    assert rig.session.host.status.load_run.ended
    measuring.follow(rig.session.advance())
    assert (measuring.stage, measuring.note) == (Stage.DONE, "the load ended")


def test_only_the_load_that_is_waited_for_is_measured(trace: Callable[..., TraceFile]) -> None:
    rig = Rig(Workload(Recorded(), trace=trace(0)))
    rig.boot()
    rig.run(5.0)
    # The one before has ended already: it is not this one.
    measuring = Measuring(10.0, rig.session.steer.load.restart())
    measuring.follow(rig.session.advance())
    stages = [measuring.stage]
    rig.run(5.0)
    measuring.follow(rig.session.advance())
    assert [*stages, measuring.stage] == [Stage.BOOTING, Stage.DONE]


def test_a_load_that_is_put_on_anew_warms_up_anew() -> None:
    rig = Rig.booted(Workload(ClosedLoop(4), prompt=None, output=None, pairs=((64, 16, 1.0),)))
    measuring = Measuring(10.0)
    rig.run(3.0)
    assert measuring.follow(rig.session.advance())
    stages = [measuring.stage]
    rig.session.steer.load.restart()
    rig.run(0.5)
    measuring.follow(rig.session.advance())
    assert [*stages, measuring.stage] == [Stage.SETTLING, Stage.WARMING]


def test_a_leg_knows_when_its_load_ended_however_late_it_looks(
    trace: Callable[..., TraceFile],
) -> None:
    load = Workload(Recorded(), trace=trace(0, 0.5))
    rig = Rig(load)
    rig.boot()
    rig.run(2.0)
    watch = LegWatch(rig.clock())
    rig.session.host.order(BeginLeg(rig.session.advance().asked, load, "A, pair 1"))
    began_s = rig.clock()
    rig.run(20.0)
    watch.follow(rig.session.advance(), rig.session.recorder)
    assert watch.began_s == began_s
    assert began_s + 0.5 <= watch.ended_s < began_s + 1.0


def test_a_sweep_of_a_trace_that_ends_is_over(trace: Callable[..., TraceFile]) -> None:
    load = Workload(ClosedLoop(8), trace=trace(*range(40)))
    rig = Rig(load)
    rig.boot()
    rig.session.steer.experiments.sweep()
    rig.run(30.0)
    frame = rig.session.advance()
    assert frame.sweep.level is None
    assert frame.sweep.note == "The load ended: its trace is over."
    assert rig.session.workload == load


def test_a_boot_keeps_what_is_known_of_the_load_before(trace: Callable[..., TraceFile]) -> None:
    rig = Rig(Workload(Recorded(), trace=trace(0)))
    rig.boot()
    rig.run(2.0)
    run = rig.session.host.status.load_run
    rig.session.host.order(Boot(Start(rig.session.engine, {}), load=False))
    rig.turn()
    assert rig.session.host.status.load_run == run


@pytest.mark.engine
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("words", "code", "out", "err"),
    [
        pytest.param(
            "trace.jsonl", 0, "no figures: the load ended\nrequests  1 issued, 1 finished\n", "",
            marks=pytest.mark.long,
        ),
        ("trace.jsonl repeat", 2, "", "trace.jsonl: all its records have one time"),
    ],
)  # fmt: skip
def test_a_bench_of_one_record_ends(
    trace: Callable[..., TraceFile], tmp_path: Path, words: str, code: int, out: str, err: str
) -> None:
    trace(0)
    done = subprocess.run(
        [PROGRAM, "bench", "shape:qwen3-8b", "--simulate", "h100", "--virtual", "--quiet",
         "--trace", words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(tmp_path),
        cwd=tmp_path, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (code, out)
    assert err in done.stderr

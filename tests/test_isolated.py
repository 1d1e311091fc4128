"""`--isolate`: an engine in a real process of its own, and the recorder kept equal from there."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from tests import PATIENCE_S, until
from tests.rig import Rig
from tests.terminal import left_since, shared_memory
from tputtui.engine.fake import FakeEngine
from tputtui.engine.isolated import child
from tputtui.engine.isolated.host import IsolatedHost
from tputtui.engine.orders import HoldLoad, RunLoad, SetLimits, SetWorkload
from tputtui.engine.protocol import EngineFacts, Report, State, StepReport
from tputtui.errors import (
    CeilingError,
    EngineError,
    KnobError,
    ProfileError,
    TputError,
    UsageError,
)
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.mirror import Copy, Tail
from tputtui.measure.recorder import ENDED, Recorder, Ring
from tputtui.measure.samples import Mark, Outcome, StepSample
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.session.session import Session

LOAD = Workload(ClosedLoop(24), Fixed(100), Fixed(20))
BUSY = Workload(ClosedLoop(200), Fixed(10), Fixed(2))
"""Requests come and go with every step: much to tell."""
SPEC = EngineSpec("shape:demo")


# -- engines, made in the other process ---------------------------------------------------------


class RealTime:
    """Time that does pass, four times as fast as it is said to."""

    def __call__(self) -> float:
        return time.monotonic()

    def advance(self, seconds: float) -> None:
        time.sleep(min(seconds / 4, 0.1))


class Tallied(FakeEngine):
    """Writes down what it did when it is shut down."""

    def __init__(self, tally: str = "", **options: Any) -> None:
        super().__init__(RealTime(), **options)  # type: ignore[arg-type]
        self.tally = tally
        self.done = dict.fromkeys(("steps", "generated", "first_tokens", "gaps", "preempted"), 0)

    def step(self) -> StepReport:
        report = super().step()
        self.done["steps"] += 1
        self.done["generated"] += report.sample.generated_tokens
        self.done["preempted"] += report.sample.preemptions
        self.done["first_tokens"] += len(report.first_tokens)
        self.done["gaps"] += len(report.gaps)
        return report

    def shutdown(self) -> None:
        if self.tally:
            Path(self.tally).write_text(json.dumps(self.done))


def die() -> None:
    """A crash, here: the signal may come to another thread, and this one must not go on."""
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(PATIENCE_S)


class DiesBooting(Tallied):
    """Boots, unless it is given more than 64 sequences: then its process is gone."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        facts = super().boot(spec, report)
        if facts.ceilings.max_num_seqs > 64:
            die()
        return facts


class DiesUntold(Tallied):
    """As `DiesBooting`, but its process tells nothing of the boot before it is gone."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        sequences = spec.args["max_num_seqs"]
        assert isinstance(sequences, int)
        if sequences > 64:
            child._Teller._tell = lambda teller: None  # type: ignore[assignment, method-assign]
            die()
        return super().boot(spec, report)


class Stuck(Tallied):
    """Never gets through a boot, nor ends when asked to."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        signal_ignored = partial(signal.pthread_sigmask, signal.SIG_BLOCK, {signal.SIGTERM})
        signal_ignored()
        report(State.LOADING, "for ever")
        while True:
            time.sleep(1.0)


class Daemonic(Tallied):
    """Has a process of its own, which holds on to whatever it was handed."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        if os.fork() == 0:
            while True:
                time.sleep(1.0)
        return super().boot(spec, report)


def refuses() -> FakeEngine:
    refused = UsageError("No such flag: --no.", "Leave it out.")
    return FakeEngine(RealTime(), fail_boot=refused)  # type: ignore[arg-type]


# -- help ---------------------------------------------------------------------------------------


def pid_of(session: Session) -> int:
    """The process its engine is in."""
    host = session.host
    assert isinstance(host, IsolatedHost)
    return host.pid


@pytest.fixture
def start() -> Iterator[Callable[..., Session]]:
    """Starts sessions on an engine in another process; closes them and looks what they left."""
    sessions = []
    ours = set(psutil.Process().children(recursive=True))
    shared = shared_memory()

    def starts(
        make_engine: Callable[..., Tallied] = Tallied,
        knobs: dict[str, int] | None = None,
        spec: EngineSpec = SPEC,
        load: Workload = LOAD,
    ) -> Session:
        session = Session(make_engine, Profile(spec, load, knobs or {}), make_host=IsolatedHost)
        sessions.append(session)
        session.start()
        return session

    yield starts
    for session in sessions:
        session.close(PATIENCE_S)
    assert set(psutil.Process().children(recursive=True)) == ours
    assert not left_since(shared)


def running(session: Session, finished: int = 30) -> None:
    """Wait until the load runs; every frame on the way has balanced books."""

    def reached() -> bool:
        frame = session.advance()
        assert frame.accounting.balanced
        if frame.status.failure is not None:
            raise frame.status.failure
        return frame.status.state is State.RUNNING and frame.accounting.finished >= finished

    until(reached)


def equal(a: Recorder, b: Recorder) -> None:
    """Every attribute, so that one that is added and not told fails here."""
    assert vars(a).keys() == vars(b).keys()
    for name, one in vars(a).items():
        other = vars(b)[name]
        if isinstance(one, Ring):
            assert one.count == other.count, name
            assert np.array_equal(one.between(-1), other.between(-1), equal_nan=True), name
        elif isinstance(one, deque):
            # As text: NaN is not equal to itself.
            assert list(map(str, one)) == list(map(str, other)), name
        elif isinstance(one, float) and math.isnan(one):
            assert math.isnan(other), name
        else:
            assert one == other, name


# -- the copy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_a_copy_equals_its_recorder_whenever_it_is_taken(seed: int) -> None:
    chance = random.Random(seed)
    rig = Rig.booted(LOAD, max_num_seqs=16)
    recorder, copied = rig.session.recorder, Recorder()
    tail, copy = Tail(recorder), Copy(copied)
    for _ in range(400):
        rig.turn()
        if chance.random() < 0.05:
            rig.session.steer.limits.set("max_num_seqs", chance.choice((4, 8, 16, 32)))
        if chance.random() < 0.01:
            rig.session.steer.load.stop()
            rig.session.host.order(RunLoad())
        if chance.random() < 0.2 and (changes := tail.take()):
            # As through the pipe: nothing of it is shared.
            copy.apply(pickle.loads(pickle.dumps(changes)))
            assert copied.accounting.balanced
            equal(recorder, copied)
    if changes := tail.take():
        copy.apply(changes)
    equal(recorder, copied)
    assert copied.marks
    assert copied.request_log
    assert tail.take() is None


@pytest.mark.parametrize("seed", range(5))
def test_marks_taken_back_are_taken_back(seed: int) -> None:
    chance, recorder, copied = random.Random(seed), Recorder(), Recorder()
    tail, copy = Tail(recorder), Copy(copied)
    for i in range(2000):
        if recorder.marks and chance.random() < 0.3:
            recorder.marks.pop()
        else:
            recorder.marks.append(Mark(float(i), "knob", "turned"))
        if chance.random() < 0.3 and (changes := tail.take()):
            copy.apply(changes)
            # One pushed out over there by a mark that was taken back since may still be here.
            assert list(copied.marks)[-len(recorder.marks) :] == list(recorder.marks)
    assert len(copied.marks) > 450  # pushed out at 500


def test_a_tail_not_taken_from_for_long_loses_old_rows_and_nothing_else() -> None:
    rig = Rig.booted(LOAD)
    recorder, copied = rig.session.recorder, Recorder()
    tail, copy = Tail(recorder), Copy(copied)
    rig.run(1.0)
    copy.apply(tail.take())
    step = StepSample(*recorder.steps.between(-1)[-1])
    for i in range(1 << 17):
        recorder.add_step(step._replace(end_s=step.end_s + i), ())
    copy.apply(tail.take())
    assert copied.generated_tokens == recorder.generated_tokens
    assert copied.accounting == recorder.accounting
    assert len(copied.steps.between(-1)) > 60_000
    assert np.array_equal(copied.steps.between(-1)[-1000:], recorder.steps.between(-1)[-1000:])


def test_totals_go_on_over_several_recorders() -> None:
    copied = Recorder()
    copy = Copy(copied)
    issued = generated = 0
    for _ in range(3):
        rig = Rig.booted(LOAD)
        rig.run(2.0)
        recorder = rig.session.recorder
        tail = Tail(recorder)
        copy.apply(tail.take())
        issued += recorder.accounting.issued
        generated += recorder.generated_tokens
        assert copied.accounting.in_flight == recorder.accounting.in_flight
        copy.break_off(rig.clock(), Outcome.FAILED)
    assert copied.accounting.issued == issued
    assert copied.generated_tokens == generated
    assert copied.accounting.balanced
    assert copied.accounting.failed == 3 * 24
    assert copied.ended.count == copied.accounting.issued
    # None of those that were lost counts as refused, nor as anything else that nobody knows.
    for name in ("good", "cut", "began", "cancelled", "rejected"):
        column = copied.ended.since(0, copied.ended.count)[:, ENDED[name]]
        assert set(column[-24:]) == {0.0}, name


@pytest.mark.parametrize("kind", [TputError, UsageError, ProfileError, KnobError, EngineError])
def test_failures_survive_the_pipe(kind: type[TputError]) -> None:
    for told in (kind("What.", "Do."), kind("What.")):
        heard = pickle.loads(pickle.dumps(told))
        assert (type(heard), heard.message, heard.hint) == (kind, told.message, told.hint)
    refused = pickle.loads(pickle.dumps(CeilingError("What.", "Do.", "max_num_seqs", 9)))
    assert (str(refused), refused.name, refused.value) == ("What. Do.", "max_num_seqs", 9)


# -- the process --------------------------------------------------------------------------------


def test_what_is_seen_here_is_what_was_done_there(
    start: Callable[..., Session], tmp_path: Path
) -> None:
    tally = tmp_path / "tally"
    session = start(partial(Tallied, str(tally)), {"max_num_seqs": 16})
    running(session)
    frame = session.advance()
    assert frame.status.facts.device == "fake"
    assert frame.status.knobs.max_num_seqs == 16
    assert frame.accounting.running <= 16
    assert [mark.text for mark in frame.marks] == ["booted shape:demo in 8.0 s", "load on"]
    # Times agree: the newest step ended just now on our clock.
    last_s = session.recorder.steps.between(-1)[-1, 0]
    assert -0.001 < time.monotonic() - last_s < PATIENCE_S
    session.host.order(HoldLoad())
    until(lambda: session.advance().status.state is State.READY)
    assert session.close(PATIENCE_S)
    assert session.host.status.state is State.STOPPED
    done, recorder = json.loads(tally.read_text()), session.recorder
    assert recorder.steps.count == done["steps"]
    assert recorder.generated_tokens == done["generated"] == recorder.accounting.finished * 20
    assert recorder.first_tokens.count == done["first_tokens"] == recorder.accounting.finished
    assert recorder.gaps.count == done["gaps"]
    assert recorder.preemptions == done["preempted"]
    assert recorder.issued.count == recorder.ended.count == recorder.accounting.issued
    assert len(recorder.request_log) == recorder.accounting.issued


def test_limits_and_load_are_turned_over_there(start: Callable[..., Session]) -> None:
    session = start()
    running(session)
    assert session.steer.limits.set("max_num_seqs", 4)
    until(lambda: session.advance().status.knobs.max_num_seqs == 4)
    until(lambda: session.advance().accounting.running <= 4)
    assert session.advance().marks[-1].text == "max_num_seqs 256 → 4"
    facts = session.advance().status.facts
    assert session.steer.undo()
    until(lambda: session.advance().accounting.running == 24)
    # What has not changed is the same object still.
    assert session.advance().status.facts is facts
    # Long ones, so that some are in the middle whenever the load is stopped.
    session.steer.load.set(Workload(ClosedLoop(6), Fixed(100), Fixed(400)))
    until(lambda: 0 < session.advance().accounting.in_flight <= 6)
    session.steer.load.stop()
    until(lambda: session.advance().accounting.in_flight == 0)
    assert session.advance().accounting.aborted
    assert session.advance().accounting.balanced


def test_a_storm_of_turns_ends_where_it_was_turned_to(start: Callable[..., Session]) -> None:
    session = start()
    running(session, finished=0)
    for value in [*range(1, 200), 7]:
        session.steer.limits.set("max_num_seqs", value)
    until(lambda: session.advance().status.knobs.max_num_seqs == 7)


def test_a_boot_that_fails_says_why_and_may_be_tried_again(start: Callable[..., Session]) -> None:
    session = start(refuses)
    until(lambda: session.advance().status.state is State.FAILED)
    failure = session.advance().status.failure
    assert type(failure) is UsageError
    assert (failure.message, failure.hint) == ("No such flag: --no.", "Leave it out.")
    pid = pid_of(session)
    session.steer.engine.boot_again()
    until(lambda: session.advance().status.failure not in (None, failure))
    assert pid_of(session) == pid


def test_an_engine_that_fails_leaves_balanced_books(start: Callable[..., Session]) -> None:
    session = start(partial(Tallied, fail_at_step=50))
    until(lambda: session.advance().status.state is State.FAILED)
    frame = session.advance()
    assert frame.status.failure.message == "The fake engine was told to fail here."
    assert frame.accounting.balanced
    assert frame.accounting.failed == 24
    assert len(session.recorder.request_log) == frame.accounting.issued


def test_a_killed_engine_leaves_the_screen_up_and_boots_again(
    start: Callable[..., Session],
) -> None:
    session = start()
    running(session)
    before, pid = session.advance(), pid_of(session)
    os.kill(pid, signal.SIGKILL)
    until(lambda: session.advance().status.state is State.FAILED)
    frame = session.advance()
    assert frame.status.failure.message == "The engine's process was killed (SIGKILL)."
    assert "memory" in frame.status.failure.hint
    assert frame.marks[-1].text == "engine failed: The engine's process was killed (SIGKILL)."
    assert frame.accounting.balanced
    assert frame.accounting.in_flight == 0
    assert frame.accounting.failed >= 1
    assert session.recorder.ended.count == frame.accounting.issued
    assert frame.generated_tokens >= before.generated_tokens
    # Orders to nobody do no harm, and a load turned meanwhile counts.
    with pytest.raises(KnobError, match="failed"):
        session.steer.limits.set("max_num_seqs", 4)
    session.host.order(SetWorkload(Workload(ClosedLoop(5), Fixed(100), Fixed(20)), "5"))
    session.steer.engine.boot_again()
    until(lambda: session.advance().status.failure is None)
    running(session, frame.accounting.finished + 10)
    again = session.advance()
    assert pid_of(session) != pid
    assert again.status.failure is None
    assert again.accounting.in_flight <= 5
    assert again.accounting.failed == frame.accounting.failed
    assert again.generated_tokens > frame.generated_tokens
    assert session.steer.limits.set("max_num_seqs", 2)
    until(lambda: session.advance().accounting.running <= 2)


def test_a_crash_says_which(start: Callable[..., Session]) -> None:
    session = start(DiesBooting)
    until(lambda: session.advance().status.state is State.FAILED)
    failure = session.advance().status.failure
    assert failure.message == "The engine's process crashed (SIGSEGV)."
    assert "log" in failure.hint


def test_where_the_new_engine_kills_its_process_the_one_before_comes_back(
    start: Callable[..., Session],
) -> None:
    small = EngineSpec("shape:demo", {"max_num_seqs": 32})
    session = start(DiesBooting, spec=small)
    running(session)
    pid = pid_of(session)
    session.steer.engine.boot_with({"max_num_seqs": 128}, {})
    until(lambda: session.advance().status.refused is not None)
    running(session, session.advance().accounting.finished + 10)
    frame = session.advance()
    assert pid_of(session) != pid
    assert frame.status.spec == small
    assert frame.status.refused.message == "The engine's process crashed (SIGSEGV)."
    assert any("Back to what ran before" in mark.text for mark in frame.marks)


@pytest.mark.parametrize(
    "load",
    [pytest.param(True, id="under load"), pytest.param(False, id="held", marks=pytest.mark.long)],
)
def test_a_boot_that_dies_before_it_tells_anything_goes_back_as_well(
    start: Callable[..., Session], load: bool
) -> None:
    small = EngineSpec("shape:demo", {"max_num_seqs": 32})
    session = start(DiesUntold, spec=small)
    running(session)
    session.steer.engine.boot_with({"max_num_seqs": 128}, {})
    if not load:
        # Ordered of a process that is dying: it counts all the same.
        session.host.order(HoldLoad())
    until(lambda: session.advance().status.refused is not None and session.advance().serving)
    status = session.advance().status
    assert status.failure is None
    assert status.spec == small
    assert status.load_on is load
    assert not session.host.booting
    # And another one dies, and goes back, as if it were the first.
    session.steer.engine.boot_with({"max_num_seqs": 256}, {})
    refused = status.refused
    until(lambda: session.advance().status.refused is not refused and session.advance().serving)
    assert session.advance().status.spec == small


def test_what_was_ordered_is_known_before_it_is_told(start: Callable[..., Session]) -> None:
    session = start()
    running(session)
    host = session.host
    os.kill(pid_of(session), signal.SIGSTOP)
    assert host.load_wanted
    assert "paused" in session.steer.load.toggle()
    assert not host.load_wanted
    assert session.steer.load.toggle() == "Load running."
    assert "paused" in session.steer.engine.toggle()
    assert session.steer.engine.toggle() == "The engine goes on."
    assert host.load_wanted
    assert not host.pause_wanted
    session.steer.engine.boot_with({"max_num_seqs": 128}, {})
    assert host.booting
    with pytest.raises(KnobError, match="about to boot"):
        session.steer.limits.set("max_num_seqs", 16)
    os.kill(pid_of(session), signal.SIGCONT)
    until(lambda: not host.booting)
    running(session)


def test_an_engine_stopped_for_a_while_goes_on(start: Callable[..., Session]) -> None:
    session = start()
    running(session)
    os.kill(pid_of(session), signal.SIGSTOP)
    psutil_child = psutil.Process(pid_of(session))
    until(lambda: psutil_child.status() == psutil.STATUS_STOPPED)
    # Orders never wait for it, however many they are: it reads none now.
    for value in range(1, 2000):
        session.host.order(
            SetLimits(session.advance().status.knobs.with_value("max_num_seqs", value % 9 + 1))
        )
    assert session.advance().accounting.balanced
    finished = session.advance().accounting.finished
    os.kill(pid_of(session), signal.SIGCONT)
    running(session, finished + 10)
    until(lambda: session.advance().status.knobs.max_num_seqs == 1999 % 9 + 1)


def test_a_stopped_engine_is_killed_when_it_does_not_close(start: Callable[..., Session]) -> None:
    session = start()
    running(session)
    pid = pid_of(session)
    os.kill(pid, signal.SIGSTOP)
    assert not session.close(0.3)
    assert not psutil.pid_exists(pid)
    assert session.recorder.accounting.balanced


def test_a_boot_in_progress_is_broken_off(start: Callable[..., Session]) -> None:
    session = start(Stuck)
    until(lambda: session.advance().status.stage == "for ever")
    pid = pid_of(session)
    assert not session.close(0.2)
    assert not psutil.pid_exists(pid)


def test_what_the_engine_started_goes_with_it(start: Callable[..., Session]) -> None:
    session = start(Daemonic)
    running(session)
    (own,) = psutil.Process(pid_of(session)).children()
    # It holds the pipe open: the end of the process is noticed all the same.
    os.kill(pid_of(session), signal.SIGKILL)
    until(lambda: session.advance().status.state is State.FAILED)
    until(lambda: not own.is_running() or own.status() == psutil.STATUS_ZOMBIE)


def test_closing_before_anything_was_started() -> None:
    session = Session(Tallied, Profile(SPEC, LOAD), make_host=IsolatedHost)
    assert session.close(PATIENCE_S)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        Session(lambda: Tallied(), Profile(SPEC, LOAD), make_host=IsolatedHost)


PARENT = """
import sys, time
from tests.test_isolated import BUSY, SPEC, Tallied
from tputtui.engine.isolated.host import IsolatedHost
from tputtui.profile import Profile
from tputtui.session.session import Session

if __name__ == "__main__":
    session = Session(Tallied, Profile(SPEC, BUSY), make_host=IsolatedHost)
    session.start()
    while not session.advance().accounting.finished:
        time.sleep(0.01)
    print(session.host.pid, flush=True)
    for line in sys.stdin:
        frame = session.advance()
        assert frame.accounting.balanced, frame.accounting
        steps = session.recorder.steps.between(*map(float, line.split()))
        print(frame.accounting.finished, len(steps), flush=True)
    print(session.close(600.0), flush=True)
"""


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], psutil.Process]]:
    """A process with a session in it: its engine's process id, and a way to ask for its figures."""
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(PARENT))
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
        text=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
    ) as process:  # fmt: skip
        engine = psutil.Process(int(process.stdout.readline()))
        yield process, engine
        for each in (process, engine):
            with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
                each.kill()


def gone(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def asked(
    process: subprocess.Popen[str], start_s: float = 0.0, end_s: float = 0.0
) -> tuple[int, int]:
    """How many requests have finished, and how many steps ended between the two times."""
    process.stdin.write(f"{start_s} {end_s}\n")
    process.stdin.flush()
    finished, steps = process.stdout.readline().split()
    return int(finished), int(steps)


def test_a_screen_stopped_for_a_while_does_not_hold_the_engine_up(
    parent: tuple[subprocess.Popen[str], psutil.Process],
) -> None:
    process, engine = parent
    before, _ = asked(process)
    process.send_signal(signal.SIGSTOP)
    start_s = time.monotonic()
    # A second of work has far more to tell than the pipe is deep.
    cpu_s = sum(engine.cpu_times()[:2])
    until(lambda: sum(engine.cpu_times()[:2]) > cpu_s + 1.0)
    end_s = time.monotonic()
    process.send_signal(signal.SIGCONT)
    until(lambda: asked(process)[0] > before)
    # Every step of the time nobody looked is there, to the end of it.
    until(lambda: asked(process, end_s - 0.5, end_s)[1] > 0)
    assert asked(process, start_s, end_s)[1] > 20
    finished, _ = asked(process)
    until(lambda: asked(process)[0] > finished)
    process.stdin.close()
    assert process.stdout.readline().strip() == "True"
    until(lambda: gone(engine))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_engine_dies_with_its_parent(
    parent: tuple[subprocess.Popen[str], psutil.Process], number: signal.Signals
) -> None:
    process, engine = parent
    process.send_signal(number)
    until(lambda: gone(engine))


def test_ctrl_c_is_not_for_the_engine(parent: tuple[subprocess.Popen[str], psutil.Process]) -> None:
    process, engine = parent
    engine.send_signal(signal.SIGINT)
    assert os.getsid(engine.pid) == engine.pid != os.getsid(process.pid)
    before, _ = asked(process)
    until(lambda: asked(process)[0] > before)


# -- the real thing -----------------------------------------------------------------------------


@pytest.mark.engine
def test_a_real_engine_is_turned_and_drained(start: Callable[..., Session]) -> None:
    from tputtui.engine.vllm.inproc import VllmEngine

    ceilings: dict[str, EngineValue] = {
        "max_num_seqs": 32,
        "max_num_batched_tokens": 1024,
        "max_model_len": 1024,
    }
    session = start(
        VllmEngine, spec=EngineSpec("shape:demo", ceilings), load=LOAD, knobs={"max_num_seqs": 16}
    )
    until(
        lambda: session.advance().status.facts is not None or session.advance().status.failure,
        240.0,
    )
    running(session)
    assert session.advance().status.facts.ceilings.max_num_seqs == 32
    session.steer.limits.set("max_num_seqs", 4)
    until(lambda: session.advance().accounting.running == 4, 60.0)
    session.host.order(HoldLoad())
    until(lambda: session.advance().status.state is State.READY, 60.0)
    frame = session.advance()
    assert frame.accounting.balanced
    assert frame.generated_tokens == frame.accounting.finished * 20
    pid = pid_of(session)
    assert session.close(PATIENCE_S)
    assert not psutil.pid_exists(pid)

"""Too much at once: limits turned a thousand times a second, a hundred thousand requests due."""

from __future__ import annotations

import os
import time

import pytest

from tests.engine import simulated as simulation
from tests.rig import Rig
from tests.test_session import load
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, Start
from tputtui.engine.protocol import State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile import EngineSpec, Profile
from tputtui.session.session import Session

# A hundred thousand take most of a minute: `make faults`.
QUEUED = 100_000 if "FAULT_SEQUENCES" in os.environ else 20_000


def test_a_minute_of_a_thousand_turns_a_second_ends_on_the_last_and_loses_nothing() -> None:
    rig = Rig.booted(load(ClosedLoop(48)))
    session, until_s = rig.session, rig.clock() + 60
    turns = 0
    while rig.clock() < until_s:
        # As many as a step takes milliseconds.
        began_s = rig.clock()
        rig.turn()
        for _ in range(round((rig.clock() - began_s) * 1000)):
            turns += 1
            session.steer.limits.set("max_num_seqs", 8 + turns % 57)
        if turns % 200 == 0:
            session.advance()
    assert turns > 55_000
    session.steer.limits.set("max_num_seqs", 21)
    rig.run(2)
    frame = session.advance()
    assert frame.status.knobs.max_num_seqs == 21
    # Requests of one length end together: the batch is full again a step later.
    running = []
    for _ in range(40):
        rig.turn()
        running.append(session.recorder.accounting.running)
    assert max(running) == 21
    assert frame.accounting.balanced
    # One mark a burst.
    assert len(frame.marks) < 5000
    session.steer.undo()
    rig.turn()
    assert session.advance().accounting.balanced


@pytest.mark.engine
@pytest.mark.timeout(900)
def test_a_great_many_requests_due_at_once_hold_up_neither_steps_nor_orders() -> None:
    spec = EngineSpec("shape:demo", {"max_num_seqs": 8, "max_model_len": 256})
    many = Workload(ClosedLoop(QUEUED), Fixed(16), Fixed(40))
    session = Session(lambda: VllmEngine(simulation.executor_class()), Profile(spec, many))
    host = session.host
    assert isinstance(host, Host)
    host.order(Boot(Start(spec, {}), load=True))
    host._carry_out(0)
    assert host.status.failure is None
    longest_s, turns = 0.0, 0
    while session.recorder.accounting.in_flight < QUEUED:
        began_s = time.thread_time()
        host.run_pass()
        longest_s, turns = max(longest_s, time.thread_time() - began_s), turns + 1
        assert session.recorder.accounting.balanced
    # In many turns, each with a step in it; 40 ms of sending and a step are far below this. (What
    # this thread computes, not what it waits for a core.)
    assert turns > 20
    assert session.recorder.steps.count > 20
    assert longest_s < 2.0
    # An order is in force by the next step, and a frame comes at once.
    session.steer.limits.set("max_num_seqs", 4)
    host.run_pass()
    assert host.status.knobs.max_num_seqs == 4
    began_s = time.thread_time()
    frame = session.advance()
    assert time.thread_time() - began_s < 1.0
    assert frame.accounting.waiting > 0.99 * QUEUED
    # All of it can be thrown away.
    session.steer.load.stop()
    host.run_pass()
    books = session.advance().accounting
    assert books.in_flight == 0
    assert books.aborted + books.finished == books.issued >= QUEUED
    host.close(0)
    host.run_pass()
    assert host.status.state is State.STOPPED

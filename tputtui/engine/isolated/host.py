"""The host of `--isolate`: the engine's loop in a child process, whose death this one survives.

    any thread ── order ──▶ keeper ══ pipe ══▶ child: the host's loop
    status, recorder ◀──── keeper ◀══ pipe ═══ new records and status, every 25 ms

The keeper thread starts the child, sends orders, is the only writer of the recorder here, and
notices the child's death. Then the engine and its requests in flight have FAILED, and the next
order to boot starts another child. The child is spawned: CUDA does not survive a fork.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from queue import Empty, SimpleQueue

from tputtui.engine.failure import cause_of
from tputtui.engine.host import Clock
from tputtui.engine.isolated.process import EngineProcess
from tputtui.engine.orders import (
    BeginLeg,
    Boot,
    BootAnew,
    Close,
    Order,
    Orders,
    SetWorkload,
    Start,
    Status,
)
from tputtui.engine.protocol import Engine, State
from tputtui.errors import EngineError
from tputtui.load.workload import Workload
from tputtui.measure.mirror import Copy
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Mark, Outcome

__all__ = ["IsolatedHost"]

logger = logging.getLogger(__name__)

_KILLED_WITHIN_S = 1.5
_STARTING = "starting a process for the engine"


class IsolatedHost(Orders):
    """Orders for an engine in a child process; `recorder` is kept equal to the child's recorder.

    make_engine: a class or a `functools.partial`, since it is pickled. clock: a clock that both
    processes share, as `time.monotonic` is on Linux.
    """

    lag_s = 0.05
    """How far recorder and status may lag behind the child, in s."""

    def __init__(
        self,
        make_engine: Callable[..., Engine],
        recorder: Recorder,
        workload: Workload,
        clock: Clock,
    ) -> None:
        super().__init__()
        # Pickled here so that the caller gets the error if that fails.
        pickle.dumps((make_engine, clock))
        self._make_engine = make_engine
        self._recorder = recorder
        self._copy = Copy(recorder)
        self._workload = workload
        self._clock = clock
        self._orders: SimpleQueue[tuple[int, Order, bytes]] = SimpleQueue()
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._child: EngineProcess | None = None
        self._taken = 0
        self._before: tuple[int, Start] | None = None
        self._closing = self._closed = self._killed = False
        self._thread: threading.Thread | None = None
        self.status = Status(State.COLD, clock())

    # -- any thread ------------------------------------------------------------------------

    def start(self) -> None:
        """Start the keeper thread; the process starts with the first boot."""
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Stop load, engine and process; False if it took longer and the process was killed."""
        self.order(Close())
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        for number in (signal.SIGTERM, signal.SIGKILL):
            child = self._child
            if not self._thread.is_alive() or child is None:
                break
            self._killed = True
            child.signal(number)
            self._thread.join(_KILLED_WITHIN_S)
        return not (self._killed or self._thread.is_alive())

    def woken(self) -> bool:
        """False: the engine's process was not stopped together with this one."""
        return False

    @property
    def pid(self) -> int | None:
        """Process id of the child; None while there is none."""
        child = self._child
        return child.pid if child else None

    def _queue(self, number: int, order: Order) -> None:
        self._orders.put((number, order, pickle.dumps((number, order))))
        if self._bell is not None:
            # Full: the keeper is awake already. Closed: the keeper has ended.
            with contextlib.suppress(OSError):
                self._bell[1].send(b"!")

    # -- keeper thread ---------------------------------------------------------------------

    def _keep(self) -> None:
        assert self._bell is not None
        bell = self._bell[0]
        try:
            self._carry_out()
            while not self._closed:
                child = self._child
                sources: list[socket.socket | Connection] = [bell]
                if child is not None and child.tells:
                    sources.append(child.connection)
                ready = wait(sources, child.look_s if child else None)
                if child is not None:
                    self._follow(child, readable=child.connection in ready)
                if bell in ready:
                    bell.recv(1 << 12)
                    self._carry_out()
        except Exception as error:
            logger.exception("the engine's process cannot be followed any more")
            why = f"The engine's process cannot be followed any more ({type(error).__name__})."
            self._fail(EngineError(why, "The log has the traceback; leave, and start again."))
        finally:
            if self._child is not None:
                self._child.signal(signal.SIGKILL)
                self._child.end()
            for end in self._bell:
                end.close()

    def _carry_out(self) -> None:
        """Send the queued orders; an order to boot starts a process if there is none."""
        with contextlib.suppress(Empty):
            while True:
                number, order, data = self._orders.get_nowait()
                self._taken = number
                match order:
                    case SetWorkload(workload=load) | BeginLeg(workload=load):
                        # A later process starts with this workload.
                        self._workload = load
                    case Boot():
                        self._before = None
                        if self._child is None:
                            carried_out = self.status.carried_out
                            self._spawn(Status(State.COLD, self._clock(), carried_out=carried_out))
                    case BootAnew(fallback=before):
                        self._before = number, before
                    case Close():
                        self._closing = True
                        if self._child is None:
                            self._stopped()
                if self._child is not None:
                    self._child.send(data)
                else:
                    self.status = replace(self.status, carried_out=number)

    def _spawn(self, status: Status) -> None:
        cargo = pickle.dumps((self._make_engine, self._workload, self._clock))
        try:
            self._child = EngineProcess(cargo, status)
        except OSError as error:
            failure = EngineError(f"A process for the engine could not be started: {error}.")
            self._fail(failure)
            return
        self.status = replace(status, state=State.IMPORTING, stage=_STARTING)

    def _follow(self, child: EngineProcess, readable: bool) -> None:
        """Take in the messages of `child`, or its death. readable: whether one has arrived."""
        dead = not child.alive
        if readable:
            self._take_in(child)
        if not dead:
            if child.overdue and not self._closing:
                child.signal(signal.SIGKILL)
            return
        # Its last messages may still be in the pipe.
        while child.tells and child.connection.poll():
            self._take_in(child)
        self._child = None
        self._bury(child.end())

    def _take_in(self, child: EngineProcess) -> None:
        try:
            changes, changed = child.receive()
        except (EOFError, OSError):
            child.fall_silent()
            return
        if changes is not None:
            self._copy.apply(changes)
        if changed:
            child.status = self.status = replace(child.status, **changed)

    def _bury(self, code: int) -> None:
        """After the child's death: close the books; boot the fallback if BootAnew was under way."""
        now_s, before = self._clock(), self._before
        # The child's state arrives with a delay, but the orders sent to it are known.
        under_way = before is not None and self.status.carried_out < before[0]
        self._before = None
        if self._closing:
            self._copy.break_off(now_s, Outcome.ABORTED)
            self._stopped()
            return
        self._copy.break_off(now_s, Outcome.FAILED)
        failure = cause_of(code)
        logger.error("%s", failure)
        if before is None or not under_way:
            self._fail(failure)
            return
        self._mark(f"boot failed: {failure.message} Back to what ran before.")
        # Orders sent to the dead process since then are lost, except for the load.
        load, carried_out = self.load_wanted, self.status.carried_out
        self._spawn(Status(State.COLD, now_s, refused=failure, carried_out=carried_out))
        if self._child is not None:
            self._child.send(pickle.dumps((self._taken, Boot(before[1], load))))

    def _stopped(self) -> None:
        self._enter(State.STOPPED)
        self._closed = True

    def _fail(self, failure: EngineError) -> None:
        self._mark(f"engine failed: {failure.message}")
        self._enter(State.FAILED, failure)

    def _enter(self, state: State, failure: EngineError | None = None) -> None:
        if self.status.state is state:
            return
        now_s = self._clock()
        self.status = replace(
            self.status,
            state=state,
            since_s=now_s,
            stage="",
            failure=failure or self.status.failure,
            load_on=False,
            carried_out=self._taken,
        )

    def _mark(self, text: str) -> None:
        self._recorder.marks.append(Mark(self._clock(), "engine", text))

"""The process that hosts the engine under `--isolate`: the host's loop, its orders from a pipe.

    main thread    takes orders from the pipe, hands them to the host
    engine thread  the host's loop, as in process; it knows of no pipe
    teller         every 25 ms: what the recorder has new, what the status has changed → pipe

A parent that does not read blocks the teller and nobody else. Times need no translation:
`time.monotonic()` is one clock for all processes of a Linux machine.

The process ends with its parent, whichever way that goes; a terminal's Ctrl+C does not reach it.
"""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import pickle
import signal
import sys
import threading
from dataclasses import fields
from multiprocessing.connection import Connection

from tputtui.engine.host import Host
from tputtui.engine.orders import Close, Status
from tputtui.measure.mirror import Tail
from tputtui.measure.recorder import Recorder
from tputtui.process.logs import log_through

__all__ = ["main"]

logger = logging.getLogger(__name__)

_TELL_EVERY_S = 0.025
_LONGEST_SHUTDOWN_S = 600.0
"""The parent kills before; this is for a parent that is gone and has left us alive."""
_STATUS = tuple(field.name for field in fields(Status))
_PR_SET_PDEATHSIG = 1


def main(descriptor: int, parent: int) -> None:
    """Serve the parent process `parent` over the socket `descriptor`, until it says close."""
    _live_no_longer_than(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A crash in native code leaves a stack in the log.
    faulthandler.enable()
    # Descriptors 1 and 2 are the parent's log.
    log_through(logging.StreamHandler(sys.stderr))
    # The engine may have processes of its own: they have no business on this pipe.
    os.set_inheritable(descriptor, False)
    with Connection(descriptor) as connection:
        make_engine, workload, clock = pickle.loads(connection.recv_bytes())
        recorder = Recorder()
        host = Host(make_engine, recorder, workload, clock)
        teller = _Teller(connection, host, recorder)
        teller.start()
        host.start()
        _take_orders(connection, host)
        host.close(_LONGEST_SHUTDOWN_S)
        teller.stop()


def _live_no_longer_than(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before we asked
        os._exit(0)


def _take_orders(connection: Connection, host: Host) -> None:
    """Hand orders over until the parent says close, or is gone."""
    while True:
        try:
            number, order = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if isinstance(order, Close):
            return
        host._queue(number, order)


class _Teller:
    """Tells the parent what is new, on a thread of its own."""

    def __init__(self, connection: Connection, host: Host, recorder: Recorder) -> None:
        self._connection = connection
        self._host = host
        self._tail = Tail(recorder)
        self._told = host.status
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Tell the rest."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_TELL_EVERY_S):
                self._tell()
            self._tell()
        except OSError as error:
            logger.warning("the parent cannot be told any more: %s", error)
        except BaseException:
            # Nobody would see this engine any more.
            logger.exception("the screen cannot be told any more")
            logging.shutdown()
            os._exit(1)

    def _tell(self) -> None:
        # The status is read first and put in place last: what it says has its marks and books.
        told, status = self._told, self._host.status
        changes = self._tail.take()
        if changes is None and status is told:
            return
        # Field by field, so that what has not changed stays the same object over there.
        changed = {
            name: getattr(status, name)
            for name in _STATUS
            if getattr(status, name) is not getattr(told, name)
        }
        self._told = status
        self._connection.send_bytes(pickle.dumps((changes, changed), pickle.HIGHEST_PROTOCOL))

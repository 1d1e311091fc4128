"""The process that hosts the engine under `--isolate`: the host's loop, with orders from a pipe.

    main thread    takes orders from the pipe and gives them to the host
    engine thread  the host's loop, the same as without `--isolate`; it knows no pipe
    teller         every 25 ms: sends new records and the changed fields of the status

A parent that does not read blocks only the teller. Times need no conversion: `time.monotonic()` is
one clock for all processes of a Linux machine.

The process ends with its parent, however the parent ends; Ctrl+C in the terminal does not reach it.
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
from tputtui.process.redirect import print_to_the_log

__all__ = ["main"]

logger = logging.getLogger(__name__)

_TELL_EVERY_S = 0.025
_LONGEST_SHUTDOWN_S = 600.0
"""A living parent kills this process earlier; this limit serves if the parent has died."""
_STATUS = tuple(field.name for field in fields(Status))
_PR_SET_PDEATHSIG = 1


def main(descriptor: int, parent: int) -> None:
    """Serve the parent process `parent` over the socket `descriptor` until it orders Close."""
    _live_no_longer_than(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Makes a crash in native code write a stack to the log.
    faulthandler.enable()
    # Descriptors 1 and 2 are the parent's log.
    log_through(logging.StreamHandler(sys.stderr))
    print_to_the_log()
    # The engine may start processes; they must not inherit this pipe.
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
    if os.getppid() != parent:  # the parent died before prctl
        os._exit(0)


def _take_orders(connection: Connection, host: Host) -> None:
    """Give orders to the host until the parent orders Close or has died."""
    while True:
        try:
            number, order = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):
            return
        if isinstance(order, Close):
            return
        host._queue(number, order)


class _Teller:
    """Sends new records and status to the parent, on a thread of its own."""

    def __init__(self, connection: Connection, host: Host, recorder: Recorder) -> None:
        self._connection = connection
        self._host = host
        self._tail = Tail(recorder)
        self._sent = host.status
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Send the rest, and stop."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(_TELL_EVERY_S):
                self._tell()
            self._tell()
        except OSError as error:
            logger.warning("the parent does not take messages any more: %s", error)
        except BaseException:
            # The parent would see this engine no more, so end it.
            logger.exception("nothing can be sent to the parent any more")
            logging.shutdown()
            os._exit(1)

    def _tell(self) -> None:
        # The status is read before the records, and the parent applies it after them. So every
        # state in it already has its marks and books there.
        sent, status = self._sent, self._host.status
        changes = self._tail.take()
        if changes is None and status is sent:
            return
        # Only changed fields are sent, so the others stay the same objects in the parent.
        changed = {
            name: getattr(status, name)
            for name in _STATUS
            if getattr(status, name) is not getattr(sent, name)
        }
        self._sent = status
        self._connection.send_bytes(pickle.dumps((changes, changed), pickle.HIGHEST_PROTOCOL))

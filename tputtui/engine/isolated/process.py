"""One spawned process for an engine, and the parent's end of its pipe: start, messages, end.

Used by the keeper thread of `engine.isolated`; signals may be sent from any thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

from tputtui.engine.orders import Status
from tputtui.measure.mirror import Delta
from tputtui.process.group import end_group

__all__ = ["EngineProcess"]

_LOOK_S = 0.25
_SILENT_LOOK_S = 0.02
_SILENT_S = 2.0
"""A process that still runs so many seconds after it closed the pipe is overdue."""
_GROUP_S = 1.0
"""How long processes that it leaves behind may clean up before they are killed, in s."""
_PROGRAM = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[3]); "
    "from tputtui.engine.isolated.child import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)


class EngineProcess:
    """Python running `isolated.child`, with our `sys.path`, environment and descriptors 1 and 2.

    cargo: the first message. status: the last status it sent; before the first, the one given.
    Raises OSError if no process can be started.
    """

    def __init__(self, cargo: bytes, status: Status) -> None:
        ours, theirs = socket.socketpair()
        places = json.dumps([str(place) for place in sys.path])
        words = ["-u", "-c", _PROGRAM, str(theirs.fileno()), str(os.getpid()), places]
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            self._process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                # Signals from the terminal must reach only the screen's process.
                start_new_session=True,
            )
            undo.pop_all()
        self.connection = Connection(ours.detach())
        self.status = status
        self._silent_since_s: float | None = None
        self.send(cargo)

    @property
    def pid(self) -> int:
        """Its process id, and that of its process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def tells(self) -> bool:
        """Whether its end of the pipe is open."""
        return self._silent_since_s is None

    @property
    def overdue(self) -> bool:
        """Whether it has closed the pipe and should have ended since."""
        since_s = self._silent_since_s
        return since_s is not None and time.monotonic() - since_s > _SILENT_S

    @property
    def look_s(self) -> float:
        """How long to wait for a message before checking that it is alive, in s.

        Its death need not close the pipe: processes that it started may hold the pipe open.
        """
        return _LOOK_S if self.tells else _SILENT_LOOK_S

    def send(self, data: bytes) -> None:
        """Send an order; if it cannot arrive, the death of the process is noticed instead."""
        with contextlib.suppress(OSError):
            self.connection.send_bytes(data)

    def receive(self) -> tuple[Delta | None, dict[str, Any]]:
        """New records and changed status fields. Raises EOFError or OSError after the last ones."""
        message: tuple[Delta | None, dict[str, Any]]
        message = pickle.loads(self.connection.recv_bytes())
        return message

    def fall_silent(self) -> None:
        """Note that no more messages will come."""
        self._silent_since_s = time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        self._process.send_signal(number)

    def end(self) -> int:
        """Wait for its end, and end the rest of its process group; return its exit status."""
        code = self._process.wait()
        self.connection.close()
        end_group(self.pid, _GROUP_S)
        return code

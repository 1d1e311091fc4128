"""Forecasts in a process of its own: it holds no interpreter's lock, and leaves cores to others.

The process gets one pickled query after the other on its standard input and ends with it. It leads
a session of its own: signals from the terminal must reach only the screen's process.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import struct
import subprocess
import sys
import threading
from typing import IO, Any

from tputtui.predict.forecast import Forecast, Query, answered

__all__ = ["OtherProcess", "main"]

logger = logging.getLogger(__name__)

_NICE = 10
_LENGTH = struct.Struct("<Q")
_PROGRAM = (
    # Nice before it imports anything: that takes longer than an answer.
    f"import json, os, sys; os.nice({_NICE}); sys.path[:] = json.loads(sys.argv[1]); "
    "from tputtui.predict.process import main; main()"
)
_GRACE_S = 1.0
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class OtherProcess:
    """Computes in another process; one that died answers nothing, and is not started again."""

    def __init__(self) -> None:
        places = json.dumps([str(place) for place in sys.path])
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **_ONE_THREAD},
        )
        self._answer: tuple[Forecast, ...] | None = None
        self._thread: threading.Thread | None = None

    @property
    def busy(self) -> bool:
        """Whether the answer has not come yet."""
        return self._thread is not None and self._thread.is_alive()

    def begin(self, query: Query) -> None:
        """Send a query; a thread waits for its answer."""
        self._answer = None
        self._thread = threading.Thread(target=self._exchange, args=(query,), daemon=True)
        self._thread.start()

    def answer(self) -> tuple[Forecast, ...] | None:
        """The answer."""
        return self._answer

    def close(self) -> None:
        """End the process."""
        process = self._process
        with contextlib.suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._thread is not None:
            self._thread.join(_GRACE_S)
        if process.stdout is not None:
            process.stdout.close()

    def _exchange(self, query: Query) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _write(process.stdin, query)
            self._answer = _read(process.stdout)
        except (OSError, EOFError, ValueError):
            logger.warning("the process that predicts is gone")


def main() -> None:
    """Answer queries until the standard input ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    # What a library prints must not get between the answers.
    sys.stdout = sys.stderr
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            query: Query = _read(source)
            try:
                answer = answered(query)
            except Exception:
                logger.exception("a prediction failed")
                answer = None
            _write(target, answer)


def _write(target: IO[bytes], value: object) -> None:
    data = pickle.dumps(value)
    target.write(_LENGTH.pack(len(data)) + data)
    target.flush()


def _read(source: IO[bytes]) -> Any:
    header = source.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        raise EOFError
    (length,) = _LENGTH.unpack(header)
    data = source.read(length)
    if len(data) < length:
        raise EOFError
    return pickle.loads(data)

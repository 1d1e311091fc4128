"""Runs a session without a screen until it has been measured, or someone stops it. Main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from tputtui.frame import Frame
from tputtui.headless.measuring import Measuring
from tputtui.headless.progress import Progress

__all__ = ["Interrupted", "measure"]

_LOOK_S = 0.25
_LEFT_AT_ONCE = 130


class Interrupted:
    """SIGINT and SIGTERM ask to stop; a second one leaves at once."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self.asked = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.asked.is_set():
            self._leave()
            os._exit(_LEFT_AT_ONCE)
        self.asked.set()


def measure(
    measuring: Measuring,
    duration_s: float,
    interrupted: Interrupted,
    stderr: TextIO,
    *,
    quiet: bool = False,
    each_second: Callable[[Frame], None] | None = None,
) -> Frame:
    """Look at it until it is over, or interrupted; the last frame.

    each_second: told a frame once a second of the run.
    """
    second = -1
    with Progress(stderr, duration_s, quiet=quiet) as progress:
        while True:
            frame = measuring.look()
            progress.show(measuring, frame)
            if each_second is not None and int(frame.elapsed_s) != second:
                second = int(frame.elapsed_s)
                each_second(frame)
            if measuring.over or interrupted.asked.is_set():
                return frame
            interrupted.asked.wait(_LOOK_S)

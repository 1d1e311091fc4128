"""Runs a session without a screen until it has been measured, or someone stops it. Main thread."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TextIO

from tputtui.experiments.measuring import Measuring
from tputtui.frame import SERVING, Frame
from tputtui.headless.progress import Progress
from tputtui.profile import EngineSpec
from tputtui.session.session import Session

__all__ = ["Interrupted", "measure", "pause", "until", "until_up"]

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


def pause(session: Session, interrupted: Interrupted) -> bool:
    """Let the run go on for a quarter of a second; returns whether someone interrupted."""
    went_on = session.host.run_for(_LOOK_S)
    return interrupted.asked.wait(0 if went_on else _LOOK_S)


def until_up(session: Session, spec: EngineSpec, interrupted: Interrupted) -> bool:
    """Wait until engine `spec` serves; False where it did not boot, or someone interrupted."""
    while not pause(session, interrupted):
        status = session.advance().status
        if status.failure is not None or status.refused is not None:
            return False
        if status.state in SERVING and status.spec == spec:
            return True
    return False


def until(session: Session, interrupted: Interrupted, done: Callable[[Frame], bool]) -> Frame:
    """Advance `session` until `done`, or until someone interrupts; returns the last frame."""
    while not done(frame := session.advance()) and not pause(session, interrupted):
        pass
    return frame


def measure(
    session: Session,
    measuring: Measuring,
    interrupted: Interrupted,
    stderr: TextIO,
    *,
    quiet: bool = False,
    each_second: Callable[[Frame], None] | None = None,
) -> Frame:
    """Advance `session`, once started, until it is measured or interrupted; the last frame.

    When a load has ended by itself, requests in flight are served first, so that they are counted.
    each_second: called with a frame once a second of the run.
    """
    second = -1
    with Progress(stderr, quiet=quiet) as progress:
        while True:
            frame = session.advance()
            if measuring.follow(frame):
                session.steer.measure_anew()
            progress.show(measuring, frame)
            if each_second is not None and int(frame.elapsed_s) != second:
                second = int(frame.elapsed_s)
                each_second(frame)
            if (measuring.over and not _running_out(frame)) or interrupted.asked.is_set():
                return frame
            pause(session, interrupted)


def _running_out(frame: Frame) -> bool:
    over = frame.status.load_run.ended and not frame.status.load_on
    return frame.serving and over and frame.accounting.in_flight > 0

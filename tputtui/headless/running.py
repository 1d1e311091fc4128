"""Runs a session without a screen until it has been measured, or someone stops it. Main thread."""

from __future__ import annotations

import contextlib
import os
import select
import signal
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
_LAST_WORDS = b"\ntputtui: left at once\n"


class Interrupted:
    """SIGINT, SIGTERM and SIGHUP ask to stop; a second one leaves at once.

    A signal may interrupt the main thread anywhere, inside a write and with a lock held. So the
    handler takes no lock: it sets a flag, wakes who waits through a pipe, and says its last words
    on a descriptor, without waiting for a reader.
    """

    def __init__(self, err: TextIO) -> None:
        """err: the file on whose descriptor the last words are said."""
        self.asked = False
        self._descriptor = os.dup(err.fileno())
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._take)

    def wait(self, seconds: float) -> bool:
        """Wait until someone asks to stop, so many seconds at most; returns whether someone did."""
        select.select([self._woken], [], [], seconds)
        return self.asked

    def _take(self, number: int, frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            if not self.asked:
                self.asked = True
                os.write(self._wake, b"!")
                return
            if select.select([], [self._descriptor], [], 0)[1]:
                os.write(self._descriptor, _LAST_WORDS)
        os._exit(_LEFT_AT_ONCE)


def pause(session: Session, interrupted: Interrupted) -> bool:
    """Let the run go on for a quarter of a second; returns whether someone interrupted."""
    went_on = session.host.run_for(_LOOK_S)
    return interrupted.wait(0 if went_on else _LOOK_S)


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
            if (measuring.over and not _running_out(frame)) or interrupted.asked:
                return _looked_at_closely(session, measuring, frame)
            pause(session, interrupted)


def _looked_at_closely(session: Session, measuring: Measuring, last: Frame) -> Frame:
    """The last frame again, so that what is printed, saved and recorded is of the same seconds."""
    if measuring.over and measuring.result is last:
        closer = session.look_closely()
        if closer.window.phase.quotable:
            measuring.result = last = closer
    return last


def _running_out(frame: Frame) -> bool:
    over = frame.status.load_run.ended and not frame.status.load_on
    return frame.serving and over and frame.accounting.in_flight > 0

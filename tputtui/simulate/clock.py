"""Time that a simulation supplies itself. Engine thread."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Pacer", "RealTime", "VirtualTime"]


class Pacer(Protocol):
    """A clock, in seconds, and what it is to wait by it."""

    def __call__(self) -> float:
        """Now."""

    def wait_until(self, at_s: float) -> None:
        """Return when it is `at_s` or later."""


class RealTime:
    """`time.monotonic`; waiting takes its time."""

    def __call__(self) -> float:
        """Now."""
        return time.monotonic()

    def wait_until(self, at_s: float) -> None:
        """Sleep; a sleep may end a little early or late."""
        while (left_s := at_s - time.monotonic()) > 0:
            time.sleep(left_s)


class VirtualTime:
    """A clock that stands still but for what is waited for: a run as fast as the CPU goes."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """Now."""
        return self._now_s

    def wait_until(self, at_s: float) -> None:
        """It is `at_s` at once, if it was earlier."""
        self._now_s = max(self._now_s, at_s)

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now_s += seconds

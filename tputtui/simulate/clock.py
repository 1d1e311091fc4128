"""The clocks of a simulation: real or virtual time. Engine thread."""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Pacer", "RealTime", "VirtualTime"]


class Pacer(Protocol):
    """A clock in seconds, and a way to wait on it."""

    def __call__(self) -> float:
        """The present time in s."""

    def wait_until(self, at_s: float) -> None:
        """Return at `at_s` or later."""


class RealTime:
    """`time.monotonic`; a wait takes real time."""

    def __call__(self) -> float:
        """The present time in s."""
        return time.monotonic()

    def wait_until(self, at_s: float) -> None:
        """Sleep until `at_s`; repeats a sleep that ends early."""
        while (left_s := at_s - time.monotonic()) > 0:
            time.sleep(left_s)


class VirtualTime:
    """A clock that advances only by waits, so that a run is as fast as the CPU allows."""

    def __init__(self, now_s: float = 1000.0) -> None:
        self._now_s = now_s

    def __call__(self) -> float:
        """The present time in s."""
        return self._now_s

    def wait_until(self, at_s: float) -> None:
        """Set the clock to `at_s` at once, unless it is later already."""
        self._now_s = max(self._now_s, at_s)

    def advance(self, seconds: float) -> None:
        """Move the clock `seconds` ahead."""
        self._now_s += seconds

"""Replaces the clock of vLLM's engine by that of a simulation. Engine thread.

vLLM stamps requests and statistics with `time.monotonic()` and `time.time()`. Only in those of its
modules the name `time` is bound to an object that returns the simulated time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

__all__ = ["OtherClock"]

_ROOMS = ("vllm.v1.engine", "vllm.v1.metrics", "vllm.v1.core", "vllm.v1.request")


class OtherClock:
    """While on, makes vLLM's engine read its clocks from `clock`, in s."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._changed: list[ModuleType] = []

    def put_on(self) -> None:
        """Replace the clock in the modules imported so far."""
        answers: Any = _Time(self._clock)
        for name, module in list(sys.modules.items()):
            if name.startswith(_ROOMS) and getattr(module, "time", None) is time:
                module.time = answers  # type: ignore[attr-defined]
                self._changed.append(module)

    def take_off(self) -> None:
        """Restore the real clock."""
        for module in self._changed:
            module.time = time  # type: ignore[attr-defined]
        self._changed.clear()


class _Time:
    """The module `time` with other clocks."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.monotonic = self.time = self.perf_counter = clock

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

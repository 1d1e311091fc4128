"""Tests. They wait for events, never for a time: a machine may be as busy as it likes."""

import time
from collections.abc import Callable

PATIENCE_S = 600.0
"""How long a test waits for an event before it says what it waited for in vain."""

SnapCompare = Callable[..., bool]
"""The fixture `snap_compare`: takes an app, its size and the keys it is sent."""


def until(reached: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait for it, within bounds."""
    end_s = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end_s, "not reached in time"
        time.sleep(0.005)

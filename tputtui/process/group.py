"""Ends a group of processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable

__all__ = ["end_group"]


def end_group(leader: int, grace_s: float, look: Callable[[], object] = lambda: None) -> None:
    """SIGTERM to the process group of `leader`; after `grace_s`, SIGKILL to what is left of it.

    SIGTERM first: one of them may release shared memory. look: called while they end, such as to
    collect the leader's own exit.
    """
    until_s = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGTERM)
        while time.monotonic() < until_s:
            look()
            os.killpg(leader, 0)
            time.sleep(0.01)
        os.killpg(leader, signal.SIGKILL)

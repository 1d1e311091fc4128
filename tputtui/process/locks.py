"""Tells a file that a living process writes from one whose writer is gone.

The lock is the kernel's (flock): however its holder ends, it is released.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

__all__ = ["hold", "written_now"]


def hold(handle: int) -> None:
    """Lock the open file until it is closed; nothing where the file system has no locks."""
    with contextlib.suppress(OSError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def written_now(path: Path) -> bool:
    """Whether a process holds the lock of the file. Raises OSError where it cannot be opened."""
    handle = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(handle)
    return False

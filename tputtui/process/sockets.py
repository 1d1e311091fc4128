"""Where an engine process listens for our people, if its vLLM has no place for our routes."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["socket_path"]


def socket_path(pid: int, uid: int | None = None) -> Path:
    """The unix socket of process `pid` of user `uid`, ours if not given."""
    # Not the temporary directory: a server may have been started with another one.
    return Path("/tmp", f"tputtui-{os.getuid() if uid is None else uid}", f"{pid}.sock")

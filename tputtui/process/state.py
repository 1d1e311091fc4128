"""The place of files that tputtui writes by itself: logs and recorded runs."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tputtui.errors import UsageError

__all__ = ["fresh_file", "sessions_dir", "state_dir"]


def state_dir() -> Path:
    """The folder of tputtui in the XDG state directory."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "tputtui"


def sessions_dir() -> Path:
    """The folder of recorded runs."""
    return state_dir() / "sessions"


def fresh_file(kind: str, suffix: str, *, kept: int, kept_bytes: int = 1 << 62) -> Path:
    """Make a new, empty file of this run in the folder `kind`, readable only by its owner.

    Old files are removed until at most `kept` files of `kept_bytes` bytes in total remain.
    Raises UsageError if the file cannot be made.
    """
    folder = state_dir() / kind
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        _tidy(folder, suffix, kept, kept_bytes)
    except OSError as error:
        raise UsageError(
            f"{path} cannot be written: {error.strerror or error}.",
            "Set XDG_STATE_HOME to a folder that can.",
        ) from None
    return path


def _tidy(folder: Path, suffix: str, kept: int, kept_bytes: int) -> None:
    total = 0
    for number, path in enumerate(sorted(folder.glob(f"*{suffix}"), reverse=True), 1):
        # Another run may remove the same files.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
            if number > kept or total > kept_bytes:
                path.unlink()

"""Where tputtui keeps what it writes by itself: logs and recorded runs."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from tputtui.errors import UsageError

__all__ = ["fresh_file", "state_dir"]


def state_dir() -> Path:
    """The XDG state directory's own folder."""
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "tputtui"


def fresh_file(kind: str, suffix: str, *, kept: int, kept_bytes: int = 1 << 62) -> Path:
    """A new, empty file of this run in the folder `kind`, readable by the person alone.

    The oldest files are removed, until at most `kept` with `kept_bytes` in all stay.
    Raises UsageError when it cannot be made.
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
        # Another run may be tidying up as well.
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
            if number > kept or total > kept_bytes:
                path.unlink()

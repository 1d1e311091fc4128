"""Descriptors 1 and 2 belong to the log while an engine runs; what was there stays at hand.

vLLM, its C code and progress bars write to them. Main thread, before any of that is imported.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from pathlib import Path
from typing import Any

from tputtui.logs import log_through
from tputtui.redact import redacted

__all__ = ["Redirected"]


class _Screen(io.FileIO):
    """Takes what is written after a hang-up: else Textual's writer dies, and the screen waits."""

    def write(self, data: Any, /) -> int:
        """How many bytes were taken."""
        try:
            return super().write(data)
        except OSError:
            return len(memoryview(data).cast("B"))


class _Log(io.TextIOWrapper):
    """What Python code prints, without secrets. (Native code writes to the descriptor itself.)"""

    def write(self, text: str, /) -> int:
        """How many characters were taken."""
        super().write(redacted(text))
        return len(text)


class Redirected:
    """From here until `restore`, 1 and 2 are the log, and so are sys.stdout and sys.stderr.

    kept: duplicates of 1 and 2 as they were.
    """

    def __init__(self, log_path: Path) -> None:
        self.kept = (os.dup(1), os.dup(2))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        self._streams = (sys.stdout, sys.stderr)
        printed = io.FileIO(1, "w", closefd=False)
        sys.stdout = sys.stderr = _Log(
            io.BufferedWriter(printed), encoding="utf-8", errors="replace", line_buffering=True
        )
        log_through(logging.FileHandler(log_path, encoding="utf-8"))

    def file(self, number: int, *, screen: bool = False) -> io.TextIOWrapper:
        """A text file of its own that writes where descriptor `number` (1 or 2) wrote before.

        screen: of a terminal that has gone away nobody needs to hear.
        """
        kind = _Screen if screen else io.FileIO
        raw = kind(os.dup(self.kept[number - 1]), "w")
        return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="replace")

    def restore(self) -> None:
        """Give 1 and 2 back; safe to call twice."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        sys.stdout, sys.stderr = self._streams
        for number, kept in zip((1, 2), self.kept, strict=True):
            os.dup2(kept, number)

"""Points descriptors 1 and 2 at the log, and keeps duplicates of the original ones.

vLLM, its C code and progress bars write to them, some only while the process ends (destructors in
C++). So they are never restored: this program writes to the duplicates instead. Main thread, before
any of that is imported.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tputtui.process.logs import log_through
from tputtui.process.output import text_file
from tputtui.process.privacy import is_private
from tputtui.redact import redacted

__all__ = ["Redirected", "print_to_the_log", "silent"]


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Drop everything that any code writes to descriptors 1 and 2 meanwhile."""
    _flush()
    kept = (os.dup(1), os.dup(2))
    _drop_output()
    try:
        yield
    finally:
        _flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def _drop_output() -> None:
    """Point descriptors 1 and 2 at nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    os.close(nowhere)


class _Log(io.TextIOWrapper):
    """Removes secrets from what Python code prints. (Native code bypasses this file.)

    Drops it once real prompts are in the process: it may quote one.
    """

    def write(self, text: str, /) -> int:
        """Write, and return how many characters were taken."""
        if not is_private():
            super().write(redacted(text))
        return len(text)


class Redirected:
    """Points 1 and 2 at the log for good, and sys.stdout and sys.stderr until `restore`.

    kept: duplicates of the original 1 and 2.
    """

    _made = False
    """Whether 1 and 2 are the log's in this process."""

    def __init__(self, log_path: Path) -> None:
        self.kept = (os.dup(1), os.dup(2))
        _flush()
        log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        Redirected._made = True
        self._streams: tuple[TextIO, TextIO] | None = (sys.stdout, sys.stderr)
        print_to_the_log()
        log_through(logging.FileHandler(log_path, encoding="utf-8"))

    def file(self, number: int) -> io.TextIOWrapper:
        """A new text file that writes where descriptor `number` (1 or 2) wrote originally."""
        return text_file(os.dup(self.kept[number - 1]), figures=number == 1)

    @staticmethod
    def say_no_more() -> None:
        """Send all further output to the log, until the process ends; without a log, drop it."""
        _flush()
        if not Redirected._made:
            # Libraries that were imported in `silent` print while they are torn down.
            _drop_output()
        print_to_the_log()

    def restore(self) -> None:
        """Let Python print where it printed originally; safe to call twice.

        The descriptors stay pointed at the log, so late output of native code is not shown.
        """
        if self._streams is None:
            return
        _flush()
        out, err = self._streams
        sys.stdout = self._as_before(out, 1)
        sys.stderr = self._as_before(err, 2)
        self._streams = None

    def _as_before(self, stream: TextIO, number: int) -> TextIO:
        """`stream`, or if it wrote to `number`, a file that writes to the original descriptor."""
        try:
            there = stream.fileno() == number
        except (OSError, ValueError, AttributeError):
            # The stream was replaced by something else.
            return stream
        if not there:
            return stream
        kept = self.file(number)
        kept.reconfigure(line_buffering=number == 2 or os.isatty(self.kept[number - 1]))
        return kept


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def print_to_the_log() -> None:
    """Send what Python prints to descriptor 1, which is the log."""
    raw = io.FileIO(1, "w", closefd=False)
    sys.stdout = sys.stderr = _Log(
        io.BufferedWriter(raw), encoding="utf-8", errors="replace", line_buffering=True
    )

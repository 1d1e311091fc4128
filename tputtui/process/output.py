"""Standard output and standard error: what happens to a command when they take nothing more.

A figure that could not be printed is a failure of the run and becomes an OutputError (or a
BrokenPipeError, where the reader has had enough); nothing is written after it. A sentence on
standard error that cannot be written is dropped: nothing depends on it. Any thread.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any, TextIO

__all__ = ["speak_through", "text_file"]


class _Descriptor(io.FileIO):
    """Bytes for a descriptor; `silent` once it has failed, then they go nowhere."""

    silent = False

    def write(self, data: Any, /) -> int:
        """How many bytes were taken."""
        if self.silent:
            return memoryview(data).nbytes
        try:
            # None: the descriptor does not block, and has no room now.
            while (taken := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            self.silent = True
            return self.failed(error, memoryview(data).nbytes)
        return taken

    def failed(self, error: OSError, size: int) -> int:
        """Raise what is to be known of it, or say how many bytes were taken."""
        raise NotImplementedError


class _Figures(_Descriptor):
    def failed(self, error: OSError, size: int) -> int:
        if isinstance(error, BrokenPipeError):
            raise error
        from tputtui.errors import OutputError

        raise OutputError(
            f"The output could not be written: {error.strerror}.",
            "Make room where it goes, or send it to another place.",
        ) from error


class _Sentences(_Descriptor):
    def failed(self, error: OSError, size: int) -> int:
        return size


def text_file(
    descriptor: int,
    *,
    figures: bool,
    encoding: str = "utf-8",
    errors: str = "replace",
    closes: bool = True,
    line_buffering: bool = False,
) -> io.TextIOWrapper:
    """A text file that writes to a descriptor. figures: whether it matters that they arrive."""
    raw = (_Figures if figures else _Sentences)(descriptor, "w", closefd=closes)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=line_buffering
    )


def speak_through() -> None:
    """From here on sys.stdout and sys.stderr are such files."""
    sys.stdout = _in_place_of(sys.stdout, 1)
    sys.stderr = _in_place_of(sys.stderr, 2)


def _in_place_of(stream: TextIO, number: int) -> TextIO:
    try:
        if stream.fileno() != number:
            return stream
    except (OSError, ValueError, AttributeError):
        # Closed (`>&-`), or something else that was put there.
        return stream
    return text_file(
        number,
        figures=number == 1,
        encoding=stream.encoding,
        # A character that an old locale has not: readable still, and no reason to fail.
        errors="backslashreplace",
        closes=False,
        line_buffering=number == 2 or os.isatty(number),
    )

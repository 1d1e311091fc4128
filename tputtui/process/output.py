"""Standard output and standard error that handle failed writes.

A figure that cannot be printed is a failure of the run: it raises OutputError (or BrokenPipeError,
if the reader has closed the pipe), and nothing is written after it. A sentence that cannot be
written to standard error is dropped: nothing depends on it. Any thread.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any, TextIO

__all__ = ["speak_through", "text_file"]


class _Descriptor(io.FileIO):
    """Writes bytes to a descriptor; after a failed write it is `silent` and drops them."""

    silent = False

    def write(self, data: Any, /) -> int:
        """Write, and return how many bytes were taken."""
        if self.silent:
            return memoryview(data).nbytes
        try:
            # None: the descriptor is non-blocking and has no room now.
            while (taken := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            self.silent = True
            return self.failed(error, memoryview(data).nbytes)
        return taken

    def failed(self, error: OSError, size: int) -> int:
        """Handle a failed write: raise an error, or return how many bytes count as taken."""
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
    """A text file that writes to a descriptor. figures: whether a failed write raises an error."""
    raw = (_Figures if figures else _Sentences)(descriptor, "w", closefd=closes)
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors=errors, line_buffering=line_buffering
    )


def speak_through() -> None:
    """Replace sys.stdout and sys.stderr by such files."""
    sys.stdout = _in_place_of(sys.stdout, 1)
    sys.stderr = _in_place_of(sys.stderr, 2)


def _in_place_of(stream: TextIO, number: int) -> TextIO:
    try:
        if stream.fileno() != number:
            return stream
    except (OSError, ValueError, AttributeError):
        # The stream is closed (`>&-`), or was replaced.
        return stream
    return text_file(
        number,
        figures=number == 1,
        encoding=stream.encoding,
        # A character that the locale lacks is escaped instead of raising an error.
        errors="backslashreplace",
        closes=False,
        line_buffering=number == 2 or os.isatty(number),
    )

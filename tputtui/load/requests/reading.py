"""Reads a request file line by line, as its lines are needed; skips bad lines and counts them.

On the renderer's thread, and for a check before a start. Nothing of a line's content is kept or
told: an error names the line, keys, and kinds.
"""

from __future__ import annotations

import math
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ijson
import msgspec

from tputtui.errors import UsageError
from tputtui.load.requests.ask import Ask, BadLineError
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.formats import FORMATS, format_of
from tputtui.load.sharegpt import entries
from tputtui.load.trace_lines import BOM, MAX_BYTES

__all__ = ["Reader", "check_requests", "untimed_requests", "untokenized"]

_JUDGED_FROM = 20
"""The share of bad lines ends a load from so many lines on."""
_CHECKED_LINES = 1000
_LIKE = "A line is like " + FORMATS[0].example + " or " + FORMATS[6].example + "."
_HINT = "`tputtui help load` lists the formats."


class Read(NamedTuple):
    """A request and the number of its line (of its entry, in a JSON array)."""

    number: int
    ask: Ask


class Reader:
    """The requests of one file. Raises UsageError if it cannot be opened.

    lines, skipped: how many were read, and could not be used. first_bad: the first of these, in
    words. formats: how many lines had each format.
    """

    def __init__(self, file: RequestFile) -> None:
        self._share = file.bad
        self.path = Path(file.path).expanduser()
        self.lines = self.skipped = 0
        self.first_bad = ""
        self.formats: Counter[str] = Counter()
        self._file = opened(self.path)
        self._array = self._file.peek(4096).removeprefix(BOM).lstrip().startswith(b"[")  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[Read]:
        """The usable requests, in order. Raises UsageError when too many lines are bad."""
        try:
            for number, line in self._entries() if self._array else self._json_lines():
                self.lines += 1
                try:
                    if isinstance(line, BadLineError):
                        raise line
                    form = format_of(line)
                    ask = form.read(line)
                except BadLineError as error:
                    self.skip(number, error)
                    continue
                self.formats[form.title] += 1
                yield Read(number, ask)
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror or error}.", _HINT) from None
        if self.lines == self.skipped:
            raise self._unusable()

    def skip(self, number: int, error: BadLineError) -> None:
        """Count a line that cannot be used. Raises UsageError when they are too many."""
        self.skipped += 1
        if not self.first_bad:
            self.first_bad = f"{'entry' if self._array else 'line'} {number}: {error}"
        if self.lines >= _JUDGED_FROM and self.skipped > self._share * self.lines:
            raise self._unusable()

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _unusable(self) -> UsageError:
        if not self.lines:
            return UsageError(f"{self.path}: no requests.", _LIKE)
        return UsageError(
            f"{self.path}: {self.skipped:,} of {self.lines:,} lines cannot be used; "
            f"{self.first_bad}.",
            f"More than {self._share:.0%} end a load; `bad=SHARE` beside the file allows more. "
            + _LIKE,
        )

    def _json_lines(self) -> Iterator[tuple[int, Mapping[str, Any] | BadLineError]]:
        decode = msgspec.json.Decoder().decode
        number = 0
        while line := self._file.readline(MAX_BYTES + 1):
            number += 1
            if len(line) > MAX_BYTES:
                while line and not line.endswith(b"\n"):
                    line = self._file.readline(MAX_BYTES)
                yield number, BadLineError(f"longer than {MAX_BYTES >> 20} MiB")
                continue
            if number == 1:
                line = line.removeprefix(BOM)
            if not (line := line.strip()):
                continue
            try:
                value = decode(line)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
                yield number, BadLineError("no JSON, or cut short")
                continue
            yield number, value if isinstance(value, dict) else BadLineError("not an object")

    def _entries(self) -> Iterator[tuple[int, Mapping[str, Any] | BadLineError]]:
        number = 0
        found = entries(self._file)
        while True:
            number += 1
            try:
                value = next(found)
            except StopIteration:
                return
            except (ijson.JSONError, ValueError):
                # Where one entry ends in an array is known only if it can be read.
                self.lines += 1
                self.skipped += 1
                self.first_bad = self.first_bad or f"entry {number}: no JSON, or cut short"
                raise UsageError(
                    f"{self.path}: entry {number}: no JSON, or cut short.",
                    "The rest of an array cannot be read after that; JSON Lines could be.",
                ) from None
            yield number, value if isinstance(value, dict) else BadLineError("not an object")


def opened(path: Path) -> BinaryIO:
    """The file, to read. Raises UsageError."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path}: a directory, not a file of requests.", _HINT)
        if not stat.S_ISREG(mode):
            raise UsageError(f"{path}: not a regular file.", "Save the requests to a file first.")
        return path.open("rb", buffering=1 << 16)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: {why}.", "Give a file of requests. " + _HINT) from None


def check_requests(
    file: RequestFile, tokenizer: str, recorded: bool, *, by_server: bool = False
) -> None:
    """Check the beginning of a request file before anything is booted. Raises UsageError.

    recorded: whether the requests arrive at their recorded times. by_server: whether it may be a
    server that makes the prompts.
    """
    if not (by_server or file.tokenizer or tokenizer):
        raise untokenized(file)
    reader = Reader(file)
    try:
        first_s = math.nan
        moves = not (recorded and file.repeat)
        for place, (_, ask) in enumerate(reader):
            if place == 0:
                first_s = ask.at_s
                if recorded and math.isnan(first_s):
                    raise untimed_requests(file)
            moves = moves or ask.at_s > first_s
            if moves or place >= _CHECKED_LINES:
                break
        if not moves:
            raise UsageError(
                f"{file.path}: all its requests have one time, so repeating it at its times has "
                "no end.",
                "Leave out `repeat`, or give a rate like 8/s, or a number in flight.",
            )
    finally:
        reader.close()


def untokenized(file: RequestFile) -> UsageError:
    """The error for real prompts that nobody can make tokens of."""
    return UsageError(
        f"{file.path}: real prompts need a tokenizer, and this model brings none.",
        f"Write --requests '{file.path} tokenizer=FOLDER'; a server takes --tokenizer as well.",
    )


def untimed_requests(file: RequestFile) -> UsageError:
    """The error for recorded arrivals from a file without times."""
    return UsageError(
        f"{file.path} has no times to replay.", "Give a rate like 8/s, or a number in flight."
    )

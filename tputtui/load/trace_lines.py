"""The records of a trace, its lines, and the conversion of its times."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tputtui.errors import UsageError, nearest
from tputtui.load.jobs import Step

__all__ = [
    "BAILIAN_BLOCK_TOKENS",
    "BLOCK_TOKENS",
    "BOM",
    "MAX_BYTES",
    "Lines",
    "TraceClock",
    "TraceRecord",
    "TraceStep",
    "misspelt",
    "shown",
]

BOM = b"\xef\xbb\xbf"
MAX_BYTES = 16 * 1024 * 1024
"""The longest line (or entry of an array) to read, which bounds the memory for a record."""
BLOCK_TOKENS = 512
"""Tokens in one block, which has one hash id, in Mooncake's traces."""
BAILIAN_BLOCK_TOKENS = 16
"""Tokens in one block, which has one hash id, in Bailian's traces."""


class TraceRecord(NamedTuple):
    """One request of a trace."""

    at_s: float
    """Seconds since the first record; NaN if the trace has no times (ShareGPT)."""
    prompt_tokens: int
    """1 or more."""
    output_tokens: int
    """1 or more."""
    blocks: tuple[int, ...] = ()
    """Mooncake, Bailian: ids of the prompt's blocks of `block_tokens` tokens. The last block may be
    partial; a prompt longer than its blocks continues with tokens of its own."""
    token_ids: tuple[int, ...] = ()
    """The prompt itself, if the trace holds it; empty also for a prompt of no tokens."""
    prefix: str = ""
    """Our own JSONL: the name of a shared prefix."""
    prefix_tokens: int = 0
    """How many of `prompt_tokens` belong to the prefix."""
    block_tokens: int = BLOCK_TOKENS
    steps: tuple[TraceStep, ...] = ()
    """Of a job of several requests: all of them. The lengths are then those of the first."""


class TraceStep(NamedTuple):
    """One request of a job in a trace."""

    record: TraceRecord
    step: Step
    """When it is due."""
    continues: int | None = None
    """The step whose prompt and real answer its own prompt comes after; None for none."""


class Lines:
    """The non-blank lines of `file`, without line ends, and errors that name the line.

    hint: the hint of `bad` if it gets no other.
    """

    def __init__(self, file: BinaryIO, path: Path, hint: str = "") -> None:
        self._file = file
        self._path = path
        self._hint = hint
        self._number = 0
        self._ended = True

    def __iter__(self) -> Iterator[bytes]:
        read = self._file.readline
        while line := read(MAX_BYTES + 1):
            self._number += 1
            self._ended = line.endswith(b"\n")
            if len(line) > MAX_BYTES:
                raise self.bad(f"longer than {MAX_BYTES >> 20} MiB", "A record takes one line.")
            if self._number == 1:
                line = line.removeprefix(BOM)
            if not line.isascii():
                try:
                    line.decode()
                except UnicodeDecodeError:
                    raise self.bad("not text in UTF-8") from None
            if line := line.strip():
                yield line

    def bad(self, what: str, hint: str = "") -> UsageError:
        """The error `what` in the line read last."""
        hints = [hint or self._hint]
        if not self._ended:
            hints.append("The file ends within this line: it may have been cut short.")
        return UsageError(f"{self._path}: line {self._number}: {what}.", " ".join(hints).strip())


def shown(value: object) -> str:
    """A value as an error shows it: text in quotes, numbers as JSON, cut to 40 characters."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=float)
    return text if len(text) <= 40 else text[:39] + "…"


def misspelt(names: Iterable[str], known: Collection[str]) -> str:
    """A hint for the first of `names` that is not in `known` but close to one of it; else ""."""
    hints = (nearest(name, known) for name in names if name not in known)
    return next(filter(None, hints), "")


class TraceClock:
    """Converts a trace's own times, `per_s` a second, into seconds since its first record."""

    def __init__(self, per_s: int = 1) -> None:
        self._per_s = per_s
        self._first: float | None = None
        self._last: float = -math.inf

    def at_s(self, time: float) -> float:
        """Seconds since the first record; never less than the previous result."""
        if self._first is None:
            self._first = time
        if time < self._last:
            time = self._last
        self._last = time
        return (time - self._first) / self._per_s

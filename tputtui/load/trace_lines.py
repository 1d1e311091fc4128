"""A trace's records, the lines that they stand on, and the clock that its times go by."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tputtui.errors import UsageError, nearest

__all__ = [
    "BAILIAN_BLOCK_TOKENS",
    "BLOCK_TOKENS",
    "BOM",
    "MAX_BYTES",
    "Lines",
    "TraceClock",
    "TraceRecord",
    "misspelt",
    "shown",
]

BOM = b"\xef\xbb\xbf"
MAX_BYTES = 16 * 1024 * 1024
"""The longest line (or entry of an array) that is read: what memory one record may cost."""
BLOCK_TOKENS = 512
"""How many tokens one of Mooncake's hash ids stands for."""
BAILIAN_BLOCK_TOKENS = 16
"""How many one of Bailian's does."""


class TraceRecord(NamedTuple):
    """One request of a trace.

    at_s: seconds since the first record of the trace; NaN when the trace has no times (ShareGPT).
    prompt_tokens, output_tokens: 1 or more.
    blocks: Mooncake, Bailian: ids of the blocks of `block_tokens` the prompt consists of. The last
        block may be partial; a prompt longer than its blocks goes on with tokens of its own.
    token_ids: the prompt itself where the trace holds it; empty too for a prompt of no tokens.
    prefix, prefix_tokens: our own JSONL: the name of a shared prefix, and how many of
        `prompt_tokens` it takes.
    """

    at_s: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    token_ids: tuple[int, ...] = ()
    prefix: str = ""
    prefix_tokens: int = 0
    block_tokens: int = BLOCK_TOKENS


class Lines:
    """The lines of `file` that are not blank, without their ends, and errors that name them.

    hint: what `bad` advises when it is told nothing better.
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
        """The error that says `what` is wrong with the line read last."""
        hints = [hint or self._hint]
        if not self._ended:
            hints.append("The file ends within this line: it may have been cut short.")
        return UsageError(f"{self._path}: line {self._number}: {what}.", " ".join(hints).strip())


def shown(value: object) -> str:
    """What was found, as an error says it: text in quotes, numbers as JSON, cut to 40 signs."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=float)
    return text if len(text) <= 40 else text[:39] + "…"


def misspelt(found: Iterable[str], known: Collection[str]) -> str:
    """A hint for the first name that is none of `known` but close to one; "" if there is none."""
    hints = (nearest(name, known) for name in found if name not in known)
    return next(filter(None, hints), "")


class TraceClock:
    """Turns a trace's own times, `per_s` to the second, into seconds since its first record."""

    def __init__(self, per_s: int = 1) -> None:
        self._per_s = per_s
        self._first: float | None = None
        self._last: float = -math.inf

    def at_s(self, time: float) -> float:
        """Never less than what it said before."""
        if self._first is None:
            self._first = time
        if time < self._last:
            time = self._last
        self._last = time
        return (time - self._first) / self._per_s

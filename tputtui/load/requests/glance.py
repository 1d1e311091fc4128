"""A glance at the beginning of a request file, fast enough to take while someone types. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.reading import Reader
from tputtui.load.trace_lines import TraceClock

__all__ = ["Glance", "glance"]

_MOST_BYTES = 4_000_000


class Glance(NamedTuple):
    """What the first lines of a file say without a tokenizer.

    formats: their names. times_s: of the requests, in s since the first; empty without times.
    outputs: recorded or asked-for output tokens, ascending, of the requests that have them.
    """

    formats: tuple[str, ...]
    requests: int
    skipped: int
    times_s: tuple[float, ...]
    outputs: tuple[int, ...]

    @property
    def timed(self) -> bool:
        """Whether the requests have times."""
        return bool(self.times_s)


def glance(file: RequestFile, requests: int) -> Glance:
    """The beginning of `file`: so many requests at most. Raises UsageError if it has none."""
    reader = Reader(file)
    clock, times, outputs, count = TraceClock(), [], [], 0
    try:
        for count, (_, ask) in enumerate(reader, 1):
            if not math.isnan(ask.at_s):
                times.append(clock.at_s(ask.at_s))
            elif times:
                times.append(times[-1])
            outputs += _known(
                (turn.output_tokens, turn.max_tokens) if file.force_lengths
                else (turn.max_tokens or turn.output_tokens,)
                for turn in ask.turns
            )  # fmt: skip
            if count >= requests or reader.position > _MOST_BYTES:
                break
    finally:
        reader.close()
    return Glance(
        tuple(reader.formats), count, reader.skipped, tuple(times), tuple(sorted(outputs))
    )


def _known(lengths: Iterable[tuple[int | None, ...]]) -> list[int]:
    """The first known length of each turn."""
    firsts = (next((length for length in turn if length), None) for turn in lengths)
    return [length for length in firsts if length]

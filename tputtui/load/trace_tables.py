"""Traces as CSV, their columns by name: Azure, BurstGPT."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

from tputtui.load.lengths import LONGEST
from tputtui.load.trace_lines import Lines, TraceClock, TraceRecord, misspelt, shown

__all__ = ["AZURE", "BURSTGPT", "azure", "burstgpt"]

AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


def azure(lines: Lines) -> Iterator[TraceRecord]:
    # Whole nanoseconds: a float of seconds since 1970 has a resolution of only 2.4e-7 s.
    stamp = "a time like 2023-11-16 18:15:46.68"
    return _csv(lines, AZURE, TraceClock(1_000_000_000), _nanoseconds, stamp)


def burstgpt(lines: Lines) -> Iterator[TraceRecord]:
    return _csv(lines, BURSTGPT, TraceClock(), _seconds, "a number of seconds, 0 or more")


def _csv(
    lines: Lines,
    columns: tuple[str, str, str],
    clock: TraceClock,
    parse_time: Callable[[bytes], float | None],
    wanted: str,
) -> Iterator[TraceRecord]:
    time_column, prompt_column, output_column = columns
    for text, prompt, output in _rows(lines, columns):
        time = parse_time(text.strip())
        if time is None:
            raise lines.bad(f"{time_column}: expected {wanted}, found {_text(text)}")
        prompt_tokens = _tokens(lines, prompt_column, prompt)
        output_tokens = _tokens(lines, output_column, output)
        yield TraceRecord(clock.at_s(time), prompt_tokens, output_tokens)


def _text(field: bytes) -> str:
    return shown(field.strip().decode())


def _rows(lines: Lines, columns: tuple[str, ...]) -> Iterator[tuple[bytes, ...]]:
    """The fields of `columns`, in that order, from each line after the header."""
    rows = (_fields(lines, line) for line in lines)
    names = [name.strip().decode() for name in next(rows, [])]
    for column in columns:
        if column not in names:
            header = ", ".join(f"`{name}`" for name in names)
            raise lines.bad(f"no column `{column}`: found {header}", misspelt(names, columns))
    pick = itemgetter(*(names.index(column) for column in columns))
    for fields in rows:
        if len(fields) != len(names):
            raise lines.bad(f"expected {len(names)} columns, found {len(fields)}")
        yield pick(fields)


def _fields(lines: Lines, line: bytes) -> list[bytes]:
    if b'"' not in line:
        return line.split(b",")
    try:
        row = next(csv.reader([line.decode()], strict=True, skipinitialspace=True))
        return [field.encode() for field in row]
    except csv.Error as error:
        raise lines.bad(f"bad CSV: {error}", "A record takes one line, its quotes too.") from None


def _tokens(lines: Lines, column: str, field: bytes) -> int:
    # `int` alone would take 1_000 and raise on thousands of digits.
    digits = field.strip()
    # pandas writes whole numbers of a column with gaps as floats: 472.0.
    whole, _, fraction = digits.partition(b".")
    if whole and not fraction.strip(b"0"):
        digits = whole
    if len(digits) < 20 and digits.removeprefix(b"-").isdigit():
        tokens = int(digits)
        if 0 < tokens <= LONGEST:
            return tokens
        if tokens == 0:
            return 1
        wanted = "0 or more" if tokens < 0 else f"{LONGEST} or less"
        raise lines.bad(f"{column}: expected {wanted}, found {tokens}")
    raise lines.bad(f"{column}: expected a whole number, found {_text(field)}")


def _seconds(text: bytes) -> float | None:
    # `float` alone would take 1_000.
    try:
        seconds = math.nan if b"_" in text else float(text)
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None


_STAMP = re.compile(
    rb"(\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d)"
    rb"(?:\.(\d+))?"
    rb"(Z|[+-]\d\d:?\d\d)?"
)


def _nanoseconds(text: bytes) -> int | None:
    """Nanoseconds since 1970; without a zone UTC; digits after the ninth are dropped."""
    if not (match := _STAMP.fullmatch(text)):
        return None
    second, fraction, zone = match.groups()
    try:
        epoch_s = _epoch_s(second, zone or b"Z")
    except ValueError:
        return None
    return epoch_s * 1_000_000_000 + (int(fraction[:9].ljust(9, b"0")) if fraction else 0)


@lru_cache(maxsize=2)
def _epoch_s(second: bytes, zone: bytes) -> int:
    """Cached because a busy trace has many records in one second."""
    return int(datetime.fromisoformat((second + zone).decode()).timestamp())

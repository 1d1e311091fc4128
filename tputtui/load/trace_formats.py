"""The kinds of trace that are read line by line: Azure, BurstGPT, Mooncake, Bailian, our own JSONL.

Reads a line when the next record is asked for and keeps nothing but the last time. Common to all:
a length of 0 is read as 1 (logs hold failed requests so, and an engine can be asked for no less),
and a record earlier than the one before takes that one's time, so times never fall.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from tputtui.errors import UsageError, nearest
from tputtui.load.lengths import LONGEST

__all__ = [
    "BOM",
    "LINE_FORMATS",
    "MAX_BYTES",
    "LineFormat",
    "Lines",
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


class _Clock:
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


_AZURE = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_BURSTGPT = ("Timestamp", "Request tokens", "Response tokens")


def _azure(lines: Lines) -> Iterator[TraceRecord]:
    # Whole nanoseconds: a float of seconds since 1970 is only good to 2.4e-7 s.
    stamp = "a time like 2023-11-16 18:15:46.68"
    return _csv(lines, _AZURE, _Clock(1_000_000_000), _nanoseconds, stamp)


def _burstgpt(lines: Lines) -> Iterator[TraceRecord]:
    return _csv(lines, _BURSTGPT, _Clock(), _seconds, "a number of seconds, 0 or more")


def _csv(
    lines: Lines,
    columns: tuple[str, str, str],
    clock: _Clock,
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
            found = ", ".join(f"`{name}`" for name in names)
            raise lines.bad(f"no column `{column}`: found {found}", misspelt(names, columns))
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
    # A column with gaps is one of floats to pandas, which writes 472 as 472.0.
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
    """Nanoseconds since 1970; no zone is UTC, digits beyond the ninth are dropped."""
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


_Tokens = Annotated[int, msgspec.Meta(ge=0, le=LONGEST)]
_Time = Annotated[float, msgspec.Meta(ge=0)]
_BlockId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class _MooncakeLine(msgspec.Struct, frozen=True, gc=False):
    timestamp: _Time
    input_length: _Tokens
    output_length: _Tokens
    hash_ids: tuple[_BlockId, ...]


class _BailianLine(msgspec.Struct, frozen=True, gc=False):
    chat_id: int
    timestamp: _Time
    input_length: _Tokens
    output_length: _Tokens
    parent_chat_id: int = -1
    hash_ids: tuple[_BlockId, ...] = ()


class _OwnLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    output_tokens: _Tokens
    at_s: _Time | UnsetType = UNSET
    prompt_tokens: _Tokens | UnsetType = UNSET
    prompt_token_ids: tuple[_TokenId, ...] | UnsetType = UNSET
    prefix: str | UnsetType = UNSET
    prefix_tokens: _Tokens | UnsetType = UNSET


def _mooncake(lines: Lines) -> Iterator[TraceRecord]:
    # Its times are milliseconds.
    rows = _objects(lines, msgspec.json.Decoder(_MooncakeLine))
    return _in_blocks(lines, rows, _Clock(1000), BLOCK_TOKENS)


def _bailian(lines: Lines) -> Iterator[TraceRecord]:
    # Each turn of a conversation has a line with its whole prompt, and its time in seconds.
    rows = _objects(lines, msgspec.json.Decoder(_BailianLine))
    return _in_blocks(lines, rows, _Clock(), BAILIAN_BLOCK_TOKENS)


def _in_blocks(
    lines: Lines, rows: Iterable[_MooncakeLine | _BailianLine], clock: _Clock, block_tokens: int
) -> Iterator[TraceRecord]:
    for row in rows:
        prompt = max(1, row.input_length)
        blocks = -(-prompt // block_tokens)
        if len(row.hash_ids) > blocks:
            raise lines.bad(
                f"hash_ids: expected {blocks} for {row.input_length} tokens, "
                f"found {len(row.hash_ids)}",
                f"One hash id stands for {block_tokens} tokens of the prompt.",
            )
        yield TraceRecord(
            clock.at_s(row.timestamp),
            prompt,
            max(1, row.output_length),
            row.hash_ids,
            block_tokens=block_tokens,
        )


def _own(lines: Lines) -> Iterator[TraceRecord]:
    clock = _Clock()
    timed: bool | None = None
    for row in _objects(lines, msgspec.json.Decoder(_OwnLine)):
        if timed is None:
            timed = row.at_s is not UNSET
        if timed is (row.at_s is UNSET):
            raise lines.bad(
                f"at_s: {'missing' if timed else 'found'}, unlike in the first record",
                "Give at_s in every record, or in none.",
            )
        at_s = math.nan if row.at_s is UNSET else clock.at_s(row.at_s)
        prompt = _own_prompt(lines, row)
        prefix_tokens = 0 if row.prefix_tokens is UNSET else row.prefix_tokens
        prefix = row.prefix if row.prefix is not UNSET and prefix_tokens else ""
        if prefix_tokens > prompt:
            raise lines.bad(f"prefix_tokens: expected at most {prompt}, found {prefix_tokens}")
        token_ids = () if row.prompt_token_ids is UNSET else row.prompt_token_ids
        output = max(1, row.output_tokens)
        yield TraceRecord(at_s, prompt, output, (), token_ids, prefix, prefix_tokens)


def _own_prompt(lines: Lines, row: _OwnLine) -> int:
    """How long the prompt is, once it is clear that it is given in one way and in full."""
    if (row.prompt_tokens is UNSET) is (row.prompt_token_ids is UNSET):
        found = "neither" if row.prompt_tokens is UNSET else "both"
        raise lines.bad(f"expected prompt_tokens or prompt_token_ids, found {found}")
    if (row.prefix is UNSET) is not (row.prefix_tokens is UNSET):
        missing = "prefix" if row.prefix is UNSET else "prefix_tokens"
        raise lines.bad(f"{missing}: missing", "Give prefix and prefix_tokens together.")
    if row.prompt_tokens is not UNSET:
        return max(1, row.prompt_tokens)
    if row.prefix is not UNSET:
        raise lines.bad(
            "prefix: found beside prompt_token_ids", "A prompt given as ids holds its prefix."
        )
    return max(1, len(row.prompt_token_ids) if row.prompt_token_ids else 0)


_Row = TypeVar("_Row", _MooncakeLine, _BailianLine, _OwnLine)


def _objects(lines: Lines, decoder: msgspec.json.Decoder[_Row]) -> Iterator[_Row]:
    for line in lines:
        try:
            row = _row(decoder, line)
        except (msgspec.DecodeError, RecursionError) as error:
            raise _explained(lines, line, str(error), decoder.type.__struct_fields__) from None
        yield row


def _row(decoder: msgspec.json.Decoder[_Row], line: bytes) -> _Row:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError:
        try:
            plain = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            plain = None
        if plain is None:
            raise
        # pandas writes the numbers of a column with gaps as floats: 472.0 is 472 all the same.
        return msgspec.convert(_whole(plain), decoder.type)


def _whole(value: object) -> object:
    """A decoded value with every float that is a whole number as that number."""
    match value:
        case float():
            return int(value) if value.is_integer() else value
        case list():
            return [_whole(item) for item in value]
        case dict():
            return {key: _whole(item) for key, item in value.items()}
        case _:
            return value


_KINDS = {"int": "a whole number", "float": "a number", "array": "a list", "str": "text"}


def _explained(lines: Lines, line: bytes, error: str, keys: tuple[str, ...]) -> UsageError:
    """msgspec's `error` with the key it happened at, what was wanted and what stands there."""
    if match := re.match(r"Object contains unknown field `(.*)`", error, re.DOTALL):
        return lines.bad(f"{match[1][:40]}: no such key", nearest(match[1], keys))
    if match := re.match(r"Object missing required field `(\w+)`", error):
        found = _keys(line)
        hint = misspelt(found, keys)
        if match[1] == "timestamp" and "delay" in found:
            hint = (
                "Conversations by their delays (AIPerf) are not replayed: give every line a time."
            )
        elif match[1] == "input_length" and {"text_input", "messages", "payload"} & set(found):
            hint = "Prompts of text (AIPerf) are not read: give their lengths in tokens."
        return lines.bad(f"{match[1]}: missing", hint)
    if match := re.match(r"Expected `object`, got `(\w+)`$", error):
        return lines.bad(f"expected an object in braces, found {match[1]}")
    place = re.search(r" - at `\$\.(\w+)(?:\[(\d+)\])?`$", error)
    if place is None:
        return lines.bad(f"bad JSON: {error[:1].lower()}{error[1:]}")
    what = error[:1].lower() + error[1 : place.start()]
    if match := re.match(r"expected `(\w+)`, got", what):
        what = f"expected {_KINDS.get(match[1], match[1])}"
    elif match := re.match(r"expected `\w+` (>=|<=) (\d+)", what):
        what = f"expected {match[2]} or {'more' if match[1] == '>=' else 'less'}"
    # More may be wrong further on in the line; the first fault is told all the same.
    with suppress(msgspec.DecodeError, RecursionError, LookupError, TypeError):
        value = msgspec.json.decode(line)[place[1]]
        what += f", found {shown(value[int(place[2])] if place[2] else value)}"
    return lines.bad(f"{place[1]}: {what}")


def _keys(line: bytes) -> list[str]:
    with suppress(msgspec.DecodeError, RecursionError):
        return list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    return []


class LineFormat(NamedTuple):
    """A kind of trace that is read line by line.

    title: as a person calls it.
    keys: the columns, or the keys of each object, it is known by.
    example: a header, or a line.
    """

    title: str
    json: bool
    keys: tuple[str, ...]
    example: str
    records: Callable[[Lines], Iterator[TraceRecord]]


LINE_FORMATS = {
    "azure": LineFormat("Azure", False, _AZURE, ",".join(_AZURE), _azure),
    "burstgpt": LineFormat("BurstGPT", False, _BURSTGPT, ",".join(_BURSTGPT), _burstgpt),
    "mooncake": LineFormat(
        "Mooncake",
        True,
        _MooncakeLine.__struct_fields__,
        '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}',
        _mooncake,
    ),
    "bailian": LineFormat(
        "Bailian",
        True,
        _BailianLine.__struct_fields__,
        '{"chat_id": 3, "timestamp": 6.1, "input_length": 9, "output_length": 5, "hash_ids": [4]}',
        _bailian,
    ),
    "tputtui": LineFormat(
        "tputtui",
        True,
        _OwnLine.__struct_fields__,
        '{"at_s": 0.5, "prompt_tokens": 128, "output_tokens": 64}',
        _own,
    ),
}

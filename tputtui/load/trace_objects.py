"""Traces as JSON Lines: Mooncake, Bailian, our own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Annotated, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from tputtui.errors import UsageError, nearest
from tputtui.load.lengths import LONGEST
from tputtui.load.trace_lines import (
    BAILIAN_BLOCK_TOKENS,
    BLOCK_TOKENS,
    Lines,
    TraceClock,
    TraceRecord,
    misspelt,
    shown,
)

__all__ = ["BailianLine", "MooncakeLine", "OwnLine", "OwnTimes", "bailian", "mooncake", "objects",
           "own"]  # fmt: skip

_Tokens = Annotated[int, msgspec.Meta(ge=0, le=LONGEST)]
_Time = Annotated[float, msgspec.Meta(ge=0)]
_BlockId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_TokenId = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]


class MooncakeLine(msgspec.Struct, frozen=True, gc=False):
    timestamp: _Time
    input_length: _Tokens
    output_length: _Tokens
    hash_ids: tuple[_BlockId, ...]


class BailianLine(msgspec.Struct, frozen=True, gc=False):
    chat_id: int
    timestamp: _Time
    input_length: _Tokens
    output_length: _Tokens
    parent_chat_id: int = -1
    hash_ids: tuple[_BlockId, ...] = ()


class OwnLine(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    output_tokens: _Tokens
    at_s: _Time | UnsetType = UNSET
    prompt_tokens: _Tokens | UnsetType = UNSET
    prompt_token_ids: tuple[_TokenId, ...] | UnsetType = UNSET
    prefix: str | UnsetType = UNSET
    prefix_tokens: _Tokens | UnsetType = UNSET


def mooncake(lines: Lines) -> Iterator[TraceRecord]:
    # Mooncake's times are in milliseconds.
    rows = objects(lines, msgspec.json.Decoder(MooncakeLine))
    return _in_blocks(lines, rows, TraceClock(1000), BLOCK_TOKENS)


def bailian(lines: Lines) -> Iterator[TraceRecord]:
    # Each turn of a conversation has its own line with its whole prompt; times are in seconds.
    rows = objects(lines, msgspec.json.Decoder(BailianLine))
    return _in_blocks(lines, rows, TraceClock(), BAILIAN_BLOCK_TOKENS)


def _in_blocks(
    lines: Lines, rows: Iterable[MooncakeLine | BailianLine], clock: TraceClock, block_tokens: int
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


class OwnTimes:
    """Times of records in our own formats: every record has one, or none has."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._clock = TraceClock()
        self._timed: bool | None = None

    def at_s(self, given: float | UnsetType) -> float:
        """When the next record is due, in s; NaN without times. Raises UsageError."""
        if self._timed is None:
            self._timed = given is not UNSET
        if self._timed is (given is UNSET):
            raise self._lines.bad(
                f"at_s: {'missing' if self._timed else 'found'}, unlike in the first record",
                "Give at_s in every record, or in none.",
            )
        return math.nan if given is UNSET else self._clock.at_s(given)


def own(lines: Lines) -> Iterator[TraceRecord]:
    times = OwnTimes(lines)
    for row in objects(lines, msgspec.json.Decoder(OwnLine)):
        at_s = times.at_s(row.at_s)
        prompt = _own_prompt(lines, row)
        prefix_tokens = 0 if row.prefix_tokens is UNSET else row.prefix_tokens
        prefix = row.prefix if row.prefix is not UNSET and prefix_tokens else ""
        if prefix_tokens > prompt:
            raise lines.bad(f"prefix_tokens: expected at most {prompt}, found {prefix_tokens}")
        token_ids = () if row.prompt_token_ids is UNSET else row.prompt_token_ids
        output = max(1, row.output_tokens)
        yield TraceRecord(at_s, prompt, output, (), token_ids, prefix, prefix_tokens)


def _own_prompt(lines: Lines, row: OwnLine) -> int:
    """The length of the prompt in tokens. Raises UsageError if it is given twice or not in full."""
    if (row.prompt_tokens is UNSET) is (row.prompt_token_ids is UNSET):
        which = "neither" if row.prompt_tokens is UNSET else "both"
        raise lines.bad(f"expected prompt_tokens or prompt_token_ids, found {which}")
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


_Row = TypeVar("_Row", bound=msgspec.Struct)


def objects(lines: Lines, decoder: msgspec.json.Decoder[_Row]) -> Iterator[_Row]:
    """Each line as an object. Raises UsageError, which names the key."""
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
        # pandas writes whole numbers of a column with gaps as floats: 472.0 is read as 472.
        return msgspec.convert(_whole(plain), decoder.type)


def _whole(value: object) -> object:
    """A decoded value in which every float with a whole value is an int."""
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
    """msgspec's `error` as a sentence with the key, the expected value and the present one."""
    if match := re.match(r"Object contains unknown field `(.*)`", error, re.DOTALL):
        return lines.bad(f"{match[1][:40]}: no such key", nearest(match[1], keys))
    if match := re.match(r"Object missing required field `(\w+)`", error):
        present = _keys(line)
        hint = misspelt(present, keys)
        if match[1] == "timestamp" and "delay" in present:
            hint = (
                "Conversations by their delays (AIPerf) are not replayed: give every line a time."
            )
        elif match[1] == "input_length" and {"text_input", "messages", "payload"} & set(present):
            hint = "Prompts of text (AIPerf) are not read: give their lengths in tokens."
        return lines.bad(f"{match[1]}: missing", hint)
    if match := re.match(r"Expected `object`, got `(\w+)`$", error):
        return lines.bad(f"expected an object in braces, found {match[1]}")
    place = re.search(r" - at `\$\.(\w+)(?:\[(\d+)\])?`$", error)
    if place is None:
        if nested := re.search(r" - at `\$\.(\w+)\[", error):
            what = error[:1].lower() + error[1 : nested.start()]
            return lines.bad(f"{nested[1]}: one cannot be used: {what.replace('`', '')}")
        return lines.bad(f"bad JSON: {error[:1].lower()}{error[1:]}")
    what = error[:1].lower() + error[1 : place.start()]
    if match := re.match(r"expected `(\w+)`, got", what):
        what = f"expected {_KINDS.get(match[1], match[1])}"
    elif match := re.match(r"expected `\w+` (>=|<=) (\d+)", what):
        what = f"expected {match[2]} or {'more' if match[1] == '>=' else 'less'}"
    # The rest of the line may be wrong, too; then the error does not show the value.
    with suppress(msgspec.DecodeError, RecursionError, LookupError, TypeError):
        value = msgspec.json.decode(line)[place[1]]
        what += f", found {shown(value[int(place[2])] if place[2] else value)}"
    return lines.bad(f"{place[1]}: {what}")


def _keys(line: bytes) -> list[str]:
    with suppress(msgspec.DecodeError, RecursionError):
        return list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    return []

"""ShareGPT: one JSON array of conversations, read an entry at a time.

Entries are read as in `vllm bench`: the first turn is the prompt, and the second one gives the
number of output tokens, both with special tokens; the speakers do not matter, and an entry with
fewer than two turns is skipped. Unlike `vllm bench`, this drops no entry for its length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import ijson

from tputtui.errors import UsageError
from tputtui.load.trace_lines import BOM, MAX_BYTES, TraceRecord, misspelt, shown

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["EXAMPLE", "entries", "load_tokenizer", "records"]

EXAMPLE = '[{"conversations": [{"value": "a prompt"}, {"value": "its answer"}]}]'
_SHAPE = f"The format ShareGPT is one array like {EXAMPLE}."
_MAX_DEPTH = 100
_GIVE = "Give a tokenizer.json, a folder that holds one, or the name of a model on the hub."


def load_tokenizer(name: str, path: Path) -> Tokenizer:
    """The tokenizer for the trace in `path`: a file, a folder or a hub id. Raises UsageError."""
    if not name:
        raise UsageError(f"{path}: a ShareGPT trace holds text and needs a tokenizer.", _GIVE)
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError(
            f"{path}: a ShareGPT trace needs the tokenizers package.", "pip install tokenizers"
        ) from None
    place = Path(name).expanduser()
    if place.is_dir():
        place /= "tokenizer.json"
    local = place.suffix == ".json" or name.startswith(("/", ".", "~"))
    if local and not place.is_file():
        raise UsageError(f"Tokenizer {name}: no file {place}.", _GIVE)
    try:
        # The library raises Exception itself.
        tokenizer = (
            Tokenizer.from_file(str(place)) if place.is_file() else Tokenizer.from_pretrained(name)
        )
    except Exception as error:
        raise UsageError(f"Tokenizer {name}: {_first_line(error)}.", _GIVE) from None
    # A tokenizer.json may cut or pad every text to one length.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def records(file: BinaryIO, path: Path, tokenizer: Tokenizer) -> Iterator[TraceRecord]:
    """The conversations of the array in `file`. Raises UsageError with the number of the entry."""
    number = 0
    source = _Source(file)
    entries = _entries(source)
    while True:
        number += 1
        try:
            entry = next(entries)
            source.since_entry = 0
            turns = _turns(entry, needed=number == 1)
            record = _record(turns[0], turns[1], tokenizer) if len(turns) >= 2 else None
        except StopIteration:
            return
        except _BadEntryError as error:
            raise UsageError(f"{path}: entry {number}: {error}.", error.hint) from None
        except (ijson.JSONError, UnicodeDecodeError) as error:
            cut = re.search("premature EOF|ncomplete", str(error)) is not None
            hint = "The file ends within the array: it may have been cut short." if cut else ""
            what = f"bad JSON: {_first_line(error)}"
            raise UsageError(f"{path}: entry {number}: {what}.", hint or _SHAPE) from None
        if record is not None:
            yield record


def entries(file: BinaryIO) -> Iterator[object]:
    """The entries of the array in `file`, one at a time.

    Raises ijson.JSONError or ValueError for one that is malformed, too long or too deep.
    """
    source = _Source(file)
    found = _entries(source)
    while True:
        source.since_entry = 0
        try:
            yield next(found)
        except StopIteration:
            return


def _entries(source: _Source) -> Iterator[object]:
    """The entries of the array, built here because `ijson.items` takes depth² memory."""
    depth = 0
    builder = ijson.ObjectBuilder()
    for event, value in ijson.basic_parse(source, use_float=True):
        if event in ("start_map", "start_array"):
            depth += 1
            if depth == 1:
                continue
            if depth > _MAX_DEPTH:
                raise _BadEntryError(f"nested more than {_MAX_DEPTH} deep")
        elif event in ("end_map", "end_array"):
            depth -= 1
            if depth == 0:
                continue
        builder.event(event, value)
        if depth == 1:
            yield builder.value
            builder = ijson.ObjectBuilder()


class _BadEntryError(ValueError):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.hint = hint or _SHAPE


class _Source:
    """The file after its byte order mark, refusing an entry too long to hold in memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.since_entry = 0
        if file.read(len(BOM)) != BOM:
            file.seek(0)

    def read(self, size: int) -> bytes:
        self.since_entry += size
        if self.since_entry > MAX_BYTES:
            raise _BadEntryError(f"longer than {MAX_BYTES >> 20} MiB")
        return self._file.read(size)


def _turns(entry: object, needed: bool) -> list[object]:
    """The turns of `entry`; without a conversation none, or an error if it is `needed`."""
    if not isinstance(entry, dict):
        raise _BadEntryError(f"expected an object, found {shown(entry)}")
    if "conversations" not in entry and not needed:
        return []
    if "conversations" not in entry:
        keys = ", ".join(f"`{key}`" for key in entry) or "no keys"
        hint = misspelt(entry, ["conversations"])
        raise _BadEntryError(f"conversations: missing, found {keys[:200]}", hint)
    turns = entry["conversations"]
    if not isinstance(turns, list):
        raise _BadEntryError(f"conversations: expected a list, found {shown(turns)}")
    return turns


def _record(asked: object, answered: object, tokenizer: Tokenizer) -> TraceRecord:
    prompt = _encoded(asked, 1, tokenizer)
    output = _encoded(answered, 2, tokenizer)
    return TraceRecord(math.nan, max(1, len(prompt)), max(1, len(output)), (), tuple(prompt.ids))


def _encoded(turn: object, number: int, tokenizer: Tokenizer) -> Encoding:
    if not isinstance(turn, dict):
        raise _BadEntryError(f"turn {number}: expected an object, found {shown(turn)}")
    if "value" not in turn:
        raise _BadEntryError(f"turn {number}: value: missing")
    text = turn["value"]
    if not isinstance(text, str):
        raise _BadEntryError(f"turn {number}: value: expected text, found {shown(text)}")
    try:
        return tokenizer.encode(text)
    except Exception as error:  # The library raises Exception itself.
        raise _BadEntryError(f"turn {number}: the tokenizer failed: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """The first line of an error: ijson adds a drawing of the place, and may format it as bytes."""
    text = str(error).removeprefix("b'").replace("\\n", "\n").strip()
    return text.partition("\n")[0].strip().removesuffix(".")

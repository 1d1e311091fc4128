"""Traces of real requests: which kind a file is, told by how it begins, and its records.

Reads a file as its iterator is advanced, on the thread that does so.
"""

from __future__ import annotations

import difflib
import math
import stat
from collections.abc import Generator, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO
from weakref import WeakSet

import msgspec

from tputtui.errors import UsageError
from tputtui.load import sharegpt
from tputtui.load.trace_formats import LINE_FORMATS
from tputtui.load.trace_lines import BOM, Lines, TraceRecord

__all__ = ["Trace", "TraceRecord", "format_of"]

_SIGNATURES = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip",
    b"(\xb5/\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"PAR1": "Parquet",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}

_KNOWN = "Known traces: " + ", ".join(
    [f"{kind.title} ({kind.example})" for kind in LINE_FORMATS.values()]
    + [f"ShareGPT ({sharegpt.EXAMPLE})."]
)


class Trace:
    """The records of the file at `path`, read as they are asked for, as often as they are.

    tokenizer: for ShareGPT, which holds text: a tokenizer.json, a folder with one, or a hub id.

    format: "azure", "mooncake", "bailian", "burstgpt", "sharegpt" or "tputtui".
    timed: whether records have times.

    Raises UsageError, here when the file is of no known kind or its first record is bad, and from
    the iterator at any later one, with the file, the line (ShareGPT: the entry) and the column.
    """

    def __init__(self, path: Path, tokenizer: str = "") -> None:
        self._path = path
        self._reading: WeakSet[Generator[TraceRecord, None, None]] = WeakSet()
        self.format = format_of(path)
        if self.format == "sharegpt":
            encoder = sharegpt.load_tokenizer(tokenizer, path)
            self._records = partial(sharegpt.records, path=path, tokenizer=encoder)
        else:
            self._records = partial(_line_records, path=path, name=self.format)
        first = next(iter(self), None)
        self.close()
        if first is None:
            raise UsageError(f"{path}: no records.", "Give a trace that holds at least one.")
        self.timed = not math.isnan(first.at_s)

    def __iter__(self) -> Iterator[TraceRecord]:
        """From the first record on, however far another iterator has come."""
        reading = self._read()
        self._reading.add(reading)
        return reading

    def close(self) -> None:
        """End every iterator handed out and close its file; new ones may be asked for."""
        for reading in list(self._reading):
            reading.close()
        self._reading.clear()

    def _read(self) -> Generator[TraceRecord, None, None]:
        with _opened(self._path) as file:
            try:
                yield from self._records(file)
            except OSError as error:
                raise _unreadable(self._path, error) from None


def format_of(path: Path) -> str:
    """Which kind of trace the file at `path` is. Raises UsageError when it is none."""
    with _opened(path) as file:
        return _detected(file, path)


def _line_records(file: BinaryIO, path: Path, name: str) -> Iterator[TraceRecord]:
    kind = LINE_FORMATS[name]
    shape = "has lines like" if kind.json else "begins with the columns"
    return kind.records(Lines(file, path, f"The format {kind.title} {shape} {kind.example}."))


def _opened(path: Path) -> BinaryIO:
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise UsageError(f"{path}: a directory, not a trace.", f"Give a file in it. {_KNOWN}")
        if not stat.S_ISREG(mode):
            # A pipe cannot be read twice, and opening one may wait for ever.
            raise UsageError(f"{path}: not a regular file.", "Save the trace to a file first.")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    why = getattr(error, "strerror", None) or error
    return UsageError(f"{path}: {why}.", f"Give the file of a trace. {_KNOWN}")


def _detected(file: BinaryIO, path: Path) -> str:
    """Which kind of trace `file` is, by its first line that is not blank."""
    head = file.read(4096)
    for signature, packing in _SIGNATURES.items():
        if head.startswith(signature):
            raise UsageError(
                f"{path}: {packing}, not plain text.", "Unpack it to UTF-8 text first."
            )
    # A ShareGPT array may be one line of any length, which is not to be read here.
    if head.removeprefix(BOM).lstrip().startswith(b"["):
        return "sharegpt"
    file.seek(0)
    lines = Lines(file, path, _KNOWN)
    line = next(iter(lines), None)
    if line is None:
        raise UsageError(f"{path}: empty.", _KNOWN)
    as_json = line.startswith(b"{")
    names = _keys(line, lines) if as_json else [n.strip() for n in line.decode().split(",")]
    names = [name.strip('"') for name in names]
    kinds = {name: kind for name, kind in LINE_FORMATS.items() if kind.json is as_json}
    # One name in common is enough: the parser tells better what is wrong with the others.
    best = max(kinds, key=lambda name: len(set(names).intersection(kinds[name].keys)))
    if set(names).intersection(kinds[best].keys):
        return best
    found = ",".join(names)
    raise lines.bad(
        f"no known kind of trace: found {'the keys' if as_json else 'the header'} "
        f"`{found[:100] + '…' * (len(found) > 100)}`",
        _nearest(found) + _KNOWN,
    )


def _keys(line: bytes, lines: Lines) -> list[str]:
    try:
        return list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise lines.bad(f"bad JSON: {error}", f"A record takes one line. {_KNOWN}") from None


def _nearest(found: str) -> str:
    """A hint naming the kind whose columns or keys are the most like `found`, if any are."""
    likeness = {
        kind.title: difflib.SequenceMatcher(
            None, found.lower(), ",".join(kind.keys).lower()
        ).ratio()
        for kind in LINE_FORMATS.values()
    }
    title = max(likeness, key=lambda title: likeness[title])
    return f"It is most like {title}. " if likeness[title] > 0.5 else ""

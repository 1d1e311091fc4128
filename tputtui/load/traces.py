"""Traces of real requests: detects the kind of a file by its beginning, and reads its records.

Reads the file while its iterator advances, on the caller's thread.
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
    """The records of the file at `path`; each iteration reads the file anew, record by record.

    tokenizer: for ShareGPT, which holds text: a tokenizer.json, a folder with one, or a hub id.

    format: "azure", "mooncake", "bailian", "burstgpt", "weka", "sharegpt", "jobs" or "tputtui".
    timed: whether records have times.

    The constructor raises UsageError if the kind of file is unknown or its first record is bad. The
    iterator raises it at a later bad record, with file, line (ShareGPT: entry) and column.
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
        """Start at the first record, whatever other iterators have read."""
        reading = self._read()
        self._reading.add(reading)
        return reading

    def close(self) -> None:
        """End every iterator and close its file; new iterators may be made afterwards."""
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
    """The kind of trace of the file at `path`. Raises UsageError if it is no trace."""
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
            # A pipe cannot be read twice, and opening it may wait forever.
            raise UsageError(f"{path}: not a regular file.", "Save the trace to a file first.")
        return path.open("rb")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | ValueError) -> UsageError:
    why = getattr(error, "strerror", None) or error
    return UsageError(f"{path}: {why}.", f"Give the file of a trace. {_KNOWN}")


def _detected(file: BinaryIO, path: Path) -> str:
    """The kind of trace of `file`, by its first non-blank line."""
    head = file.read(4096)
    for signature, packing in _SIGNATURES.items():
        if head.startswith(signature):
            raise UsageError(
                f"{path}: {packing}, not plain text.", "Unpack it to UTF-8 text first."
            )
    # A ShareGPT array may be one line of any length, so do not read that line here.
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
    # One common name is enough: the parser reports better what is wrong with the others.
    best = max(kinds, key=lambda name: len(set(names).intersection(kinds[name].keys)))
    if set(names).intersection(kinds[best].keys):
        return best
    header = ",".join(names)
    raise lines.bad(
        f"no known kind of trace: found {'the keys' if as_json else 'the header'} "
        f"`{header[:100] + '…' * (len(header) > 100)}`",
        _nearest(header) + _KNOWN,
    )


def _keys(line: bytes, lines: Lines) -> list[str]:
    try:
        return list(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError) as error:
        raise lines.bad(f"bad JSON: {error}", f"A record takes one line. {_KNOWN}") from None


def _nearest(header: str) -> str:
    """A hint that names the kind whose columns or keys are most similar to `header`; else ""."""
    likeness = {
        kind.title: difflib.SequenceMatcher(
            None, header.lower(), ",".join(kind.keys).lower()
        ).ratio()
        for kind in LINE_FORMATS.values()
    }
    title = max(likeness, key=lambda title: likeness[title])
    return f"It is most like {title}. " if likeness[title] > 0.5 else ""

"""The engine's log file, read as it grows. Main thread."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

__all__ = ["LogTail"]

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07]*\x07|[\x00-\x08\x0b-\x1f\x7f]")
_AT_ONCE = 1 << 16


class LogTail:
    """The newest lines of `path`; a file that cannot be read has none."""

    def __init__(self, path: Path | None, keep: int = 2000) -> None:
        self._path = path
        self._offset = 0
        self._rest = ""
        self.lines: deque[str] = deque(maxlen=keep)

    def read(self) -> list[str]:
        """Lines added since the last call, without terminal escapes."""
        if self._path is None:
            return []
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(_AT_ONCE)
        except OSError:
            return []
        self._offset += len(data)
        text = self._rest + data.decode("utf-8", "replace")
        # A progress bar rewrites its line: keep what it says last.
        *lines, self._rest = text.replace("\r\n", "\n").split("\n")
        new = [_ESCAPES.sub("", line.rpartition("\r")[2]).expandtabs(4) for line in lines]
        self.lines.extend(new)
        return new

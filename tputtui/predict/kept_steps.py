"""The steps of an engine on disk: what the next boot of the same engine begins with.

One small file for each way of running: model, device, versions, arguments. Its name and its first
line have a hash of these alone; the rest is numbers: durations and token counts of steps, never
anything of a request. A file that cannot be read, is damaged, or of another format is ignored.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tputtui.measure.stats import Floats
from tputtui.predict.book import COLUMNS

__all__ = ["KeptSteps", "StepFiles", "hashed"]

logger = logging.getLogger(__name__)

_FORMAT = 1
_KEPT, _NEWEST = 4096, 512
"""Most steps of each kind in a file: 184 KB in all."""
_LARGEST_BYTES = 1 << 18
_FILES = 32
_OLDEST_S = 180 * 86_400.0
"""Files that nobody has written for so long are of an engine that has changed by now."""
_HEAD = 200


class KeptSteps(NamedTuple):
    """Steps of earlier runs, with the columns of a `StepBook`, shape (n, 5)."""

    kept: Floats
    """Of every size of batch."""
    newest: Floats
    """The newest in a row, of one run."""


def hashed(*parts: object) -> str:
    """The name of a way of running: a hash of everything that its costs depend on."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:40]


class StepFiles:
    """The files in `folder`, by the name of a way of running."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> KeptSteps | None:
        """What is kept of a way of running; None where that is nothing that can be used."""
        path = self._path(name)
        try:
            facts = path.stat()
            if facts.st_size > _LARGEST_BYTES or time.time() - facts.st_mtime > _OLDEST_S:
                return None
            with path.open("rb") as file:
                head = json.loads(file.readline(_HEAD))
                data = file.read(_LARGEST_BYTES)
            if (head["tputtui_steps"], head["of"]) != (_FORMAT, name):
                return None
            kept, newest = int(head["kept"]), int(head["newest"])
            steps = np.frombuffer(data, dtype="<f8").reshape(kept + newest, len(COLUMNS))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        sound = np.isfinite(steps).all() and (steps[:, 1:] >= 0).all() and (steps[:, 1] > 0).all()
        ordered = (np.diff(steps[kept:, 0]) >= 0).all()
        return KeptSteps(steps[:kept].copy(), steps[kept:].copy()) if sound and ordered else None

    def write(self, name: str, steps: KeptSteps) -> None:
        """Keep the steps of a way of running in place of those before. A full disk is logged."""
        kept, newest = _thinned(steps.kept, _KEPT), steps.newest[-_NEWEST:]
        head = {"tputtui_steps": _FORMAT, "of": name, "kept": len(kept), "newest": len(newest)}
        data = json.dumps(head).encode() + b"\n" + np.vstack((kept, newest)).astype("<f8").tobytes()
        path = self._path(name)
        fresh = path.with_suffix(f".{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh.touch(mode=0o600)
            fresh.write_bytes(data)
            fresh.replace(path)
            self._tidy()
        except OSError as error:
            logger.warning("step costs were not kept: %s", error.strerror or error)
            with contextlib.suppress(OSError):
                fresh.unlink()

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.steps"

    def _tidy(self) -> None:
        """Remove the files written longest ago, beyond `_FILES`."""
        # Another run may remove the same files.
        with contextlib.suppress(FileNotFoundError):
            files = sorted(self._folder.glob("*.steps"), key=lambda path: path.stat().st_mtime)
            for path in files[:-_FILES]:
                path.unlink()


def _thinned(steps: Floats, most: int) -> Floats:
    """At most so many of the steps, evenly taken."""
    if len(steps) <= most:
        return steps
    return np.asarray(steps[np.linspace(0, len(steps) - 1, most).astype(int)])

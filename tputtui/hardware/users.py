"""Memory of each GPU by owner: this process and its descendants, or others. On the GPU thread.

Parents and names come from /proc, once for each process that a driver lists. A search for our
descendants would instead read every process of the machine, every time.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tputtui.hardware.gpu import GpuProcess

_BIGGEST = 4
_DEEPEST = 64
"""The most parents to follow: /proc changes while it is read."""

Listed = Sequence[tuple[int, float | None, str]]
"""(pid, bytes, name) of each process that the driver lists on a GPU; "" for an unknown name."""


class Usage(NamedTuple):
    """Memory of one GPU by owner, in bytes, and its biggest processes; None if unknown."""

    ours_bytes: float | None = None
    others_bytes: float | None = None
    processes: int | None = None
    biggest: tuple[GpuProcess, ...] = ()


class _Known(NamedTuple):
    ours: bool | None
    name: str


class Users:
    """Determines who uses the GPUs; `pid` is this process."""

    def __init__(self, proc: Path = Path("/proc"), pid: int | None = None) -> None:
        self._proc = proc
        self._pid = os.getpid() if pid is None else pid
        self._known: dict[int, _Known] = {}
        self._seen = False  # whether a driver has ever listed one of our processes

    def by_gpu(self, listed: Sequence[Listed | None]) -> list[Usage]:
        """The usage of each GPU. listed: None for a GPU whose driver does not list its processes.

        In a container a driver may list processes by pids of another namespace, or none at all.
        Until it has listed one of our processes, the owners of such a GPU's memory are unknown.
        """
        pids = {pid for gpu in listed for pid, _, _ in gpu or ()}
        self._known = {pid: self._known.get(pid) or self._look(pid) for pid in pids}
        self._seen |= any(known.ours for known in self._known.values())
        return [Usage() if gpu is None else self._usage(gpu) for gpu in listed]

    def _usage(self, listed: Listed) -> Usage:
        sizes: dict[int, float | None] = {}
        names: dict[int, str] = {}
        for pid, size, name in listed:
            # The driver lists a process once for each MIG instance that it uses.
            before = sizes.get(pid, 0)
            sizes[pid] = None if size is None or before is None else before + size
            names[pid] = self._known[pid].name or printable(name)
        processes = [
            GpuProcess(pid, names[pid], size, self._ours(pid)) for pid, size in sizes.items()
        ]
        processes.sort(key=lambda process: (-(process.mem_bytes or 0), process.pid))
        telling = all(process.ours is not None for process in processes)
        if not telling or not (processes or self._seen):
            return Usage(None, None, len(processes), tuple(processes[:_BIGGEST]))
        return Usage(
            ours_bytes=_total(process.mem_bytes for process in processes if process.ours),
            others_bytes=_total(process.mem_bytes for process in processes if not process.ours),
            processes=len(processes),
            biggest=tuple(processes[:_BIGGEST]),
        )

    def _ours(self, pid: int) -> bool | None:
        ours = self._known[pid].ours
        # If the driver lists our pids, an invisible process belongs to somebody else.
        return False if ours is None and self._seen else ours

    def _look(self, pid: int) -> _Known:
        if self._parent(pid) is None:
            return _Known(None, "")
        try:
            name = (self._proc / str(pid) / "comm").read_text(errors="replace").strip()
        except OSError:
            name = ""
        return _Known(self._descends(pid), printable(name))

    def _descends(self, pid: int) -> bool:
        ancestor: int | None = pid
        for _ in range(_DEEPEST):
            if ancestor == self._pid:
                return True
            if not ancestor:
                return False
            ancestor = self._parent(ancestor)
        return False

    def _parent(self, pid: int) -> int | None:
        """The parent of a process; None if the process is invisible."""
        try:
            text = (self._proc / str(pid) / "stat").read_text(errors="replace")
            # The name before the parent is in parentheses, and may contain parentheses.
            return int(text.rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return None


def printable(text: str) -> str:
    """Foreign text made safe for a terminal: ASCII, each character one cell wide."""
    return "".join(char if " " <= char <= "~" else "?" for char in text)


def _total(sizes: Iterable[float | None]) -> float | None:
    """The sum; None if one of the sizes is unknown."""
    parts = list(sizes)
    known = [size for size in parts if size is not None]
    return sum(known) if len(known) == len(parts) else None

"""Read the host: processor and memory of the machine, and this process's share of both.

Runs on the sampler's host thread; the first read imports psutil, so that start-up is quick.
"""

from __future__ import annotations

import contextlib
import importlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CHILDREN_EVERY_S = 10.0
_MEAN_OVER_S = 5.0
_CROWDED_CORES = 0.5


@dataclass(frozen=True, slots=True)
class HostSample:
    """The host at one moment; rates cover the time since the previous read."""

    cpu_frac: float | None
    """Busy share of all cores; None at the first read."""
    cores: int
    """Logical cores of the machine."""
    mem_used_bytes: int
    """Memory that cannot be reclaimed; in a container, memory that counts against its limit."""
    mem_total_bytes: int
    """Memory of the machine; in a container with a lower limit, that limit."""
    process_cpu_cores: float | None
    """Cores that this process and its children use (1.9: nearly two); None at the first read."""
    process_rss_bytes: int
    """Resident memory of this process and its children."""
    load1: float
    """Load average over 1 minute."""
    others_cpu_cores: float | None = None
    """Cores that all other processes use, a mean over about 5 s; None at the first read."""

    @property
    def crowded(self) -> bool:
        """Whether other processes use half a core or more that this process could have used."""
        others = self.others_cpu_cores
        if others is None or self.process_cpu_cores is None or others < _CROWDED_CORES:
            return False
        return self.process_cpu_cores + others > self.cores - _CROWDED_CORES


@dataclass(frozen=True, slots=True)
class _Counters:
    """Counters in seconds, whose differences give the rates."""

    t_s: float
    busy_s: float
    total_s: float
    process_s: float


class HostReader:
    """Reads psutil and the cgroup files; one thread at a time may use it."""

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        ps: Any = None,
        cgroup_mount: Path = Path("/sys/fs/cgroup"),
        cgroup_file: Path = Path("/proc/self/cgroup"),
    ) -> None:
        """Take `ps` (a module shaped like psutil) instead of importing psutil."""
        self._clock = clock
        self._ps = ps
        self._cgroup_mount = cgroup_mount
        self._cgroup_file = cgroup_file
        self._process: Any = None
        self._children: list[Any] = []
        self._looked_s = -math.inf
        self._before: _Counters | None = None
        self._others: float | None = None

    def read(self) -> HostSample:
        """One sample; raises psutil's or the system's own error when /proc cannot be read."""
        if self._process is None:
            self._ps = self._ps or importlib.import_module("psutil")
            self._process = self._ps.Process()
        before, now = self._before, self._count()
        self._before = now
        cpu_frac = process_cpu_cores = None
        if before is not None:
            if now.total_s > before.total_s:
                busy_frac = (now.busy_s - before.busy_s) / (now.total_s - before.total_s)
                cpu_frac = min(1.0, max(0.0, busy_frac))
            if now.t_s > before.t_s:
                # A decrease means that a child has ended, and its seconds with it.
                spent_s = max(0.0, now.process_s - before.process_s)
                process_cpu_cores = spent_s / (now.t_s - before.t_s)
                self._take_others(before, now, spent_s)
        used_bytes, total_bytes = self._memory()
        return HostSample(
            cpu_frac=cpu_frac,
            cores=self._ps.cpu_count() or 1,
            mem_used_bytes=used_bytes,
            mem_total_bytes=total_bytes,
            process_cpu_cores=process_cpu_cores,
            process_rss_bytes=int(sum(self._ours(lambda p: p.memory_info().rss))),
            load1=os.getloadavg()[0],
            others_cpu_cores=self._others,
        )

    def _take_others(self, before: _Counters, now: _Counters, spent_s: float) -> None:
        """Update the mean of the cores that other processes use."""
        took_s = now.t_s - before.t_s
        others = max(0.0, now.busy_s - before.busy_s - spent_s) / took_s
        if self._others is None:
            self._others = others
        else:
            self._others += (others - self._others) * -math.expm1(-took_s / _MEAN_OVER_S)

    def _count(self) -> _Counters:
        # Not psutil.cpu_percent: all its callers in the process share one "since the last call".
        times: dict[str, float] = self._ps.cpu_times()._asdict()
        # On Linux user time includes guest time; waiting for a disk keeps no core busy.
        total_s = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        idle_s = times["idle"] + times.get("iowait", 0.0)
        now_s = self._clock()
        if now_s - self._looked_s >= _CHILDREN_EVERY_S:
            # Done rarely: psutil looks at every process of the machine for this.
            self._looked_s = now_s
            self._children = self._process.children(recursive=True)
        return _Counters(
            t_s=now_s,
            busy_s=total_s - idle_s,
            total_s=total_s,
            process_s=sum(self._ours(_spent_s)),
        )

    def _ours(self, read: Callable[[Any], float]) -> Iterator[float]:
        """A figure of this process and of each child (an isolated engine, or workers)."""
        yield read(self._process)
        for child in self._children:
            with contextlib.suppress(self._ps.Error):
                yield read(child)

    def _memory(self) -> tuple[int, int]:
        """(used, total) in bytes, by the tightest cgroup limit if one is below the machine's."""
        machine = self._ps.virtual_memory()
        total_bytes: int = machine.total
        used_bytes: int = machine.total - machine.available
        for group in self._cgroups():
            limit_bytes = _int_or_none(group / "memory.max")
            current_bytes = _int_or_none(group / "memory.current")
            if limit_bytes is None or current_bytes is None or limit_bytes >= total_bytes:
                continue
            total_bytes = limit_bytes
            # `current` includes inactive page cache, which the kernel frees when needed.
            used_bytes = max(0, current_bytes - _stat_bytes(group / "memory.stat", "inactive_file"))
        return used_bytes, total_bytes

    def _cgroups(self) -> Iterator[Path]:
        """This process's cgroup v2 and its parents, innermost first, the mount last."""
        lines = _lines(self._cgroup_file)
        path = next((line[3:] for line in lines if line.startswith("0::/")), "/")
        parts = [part for part in path.split("/") if part]
        if ".." in parts:
            parts = []  # the path is invisible from this container: only the mount is left
        while parts:
            yield self._cgroup_mount.joinpath(*parts)
            parts.pop()
        yield self._cgroup_mount


def _spent_s(process: Any) -> float:
    times = process.cpu_times()
    spent_s: float = times.user + times.system
    return spent_s


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _int_or_none(path: Path) -> int | None:
    """The number in a cgroup file; None for "max" (no limit) and for a missing file."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _stat_bytes(path: Path, key: str) -> int:
    for line in _lines(path):
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0

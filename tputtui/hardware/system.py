"""Read the host: processor and memory of the machine, and this process's share of both.

Runs on the sampler's host thread; psutil is imported by the first read, so that start-up is quick.
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
    """The host at one moment; rates cover the time since the read before.

    `cpu_frac` is the busy share of all `cores` (logical) of the machine, `process_cpu_cores` what
    this process and its children use (1.9 keeps nearly two busy); both are None on a first read.
    `others_cpu_cores` is what everything else on the machine uses, a mean over about 5 s.
    `process_rss_bytes` is of the children as well. Memory in use is what cannot be reclaimed.
    Inside a container whose limit is below the machine's memory, total is that limit and used is
    what counts against it.
    """

    cpu_frac: float | None
    cores: int
    mem_used_bytes: int
    mem_total_bytes: int
    process_cpu_cores: float | None
    process_rss_bytes: int
    load1: float
    others_cpu_cores: float | None = None

    @property
    def crowded(self) -> bool:
        """Whether other processes use half a core and more that ours could have had."""
        others = self.others_cpu_cores
        if others is None or self.process_cpu_cores is None or others < _CROWDED_CORES:
            return False
        return self.process_cpu_cores + others > self.cores - _CROWDED_CORES


@dataclass(frozen=True, slots=True)
class _Counters:
    """What rates are differences of, in seconds."""

    t_s: float
    busy_s: float
    total_s: float
    process_s: float


class HostReader:
    """psutil and the cgroup files behind one `read()`; one thread at a time may use it."""

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
                # Less than before: a child has gone, and its seconds with it.
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
        """Bring the mean of what other processes use up to date."""
        took_s = now.t_s - before.t_s
        others = max(0.0, now.busy_s - before.busy_s - spent_s) / took_s
        if self._others is None:
            self._others = others
        else:
            self._others += (others - self._others) * -math.expm1(-took_s / _MEAN_OVER_S)

    def _count(self) -> _Counters:
        # Own differences, not psutil.cpu_percent: its "since the last call" belongs to every caller
        # in the process at once.
        times: dict[str, float] = self._ps.cpu_times()._asdict()
        # Linux counts guest time in user time already; waiting for a disk keeps no core busy.
        total_s = sum(times.values()) - times.get("guest", 0.0) - times.get("guest_nice", 0.0)
        idle_s = times["idle"] + times.get("iowait", 0.0)
        now_s = self._clock()
        if now_s - self._looked_s >= _CHILDREN_EVERY_S:
            # Every process of the machine is looked at for that.
            self._looked_s = now_s
            self._children = self._process.children(recursive=True)
        return _Counters(
            t_s=now_s,
            busy_s=total_s - idle_s,
            total_s=total_s,
            process_s=sum(self._ours(_spent_s)),
        )

    def _ours(self, read: Callable[[Any], float]) -> Iterator[float]:
        """Something of this process and of its children: an engine apart, or its workers."""
        yield read(self._process)
        for child in self._children:
            with contextlib.suppress(self._ps.Error):
                yield read(child)

    def _memory(self) -> tuple[int, int]:
        """(used, total) in bytes: the tightest cgroup limit below the machine's, else its own."""
        machine = self._ps.virtual_memory()
        total_bytes: int = machine.total
        used_bytes: int = machine.total - machine.available
        for group in self._cgroups():
            limit_bytes = _int_or_none(group / "memory.max")
            current_bytes = _int_or_none(group / "memory.current")
            if limit_bytes is None or current_bytes is None or limit_bytes >= total_bytes:
                continue
            total_bytes = limit_bytes
            # Page cache that nobody touches counts as current, and goes when memory is needed.
            used_bytes = max(0, current_bytes - _stat_bytes(group / "memory.stat", "inactive_file"))
        return used_bytes, total_bytes

    def _cgroups(self) -> Iterator[Path]:
        """This process's cgroup v2 and its parents, innermost first, up to the mount itself."""
        lines = _lines(self._cgroup_file)
        path = next((line[3:] for line in lines if line.startswith("0::/")), "/")
        parts = [part for part in path.split("/") if part]
        if ".." in parts:
            parts = []  # outside this container's view of the tree: only the mount is left to ask
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
    """The number in a cgroup file; None for "max" (no limit) and for a file that is not there."""
    text = "".join(_lines(path)).strip()
    return int(text) if text.isdecimal() else None


def _stat_bytes(path: Path, key: str) -> int:
    for line in _lines(path):
        name, _, value = line.partition(" ")
        if name == key:
            return int(value)
    return 0

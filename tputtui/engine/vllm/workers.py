"""The processes over which vLLM spreads a model (tensor and pipeline parallel). Engine thread.

Without such processes (one GPU, or Ray) there is nothing to watch or to clean up.
"""

from __future__ import annotations

import contextlib
import signal
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from tputtui.engine.failure import cause_of
from tputtui.errors import EngineError

__all__ = ["Workers", "start_tracker"]

_SHARED = "/dev/shm/vllm_"
_ENDED_BY_VLLM = (None, 0, -15)
"""Exit codes of workers that still run, or that vLLM ended after another worker died."""


def start_tracker() -> None:
    """Start Python's resource tracker, which unlinks remaining shared memory after our end.

    The tracker inherits the blocked signals. So it survives the SIGHUP of a terminal that closes,
    which would end it before it has unlinked anything (seen: 500 MB left behind).
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    try:
        resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Workers:
    """The worker processes of `engine`, an LLMEngine that has just booted."""

    def __init__(self, engine: Any) -> None:
        executor = engine.engine_core.engine_core.model_executor
        handles = getattr(executor, "workers", None) or []
        self._processes = [handle.proc for handle in handles if hasattr(handle, "proc")]
        self._shared = {path for process in self._processes for path in _mapped(process.pid)}

    def death(self) -> EngineError | None:
        """Why a worker died, if vLLM did not end it; None if none has died."""
        for rank, process in enumerate(self._processes):
            if process.exitcode not in _ENDED_BY_VLLM:
                return cause_of(process.exitcode, f"Worker process {rank} of the engine")
        return None

    def clear_away(self) -> None:
        """Unlink the shared memory that a worker leaves when it is killed."""
        for path in self._shared:
            path.unlink(missing_ok=True)


def _mapped(pid: int) -> set[Path]:
    """vLLM's segments of shared memory that a process has mapped."""
    segments: set[Path] = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            _, slash, name = line.partition(_SHARED)
            if slash and not name.endswith(" (deleted)"):
                segments.add(Path(_SHARED + name))
    return segments

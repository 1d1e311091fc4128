"""The processes that vLLM spreads a model over (tensor and pipeline parallel). Engine thread.

Without any (one GPU, or Ray's) there is nothing here to watch or to clear away.
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
"""Exit codes of those that vLLM ends when another has died."""


def start_tracker() -> None:
    """Start Python's own process that unlinks, after us, what of shared memory is left.

    It is to survive the SIGHUP that a terminal sends as it closes with us, which ends it before it
    has unlinked anything (seen: 500 MB left behind): it inherits which signals are blocked.
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
        """What ended one of them, if vLLM did not; None where none has died by itself."""
        for rank, process in enumerate(self._processes):
            if process.exitcode not in _ENDED_BY_VLLM:
                return cause_of(process.exitcode, f"Worker process {rank} of the engine")
        return None

    def clear_away(self) -> None:
        """Unlink the shared memory that a worker leaves when it is killed."""
        for path in self._shared:
            path.unlink(missing_ok=True)


def _mapped(pid: int) -> set[Path]:
    """vLLM's own segments of shared memory that a process has mapped."""
    found: set[Path] = set()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
            _, slash, name = line.partition(_SHARED)
            if slash and not name.endswith(" (deleted)"):
                found.add(Path(_SHARED + name))
    return found

"""Ways to spread a model that an engine in this process cannot have. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from tputtui.errors import UsageError
from tputtui.profile import EngineValue

__all__ = ["check_in_process"]

_DATA_PARALLEL = ("data_parallel_size", "-dp", "data_parallel_size_local", "-dpl")


def check_in_process(args: Mapping[str, EngineValue]) -> None:
    """Raise UsageError for data-parallel engines: each has a core in a process of its own.

    Tensor and pipeline parallelism are vLLM's to judge: they have one core, which can be here.
    """
    for name in _DATA_PARALLEL:
        size = args.get(name)
        if isinstance(size, int) and size > 1:
            flag = name if name.startswith("-") else f"--{name.replace('_', '-')}"
            raise UsageError(
                f"{flag} {size}: data-parallel engines do not run in one process.",
                "Tune one engine here; start `vllm serve` with all of them, and `tputtui attach`.",
            )

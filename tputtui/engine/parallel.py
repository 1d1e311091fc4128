"""Ways to spread a model that an engine in this process cannot have. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tputtui.errors import UsageError
from tputtui.profile.spelling import flag_of

__all__ = ["check_in_process"]

_APART = {
    "data_parallel_size": "data-parallel engines do not run in one process",
    "data_parallel_size_local": "data-parallel engines do not run in one process",
    "nnodes": "an engine in this process cannot be spread over machines",
}
_NEVER = {
    "data_parallel_rank": "data-parallel engines do not run in one process",
    "data_parallel_external_lb": "data-parallel engines do not run in one process",
    "data_parallel_hybrid_lb": "data-parallel engines do not run in one process",
    "node_rank": "an engine in this process cannot be spread over machines",
}
"""Those that say something else than alone."""


def check_in_process(args: Mapping[str, Any]) -> None:
    """Raise UsageError for data-parallel engines, each of which has a core in a process of its
    own, and for more than one machine, which would be waited for.

    Tensor and pipeline parallelism are vLLM's to judge: they have one core, which can be here.
    args: by their names in a profile; of vLLM's own parser as well as of what was typed.
    """
    for name, why in {**_APART, **_NEVER}.items():
        value = args.get(name)
        several = value if name in _NEVER else isinstance(value, int) and value > 1
        if several or isinstance(value, list):
            raise UsageError(
                f"{flag_of(name)} {value}: {why}.",
                "Tune one engine here; start `vllm serve` with all of them, and `tputtui attach`.",
            )

"""Rejects ways to distribute a model that an engine in this process does not support. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tputtui.errors import UsageError
from tputtui.profile.spelling import flag_of

__all__ = ["check_in_process"]

_SIZES = {
    "data_parallel_size": "data-parallel engines do not run in one process",
    "data_parallel_size_local": "data-parallel engines do not run in one process",
}
"""What a server of our own can have."""
_APART = {
    "nnodes": "an engine in this process cannot be spread over machines",
}
_NEVER = {
    "data_parallel_rank": "data-parallel engines do not run in one process",
    "data_parallel_external_lb": "data-parallel engines do not run in one process",
    "data_parallel_hybrid_lb": "data-parallel engines do not run in one process",
    "node_rank": "an engine in this process cannot be spread over machines",
}
"""Arguments that any value other than 0 or None makes impossible."""


def check_in_process(args: Mapping[str, Any], *, served: bool = False) -> None:
    """Raise UsageError for data-parallel engines and for more than one machine.

    Each data-parallel engine has its core in a process of its own, and a boot would wait for the
    other machines. vLLM checks tensor and pipeline parallelism: they have one core, which can run
    in this process. args: by their names in a profile; typed ones or those of vLLM's parser.
    served: a server of our own runs them, which may have several engines on this machine.
    """
    sizes = {} if served else _SIZES
    for name, why in {**sizes, **_APART, **_NEVER}.items():
        value = args.get(name)
        several = value if name in _NEVER else isinstance(value, int) and value > 1
        if several or isinstance(value, list):
            raise UsageError(
                f"{flag_of(name)} {value}: {why}.",
                "Add --served: vLLM's own server runs here then, with all of its engines."
                if name in _SIZES
                else "Start `vllm serve` on all of them, and `tputtui attach`.",
            )

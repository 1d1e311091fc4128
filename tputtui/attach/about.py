"""What a server is, as far as it says: model, version, limits. Pure.

Each answer is optional: a server that has no such route is asked for the next. What it does not
tell stays unknown; nothing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

__all__ = ["ROUTES", "About", "with_answer"]

ROUTES = (
    "/version",
    "/v1/models",
    "/v1/runtime_config",
    "/server_info?config_format=json",
    "/get_server_info",
    "/info",
)
"""What is asked for, once a server is there: vLLM's, with its developers' routes where those are
switched on; SGLang's; TGI's."""

_LIMITS = {
    "max_num_seqs": ("max_num_seqs", "max_running_requests"),
    "max_num_batched_tokens": ("max_num_batched_tokens",),
    "max_model_len": ("max_model_len", "context_length"),
    # SGLang: what its KV cache holds, not the longest request.
    "kv_cache_tokens": ("max_total_num_tokens", "max_total_tokens"),
    "chunked_prefill_size": ("chunked_prefill_size",),
    "tensor_parallel_size": ("tensor_parallel_size", "tp_size"),
    "data_parallel_size": ("data_parallel_size", "dp_size"),
}
_LIMITS_OF_TGI = {
    "max_model_len": ("max_total_tokens",),
    "max_batch_prefill_tokens": ("max_batch_prefill_tokens",),
    "max_batch_total_tokens": ("max_batch_total_tokens",),
    # Taken in, waiting ones among them: no size of a batch.
    "max_concurrent_requests": ("max_concurrent_requests",),
}
"""The same word means another thing in TGI's /info; what has no equal keeps its name."""
_DEEP = 6


@dataclass(frozen=True, slots=True)
class About:
    """What is known. limits: by our names, as the server says them; live: those it lets turn while
    it runs, with the route for it."""

    model: str = ""
    version: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    live: Mapping[str, int] = field(default_factory=dict)


def with_answer(about: About, route: str, body: bytes) -> About:
    """`about` with what the answer of one of ROUTES says; unchanged where that is nothing."""
    try:
        told: Any = json.loads(body)
    except ValueError:
        return about
    if not isinstance(told, dict):
        return about
    if route == "/v1/models":
        return _of_models(about, told)
    version = told.get("version")
    if isinstance(version, str) and not about.version:
        about = replace(about, version=version[:40])
    model = told.get("model_id") or told.get("served_model_name") or told.get("model_path")
    if isinstance(model, str) and not about.model:
        about = replace(about, model=model)
    limits = _limits_in(told, _LIMITS_OF_TGI if route == "/info" else _LIMITS)
    if route == "/v1/runtime_config":
        live = {k: v for k, v in told.items() if isinstance(v, int) and not isinstance(v, bool)}
        about = replace(about, live=live)
    # The first that tells a limit is the one to ask.
    return replace(about, limits={**limits, **about.limits})


def _of_models(about: About, told: Mapping[str, Any]) -> About:
    models = told.get("data")
    if not isinstance(models, list) or not models or not isinstance(models[0], dict):
        return about
    # Adapters are listed behind the model that they belong to.
    name, longest = models[0].get("id"), models[0].get("max_model_len")
    if isinstance(name, str):
        about = replace(about, model=name)
    if isinstance(longest, int):
        about = replace(about, limits={**about.limits, "max_model_len": longest})
    return about


def _limits_in(
    told: object, names_of: Mapping[str, tuple[str, ...]], deep: int = 0
) -> dict[str, int]:
    """Limits wherever they stand in an answer; the outermost counts."""
    if not isinstance(told, dict) or deep > _DEEP:
        return {}
    found = {}
    for ours, names in names_of.items():
        for name in names:
            value = told.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                found[ours] = value
                break
    for inner in told.values():
        found = {**_limits_in(inner, names_of, deep + 1), **found}
    return found

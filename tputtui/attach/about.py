"""What a server publishes about itself: model, version, limits. Pure.

Each route is optional: where a server lacks one, the next is tried. What the server does not
publish stays unknown; nothing is guessed.
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
"""Routes to ask once a server answers: those of vLLM (its developer routes included, which only
some servers enable), of SGLang and of TGI."""

_LIMITS = {
    "max_num_seqs": ("max_num_seqs", "max_running_requests"),
    "max_num_batched_tokens": ("max_num_batched_tokens",),
    "max_model_len": ("max_model_len", "context_length"),
    # SGLang: the capacity of its KV cache, not the longest request.
    "kv_cache_tokens": ("max_total_num_tokens", "max_total_tokens"),
    "chunked_prefill_size": ("chunked_prefill_size",),
    "tensor_parallel_size": ("tensor_parallel_size", "tp_size"),
    "data_parallel_size": ("data_parallel_size", "dp_size"),
}
_LIMITS_OF_TGI = {
    "max_model_len": ("max_total_tokens",),
    "max_batch_prefill_tokens": ("max_batch_prefill_tokens",),
    "max_batch_total_tokens": ("max_batch_total_tokens",),
    # Requests taken in, waiting ones included: this is no batch size.
    "max_concurrent_requests": ("max_concurrent_requests",),
}
"""In TGI's /info some words mean other limits; a limit that only TGI has keeps its name."""
_DEEP = 6


@dataclass(frozen=True, slots=True)
class About:
    """What is known about a server.

    limits: our name of each limit to the value that the server publishes. live: the limits that
    the server can change while it runs, from the route that changes them.
    """

    model: str = ""
    version: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)
    live: Mapping[str, int] = field(default_factory=dict)


def with_answer(about: About, route: str, body: bytes) -> About:
    """`about` extended by the answer of one of ROUTES; unchanged where the answer adds nothing."""
    try:
        answer: Any = json.loads(body)
    except ValueError:
        return about
    if not isinstance(answer, dict):
        return about
    if route == "/v1/models":
        return _of_models(about, answer)
    version = answer.get("version")
    if isinstance(version, str) and not about.version:
        about = replace(about, version=version[:40])
    model = answer.get("model_id") or answer.get("served_model_name") or answer.get("model_path")
    if isinstance(model, str) and not about.model:
        about = replace(about, model=model)
    limits = _limits_in(answer, _LIMITS_OF_TGI if route == "/info" else _LIMITS)
    if route == "/v1/runtime_config":
        live = {k: v for k, v in answer.items() if isinstance(v, int) and not isinstance(v, bool)}
        about = replace(about, live=live)
    # The first route that publishes a limit counts.
    return replace(about, limits={**limits, **about.limits})


def _of_models(about: About, answer: Mapping[str, Any]) -> About:
    models = answer.get("data")
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
    answer: object, names_of: Mapping[str, tuple[str, ...]], deep: int = 0
) -> dict[str, int]:
    """The limits at any depth of an answer; the outermost value counts."""
    if not isinstance(answer, dict) or deep > _DEEP:
        return {}
    limits = {}
    for ours, names in names_of.items():
        for name in names:
            value = answer.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                limits[ours] = value
                break
    for inner in answer.values():
        limits = {**_limits_in(inner, names_of, deep + 1), **limits}
    return limits

"""What vLLM is told of a request beside its prompt: parameters, adapter. Engine thread."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tputtui.engine.vllm.sampling import Sampling
from tputtui.load.carrier import PLAIN, Form
from tputtui.load.request import RequestSpec

__all__ = ["Asking"]


class Asking:
    """Makes vLLM's parameters for requests.

    adapters: name to folder of each LoRA adapter. sampling: how tokens are chosen (`sampling_of`).
    """

    def __init__(self, adapters: Mapping[str, str], sampling: Sampling) -> None:
        self._sampling = sampling
        self._form = lru_cache(maxsize=64)(_structured)
        self._adapters: dict[str, Any] = {}
        if adapters:
            from vllm.lora.request import LoRARequest

            self._adapters = {
                name: LoRARequest(name, number, str(Path(path).expanduser()))
                for number, (name, path) in enumerate(adapters.items(), 1)
            }

    def params(self, request: RequestSpec) -> Any:
        """vLLM's sampling parameters. A form may end its answer before all tokens are there."""
        carried = request.carried
        if carried is PLAIN:
            return self._sampling(request)
        given: dict[str, Any] = {}
        if carried.n > 1:
            given["n"] = carried.n
        if carried.logprobs is not None:
            given["logprobs"] = carried.logprobs
        if carried.form is not None:
            given["structured_outputs"] = self._form(carried.form)
        return self._sampling(request, **given)

    def adapter(self, name: str) -> Any:
        """vLLM's request for an adapter; None for the base model. Raises ValueError."""
        if not name:
            return None
        if name not in self._adapters:
            raise ValueError(f"the engine was booted without an adapter {name!r}")
        return self._adapters[name]


def _structured(form: Form) -> Any:
    from vllm.sampling_params import StructuredOutputsParams

    if form.regex:
        return StructuredOutputsParams(regex=form.regex)
    return StructuredOutputsParams(json=form.schema)

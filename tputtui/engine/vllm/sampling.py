"""How the tokens of each request are chosen, as vLLM's `SamplingParams`. Engine thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tputtui.load.request import RequestSpec

__all__ = ["Sampling", "sampling_of"]

Sampling = Callable[..., Any]
"""Makes the parameters of a `RequestSpec`; keywords: more of vLLM's parameters, which win."""


def sampling_of(model_config: Any) -> Sampling:
    """Makes the parameters of a request for the model of `model_config`.

    A synthetic request has vLLM's defaults, a forced length, and no text. A real one begins with
    the defaults of the model's own generation config, as vLLM's server does.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    defaults = model_config.get_diff_sampling_param()
    defaults.pop("max_tokens", None)
    # Without a tokenizer there is no text in which a stop string could be found.
    has_text = not model_config.skip_tokenizer_init

    def parameters(request: RequestSpec, **more: Any) -> Any:
        serving, kind = request.serving, RequestOutputKind.FINAL_ONLY
        formed = "structured_outputs" in more
        if serving is None:
            return SamplingParams(
                max_tokens=request.output_tokens,
                ignore_eos=not formed,
                detokenize=False,
                output_kind=kind,
                **more,
            )
        given = {**defaults, **serving.sampling, **more}
        if not has_text:
            given.pop("stop", None)
        if not serving.natural and not formed:
            # Exactly as long as was asked for, whatever the model would say.
            given = {**given, "ignore_eos": True, "stop": None, "stop_token_ids": None}
        given["min_tokens"] = min(given.get("min_tokens", 0), request.output_tokens)
        return SamplingParams(
            **given,
            max_tokens=request.output_tokens,
            detokenize=serving.detokenize and has_text,
            output_kind=kind,
        )

    return parameters

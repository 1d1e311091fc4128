"""Which format a line of a request file has, told by its keys. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from tputtui.load.requests import benches, bodies, gateways, spans, stepped
from tputtui.load.requests.ask import Ask, BadLineError

__all__ = ["FORMATS", "Format", "format_of"]

_GUIDELLM = {"output_tokens_count", "completion_tokens_count", "prompt_tokens_count",
             "input_tokens_count", "instruction", "question"}  # fmt: skip
_USAGE = {"usage", "response", "completion_tokens", "model_parameters"}


class Format(NamedTuple):
    """One format: how a person calls it, whether keys are its own, and how a line is read."""

    title: str
    has: Callable[[frozenset[str]], bool]
    read: Callable[[Mapping[str, Any]], Ask]
    example: str


FORMATS = (
    Format("OpenAI batch", lambda keys: {"custom_id", "body"} <= keys and "response" not in keys,
           bodies.batch, '{"custom_id": "1", "url": "/v1/chat/completions", "body": {…}}'),
    Format("ShareGPT", lambda keys: "conversations" in keys,
           benches.sharegpt, '{"conversations": [{"from": "human", "value": "…"}, …]}'),
    Format("AIPerf", lambda keys: "turns" in keys,
           benches.aiperf_turns, '{"turns": [{"text": "…"}, {"text": "…", "delay": 500}]}'),
    Format("gateway log", lambda keys: bool(keys.intersection(gateways.TIMES)
           and keys & {"messages", "prompt", "input", "request", "body", "request_body",
                       "proxy_server_request"})
           or (bool(keys & _USAGE) and bool(keys & {"messages", "request"})),
           gateways.logged, '{"startTime": 1762164000.5, "messages": […], "usage": {…}}'),
    Format("GuideLLM", lambda keys: bool(keys & _GUIDELLM),
           benches.guidellm, '{"prompt": "…", "output_tokens_count": 100}'),
    Format("vllm bench custom", lambda keys: {"prompt", "output_tokens"} <= keys,
           benches.custom, '{"prompt": "…", "output_tokens": 10}'),
    Format("messages", lambda keys: "messages" in keys,
           bodies.body, '{"messages": [{"role": "user", "content": "…"}]}'),
    Format("prompt", lambda keys: "prompt" in keys,
           bodies.body, '{"prompt": "…"}'),
    Format("job of steps", lambda keys: "steps" in keys,
           stepped.steps, '{"steps": [{"id": "a", "messages": […]}, {"after": ["a"], …}]}'),
    Format("OpenTelemetry", lambda keys: bool(keys & {"spans", "resourceSpans"}),
           spans.spans, '{"spans": [{"start_time": "…", "attributes": {…}}]}'),
    Format("AIPerf", lambda keys: bool(keys & {"text", "texts", "text_input"}),
           benches.aiperf_turn, '{"text": "…"}'),
    Format("responses", lambda keys: "input" in keys,
           bodies.body, '{"input": "…"}'),
)  # fmt: skip
"""Every format, the most particular first."""


def format_of(line: Mapping[str, Any]) -> Format:
    """The format of a line. Raises BadLineError where no format has such keys."""
    keys = frozenset(line)
    for each in FORMATS:
        if each.has(keys):
            return each
    raise BadLineError("no known kind of request: none of its keys says what is asked")

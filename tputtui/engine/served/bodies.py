"""What is sent for a request: the route, and the body that it takes. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from tputtui.engine.served.asked import asked
from tputtui.engine.served.routes import CHAT, COMPLETIONS, Routes
from tputtui.engine.served.words import text_of
from tputtui.load.request import RequestSpec
from tputtui.load.requests.ask import Message
from tputtui.load.requests.rendered import Serving
from tputtui.load.requests.unrendered import UnrenderedPrompt

__all__ = ["Sent", "sent_for"]

_OPENAI = frozenset({"model", "messages", "max_tokens", "stream", "stream_options", "temperature",
                     "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "tools",
                     "tool_choice", "parallel_tool_calls", "response_format", "logit_bias",
                     "logprobs", "top_logprobs", "reasoning_effort"})  # fmt: skip
"""Fields of a chat that OpenAI's API has."""


class Sent(NamedTuple):
    """One request as HTTP has it."""

    route: str
    body: bytes
    counted: bool = False
    """Whether only the server knows how many tokens the prompt has."""
    open_ended: bool = False
    """Whether it names no length: the server's own limit ends it whole."""
    answer: list[str] | None = None
    """Takes the text of the answer; None where nobody needs it."""


def sent_for(request: RequestSpec, model: str, routes: Routes) -> Sent:
    """The request as the server takes it. Raises ValueError where it takes no such request."""
    prompt, carried = request.prompt, request.carried
    body: dict[str, Any] = {
        "model": carried.label.adapter or model,
        "max_tokens": request.output_tokens,
        **_served_as(request.serving),
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "return_token_ids": True,
    }
    if not isinstance(prompt, UnrenderedPrompt):
        if routes.ids:
            body |= {"prompt": prompt.ids(), **asked(carried)}
            return Sent(COMPLETIONS, msgspec.json.encode(body))
        body |= {"messages": _said(text_of(prompt.ids())), **asked(carried, chat=True)}
        return _chat(body, routes)
    if prompt.open_ended:
        del body["max_tokens"]
    if routes.ids and not prompt.messages:
        body |= {"prompt": prompt.text, **asked(carried)}
        return Sent(COMPLETIONS, msgspec.json.encode(body), counted=True)
    if not isinstance(prompt.text, str):
        raise ValueError("the server takes no prompt of token ids")
    messages = [_as_sent(each) for each in prompt.messages] or _said(prompt.text)
    body |= {"messages": messages, **prompt.asks, **asked(carried, chat=True)}
    if prompt.tools:
        body["tools"] = prompt.tools
    if prompt.template:
        body["chat_template_kwargs"] = prompt.template
    return _chat(body, routes)._replace(open_ended=prompt.open_ended, answer=prompt.answer)


def _chat(body: dict[str, Any], routes: Routes) -> Sent:
    if routes.strict:
        body = {key: value for key, value in body.items() if key in _OPENAI}
        body["stream_options"] = {"include_usage": True}
    return Sent(CHAT, msgspec.json.encode(body), counted=True)


def _said(text: str) -> list[Message]:
    return [{"role": "user", "content": text}]


def _as_sent(message: Message) -> Message:
    """A message as OpenAI's API has it: the arguments of tools are text."""
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_call(call) for call in calls]} if calls else message


def _call(call: Message) -> Message:
    function = call["function"]
    arguments = function.get("arguments", {})
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**function, "arguments": text}}


def _served_as(serving: Serving | None) -> dict[str, Any]:
    """The fields of a request that say how its tokens are chosen, and where it ends."""
    if serving is None:
        return {"ignore_eos": True}
    if serving.natural:
        return dict(serving.sampling)
    kept = {k: v for k, v in serving.sampling.items() if k not in ("stop", "stop_token_ids")}
    return {**kept, "ignore_eos": True}

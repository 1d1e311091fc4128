"""Requests as OpenAI's API has them: bodies of chat, completions and responses; batch files. Pure.

{"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {…}}
{"messages": [{"role": "user", "content": "…"}], "max_tokens": 50}
{"prompt": "…", "temperature": 0}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tputtui.load.requests.ask import (
    Ask,
    BadLineError,
    Message,
    Turn,
    chat_asks,
    recorded_sampling,
    whole,
)
from tputtui.load.requests.wants import answers_of, form_of, logprobs_of

__all__ = ["batch", "body", "messages_of"]

_MAX = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def batch(line: Mapping[str, Any]) -> Ask:
    """A line of OpenAI's batch input. Raises BadLineError."""
    inner = line.get("body")
    if not isinstance(inner, dict):
        raise BadLineError("body: expected an object")
    url = line.get("url", "")
    if isinstance(url, str) and url.endswith(("/embeddings", "/moderations", "/rerank", "/score")):
        raise BadLineError("url: not a route that generates text")
    return body(inner)


def body(line: Mapping[str, Any]) -> Ask:
    """A request by its body: `messages`, `prompt` or `input`. Raises BadLineError.

    A last message of the assistant's is the recorded answer, as in files for fine-tuning.
    """
    sampling, undone = recorded_sampling(line)
    most, recorded = whole(line, _MAX), whole(line, ("output_tokens",))
    prompt, answer = None, ""
    messages: tuple[Message, ...] = ()
    if line.get("messages") is not None:
        messages = messages_of(line["messages"], "messages")
    elif "prompt" in line:
        prompt = _prompt(line["prompt"])
    elif "input" in line:
        messages = _input(line)
    else:
        raise BadLineError("messages: missing, and prompt as well")
    if len(messages) > 1 and messages[-1]["role"] == "assistant":
        *rest, last = messages
        messages, answer = tuple(rest), str(last.get("content") or "")
    template = line.get("chat_template_kwargs")
    return Ask(
        (Turn(messages, answer, recorded, most),),
        prompt,
        _tools(line),
        template if isinstance(template, dict) else None,
        sampling,
        undone=undone,
        asks=chat_asks(line) if line.get("messages") is not None else None,
        form=form_of(line),
        logprobs=logprobs_of(line),
        n=answers_of(line),
    )


def messages_of(value: object, key: str) -> tuple[Message, ...]:
    """Messages as a chat template takes them: text joined, arguments of tools as objects."""
    if isinstance(value, str):
        return ({"role": "user", "content": value},)
    if not isinstance(value, list) or not value:
        raise BadLineError(f"{key}: expected a list of messages")
    return tuple(_message(message, f"{key}[{place}]") for place, message in enumerate(value))


def _message(value: object, where: str) -> Message:
    if not isinstance(value, dict):
        raise BadLineError(f"{where}: expected an object")
    role = value.get("role")
    if role not in _ROLES:
        raise BadLineError(f"{where}.role: not one of a chat")
    message = {key: item for key, item in value.items() if item is not None}
    message["content"] = _text(value.get("content"), where)
    if calls := value.get("tool_calls"):
        if not isinstance(calls, list):
            raise BadLineError(f"{where}.tool_calls: expected a list")
        message["tool_calls"] = [_call(call, where) for call in calls]
    return message


def _text(content: object, where: str) -> str:
    """The text of a message; its parts are joined by line breaks, as vLLM joins them."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list):
        raise BadLineError(f"{where}.content: expected text, or a list of parts")
    texts = []
    for part in content:
        text = part if isinstance(part, str) else part.get("text") if isinstance(part, dict) else 0
        if not isinstance(text, str):
            raise BadLineError(f"{where}.content: has a part that is no text (images are not sent)")
        texts.append(text)
    return "\n".join(texts)


def _call(call: object, where: str) -> Message:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(call, dict) or not isinstance(function, dict):
        raise BadLineError(f"{where}.tool_calls: expected objects with a function")
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        # Templates write arguments out themselves; a text would be quoted twice.
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError:
            raise BadLineError(f"{where}.tool_calls: arguments are no JSON") from None
    return {**call, "function": {**function, "arguments": arguments}}


def _prompt(value: object) -> str | tuple[int, ...]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        value = value[0]
    if isinstance(value, str) and value:
        return value
    if isinstance(value, list) and value and all(type(number) is int for number in value):
        return tuple(value)
    raise BadLineError("prompt: expected one text, or one list of token ids")


def _input(line: Mapping[str, Any]) -> tuple[Message, ...]:
    """The messages of a request to /v1/responses."""
    messages = messages_of(line["input"], "input")
    instructions = line.get("instructions")
    if isinstance(instructions, str) and instructions:
        return ({"role": "system", "content": instructions}, *messages)
    return messages


def _tools(line: Mapping[str, Any]) -> tuple[Message, ...]:
    tools = line.get("tools")
    if not tools or line.get("tool_choice") == "none":
        return ()
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BadLineError("tools: expected a list of objects")
    # A tool of /v1/responses has its name beside `type`; templates want it inside `function`.
    return tuple(
        tool if "function" in tool or tool.get("type") != "function" else
        {"type": "function", "function": {k: v for k, v in tool.items() if k != "type"}}
        for tool in tools
    )  # fmt: skip

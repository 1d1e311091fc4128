"""Traces of agents as OpenTelemetry has them: the spans of one trace, a line, as a job. Pure.

{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": …, "startTimeUnixNano": …, …}]}]}]}   OTLP
{"spans": [{"trace_id": …, "start_time": "…", "end_time": "…", "attributes": {…}}]}

The attributes are those of OpenTelemetry's semantic conventions for generative AI; calls of a model
carry `gen_ai.input.messages`, which instrumentations write when they are asked to. Which call waits
for which is told by times: for those that had ended when it began.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import msgspec

from tputtui.load.requests.ask import ANSWER_OF, Ask, BadLineError, Message, Turn, whole
from tputtui.load.requests.bodies import body, messages_of

__all__ = ["spans"]

_CALLS = frozenset({"chat", "text_completion", "generate_content"})
_INPUT, _OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
_REQUEST = {
    "gen_ai.request.temperature": "temperature", "gen_ai.request.top_p": "top_p",
    "gen_ai.request.top_k": "top_k", "gen_ai.request.seed": "seed",
    "gen_ai.request.frequency_penalty": "frequency_penalty",
    "gen_ai.request.presence_penalty": "presence_penalty",
    "gen_ai.request.stop_sequences": "stop", "gen_ai.tool.definitions": "tools",
}  # fmt: skip
_NS = 1e9


class _Call(NamedTuple):
    """One call of a model, with its times in s."""

    start_s: float
    end_s: float
    attributes: Mapping[str, Any]


def spans(line: Mapping[str, Any]) -> Ask:
    """The calls of one trace, as steps that wait for one another. Raises BadLineError."""
    try:
        return _job(line)
    except BadLineError:
        raise
    except (AttributeError, TypeError, ValueError):
        raise BadLineError("spans: not as OpenTelemetry writes them") from None


def _job(line: Mapping[str, Any]) -> Ask:
    found = [span for span in _spans(line) if isinstance(span, dict)]
    traces = {span.get("traceId", span.get("trace_id")) for span in found}
    if len(traces) > 1:
        raise BadLineError("spans: of several traces; each takes a line of its own")
    calls = sorted(filter(None, map(_call, found)), key=lambda call: call.start_s)
    if not calls:
        raise BadLineError("spans: none is a call of a model (gen_ai.input.messages)")
    texts = [_answer(call) for call in calls]
    turns = tuple(_turn(place, calls, texts) for place in range(len(calls)))
    bodies = [_body(call) for call in calls]
    common = body({"messages": "-", **bodies[0]})
    differ = any(each.get("tools") != bodies[0].get("tools") for each in bodies)
    undone = ("tools that differ", *common.undone) if differ else common.undone
    return replace(common, turns=turns, job=True, undone=undone, at_s=calls[0].start_s)


def _spans(line: Mapping[str, Any]) -> Iterator[Any]:
    if "spans" in line:
        yield from _list(line, "spans")
        return
    for resource in _list(line, "resourceSpans"):
        for scope in _list(resource, "scopeSpans"):
            yield from _list(scope, "spans")


def _list(value: Any, key: str) -> list[Any]:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list):
        raise BadLineError(f"{key}: expected a list")
    return found


def _call(span: Mapping[str, Any]) -> _Call | None:
    """A span that is a call of a model; None for any other."""
    given = span.get("attributes", {})
    if isinstance(given, list):
        given = {each["key"]: _plain(each.get("value")) for each in given
                 if isinstance(each, dict) and isinstance(each.get("key"), str)}  # fmt: skip
    if not isinstance(given, dict):
        raise BadLineError("attributes: expected an object, or a list of keys and values")
    if _INPUT not in given:
        if given.get("gen_ai.operation.name") in _CALLS:
            raise BadLineError(f"attributes: a call of a model without {_INPUT}")
        return None
    start_s, end_s = _time(span, "start"), _time(span, "end")
    return _Call(start_s, max(start_s, end_s), given)


def _plain(value: Any) -> Any:
    """A value of OTLP's as plain JSON."""
    if not isinstance(value, dict):
        return None
    for key in ("stringValue", "boolValue", "doubleValue"):
        if key in value:
            return value[key]
    if "intValue" in value:
        return int(value["intValue"])
    if isinstance(inner := value.get("arrayValue"), dict):
        return [_plain(each) for each in inner.get("values", ())]
    if isinstance(inner := value.get("kvlistValue"), dict):
        return {each.get("key"): _plain(each.get("value")) for each in inner.get("values", ())}
    return None


def _time(span: Mapping[str, Any], which: str) -> float:
    """A span's time in s."""
    nanos = span.get(f"{which}TimeUnixNano")
    try:
        if nanos is not None:
            return int(nanos) / _NS
        return datetime.datetime.fromisoformat(str(span[f"{which}_time"])).timestamp()
    except (KeyError, TypeError, ValueError):
        raise BadLineError(f"{which}_time: expected a time in ns, or as ISO 8601 has it") from None


def _turn(place: int, calls: list[_Call], texts: list[str]) -> Turn:
    call = calls[place]
    before = [p for p in range(place) if calls[p].end_s <= call.start_s]
    # Whoever waits for a later call waits for those as well that had ended when that one began.
    newest = before[-1] if before else 0
    after = tuple(p for p in before if p == newest or calls[p].end_s > calls[newest].start_s)
    since_s = max((calls[p].end_s for p in after), default=calls[0].start_s)
    said = _messages(call, _INPUT)
    if (system := call.attributes.get("gen_ai.system_instructions")) is not None:
        said.insert(0, _message({"role": "system", "parts": _decoded(system)}))
    real = {texts[p]: p for p in before if texts[p]}
    made = [_answered(message, real) for message in said]
    attributes = call.attributes
    return Turn(
        tuple(made),
        texts[place],
        whole(attributes, ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")),
        whole(attributes, ("gen_ai.request.max_tokens",)),
        max(0.0, call.start_s - since_s),
        after,
    )


def _answered(message: Message, real: Mapping[str, int]) -> Message:
    """A recorded answer of an earlier call stands for the real one."""
    text = message["content"]
    if message["role"] == "assistant" and "tool_calls" not in message and text in real:
        return {"role": "assistant", ANSWER_OF: real[text]}
    return message


def _answer(call: _Call) -> str:
    if _OUTPUT not in call.attributes:
        return ""
    return "".join(message["content"] for message in _messages(call, _OUTPUT))


def _messages(call: _Call, key: str) -> list[Message]:
    given = _decoded(call.attributes[key])
    if not isinstance(given, list) or not given:
        raise BadLineError(f"{key}: expected a list of messages")
    return [_message(each) for each in given]


def _message(given: Any) -> Message:
    """A message by its content, or by its parts, as a chat template takes it."""
    if not isinstance(given, dict):
        raise BadLineError("gen_ai messages: expected objects")
    plain = {key: value for key, value in given.items() if key in ("role", "content", "tool_calls",
             "tool_call_id", "name")}  # fmt: skip
    if given.get("parts") is not None:
        texts: list[Any] = []
        calls: list[Message] = []
        for part in _list(given, "parts"):
            kind = part.get("type") if isinstance(part, dict) else None
            if kind == "text":
                texts.append(part.get("content"))
            elif kind == "tool_call":
                function = {"name": part.get("name"), "arguments": part.get("arguments") or {}}
                calls.append({"id": part.get("id"), "type": "function", "function": function})
            elif kind == "tool_call_response":
                told = part.get("response", part.get("result"))
                texts.append(told if isinstance(told, str) else _encoded(told))
                plain |= {"role": "tool", "tool_call_id": part.get("id")}
            elif kind != "reasoning":
                raise BadLineError("gen_ai messages: a part that is no text and no call of a tool")
        plain |= {"content": texts} | ({"tool_calls": calls} if calls else {})
    (made,) = messages_of([plain], "gen_ai messages")
    return made


def _body(call: _Call) -> dict[str, Any]:
    """What a call asks for beside its messages, as OpenAI's API has it."""
    found = {name: call.attributes[key] for key, name in _REQUEST.items() if key in call.attributes}
    if "tools" in found:
        found["tools"] = _decoded(found["tools"])
    return found


def _decoded(value: Any) -> Any:
    """A value that may be JSON as text."""
    try:
        return msgspec.json.decode(value) if isinstance(value, str) else value
    except msgspec.DecodeError:
        raise BadLineError("attributes: a list that is neither a list nor JSON") from None


def _encoded(value: Any) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()

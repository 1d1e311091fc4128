"""Input files of other benchmarks: `vllm bench` custom, GuideLLM, AIPerf, ShareGPT. Pure.

{"prompt": "…", "output_tokens": 10}                                        vllm bench custom
{"prompt": "…", "output_tokens_count": 100}                                 GuideLLM
{"text": "…", "timestamp": 1500, "output_length": 20}                       AIPerf, single turn
{"session_id": "a", "turns": [{"text": "…"}, {"text": "…", "delay": 500}]}  AIPerf, multi-turn
{"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}  ShareGPT
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tputtui.load.requests.ask import Ask, BadLineError, Message, Turn, recorded_sampling, whole
from tputtui.load.requests.bodies import body, messages_of

__all__ = ["aiperf_turn", "aiperf_turns", "custom", "guidellm", "sharegpt"]

_GUIDELLM_TEXT = ("prompt", "instruction", "question", "input", "context", "content",
                  "conversation", "turn", "text")  # fmt: skip
_GUIDELLM_SYSTEM = ("system_prompt", "system", "prefix")
_GUIDELLM_OUTPUT = ("output_tokens_count", "completion_tokens_count", "output_tokens")
_MS = 1000
_SPEAKERS = {
    "human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant",
    "assistant": "assistant", "bing": "assistant", "bard": "assistant", "model": "assistant",
    "system": "system",
}  # fmt: skip


def custom(line: Mapping[str, Any]) -> Ask:
    """A line of `vllm bench serve --dataset-name custom`: its prompt is what a person says."""
    ask = body(line)
    if not isinstance(ask.prompt, str):
        return ask
    turn = ask.turns[0]._replace(messages=({"role": "user", "content": ask.prompt},))
    return replace(ask, turns=(turn,), prompt=None)


def guidellm(line: Mapping[str, Any]) -> Ask:
    """A row of GuideLLM's: the first of its usual columns is the prompt."""
    name = next((name for name in _GUIDELLM_TEXT if isinstance(line.get(name), str)), "")
    if not name:
        raise BadLineError("prompt: missing, or no text")
    system = next((line[key] for key in _GUIDELLM_SYSTEM if isinstance(line.get(key), str)), "")
    messages: tuple[Message, ...] = ({"role": "user", "content": line[name]},)
    if system:
        messages = ({"role": "system", "content": system}, *messages)
    sampling, undone = recorded_sampling(line)
    turn = Turn(messages, output_tokens=whole(line, _GUIDELLM_OUTPUT))
    return Ask((turn,), sampling=sampling, undone=undone)


def aiperf_turn(line: Mapping[str, Any]) -> Ask:
    """A single turn of AIPerf's; `timestamp` is in ms."""
    return Ask((_aiperf(line, 0),), at_s=_ms(line, "timestamp"))


def aiperf_turns(line: Mapping[str, Any]) -> Ask:
    """A conversation of AIPerf's; each turn waits `delay` ms after the answer before it."""
    turns = line.get("turns")
    if not isinstance(turns, list) or not turns:
        raise BadLineError("turns: expected a list of turns")
    if not all(isinstance(turn, dict) for turn in turns):
        raise BadLineError("turns: expected objects")
    made = tuple(_aiperf(turn, place) for place, turn in enumerate(turns))
    return Ask(made, at_s=_ms(turns[0], "timestamp"))


def _aiperf(turn: Mapping[str, Any], place: int) -> Turn:
    where = f"turn {place + 1}"
    if any(turn.get(key) for key in ("image", "images", "audio", "audios", "video", "videos")):
        raise BadLineError(f"{where}: has images, sound or video, which are not sent")
    text = turn.get("text", turn.get("text_input"))
    if text is None and isinstance(texts := turn.get("texts"), list):
        text = "\n".join(item for item in texts if isinstance(item, str))
    if not isinstance(text, str) or not text:
        raise BadLineError(f"{where}: text: missing")
    role = turn.get("role") or "user"
    most = whole(turn, ("max_tokens",))
    delay = _ms(turn, "delay")
    return Turn(
        messages_of([{"role": role, "content": text}], where),
        output_tokens=whole(turn, ("output_length", "output_tokens")),
        max_tokens=most,
        wait_s=0.0 if math.isnan(delay) or not place else delay,
    )


def _ms(line: Mapping[str, Any], key: str) -> float:
    """A time in ms as seconds; NaN without one."""
    value = line.get(key)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise BadLineError(f"{key}: expected 0 or more")
    return value / _MS


def sharegpt(line: Mapping[str, Any]) -> Ask:
    """A conversation of ShareGPT with all its turns; answers are the engine's own."""
    said = line.get("conversations")
    if not isinstance(said, list) or not said:
        raise BadLineError("conversations: expected a list")
    turns: list[Turn] = []
    pending: list[Message] = []
    for place, entry in enumerate(said, 1):
        value = entry.get("value") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(value, str):
            raise BadLineError(f"turn {place}: expected an object with a text as value")
        role = _SPEAKERS.get(str(entry.get("from", "")))
        if role is None:
            raise BadLineError(f"turn {place}: from: not a speaker that is known")
        if role != "assistant":
            pending.append({"role": role, "content": value})
        elif pending:
            turns.append(Turn(tuple(pending), answer=value))
            pending = []
    if pending and any(message["role"] == "user" for message in pending):
        turns.append(Turn(tuple(pending)))
    if not turns:
        raise BadLineError("conversations: nobody asks anything")
    return Ask(tuple(turns))

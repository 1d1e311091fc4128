"""Streams one request to an OpenAI-compatible server and reads its chunks. Asyncio.

The server counts the tokens: in every chunk if it knows `continuous_usage_stats`, else in the last
one. A chunk is not a token. The first chunk with content (text, reasoning, or a part of a tool
call) brings the first token; a chunk that is empty or only names a role brings none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tputtui.errors import EngineError

__all__ = ["Chunk", "Refused", "stream"]

_LONGEST_LINE = 1 << 20


class Refused(ValueError):
    """The server refuses this request; the message is the server's."""


class Chunk(NamedTuple):
    """One event of the stream.

    content: whether it holds any output. tokens: output tokens so far as the server counts them;
    None if not reported. cached: prompt tokens that were in its cache; None if not reported.
    token_ids: of this event; empty if not reported. done: whether this event is the last.
    stop: why the answer ended, in the event that says so; else empty. prompt: prompt tokens as the
    server counts them; None if not reported. reasons: whether the output is reasoning and no
    answer. text: of the answer.
    """

    content: bool
    tokens: int | None = None
    cached: int | None = None
    token_ids: tuple[int, ...] = ()
    done: bool = False
    stop: str = ""
    prompt: int | None = None
    reasons: bool = False
    text: str = ""


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0
    prompt_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    """What older servers call `reasoning`."""
    tool_calls: Any = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_NOTHING = _Delta()
_decode = msgspec.json.Decoder(_Event).decode


async def stream(
    session: aiohttp.ClientSession, url: str, body: bytes, name: str = ""
) -> AsyncIterator[Chunk]:
    """Send `body`, which is JSON, and yield the chunks of the answer as they arrive.

    name: what the server is to call the request; empty lets it choose.

    Raises Refused for an answer of 4xx or 503 (the queue is full), EngineError for an answer that
    is no stream of events, and aiohttp's errors if the connection breaks off.
    """
    head = {"Content-Type": "application/json"} | ({"X-Request-Id": name} if name else {})
    async with session.post(url, data=body, headers=head, allow_redirects=False) as answer:
        if answer.status != 200:
            text = (await answer.content.read(2000)).decode("utf-8", "replace")
            reason = f"{answer.status}: {_message(text)}"
            if _refuses(answer.status):
                raise Refused(reason)
            raise EngineError(f"The server answered {reason}.", "Its log says why.")
        rest = b""
        async for part in answer.content.iter_any():
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > _LONGEST_LINE:
                raise EngineError("The server streams no events.", "Is it OpenAI-compatible?")
            for line in lines:
                if line.startswith(b"data:"):
                    data = line[5:].strip()
                    if data == b"[DONE]":
                        return
                    if data:
                        yield _chunk(data)


def _chunk(data: bytes) -> Chunk:
    try:
        event = _decode(data)
    except msgspec.DecodeError as error:
        raise EngineError(
            f"The server streams what is no event: {error}.", "Is it OpenAI-compatible?"
        ) from None
    if event.error is not None:
        # vLLM starts the stream before it checks the prompt, so errors arrive as events.
        code = event.error.get("code") if isinstance(event.error, dict) else None
        reason = f"{code}: {_sentence(event.error)}"
        if isinstance(code, int) and _refuses(code):
            raise Refused(reason)
        raise EngineError(f"The server broke a request off: {reason}", "Its log says why.")
    usage, choice = event.usage, event.choices[0] if event.choices else None
    tokens = usage.completion_tokens if usage else None
    details = usage.prompt_tokens_details if usage else None
    cached = details.cached_tokens if details else None
    prompt = usage.prompt_tokens if usage else None
    if choice is None:
        return Chunk(False, tokens, cached, done=tokens is not None, prompt=prompt)
    ids = tuple(choice.token_ids or ())
    delta = choice.delta or _NOTHING
    text = choice.text or delta.content or ""
    reasoning = delta.reasoning or delta.reasoning_content
    return Chunk(
        content=bool(text or reasoning or delta.tool_calls or ids),
        tokens=tokens,
        cached=cached,
        token_ids=ids,
        stop=choice.finish_reason or "",
        prompt=prompt,
        reasons=bool(reasoning) and not (text or delta.tool_calls),
        text=text,
    )


def _refuses(status: int) -> bool:
    """Whether the status refuses this one request; 503: the server's queue is full."""
    return 400 <= status < 500 or status == 503


def _message(text: str) -> str:
    """The message in an error's JSON, or the text unchanged."""
    try:
        body = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text[:200].strip() or "nothing"
    return _sentence(body.get("error", body) if isinstance(body, dict) else body)


def _sentence(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:300]

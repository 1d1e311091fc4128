"""One request to an OpenAI-compatible server, streamed: when its tokens came, how many. Asyncio.

Tokens are counted by the server (usage in every chunk where it knows `continuous_usage_stats`, else
in the last); a chunk is not a token. The first token is the first chunk with content: the one that
only names a role, or nothing, is none.
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
    """The server will not serve this request; the message is its own."""


class Chunk(NamedTuple):
    """What one event of the stream brought.

    content: whether there was any. tokens: how many there are by now, as the server counts; None
    where it does not say. cached: tokens of the prompt that were in its cache, likewise.
    token_ids: what came, where it tells. done: whether it says that this was the last of it.
    """

    content: bool
    tokens: int | None = None
    cached: int | None = None
    token_ids: tuple[int, ...] = ()
    done: bool = False


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0
    prompt_tokens_details: _Details | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None


class _Event(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Event).decode


async def stream(session: aiohttp.ClientSession, url: str, body: bytes) -> AsyncIterator[Chunk]:
    """The chunks of the answer to `body`, which is JSON, as they come.

    Raises Refused for an answer of 4xx or 503 (its queue is full), EngineError for what is no
    stream of events, and what aiohttp raises when the connection breaks off.
    """
    head = {"Content-Type": "application/json"}
    async with session.post(url, data=body, headers=head, allow_redirects=False) as answer:
        if answer.status != 200:
            told = (await answer.content.read(2000)).decode("utf-8", "replace")
            said = f"{answer.status}: {_message(told)}"
            if _refuses(answer.status):
                raise Refused(said)
            raise EngineError(f"The server answered {said}.", "Its log says why.")
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
        # vLLM begins to stream before it has looked at the prompt.
        code = event.error.get("code") if isinstance(event.error, dict) else None
        said = f"{code}: {_sentence(event.error)}"
        if isinstance(code, int) and _refuses(code):
            raise Refused(said)
        raise EngineError(f"The server broke a request off: {said}", "Its log says why.")
    usage, choice = event.usage, event.choices[0] if event.choices else None
    tokens = usage.completion_tokens if usage else None
    details = usage.prompt_tokens_details if usage else None
    cached = details.cached_tokens if details else None
    if choice is None:
        return Chunk(False, tokens, cached, done=tokens is not None)
    ids = tuple(choice.token_ids or ())
    delta = choice.delta
    text = choice.text or (delta and (delta.content or delta.reasoning_content))
    return Chunk(bool(text or ids), tokens, cached, ids)


def _refuses(status: int) -> bool:
    """Whether it is this request that the server will not serve; 503: its queue is full."""
    return 400 <= status < 500 or status == 503


def _message(told: str) -> str:
    """The sentence in an error's JSON, or the text as it stands."""
    try:
        found = msgspec.json.decode(told)
    except msgspec.DecodeError:
        return told[:200].strip() or "nothing"
    return _sentence(found.get("error", found) if isinstance(found, dict) else found)


def _sentence(error: object) -> str:
    message = error.get("message") if isinstance(error, dict) else error
    return str(message)[:300]

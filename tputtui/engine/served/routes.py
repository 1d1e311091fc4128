"""Finds out which routes of an OpenAI-compatible server generate, and what they take. Asyncio."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tputtui.engine.served.sse import Refused, stream
from tputtui.errors import EngineError

__all__ = ["CHAT", "COMPLETIONS", "SURE", "Routes", "find_routes"]

COMPLETIONS = "/v1/completions"
CHAT = "/v1/chat/completions"
SURE = 256
"""Every vocabulary has at least so many tokens: one for each byte."""
_TEXT = "The quick brown fox; déjà vu, Ωμέγα, Привет, 漢字かな交じり文, 한국어 🙂🚀 {}()=>[]"
"""A text in many scripts: rare tokens have high ids."""
_CHAT_FIELDS: dict[str, Any] = {
    "ignore_eos": True,
    "return_token_ids": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}
"""Fields beyond OpenAI's API; a strict server refuses a request for them."""

_ATTEMPTS = 3
"""At a question whose connection the server has closed meanwhile."""

Answer = Callable[[str, str, object], Awaitable[tuple[int, str]]]
"""Asks another route: method, route, body as JSON; status and the whole text."""


class Routes(NamedTuple):
    """What a server takes."""

    ids: bool = True
    """Whether `/v1/completions` takes prompts of token ids."""
    chat: bool = False
    """Whether it has `/v1/chat/completions`."""
    strict: bool = False
    """Whether its chat route refuses fields that OpenAI's API does not have."""
    vocabulary: int = SURE
    """Token ids below this may be sent."""


class _Tokens(msgspec.Struct):
    tokens: list[int]


_read_tokens = msgspec.json.Decoder(_Tokens).decode


async def find_routes(
    session: aiohttp.ClientSession, url: str, name: str, model: str, answer: Answer
) -> Routes:
    """Ask the server `name` at `url` for one token on each route.

    Raises EngineError if no route of it can be used.
    """
    status, text = await answer("POST", "/tokenize", {"model": model, "prompt": _TEXT})
    size = SURE
    if status == 200:
        with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
            size = max([size, *(number + 1 for number in _read_tokens(text).tokens)])
    asked = {"model": model, "max_tokens": 1, "stream": True}
    no_ids = await _why_not(session, f"{url}{COMPLETIONS}", {**asked, "prompt": [SURE - 1]})
    chat = {**asked, "messages": [{"role": "user", "content": "a"}]}
    no_extras = await _why_not(session, f"{url}{CHAT}", {**chat, **_CHAT_FIELDS})
    no_chat = no_extras and await _why_not(session, f"{url}{CHAT}", chat)
    if no_ids and no_chat:
        raise EngineError(
            f"{name} takes no prompt of token ids: {no_ids}; and no chat: {no_chat}.",
            "vLLM and SGLang do, at /v1/completions, and others at /v1/chat/completions.",
        )
    return Routes(not no_ids, not no_chat, bool(no_extras), size)


async def _why_not(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> str:
    """Why the route does not serve `body`; empty if it does."""
    attempts = 0
    while True:
        try:
            async for _ in stream(session, url, msgspec.json.encode(body)):
                pass
        except Refused as refusal:
            return str(refusal)
        except EngineError as error:
            return error.message.rstrip(".")
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            # A route that has raised answers 500 and closes: the connection that was to be used
            # again is gone. A server that cannot be reached at all is another matter.
            attempts += 1
            if isinstance(error, aiohttp.ClientConnectorError) or attempts == _ATTEMPTS:
                raise
        else:
            return ""

"""Servers that are none: what their /metrics says, and how they misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import web

from tests import PATIENCE_S
from tputtui.attach.address import Address
from tputtui.attach.reading import Reading, read_metrics

GENERATE = ("/v1/completions", "/v1/chat/completions")
OPENAI = {"model", "messages", "max_tokens", "stream", "stream_options", "temperature", "top_p",
          "stop", "tools", "tool_choice", "seed", "response_format"}  # fmt: skip
BOUNDS = ("0.1", "0.25", "0.5", "1.0", "+Inf")


def exposition(
    generated: float = 0.0,
    *,
    engines: int = 1,
    started: float | None = 1000.0,
    ttft: tuple[int, ...] = (0, 0, 0, 0, 0),
    running: float = 3.0,
    model: str = "m",
    kv: float = 0.25,
    more: str = "",
) -> bytes:
    """vLLM's /metrics, each engine with the same figures. ttft: cumulative counts of BOUNDS."""
    lines = ["# TYPE python_info gauge", 'python_info{version="3.12"} 1.0']
    if started is not None:
        lines.append(f"process_start_time_seconds {started!r}")
    for engine in range(engines):
        labels = f'engine="{engine}",model_name="{model}"'
        lines += [
            f"vllm:num_requests_running{{{labels}}} {running}",
            f"vllm:num_requests_waiting{{{labels}}} 2.0",
            f"vllm:kv_cache_usage_perc{{{labels}}} {kv}",
            f"vllm:generation_tokens_total{{{labels}}} {generated!r}",
            f"vllm:prompt_tokens_total{{{labels}}} {2 * generated!r}",
            f"vllm:prefix_cache_queries_total{{{labels}}} {2 * generated!r}",
            f"vllm:prefix_cache_hits_total{{{labels}}} {generated / 2!r}",
            f"vllm:num_preemptions_total{{{labels}}} 0.0",
            f'vllm:request_success_total{{{labels},finished_reason="stop"}} {generated / 10!r}',
            f'vllm:request_success_total{{{labels},finished_reason="length"}} 0.0',
        ]
        lines += [
            f'vllm:time_to_first_token_seconds_bucket{{{labels},le="{bound}"}} {count}.0'
            for bound, count in zip(BOUNDS, ttft, strict=True)
        ]
        lines.append(f"vllm:time_to_first_token_seconds_sum{{{labels}}} {0.2 * ttft[-1]!r}")
    lines.append('vllm:cache_config_info{block_size="16",num_gpu_blocks="1000",engine="0"} 1.0')
    return ("\n".join([*lines, more]) + "\n").encode()


def reading(generated: float = 0.0, **more: object) -> Reading:
    """It, read."""
    return read_metrics(exposition(generated, **more))  # type: ignore[arg-type]


@dataclass
class Completions:
    """How /v1/completions streams, and /v1/chat/completions where there is a chat route.

    takes_ids: whether the first one is there at all. chat: whether the second one is. strict: it
    refuses what OpenAI's API does not have. reasoning: name under which the first two tokens of a
    chat are reasoning; empty for none. tools: a chat is answered by a tool call. tell_prompt: how
    many tokens the server makes of a chat. word: each token of a chat's answer.
    usage: "continuous", "final" or "" (never). a_chunk: tokens in each. empty_first: a chunk with
    nothing in it comes before `first_s`. fails: number of the request to what becomes of it: a
    status, "broken", "late": refused within the stream, or what the refusal says. highest: token id
    that was sent. ends_at: tokens after which the model ends an answer that may end; 0 for never.
    """

    usage: str = "continuous"
    a_chunk: int = 1
    first_s: float = 0.0
    every_s: float = 0.0
    empty_first: bool = False
    highest: int = 0
    ends_at: int = 0
    takes_ids: bool = True
    chat: bool = False
    strict: bool = False
    reasoning: str = ""
    tools: bool = False
    tell_prompt: int = 1
    word: str = "x"
    fails: Mapping[int, object] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    generated: int = 0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One stream of tokens."""
        body = await request.json()
        chat = "messages" in body
        if not (self.chat if chat else self.takes_ids):
            return web.Response(status=404)
        if self.strict and not body.keys() <= OPENAI:
            return web.json_response({"error": {"message": "unknown field"}}, status=400)
        if not chat and isinstance(body["prompt"], list):
            self.highest = max(self.highest, *body["prompt"])
        # Those that ask what is taken at all are none of them.
        counts = body["max_tokens"] != 1 if "max_tokens" in body else True
        if counts:
            self.asked.append(body)
        fate = self.fails.get(len(self.asked))
        if fate == "late":
            # As vLLM does: it begins to stream before it has looked.
            event = {"error": {"message": "too long", "code": 400}}
            return web.Response(body=b"data: " + msgspec.json.encode(event) + b"\n\n")
        if isinstance(fate, str) and fate not in ("broken", "late"):
            return web.json_response({"error": {"message": f"no: {fate}"}}, status=400)
        if isinstance(fate, int):
            return web.json_response({"error": {"message": "no"}}, status=fate)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        left, done, stop = body.get("max_tokens", self.ends_at), 0, "length"
        if self.ends_at and left >= self.ends_at and not body.get("ignore_eos"):
            left, stop = self.ends_at, "stop"
        if self.tools:
            stop = "tool_calls"
        if self.empty_first:
            await self._write(response, "", None)
        if chat:
            await self._say(response, {"role": "assistant", "content": ""}, None)
        await asyncio.sleep(self.first_s)
        while left and request.transport is not None:
            now = min(left, self.a_chunk)
            left, done = left - now, done + now
            self.generated += now * counts
            counted = done if self.usage == "continuous" else None
            end = "" if left else stop
            if not chat:
                await self._write(response, "x" * now, counted, end)
            elif self.reasoning and done <= 2:
                await self._say(response, {self.reasoning: "hm"}, counted, end)
            elif self.tools:
                call = {"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}
                await self._say(response, {"tool_calls": [call]}, counted, end)
            else:
                await self._say(response, {"content": self.word * now}, counted, end)
            if fate == "broken" and done > 1:
                request.transport.abort()
                return response
            await asyncio.sleep(self.every_s)
        if self.usage:
            await response.write(
                b"data: "
                + msgspec.json.encode({"choices": [], "usage": self._usage(done)})
                + b"\n\n"
            )
        await response.write(b"data: [DONE]\n\n")
        return response

    def _usage(self, tokens: int) -> dict[str, int]:
        return {"completion_tokens": tokens, "prompt_tokens": self.tell_prompt}

    async def _say(
        self,
        response: web.StreamResponse,
        delta: dict[str, Any],
        tokens: int | None,
        stop: str = "",
    ) -> None:
        await self._event(response, {"index": 0, "delta": delta}, tokens, stop)

    async def _write(
        self, response: web.StreamResponse, text: str, tokens: int | None, stop: str = ""
    ) -> None:
        await self._event(response, {"index": 0, "text": text}, tokens, stop)

    async def _event(
        self, response: web.StreamResponse, choice: dict[str, Any], tokens: int | None, stop: str
    ) -> None:
        if stop:
            choice["finish_reason"] = stop
        event: dict[str, Any] = {"choices": [choice]}
        if tokens is not None:
            event["usage"] = self._usage(tokens)
        await response.write(b"data: " + msgspec.json.encode(event) + b"\n\n")


@dataclass
class FakeServer:
    """One endpoint. metrics: what it serves; `routes`: other paths. Its counter rises by itself."""

    per_s: float = 1000.0
    metrics: Callable[[FakeServer], bytes] | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    routes: dict[str, bytes] = field(default_factory=dict)
    patched: list[object] = field(default_factory=list)
    patch_status: int = 200
    hang: bool = False
    drip: bool = False
    token: str = ""
    started: float = 1000.0
    scraped: int = 0
    url: str = ""
    completions: Completions | None = None
    seen: list[Mapping[str, str]] = field(default_factory=list)
    began_s: float = field(default_factory=time.monotonic)

    @property
    def generated(self) -> float:
        """Tokens so far."""
        return self.per_s * (time.monotonic() - self.began_s)

    def restart(self) -> None:
        """Begin to count anew."""
        self.began_s, self.started = time.monotonic(), self.started + 100.0

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Whatever this server does with a request."""
        self.seen.append(dict(request.headers))
        if self.hang:
            await asyncio.sleep(3600)
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        if request.path in GENERATE and self.completions is not None:
            return await self.completions.answer(request)
        if request.method == "PATCH":
            self.patched.append(await request.json())
            return web.Response(status=self.patch_status)
        if request.path != "/metrics":
            found = self.routes.get(request.path)
            return web.Response(body=found) if found else web.Response(status=404)
        self.scraped += 1
        if self.status != 200:
            return web.Response(status=self.status, headers=self.headers)
        if self.drip:
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while True:
                    await response.write(b"vllm:")
                    await asyncio.sleep(0.05)
            return response
        made = self.metrics or (lambda own: exposition(own.generated, started=own.started))
        return web.Response(body=made(self))


class Servers:
    """Serves several on ports of 127.0.0.1, on a thread of its own, until closed."""

    def __init__(
        self, *servers: FakeServer, socket: str = "", tls: ssl.SSLContext | None = None
    ) -> None:
        self.servers = servers
        self._socket = socket
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._runners: list[web.AppRunner] = []
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Servers:
        self._thread.start()
        self._do(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where they are."""
        if self._socket:
            return (Address("socket", "http://localhost", self._socket),)
        return tuple(Address(f"s{i}", server.url) for i, server in enumerate(self.servers))

    def kill(self, place: int) -> None:
        """One of them is there no more."""
        self._do(self._runners[place].cleanup())

    def _do(self, what: object) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PATIENCE_S)  # type: ignore[arg-type]

    async def _start(self) -> None:
        for server in self.servers:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", server.answer)
            runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
            await runner.setup()
            self._runners.append(runner)
            if self._socket:
                await web.UnixSite(runner, self._socket).start()
                continue
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=self._tls)
            await site.start()
            port = runner.addresses[0][1]
            server.url = f"http{'s' * bool(self._tls)}://127.0.0.1:{port}"

    async def _stop(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        # Those that hang.
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        # A connection that came meanwhile; each closes its socket in a later turn of the loop.
        for transport in list(self._loop._transports.values()):  # type: ignore[attr-defined]
            transport.abort()
        await asyncio.sleep(0)

"""The connection to a driven server: sends requests and receives tokens on a thread of its own.

An event loop talks to the server. The engine thread sends requests, closes connections and takes
the received tokens, under one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

from tputtui.attach.access import Access
from tputtui.attach.address import Address
from tputtui.attach.poller import LET_GO_S, connector_to, why_of
from tputtui.engine.protocol import Ended
from tputtui.engine.served.bodies import Sent
from tputtui.engine.served.routes import Routes, find_routes
from tputtui.engine.served.sse import Chunk, Refused, stream
from tputtui.engine.wire import OURS
from tputtui.errors import EngineError
from tputtui.load.request import REFUSED_WAIT_S
from tputtui.measure.samples import Outcome

__all__ = ["Link", "Tick"]

logger = logging.getLogger(__name__)
T = TypeVar("T")

_ANSWER_S = 10.0


@dataclass(slots=True)
class Tick:
    """The events since the previous tick. Times are s on the engine's clock.

    first: (request number, when) of first tokens. gaps: seconds between output events.
    tokens: output tokens. prompt_tokens: of the requests that got their first token.
    """

    first: list[tuple[int, float]] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    tokens: int = 0
    prompt_tokens: int = 0


@dataclass(slots=True)
class _InFlight:
    """One request in flight. Times are s on the engine's clock."""

    number: int
    prompt_tokens: int
    """As the server counts them, once it has told, where it makes the prompt."""
    sent: Sent
    task: asyncio.Task[None] | None = None
    """Sends it and reads its stream; None before it begins."""
    first_s: float = math.nan
    """When its first token came; NaN before."""
    last_s: float = math.nan
    """When its newest token came; NaN before the first."""
    tokens: int = 0
    """Output tokens so far."""
    cached: int = 0
    """Prompt tokens that were in the server's cache."""
    token_ids: list[int] = field(default_factory=list)
    """Output token ids; empty if the server gives none."""
    stop: str = ""
    """Why it ended, as the server says; empty before."""
    told: bool = False
    """Whether the server has told how many tokens the prompt has."""
    reasoned: bool = False
    """Whether it began with reasoning."""
    answer_s: float = math.nan
    """When the first token came that is no reasoning; NaN before."""
    ended: bool = False

    @property
    def streams(self) -> bool:
        return not self.ended and not math.isnan(self.first_s)

    def end(self, end_s: float, outcome: Outcome | None = None) -> Ended:
        answer_s = self.answer_s if self.reasoned else math.nan
        prompt_tokens = self.prompt_tokens if self.told else None
        ids = tuple(self.token_ids)
        return Ended(self.number, end_s, self.tokens, math.nan, self.first_s, self.cached, 0,
                     ids, outcome, self.stop, prompt_tokens, answer_s)  # fmt: skip


class Link:
    """Talks to `address`.

    clock: monotonic seconds. failure: why the server cannot be reached any more, else None.
    """

    def __init__(self, address: Address, access: Access, clock: Callable[[], float]) -> None:
        self._address = address
        self._access = access
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._session: aiohttp.ClientSession | None = None
        self._lock = threading.Lock()
        self._tick = Tick()
        self._in_flight: dict[int, _InFlight] = {}
        self._streaming = 0
        self._run = secrets.token_hex(4)
        self.failure: EngineError | None = None

    # -- the engine thread -----------------------------------------------------------------

    def open(self) -> None:
        """Start the thread and open the session."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="served", daemon=True)
        self._thread.start()
        self._session = self.wait_for(self._open())

    def close(self) -> None:
        """Close all connections and stop the thread."""
        loop, thread, self._loop = self._loop, self._thread, None
        if loop is None or thread is None:
            return
        with contextlib.suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._close(), loop).result(_ANSWER_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(2.0)
        if not thread.is_alive():
            loop.close()

    def routes(self, model: str) -> Routes:
        """What the server takes; its vocabulary is one past the highest id of a test text.

        Higher ids are never sent: a server without a tokenizer checks no ids, and an id that the
        model does not have kills it. Raises EngineError if no route can be used.
        """
        return self.wait_for(self._routes(model), 3 * _ANSWER_S)

    def ask(
        self,
        method: str,
        route: str,
        values: object = None,
        headers: Mapping[str, str] | None = None,
        most: int | None = 300,
    ) -> tuple[int, str]:
        """Status and text of another route's answer. Raises EngineError without an answer.

        values: sent as JSON; None for no body. most: characters of the text.
        """
        return self.wait_for(self.answer(method, route, values, headers, most))

    def spawn(self, what: Coroutine[Any, Any, None]) -> Future[None]:
        """Run `what` on the loop beside the requests, until it ends or is cancelled."""
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(what, self._loop)

    def send(self, number: int, prompt_tokens: int, sent: Sent) -> None:
        """Send one request; its tokens appear in later ticks."""
        made = _InFlight(number, prompt_tokens, sent)
        with self._lock:
            self._in_flight[number] = made
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._begin, made)

    def hang_up(self, numbers: Iterable[int]) -> list[Ended]:
        """End requests by closing their connections; a server that notices this aborts them."""
        with self._lock:
            requests = [self._in_flight.pop(n) for n in numbers if n in self._in_flight]
            gone = {request.number for request in requests}
            for request in requests:
                self._streaming -= request.streams
                request.ended = True
            self._tick.ended = [e for e in self._tick.ended if e.number not in gone]
            self._tick.first = [f for f in self._tick.first if f[0] not in gone]
        for request in requests:
            if request.task is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(request.task.cancel)
        now_s = self._clock()
        return [request.end(now_s) for request in requests]

    def take(self) -> tuple[Tick, int, int]:
        """The events since the last call, and how many requests stream and how many wait."""
        with self._lock:
            tick, self._tick = self._tick, Tick()
            for ended in tick.ended:
                self._in_flight.pop(ended.number, None)
            return tick, self._streaming, len(self._in_flight) - self._streaming

    def counts(self) -> tuple[int, int]:
        """How many requests stream; how many have no token yet, or have ended since `take`."""
        with self._lock:
            return self._streaming, len(self._in_flight) - self._streaming

    def wait_for(self, what: Coroutine[Any, Any, T], timeout_s: float = _ANSWER_S) -> T:
        """Run `what` on the loop and wait. Raises EngineError if the server does not answer."""
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return future.result(timeout_s)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            future.cancel()
            raise EngineError(
                f"{self._address.name} does not answer: {str(error) or 'too slow'}.",
                "`tputtui attach` shows whether it is up.",
            ) from None

    # -- the loop --------------------------------------------------------------------------

    async def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector_to(self._address, self._access.tls(), limit=0),
            headers=self._access.headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_ANSWER_S),
        )

    async def _close(self) -> None:
        tasks = [each.task for each in self._in_flight.values() if each.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        await asyncio.sleep(LET_GO_S)

    async def _routes(self, model: str) -> Routes:
        assert self._session is not None

        async def whole(method: str, route: str, values: object) -> tuple[int, str]:
            return await self.answer(method, route, values, most=None)

        url, name = self._address.url, self._address.name
        return await find_routes(self._session, url, name, model, whole)

    async def answer(
        self,
        method: str,
        route: str,
        values: object,
        headers: Mapping[str, str] | None = None,
        most: int | None = 300,
    ) -> tuple[int, str]:
        """As `ask`, on the loop. Raises aiohttp.ClientError."""
        assert self._session is not None
        url = f"{self._address.url}{route}"
        ask = self._session.request(
            method, url, json=values, headers=headers, allow_redirects=False
        )
        async with ask as answer:
            return answer.status, (await answer.text())[:most]

    async def lines(self, route: str, most: int) -> AsyncIterator[bytes]:
        """Lines of an answer that goes on, as they come. Raises aiohttp.ClientError, ValueError.

        most: bytes of a line.
        """
        assert self._session is not None
        url = f"{self._address.url}{route}"
        async with self._session.get(url, read_bufsize=most, allow_redirects=False) as answer:
            if answer.status != 200:
                raise ValueError(f"the server answered {answer.status}")
            async for line in answer.content:
                yield line

    def _begin(self, request: _InFlight) -> None:
        if not request.ended:
            request.task = asyncio.ensure_future(self._serve(request))

    async def _serve(self, request: _InFlight) -> None:
        assert self._session is not None
        url, body = f"{self._address.url}{request.sent.route}", request.sent.body
        outcome: Outcome | None = None
        for attempt in range(2):
            try:
                name = f"{OURS}{self._run}-{request.number}"
                async for chunk in stream(self._session, url, body, name):
                    self._took(request, chunk)
                break
            except aiohttp.ClientConnectorError as error:
                self.failure = _gone(self._address, error)
                return
            except (aiohttp.ClientError, EngineError, Refused, OSError) as error:
                stale = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
                if stale and not attempt and not request.tokens:
                    # The server closed an idle connection just as it was used again: retry.
                    continue
                logger.warning("request %d: %s", request.number, error)
                outcome = Outcome.REJECTED if isinstance(error, Refused) else Outcome.FAILED
                # A closed loop that is refused at once must not retry at full speed.
                await asyncio.sleep(REFUSED_WAIT_S)
                break
        self._left(request, outcome)

    def _took(self, request: _InFlight, chunk: Chunk) -> None:
        now_s = self._clock()
        with self._lock:
            if request.ended:
                return
            counted = chunk.tokens
            if counted is None:
                counted = request.tokens + (len(chunk.token_ids) or 1) * chunk.content
            request.cached = chunk.cached or request.cached
            request.token_ids += chunk.token_ids
            request.stop = chunk.stop or request.stop
            if request.sent.answer is not None and chunk.text:
                request.sent.answer.append(chunk.text)
            if request.sent.counted and chunk.prompt:
                if request.streams:
                    self._tick.prompt_tokens += chunk.prompt - request.prompt_tokens
                request.prompt_tokens, request.told = chunk.prompt, True
            if chunk.content:
                # Before the answer, not after it: some models reason between two tools.
                request.reasoned |= chunk.reasons and math.isnan(request.answer_s)
                if not chunk.reasons and math.isnan(request.answer_s):
                    request.answer_s = now_s
            new = counted - request.tokens
            # The final count also corrects tokens that the chunks did not report.
            if chunk.done or new > 0:
                request.tokens = counted
                self._tick.tokens += new
            if chunk.done or new <= 0:
                return
            if math.isnan(request.first_s):
                request.first_s = now_s
                self._streaming += 1
                self._tick.first.append((request.number, now_s))
                self._tick.prompt_tokens += request.prompt_tokens
            else:
                self._tick.gaps.append(now_s - request.last_s)
            request.last_s = now_s

    def _left(self, request: _InFlight, outcome: Outcome | None) -> None:
        with self._lock:
            if request.ended:
                return
            self._streaming -= request.streams
            request.ended = True
            if outcome is None and request.sent.open_ended and request.stop:
                outcome = Outcome.FINISHED
            last_s = request.last_s if not math.isnan(request.last_s) else self._clock()
            self._tick.ended.append(request.end(last_s, outcome))


def _gone(address: Address, error: aiohttp.ClientConnectorError) -> EngineError:
    return EngineError(
        f"{address.name} is gone: {why_of(error.os_error)}.",
        "`tputtui attach` shows whether it is up.",
    )

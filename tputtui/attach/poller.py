"""Scrapes servers, each on its own beat, on a thread of its own; whoever looks takes the news.

A server that hangs, drips, redirects or serves without end holds up nobody else: every scrape has
a deadline and a size, and each server keeps only its newest news.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp

from tputtui.attach.about import ROUTES, About, with_answer
from tputtui.attach.access import Access
from tputtui.attach.address import Address
from tputtui.attach.reading import SAME_START_S, Reading, Unreadable, read_metrics

__all__ = ["LET_GO_S", "News", "Poller", "connector_to", "why_of"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 32 << 20
_MOST_TOLD = 4 << 20
LET_GO_S = 0.05
"""Connections that aiohttp has closed let go of their sockets a little later, while a loop runs."""
_DEADLINE_S = 5.0
_CANCEL_AGAIN_S = 0.1
_LONGEST_WAIT_S = 10.0
_ASKED_AGAIN_S = 60.0
_KEPT = 32
_CHUNK = 1 << 16


class News(NamedTuple):
    """What a scrape brought: figures, or why there are none, or what the server says it is.

    server: its place among the addresses. at_s: when the figures were so, on the clock.
    """

    server: int
    at_s: float
    reading: Reading | None = None
    why: str = ""
    about: About | None = None


class Poller:
    """Scrapes `addresses` every `period_s` from `start()` to `stop()`.

    clock: monotonic seconds. A scrape is stamped with the middle of the time that the server took
    to begin its answer, since it is then that it reads its counters.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        access: Access,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = addresses
        self._access = access
        self._period_s = period_s
        self._clock = clock
        self._news: list[deque[News]] = [deque(maxlen=_KEPT) for _ in addresses]
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="attach", daemon=True)

    def start(self) -> None:
        """Begin to scrape."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """End; False when that took longer than `timeout_s`."""
        if self._loop is None or not self._thread.is_alive():
            return True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def news(self) -> list[News]:
        """What has come since this was last asked, server by server."""
        found = []
        for kept in self._news:
            with contextlib.suppress(IndexError):
                while True:
                    found.append(kept.popleft())
        return found

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        assert self._loop is not None
        try:
            self._loop.run_until_complete(self._scrape_all())
        except Exception:
            logger.exception("scraping has ended")
        finally:
            self._loop.close()

    async def _scrape_all(self) -> None:
        tls = self._access.tls()
        tasks = [
            asyncio.create_task(self._watch(number, tls)) for number in range(len(self._addresses))
        ]
        await self._stopping.wait()
        left = set(tasks)
        while left:
            # A time limit of aiohttp's that ends in this moment takes the cancellation for its own,
            # and the task goes on: so again, until it is over.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(LET_GO_S)

    async def _watch(self, number: int, tls: ssl.SSLContext) -> None:
        address = self._addresses[number]
        # Not all at once: a scrape that is parsed holds up the stamps of the others.
        await asyncio.sleep(self._period_s * number / len(self._addresses))
        async with aiohttp.ClientSession(
            connector=connector_to(address, tls, limit=2),
            headers=self._access.headers,
            timeout=aiohttp.ClientTimeout(total=_DEADLINE_S),
            auto_decompress=True,
        ) as session:
            await self._beat(number, address, session)

    async def _beat(self, number: int, address: Address, session: aiohttp.ClientSession) -> None:
        failures, started, asked_s = 0, math.nan, -math.inf
        due_s = self._clock()
        while True:
            try:
                at_s, body = await self._get(session, f"{address.url}/metrics", _MOST_BYTES)
                reading = read_metrics(body)
            except Exception as error:
                failures += 1
                self._tell(News(number, self._clock(), why=_in_words(error, self._access)))
            else:
                failures = 0
                self._tell(News(number, at_s, reading))
                another = abs(reading.started - started) > SAME_START_S
                if another or at_s - asked_s >= _ASKED_AGAIN_S:
                    asked_s, started = at_s, reading.started
                    self._tell(News(number, at_s, about=await self._ask(session, address)))
            # A scrape that took too long moves the beat; one that failed is tried ever less often.
            due_s = max(due_s + self._period_s, self._clock())
            late_s = min(
                self._period_s * 2 ** min(failures, 8), max(_LONGEST_WAIT_S, self._period_s)
            )
            await asyncio.sleep(late_s if failures else due_s - self._clock())

    async def _get(
        self, session: aiohttp.ClientSession, url: str, most: int
    ) -> tuple[float, bytes]:
        """When the answer was made, and the answer. Raises Unreadable, or what aiohttp raises."""
        sent_s = self._clock()
        async with session.get(url, allow_redirects=False) as answer:
            begun_s = self._clock()
            if answer.status != 200:
                raise Unreadable(_of_status(answer, self._access))
            parts, size = [], 0
            async for part in answer.content.iter_chunked(_CHUNK):
                size += len(part)
                if size > most:
                    raise Unreadable(f"it serves more than {most >> 20} MiB")
                parts.append(part)
        return (sent_s + begun_s) / 2, b"".join(parts)

    async def _ask(self, session: aiohttp.ClientSession, address: Address) -> About:
        about = About()
        for route in ROUTES:
            # Whatever is wrong with one of these, the figures are there.
            with contextlib.suppress(Unreadable, aiohttp.ClientError, OSError, TimeoutError):
                _, body = await self._get(session, f"{address.url}{route}", _MOST_TOLD)
                about = with_answer(about, route, body)
        return about

    def _tell(self, news: News) -> None:
        self._news[news.server].append(news)


def connector_to(
    address: Address, tls: ssl.SSLContext, limit: int
) -> aiohttp.TCPConnector | aiohttp.UnixConnector:
    """Connections to a server, `limit` at once; 0 for any number. In a loop that runs."""
    if address.socket:
        return aiohttp.UnixConnector(address.socket, limit=limit)
    return aiohttp.TCPConnector(ssl=tls, limit=limit)


def why_of(error: OSError) -> str:
    """In the system's words."""
    return (os.strerror(error.errno) if error.errno else str(error)).lower()


def _of_status(answer: aiohttp.ClientResponse, access: Access) -> str:
    status = answer.status
    if status in (401, 403):
        sent = "refuses the token" if access.token else "wants a token (--token-env, --token-file)"
        return f"it {sent}: {status}"
    if 300 <= status < 400:
        return f"it sends elsewhere ({status}): {answer.headers.get('Location', '')[:80]}"
    if status == 404:
        return "it has no /metrics (404)"
    return f"it answers {status} {answer.reason or ''}".strip()


def _in_words(error: Exception, access: Access) -> str:
    """Why there are no figures."""
    match error:
        case Unreadable():
            return str(error)
        case TimeoutError():
            return f"no answer within {_DEADLINE_S:g} s"
        case aiohttp.ClientConnectorCertificateError():
            return "its certificate is not trusted: --ca names those that are"
        case aiohttp.ClientConnectorSSLError():
            return "it does not speak TLS"
        case aiohttp.ClientConnectorDNSError():
            return "there is no host of that name"
        case aiohttp.ClientConnectorError():
            return f"cannot be reached: {why_of(error.os_error)}"
        case aiohttp.ClientPayloadError() | aiohttp.ServerDisconnectedError():
            return "the connection broke off"
        case aiohttp.ClientResponseError():
            return "its answer is not HTTP"
        case OSError():
            return f"cannot be reached: {why_of(error)}"
    logger.exception("a scrape failed", exc_info=error)
    return f"{type(error).__name__}: {error}"

"""Scrapes each server at its own pace, on a thread of its own; another thread takes the news.

A server that hangs, drips, redirects or serves without end holds up no other: every scrape has a
deadline and a maximal size, and only the newest news of each server are kept.
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
_MOST_ABOUT_BYTES = 4 << 20
LET_GO_S = 0.05
"""How long the loop must run, in s, until connections closed by aiohttp release their sockets."""
_DEADLINE_S = 5.0
_CANCEL_AGAIN_S = 0.1
_LONGEST_WAIT_S = 10.0
_ASKED_AGAIN_S = 60.0
_KEPT = 32
_CHUNK = 1 << 16


class News(NamedTuple):
    """What a scrape brought: figures, or why there are none, or what the server is.

    server: its index among the addresses. at_s: when the server read its figures, in s on the
    clock.
    """

    server: int
    at_s: float
    reading: Reading | None = None
    why: str = ""
    about: About | None = None


class Poller:
    """Scrapes `addresses` every `period_s` from `start()` to `stop()`.

    clock: monotonic seconds. The stamp of a scrape is the middle between the request and the
    beginning of its answer, since the server reads its counters in that time.
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
        """Start the thread that scrapes."""
        self._loop = asyncio.new_event_loop()
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Stop the thread; False if it still runs after `timeout_s`."""
        if self._loop is None or not self._thread.is_alive():
            return True
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def news(self) -> list[News]:
        """The news since the last call, server by server."""
        taken = []
        for kept in self._news:
            with contextlib.suppress(IndexError):
                while True:
                    taken.append(kept.popleft())
        return taken

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
            # If a timeout of aiohttp expires at this moment, it swallows the cancellation and the
            # task goes on. So cancel again until all tasks have ended.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=_CANCEL_AGAIN_S)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(LET_GO_S)

    async def _watch(self, number: int, tls: ssl.SSLContext) -> None:
        address = self._addresses[number]
        # Spread the servers over a period: parsing one scrape would delay the stamps of others.
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
            # A scrape that took too long delays the following ones; after failures they get rarer.
            due_s = max(due_s + self._period_s, self._clock())
            late_s = min(
                self._period_s * 2 ** min(failures, 8), max(_LONGEST_WAIT_S, self._period_s)
            )
            await asyncio.sleep(late_s if failures else due_s - self._clock())

    async def _get(
        self, session: aiohttp.ClientSession, url: str, most: int
    ) -> tuple[float, bytes]:
        """The time of the answer in s, and its body. Raises Unreadable, and what aiohttp raises."""
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
            # The figures do not depend on these routes, so an error in one of them is ignored.
            with contextlib.suppress(Unreadable, aiohttp.ClientError, OSError, TimeoutError):
                _, body = await self._get(session, f"{address.url}{route}", _MOST_ABOUT_BYTES)
                about = with_answer(about, route, body)
        return about

    def _tell(self, news: News) -> None:
        self._news[news.server].append(news)


def connector_to(
    address: Address, tls: ssl.SSLContext, limit: int
) -> aiohttp.TCPConnector | aiohttp.UnixConnector:
    """At most `limit` connections to a server; 0 for no maximum. Needs a running event loop."""
    if address.socket:
        return aiohttp.UnixConnector(address.socket, limit=limit)
    return aiohttp.TCPConnector(ssl=tls, limit=limit)


def why_of(error: OSError) -> str:
    """The system's text for an error, in lower case."""
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
    """A sentence for why a scrape brought no figures."""
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

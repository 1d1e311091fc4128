"""Steps of every engine for all who watch at one front. On the front's event loop.

    engines ◀── one question each, ten times a second ── poll ──▶ ring ──▶ a stream for each watcher

However many watch, an engine answers once. A watcher that reads too slowly loses the oldest steps,
and is told how many.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

import msgspec

from tputtui.engine.wire import Problem, StepBatch
from tputtui.plugin.ring import Ring

__all__ = ["StepFeed"]

_EVERY_S = 0.1
_KEPT = 600
"""Batches kept for slow readers: a minute of one engine's."""


class StepFeed:
    """Asks for steps while somebody watches.

    ask: the steps of each engine after the numbers given, by the engine's place; raises where one
    does not answer. wait: between two questions.
    """

    def __init__(
        self,
        ask: Callable[[Mapping[int, int]], Awaitable[list[StepBatch]]],
        wait: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(_EVERY_S),
    ) -> None:
        self._ask = ask
        self._wait = wait
        self._told: Ring[tuple[StepBatch, bytes]] = Ring(_KEPT)
        self._news = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None
        self._problem: Problem | None = None
        self._watchers = 0

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Steps from now on, a JSON document a line, until the reader is gone or an engine is."""
        self._watchers += 1
        if self._polling is None or self._polling.done():
            self._problem = None
            self._polling = asyncio.get_running_loop().create_task(self._poll())
        seen: dict[int, int] = {}
        at = self._told.count
        try:
            while True:
                news = self._news
                batches, _ = self._told.since(at)
                at = self._told.count
                for batch, line in batches:
                    yield _own(batch, line, seen)
                if self._problem is not None:
                    yield msgspec.json.encode(self._problem) + b"\n"
                    return
                if at == self._told.count:
                    await news.wait()
        finally:
            self._watchers -= 1
            if not self._watchers and self._polling is not None:
                self._polling.cancel()
                self._polling = None

    async def _poll(self) -> None:
        since: dict[int, int] = {}
        while self._problem is None:
            try:
                for batch in await self._ask(since):
                    since[batch.engine] = batch.next
                    self._told.append((batch, msgspec.json.encode(batch) + b"\n"))
            except Exception as error:
                self._problem = Problem(f"The engine no longer tells its steps: {error}.")
            news, self._news = self._news, asyncio.Event()
            news.set()
            if self._problem is None:
                await self._wait()


def _own(batch: StepBatch, line: bytes, seen: dict[int, int]) -> bytes:
    """`line`, or what of `batch` is new to a reader who has `seen` so many steps of each engine."""
    first = batch.next - len(batch.rows)
    before, seen[batch.engine] = seen.get(batch.engine), batch.next
    if before is None:  # Steps of before it came are none of its own.
        return msgspec.json.encode(msgspec.structs.replace(batch, rows=[], lost=0)) + b"\n"
    if first - before == batch.lost:
        return line
    lost = max(0, first - before)
    return msgspec.json.encode(msgspec.structs.replace(batch, lost=lost)) + b"\n"

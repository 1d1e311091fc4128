"""Our plugin inside a server that is driven: its limits, its steps, and the lease on them.

Asks and holds over the link's connection; what comes in waits until the engine thread takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import logging
import math
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

import aiohttp
import msgspec

from tputtui.engine.served.link import Link
from tputtui.engine.wire import (
    CONTROL,
    LEASE,
    PATH,
    RENEW_S,
    VERSION,
    Acted,
    LimitChange,
    Offer,
    Problem,
    Requests,
    StepBatch,
    Take,
)
from tputtui.errors import KnobError, TputError, UsageError
from tputtui.knobs import Knobs
from tputtui.measure.samples import STEP

__all__ = ["Inside", "person"]

logger = logging.getLogger(__name__)

_MOST_BYTES = 1 << 20
_AGAIN_S = 1.0
_ANYWAY = "?anyway=1"
_FIRST_NEWS_S = 5.0
_GATHERED_EVERY_S = 0.5
_ANSWER_S = 10.0
_KEPT_REQUESTS = 50_000
_KEPT_BATCHES = 600
"""A minute of one engine's, where nobody takes them."""


class Inside:
    """What the plugin of the server behind `link` offers.

    token: shown to take control; empty to watch only. clock: monotonic seconds, the host's.
    keep: leave limits as they are when control ends. about: what the server is; None without a
    plugin of our version. heard_s: when steps were last told of, be there none.
    """

    def __init__(
        self, link: Link, token: str, clock: Callable[[], float], *, keep: bool = False
    ) -> None:
        self._link = link
        self._token = token
        self._keep_limits = keep
        self._clock = clock
        self._lease = ""
        self._lock = threading.Lock()
        self._arrived: deque[StepBatch] = deque(maxlen=_KEPT_BATCHES)
        self._ended: deque[list[float | int | str | None]] = deque(maxlen=_KEPT_REQUESTS)
        self._newest: dict[int, StepBatch] = {}
        self._offsets: dict[int, float] = {}
        self._tasks: list[Future[None]] = []
        self.about: Offer | None = None
        self.lost_control = ""
        self.heard_s = clock()

    # -- the engine thread -------------------------------------------------------------------

    def use(self, link: Link) -> None:
        """Ask over another connection; before anything is found."""
        self._link = link

    def find(self) -> Offer | None:
        """Ask whether there is a plugin, and for what it says."""
        status, text = self._link.ask("GET", PATH, most=_MOST_BYTES)
        if status != 200:
            return None
        try:
            about = msgspec.json.decode(text, type=Offer)
        except msgspec.MsgspecError:
            return None
        named = all(each.limits.keys() == set(Knobs.__annotations__) for each in about.engines)
        if about.version == VERSION and about.engines and named:
            self.about = about
        return self.about

    def take_control(self) -> str:
        """Take the lease and keep it; why that cannot be, in a sentence, else empty."""
        assert self.about is not None
        if not self.about.control.offered:
            return self.about.control.why
        if not self._token:
            return "No control token was given (--control-token-file): it can only be watched."
        try:
            self._lease = self._acted("POST", "control", Take(person(), self._keep_limits)).lease
        except TputError as error:
            return error.message
        self._tasks.append(self._link.spawn(self._keep()))
        return ""

    def watch(self) -> None:
        """Have the steps sent."""
        self.heard_s = self._clock()
        self._tasks.append(self._link.spawn(self._listen()))

    def wait_for_news(self, engines: int) -> None:
        """Wait until each of so many engines has told of its steps, or has not in a while."""
        end_s = self._clock() + _FIRST_NEWS_S
        while len(self._newest) < engines and self._clock() < end_s:
            time.sleep(0.01)

    def gather(self) -> None:
        """Have the requests sent that end from now on, of everybody."""
        self._tasks.append(self._link.spawn(self._gather()))

    def change(self, limits: Mapping[str, int], *, anyway: bool = False) -> None:
        """Put limits in force on every engine. Raises KnobError where the server refuses them."""
        try:
            self._acted("PATCH", f"limits{_ANYWAY * anyway}", LimitChange(dict(limits)))
        except TputError as error:  # also of a server that answers too slowly
            raise KnobError(error.message, error.hint) from None

    def act(self, what: str, *, anyway: bool = False) -> int:
        """preempt, reset_prefix_cache, pause or resume; how many were preempted. Raises TputError.

        anyway: here and in `change`, also where it costs requests of others something.
        """
        return self._acted("POST", f"{what}{_ANYWAY * anyway}").preempted

    def release(self) -> None:
        """Give control back: the limits go back to what they were before it was taken."""
        lease, self._lease = self._lease, ""
        while self._tasks:
            self._tasks.pop().cancel()
        if lease:
            with contextlib.suppress(TputError):
                self._ask("DELETE", "control", lease=lease)

    def arrived(self) -> list[StepBatch]:
        """What has come since this was last asked."""
        with self._lock:
            arrived = list(self._arrived)
            self._arrived.clear()
        return arrived

    def ended(self) -> list[list[float | int | str | None]]:
        """Requests that have ended since this was last asked: rows of `wire.Requests`."""
        with self._lock:
            ended = list(self._ended)
            self._ended.clear()
        return ended

    @property
    def others(self) -> int:
        """Requests of other people that were under way when the engines last told."""
        return sum(each.others for each in self._newest.values())

    @property
    def oldest_s(self) -> float:
        """When the oldest request under way arrived, on our clock; NaN with none."""
        told = self._newest.items()
        ages = [self.here_s(at, each.oldest_s) for at, each in told if each.oldest_s is not None]
        return min(ages, default=math.nan)

    def newest(self, engine: int) -> StepBatch | None:
        """What an engine told last, with its counts of now; None before the first."""
        return self._newest.get(engine)

    def here_s(self, engine: int, at_s: float) -> float:
        """A time of the engine's clock on ours, to within the quickest journey seen so far."""
        return at_s + self._offsets.get(engine, math.nan)

    # -- inside ------------------------------------------------------------------------------

    def _acted(self, method: str, route: str, body: object = None) -> Acted:
        status, text = self._ask(method, route, body)
        if status == 200:
            return msgspec.json.decode(text, type=Acted)
        raise UsageError(*_problem(text, status))

    def _ask(
        self, method: str, route: str, body: object = None, lease: str = ""
    ) -> tuple[int, str]:
        values = msgspec.to_builtins(body) if body is not None else None
        headers = self._headers(lease)
        return self._link.ask(method, f"{PATH}/{route}", values, headers, _MOST_BYTES)

    def _headers(self, lease: str = "") -> dict[str, str]:
        return {CONTROL: self._token, LEASE: lease or self._lease}

    async def _keep(self) -> None:
        while self._lease:
            await asyncio.sleep(RENEW_S)
            with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
                async with asyncio.timeout(2 * RENEW_S):  # a link that was dropped says nothing
                    status, text = await self._link.answer(
                        "PUT", f"{PATH}/control", None, self._headers(), _MOST_BYTES
                    )
                if status in (403, 409) and self._lease:
                    self.lost_control, self._lease = _problem(text, status)[0], ""

    async def _listen(self) -> None:
        """Take in the stream of steps, again where it breaks."""
        while True:
            try:
                async for line in self._link.lines(f"{PATH}/steps", _MOST_BYTES):
                    self._came(line)
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
                logger.warning("steps: %s", error)
            await asyncio.sleep(_AGAIN_S)

    async def _gather(self) -> None:
        """Ask for requests that have ended, again and again."""
        since = -1
        while True:
            with contextlib.suppress(
                aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError
            ):
                async with asyncio.timeout(_ANSWER_S):
                    status, text = await self._link.answer(
                        "GET", f"{PATH}/requests?since={since}", None, None, None
                    )
                if status == 200:
                    told = msgspec.json.decode(text, type=Requests)
                    since = told.next
                    with self._lock:
                        self._ended.extend(told.rows)
            await asyncio.sleep(_GATHERED_EVERY_S)

    def _came(self, line: bytes) -> None:
        now_s = self._clock()
        try:
            steps = msgspec.json.decode(line, type=StepBatch)
        except msgspec.MsgspecError:
            logger.warning("steps: %r", line[:200])
            return
        if any(len(row) != len(STEP) for row in steps.rows):
            logger.warning("steps of another plugin: %r", line[:200])
            return
        self.heard_s = now_s
        offset_s = now_s - steps.now_s
        # The quickest journey tells best how far the clocks are apart.
        self._offsets[steps.engine] = min(self._offsets.get(steps.engine, math.inf), offset_s)
        with self._lock:
            if steps.rows or steps.lost:
                self._arrived.append(steps)
            self._newest[steps.engine] = steps


def person() -> str:
    """Who is here, as `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):
        user = "somebody"
    return f"{user}@{socket.gethostname()}"


def _problem(text: str, status: int) -> tuple[str, str]:
    try:
        problem: Any = msgspec.json.decode(text, type=Problem)
    except msgspec.MsgspecError:
        return f"The server refuses: {status} {text[:200]}.", ""
    return problem.message, problem.hint

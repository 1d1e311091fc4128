"""Keys and pasted text that come faster than screens open, as over a slow line. Main thread.

Textual hands a key to whatever has the focus when it is read. Of `:load 8` that came at once the
line that `:` opens would get nothing, since it is not there yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump

__all__ = ["Followed", "TypedAhead"]

Typed = events.Key | events.Paste

_ROUNDS = 2
"""The first follower is behind the key, the second behind what the key made its widget say, as that
a line was submitted."""

_LOST_S = 0.1


class Followed(Message, namespace="typed_ahead"):
    """Goes the way of a key, from the widget with the focus up to the application.

    nth: which round it ends.
    """

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.nth = nth


class TypedAhead:
    """Hands keys on one by one: each once all is done that the one before it began.

    pass_on: does with a key what Textual does.
    """

    def __init__(self, app: App[None], pass_on: Callable[[Typed], Awaitable[None]]) -> None:
        self._app = app
        self._pass_on = pass_on
        self._keys: deque[Typed] = deque()
        self._busy = False
        self._nth = 0
        self._last = 0
        self._followed: MessagePump | None = None
        self._lost: asyncio.TimerHandle | None = None

    async def typed(self, key: Typed) -> None:
        """Hand the key on, now or in its turn."""
        self._keys.append(key)
        if not self._busy:
            await self._next()

    async def followed(self, follower: Followed) -> None:
        """A follower has come up to the application: what was before it is done."""
        if not self._busy or follower.nth != self._nth:
            return
        if self._nth < self._last or self._followed is not self._focused():
            self._nth += 1
            self._follow()
            return
        self._busy = False
        if self._lost is not None:
            self._lost.cancel()
        if self._keys:
            await self._next()

    async def _next(self) -> None:
        self._busy = True
        self._nth += 1
        self._last = self._nth + _ROUNDS - 1
        await self._pass_on(self._keys.popleft())
        self._follow()

    def _follow(self) -> None:
        if self._lost is not None:
            self._lost.cancel()
        self._followed = self._focused()
        if self._followed is None:
            # No screen is left, or none is there yet.
            self._busy = False
            return
        self._followed.post_message(Followed(self._nth))
        # A widget that goes takes its messages with it.
        self._lost = asyncio.get_running_loop().call_later(_LOST_S, self._follow)

    def _focused(self) -> MessagePump | None:
        stack = self._app.screen_stack
        return (stack[-1].focused or stack[-1]) if stack else None

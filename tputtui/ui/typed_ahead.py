"""Keys, pasted text and clicks that come faster than screens open, as over a slow line.

Main thread. Textual hands a key to whatever has the focus when it is read. Of `:load 8` that came
at once the line that `:` opens would get nothing, since it is not there yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from textual import events
from textual.app import App
from textual.message import Message
from textual.message_pump import MessagePump
from textual.widgets import Input

__all__ = ["Followed", "Typed", "TypedAhead"]

Typed = events.Key | events.Paste | events.MouseEvent
_ROUNDS = 2
"""The first follower is behind the key, the second behind what the key made its widget say, as that
a line was submitted."""

_LOST_S, _TRIES = 0.1, 30
_NAMES = {"enter": "⏎", "escape": "⎋", "tab": "⇥"}


class Followed(Message, namespace="typed_ahead"):
    """Goes the way of a key, from the widget with the focus up to the application.

    nth: which round it ends.
    """

    def __init__(self, nth: int) -> None:
        super().__init__()
        self.nth = nth


class TypedAhead:
    """Hands keys on one by one: each once what the one before it began in its widget is done.

    pass_on: does with a key what Textual does.
    """

    def __init__(self, app: App[None], pass_on: Callable[[Typed], Awaitable[None]]) -> None:
        self._app = app
        self._pass_on = pass_on
        self._keys: deque[Typed] = deque()
        self._busy = False
        self._nth = 0
        self._last = 0
        self._tries = 0
        self._letters_to: MessagePump | None = None
        """The line that the last letter went to, while nothing else was typed since."""
        self._followed: MessagePump | None = None
        self._lost: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> bool:
        """Whether something waits: then whatever comes next has to wait behind it."""
        return self._busy

    async def typed(self, key: Typed) -> None:
        """Hand the key on, now or in its turn."""
        self._keys.append(key)
        if not self._busy:
            await self._next()
        elif len(self._keys) == 1 and self._is_letter(key) and self._letters_to is self._focused():
            # A line takes letters in their order by itself.
            await self._next()

    async def followed(self, follower: Followed) -> None:
        """A follower has come up to the application: what was before it is done."""
        if not self._busy or follower.nth != self._nth:
            return
        if self._nth < self._last or self._followed is not self._focused():
            self._nth += 1
            self._follow()
            return
        await self._go_on()

    def forget(self) -> str:
        """Leave out what waits, as a person would read it; empty if nothing does."""
        left_out = "".join(map(_read, self._keys))
        self._keys.clear()
        return left_out

    async def _go_on(self) -> None:
        self._busy = False
        if self._lost is not None:
            self._lost.cancel()
        if self._keys:
            await self._next()

    async def _next(self) -> None:
        self._busy = True
        self._nth += 1
        self._last = self._nth + _ROUNDS - 1
        self._tries = 0
        key = self._keys.popleft()
        self._letters_to = self._focused() if self._is_letter(key) else None
        await self._pass_on(key)
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
        self._lost = asyncio.get_running_loop().call_later(_LOST_S, self._follow_again)

    def _follow_again(self) -> None:
        self._tries += 1
        if self._tries < _TRIES:
            self._follow()
        else:
            self._app.call_later(self._go_on)

    def _is_letter(self, key: Typed) -> bool:
        return (
            isinstance(key, events.Key) and key.is_printable and isinstance(self._focused(), Input)
        )

    def _focused(self) -> MessagePump | None:
        stack = self._app.screen_stack
        return (stack[-1].focused or stack[-1]) if stack else None


def _read(key: Typed) -> str:
    if isinstance(key, events.Paste):
        return key.text
    if not isinstance(key, events.Key):
        return ""
    return (key.character if key.is_printable else _NAMES.get(key.key)) or f"<{key.key}>"

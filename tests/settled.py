"""A pilot that waits for the app, not for the processor (installed by tests/conftest.py).

Textual's pilot takes an app for settled once its process has used less than a millisecond of
processor time in twenty. A process that a busy machine did not let run has used none either: a
test then looks at a screen that is not laid out yet. Here the app itself is asked.
"""

from __future__ import annotations

import asyncio
from typing import Any

import textual.app
import textual.pilot
from textual._context import active_app
from textual.app import App
from textual.screen import Screen

from tests import PATIENCE_S

_PASSES = 3
"""Turns of the event loop in a row in which nothing waits: a message may post another one."""


def install() -> None:
    """Let every pilot wait so."""
    for module in (textual.app, textual.pilot):
        module.wait_for_idle = _settled  # type: ignore[attr-defined]


async def _settled(*_: float) -> None:
    app = active_app.get()
    async with asyncio.timeout(PATIENCE_S):
        quiet = 0
        while quiet < _PASSES:
            await asyncio.sleep(0.001)
            if _undrawn(app.screen):
                app.screen._on_timer_update()  # what its timer does sixty times a second
                quiet = 0
            else:
                quiet = 0 if _waiting(app) else quiet + 1


def _undrawn(screen: Screen[Any]) -> bool:
    """Whether a layout or a repaint waits."""
    return bool(
        screen._layout_required
        or screen._scroll_required
        or screen._repaint_required
        or screen._dirty_widgets
        or screen._callbacks
    )


def _waiting(app: App[Any]) -> bool:
    """Whether a size or a message waits."""
    if app._resize_event is not None or app._resize_timer is not None:
        return True
    nodes = (node for screen in app.screen_stack for node in screen.walk_children(with_self=True))
    return any(
        node.is_running and (node._next_callbacks or not node._message_queue.empty())
        for node in (app, *nodes)
    )

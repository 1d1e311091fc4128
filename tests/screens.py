"""Which screen an app shows."""

from __future__ import annotations

from typing import Any, TypeVar

from textual.app import App
from textual.screen import Screen

Shown = TypeVar("Shown", bound=Screen[Any])


def on_screen(app: App[Any], kind: type[Shown]) -> Shown:
    """The screen that `app` shows, which is of that kind."""
    screen = app.screen
    assert isinstance(screen, kind), screen
    return screen

"""A line of text to type, on every screen that asks for one."""

from __future__ import annotations

from textual.app import App
from textual.events import Key
from textual.widgets import Input

__all__ = ["Line", "filter_line"]


class Line(Input):
    """An input that takes keys in the order in which they were typed.

    Textual lets a letter stand at once, and carries out a bound key (Enter, Backspace, Tab) when it
    has come up to the app: on a busy machine letters typed behind it are there before.
    """

    async def _on_key(self, event: Key) -> None:
        if event.is_printable:
            return
        for node in self.ancestors_with_self:
            if isinstance(node, App):
                return
            for binding in node._bindings.key_to_bindings.get(event.key, ()):
                if await self.app.run_action(binding.action, node):
                    event.stop()
                    event.prevent_default()
                    return


def filter_line() -> Line:
    """The line that `/` opens: words that what is listed has to have."""
    return Line(id="filter", placeholder="words to filter by", compact=True)

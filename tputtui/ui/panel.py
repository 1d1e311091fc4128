"""A canvas that tells which of its cells is clicked or pointed at. Main thread."""

from __future__ import annotations

from textual import events
from textual.message import Message

from tputtui.ui.canvas import Canvas

__all__ = ["Panel"]


class Panel(Canvas):
    """A canvas that posts which of its cells was clicked, and which column is pointed at."""

    class Clicked(Message):
        """A cell of a panel was clicked; `twice` when it was clicked already."""

        def __init__(self, panel: Panel, x: int, y: int, twice: bool) -> None:
            super().__init__()
            self.panel = panel
            self.x = x
            self.y = y
            self.twice = twice

    class Pointed(Message):
        """The pointer is over column `x` of a panel's charts; None: over none of them."""

        def __init__(self, panel: Panel, x: int | None) -> None:
            super().__init__()
            self.panel = panel
            self.x = x

        def can_replace(self, message: Message) -> bool:
            """Of many moves in a row only the last one counts."""
            return isinstance(message, Panel.Pointed) and message.panel is self.panel

    _pointed_x: int | None = None

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """Post the column, if it is another one."""
        offset = event.get_content_offset(self)
        self._point(offset.x if offset is not None and self._charted(offset.y) else None)

    def on_leave(self) -> None:
        """Post that the pointer has gone."""
        self._point(None)

    def _point(self, x: int | None) -> None:
        if x != self._pointed_x:
            self._pointed_x = x
            self.post_message(self.Pointed(self, x))

    def _charted(self, y: int) -> bool:
        """Whether row `y` is on the charts or below; their first row is a caption."""
        rows = self._rows[: y + 2]
        charted = ("chart", "wave", "fill", "limit")
        return any(style in charted for row in rows for _, style in row)

    def on_click(self, event: events.Click) -> None:
        """Post the cell."""
        offset = event.get_content_offset(self)
        if offset is not None:
            self.post_message(self.Clicked(self, offset.x, offset.y, event.chain > 1))

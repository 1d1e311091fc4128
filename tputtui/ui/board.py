"""The board: every panel, painted from one frame at a time. Main thread.

Four times a second a frame is taken. What the person steers (limits, state) is painted at once;
figures and charts once a second, since a number that flickers cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.message import Message
from textual.screen import Screen
from textual.widgets import Footer

from tputtui.engine.protocol import State
from tputtui.format import clock
from tputtui.frame import Frame
from tputtui.knobs import KNOBS
from tputtui.session import Session
from tputtui.ui.canvas import Canvas
from tputtui.ui.lean import LeanCompositor
from tputtui.ui.log_tail import LogTail
from tputtui.ui.panels.batch import batch
from tputtui.ui.panels.boot import boot, trouble
from tputtui.ui.panels.header import header
from tputtui.ui.panels.latency import latency, window_caption
from tputtui.ui.panels.limits import limits, limits_caption, row_of
from tputtui.ui.panels.machine import machine
from tputtui.ui.panels.marks import marks
from tputtui.ui.panels.throughput import throughput
from tputtui.ui.rows import Row

__all__ = ["Board"]


class Panel(Canvas):
    """A canvas that tells which of its rows was clicked."""

    class Clicked(Message):
        """A row of a panel was clicked; `twice` when it was clicked already."""

        def __init__(self, panel: Panel, y: int, twice: bool) -> None:
            super().__init__()
            self.panel = panel
            self.y = y
            self.twice = twice

    def on_click(self, event: events.Click) -> None:
        """Pass the row on."""
        offset = event.get_content_offset(self)
        if offset is not None:
            self.post_message(self.Clicked(self, offset.y, event.chain > 1))


class Board(Screen[None]):
    """Header, panels, footer."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (36, "-tall")]  # noqa: RUF012
    AUTO_FOCUS = ""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "select(-1)", "pick", key_display="↑↓", id="limit.previous",
                tooltip="Choose a limit; or click it, twice to type its value"),
        Binding("down", "select(1)", "limit", show=False, id="limit.next"),
        Binding("left", "app.step(-1)", "turn", key_display="←→", id="limit.less",
                tooltip="Turn the limit by one small step"),
        Binding("right", "app.step(1)", "turn", show=False, id="limit.more"),
        Binding("left_square_bracket,shift+left", "app.leap(-1)", "÷× 2", key_display="[ ]",
                id="limit.halve", tooltip="Halve or double the limit"),
        Binding("right_square_bracket,shift+right", "app.leap(1)", "double", show=False,
                id="limit.double"),
        Binding("enter", "app.type", "type", key_display="⏎", id="limit.type",
                tooltip="Type the exact value of the limit"),
        Binding("u", "app.undo", "undo", id="undo",
                tooltip="Undo the last turn of a limit or of the load"),
        Binding("space", "app.toggle_load", "hold", key_display="␣", id="load.toggle",
                tooltip="Hold the load, or let it run again"),
        Binding("minus", "app.scale_load(-1)", "less load", show=False, key_display="- +",
                id="load.less", tooltip="A fifth less, or a quarter more load"),
        Binding("plus,equals_sign", "app.scale_load(1)", "more load", show=False, id="load.more"),
        Binding("l", "app.edit_load", "load", id="load.edit",
                tooltip="Edit the load: arrivals, lengths, prefixes, conversations, trace"),
        Binding("o", "app.edit_goals", "goals", show=False, id="goals",
                tooltip="Objectives: what requests should be served within"),
        Binding("f", "app.show_frontier", "plot", id="frontier",
                tooltip="Throughput against latency, a point a setting; a sweep fills it in"),
        Binding("x", "app.stop_load", "stop the load", show=False, id="load.stop",
                tooltip="Stop the load: abort what is in flight, back to request 0"),
        Binding("s", "app.save", "save", id="save",
                tooltip="Save limits, load and figures as a profile"),
        Binding("g", "app.show_log", "log", show=False, id="log",
                tooltip="The engine's log, whole"),
        Binding("b", "app.boot_again", "boot again", show=False, id="boot",
                tooltip="Boot again, after a failure"),
        *(Binding(str(n), f"zoom({n - 1})", "one panel", show=False, id=f"zoom.{n}",
                  key_display="1 … 6", tooltip="" if n > 1 else
                  "One panel over the whole screen; again or Esc brings the board back")
          for n in range(1, 7)),
        Binding("ctrl+p", "app.command_palette", "commands", show=False, key_display="Ctrl+P",
                id="palette", tooltip="Everything else: themes, panels, commands"),
        Binding("question_mark", "app.show_help", "help", key_display="?", id="help",
                tooltip="This page"),
        Binding("q", "app.leave", "quit", id="quit",
                tooltip="Stop load and engine, leave; so does Ctrl+C, and twice: at once"),
    ]  # fmt: skip
    PANELS = ("throughput", "batch", "latency", "machine", "limits", "marks")

    class Typed(Message):
        """The exact value of a limit is to be typed."""

    def __init__(self, session: Session, tail: LogTail) -> None:
        super().__init__()
        self._compositor = LeanCompositor()
        self.session = session
        self.tail = tail
        self.selected = KNOBS[0].name
        self._second = -1
        # Held, not looked up: a tick may come while Textual is taking the screen down.
        self._grid = Container(id="board")
        self._canvases: dict[str, Canvas] = {
            "header": Canvas(id="header"),
            "clock": Canvas(id="clock"),
            "boot": Panel(id="boot"),
            "trouble": Panel(" engine failed ", id="trouble"),
        }
        for number, name in enumerate(self.PANELS, 1):
            self._canvases[name] = Panel(f" {number} {name} ", id=name)

    def compose(self) -> ComposeResult:
        """Every panel, empty."""
        with Horizontal(id="top"):
            yield self._canvases["header"]
            yield self._canvases["clock"]
        yield self._canvases["boot"]
        with self._grid:
            yield from (self._canvases[name] for name in self.PANELS)
        yield self._canvases["trouble"]
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Nothing but the boot is to be seen at first."""
        self._grid.display = False
        self._canvases["trouble"].display = False

    def on_resize(self) -> None:
        """Paint anew once the panels have their sizes."""
        self.call_after_refresh(self.redraw)

    def tick(self) -> None:
        """Take a frame and paint what has changed."""
        frame = self.session.frame()
        self.tail.read()
        second = self.session.history.total
        self.show(frame, everything=second != self._second)
        self._second = second

    def redraw(self) -> None:
        """Paint everything as it stands."""
        self.show(self.session.frame(), everything=True)

    def show(self, frame: Frame, *, everything: bool) -> None:
        """Paint `frame`: the steering always, the figures when `everything`."""
        self._arrange(frame)
        history = self.session.history
        painters: dict[str, Callable[[int, int], list[Row]]] = {
            "header": lambda w, h: [header(frame, w)],
            "clock": lambda w, h: [[(f"{clock(frame.elapsed_s):>{w}}", "label")]],
        }
        if self._canvases["boot"].display:
            painters["boot"] = lambda w, h: boot(frame, list(self.tail.lines), w, h)
        else:
            painters["limits"] = lambda w, h: limits(frame, self.selected, w, h)
            if everything:
                painters |= {
                    "throughput": lambda w, h: throughput(frame, history, w, h),
                    "batch": lambda w, h: batch(frame, history, w, h),
                    "latency": lambda w, h: latency(frame, w, h),
                    "machine": lambda w, h: machine(frame, w, h),
                    "marks": lambda w, h: marks(frame, w, h),
                    "trouble": lambda w, h: trouble(frame, w),
                }
                self._entitle("latency", window_caption(frame))
                width = self._canvases["limits"].size.width
                self._entitle("limits", limits_caption(frame, width - 14))
        for name, draw in painters.items():
            canvas = self._canvases[name]
            if canvas.display and canvas.size.area:
                canvas.paint(draw(*canvas.size))

    def _entitle(self, name: str, caption: str) -> None:
        """A panel's title, if it has changed: it repaints the whole rule."""
        number = self.PANELS.index(name) + 1
        title = f" {number} {name} · {caption} " if caption else f" {number} {name} "
        if self._canvases[name].border_title != title:
            self._canvases[name].border_title = title

    def _arrange(self, frame: Frame) -> None:
        """Boot view until the engine is up; then the board, with a strip if it fails."""
        state = frame.status.state
        # A boot that fails leaves no facts; an engine that dies later leaves its own.
        strip = state is State.FAILED and frame.status.facts is not None
        board = strip or frame.serving
        trouble = self._canvases["trouble"]
        if (self._grid.display, trouble.display) != (board, strip):
            self._canvases["boot"].display = not board
            self._grid.display = board
            trouble.display = strip
            self.set_class(strip, "-failed")
            self.call_after_refresh(self.redraw)

    # -- what the person does --------------------------------------------------------------

    def action_select(self, direction: int) -> None:
        """Choose another limit."""
        names = [knob.name for knob in KNOBS]
        self.selected = names[(names.index(self.selected) + direction) % len(names)]
        self.redraw()

    @on(Panel.Clicked)
    def _row_clicked(self, event: Panel.Clicked) -> None:
        name = row_of(event.y) if event.panel.id == "limits" else None
        if name is None:
            return
        self.selected = name
        self.redraw()
        if event.twice:
            self.post_message(self.Typed())

    def action_zoom(self, number: int) -> None:
        """One panel over the whole screen, or back."""
        panel = self._canvases[self.PANELS[number]]
        if self.maximized is panel:
            self.minimize()
        elif self._grid.display:
            self.maximize(panel, container=False)
        self.call_after_refresh(self.redraw)

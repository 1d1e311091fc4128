"""The board: every panel, painted from one frame at a time. Main thread.

Four times a second a frame is taken. What the person steers (limits, state) is painted at once;
figures and charts once a second, since a number that flickers cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.content import Content
from textual.message import Message
from textual.screen import Screen

from tputtui.engine.protocol import State
from tputtui.errors import TputError
from tputtui.frame import Frame
from tputtui.text.format import clock
from tputtui.ui.canvas import Canvas
from tputtui.ui.chart import page_of
from tputtui.ui.cursor import Trail
from tputtui.ui.key_line import Key, KeyLine
from tputtui.ui.lean import LeanCompositor
from tputtui.ui.log_tail import LogTail
from tputtui.ui.offered import refused_here
from tputtui.ui.panel import Panel
from tputtui.ui.panels.batch import batch
from tputtui.ui.panels.boot import boot, trouble
from tputtui.ui.panels.changes import changes, changes_caption
from tputtui.ui.panels.header import header
from tputtui.ui.panels.latency import latency, window_caption
from tputtui.ui.panels.limits import limit_at, limits, limits_caption, limits_of, still_offered
from tputtui.ui.panels.machine import READING, machine
from tputtui.ui.panels.standing import noteworthy, standing
from tputtui.ui.panels.throughput import throughput
from tputtui.ui.rows import Row
from tputtui.ui.watched import Watched

__all__ = ["Board"]


_TALL = 36
"""Rows of a screen that counts as tall, as in `Board.VERTICAL_BREAKPOINTS`."""

Painters = dict[str, Callable[[int, int], list[Row]]]
"""Name of a panel to the function that draws it in a width and a height."""


class Board(Screen[None]):
    """Header, panels, footer."""

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (_TALL, "-tall")]  # noqa: RUF012
    AUTO_FOCUS = ""
    ALLOW_IN_MAXIMIZED_VIEW = "#keys"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "select(-1)", "pick", key_display="↑↓", id="limit.previous",
                tooltip="Choose a limit; or click it, twice to type its value"),
        Binding("down", "select(1)", "limit", show=False, id="limit.next"),
        Binding("left", "app.step(-1)", "change", key_display="←→", id="limit.less",
                tooltip="Change the limit by one small step"),
        Binding("right", "app.step(1)", "change", show=False, id="limit.more"),
        Binding("left_square_bracket,shift+left", "app.leap(-1)", "÷× 2", show=False,
                key_display="[ ]", id="limit.halve", tooltip="Halve or double the limit"),
        Binding("right_square_bracket,shift+right", "app.leap(1)", "double", show=False,
                id="limit.double"),
        Binding("enter", "app.type", "type", key_display="⏎", id="limit.type",
                tooltip="Type the exact value of the limit"),
        Binding("u", "app.undo", "undo", id="undo",
                tooltip="Undo the last change of a limit or of the load"),
        Binding("U", "app.redo", "redo", show=False, id="redo",
                tooltip="Do again what was undone"),
        Binding("n", "app.preempt", "preempt now", show=False, id="preempt",
                tooltip="Now: preempt what runs above max_num_seqs, instead of letting it drain"),
        Binding("p", "app.toggle_engine", "pause", show=False, id="engine.pause",
                tooltip="Pause the engine between two steps, or let it go on"),
        Binding("r", "app.reset_prefix_cache", "reset", show=False, id="prefix.reset",
                tooltip="Reset: empty the prefix cache"),
        Binding("space", "app.toggle_load", "hold", key_display="␣", id="load.toggle",
                tooltip="Hold the load, or let it run again"),
        Binding("minus", "app.scale_load(-1)", "less load", show=False, key_display="- +",
                id="load.less", tooltip="A fifth less, or a quarter more load"),
        Binding("plus,equals_sign", "app.scale_load(1)", "more load", show=False, id="load.more"),
        Binding("l", "app.edit_load", "load", id="load.edit",
                tooltip="Edit the load: arrivals, lengths, prefixes, conversations, trace"),
        Binding("o", "app.edit_goals", "goals", show=False, id="goals",
                tooltip="Objectives: what requests should be served within"),
        Binding("G", "app.edit_guard", "guard", show=False, id="guard",
                tooltip="Guard: a change that breaks it is undone by itself"),
        Binding("c", "app.compare", "A/B", id="compare",
                tooltip="Compare: an A/B of these limits against those before, or the baseline"),
        Binding("v", "app.verify", "verify", show=False, id="verify",
                tooltip="Verify: boot with exactly these values as ceilings, measure again"),
        Binding("V", "app.verify_served", "as served", show=False, id="verify.served",
                tooltip="As served: vLLM's own server with these values, the same load over HTTP"),
        Binding("t", "app.show_tuner", "tune", id="tuner",
                tooltip="The tuner: ask for a goal, get a setting"),
        Binding("h", "app.show_history", "tried", show=False, id="history",
                tooltip="The table of every setting tried: sort, jump back, pin, diff"),
        Binding("e", "app.edit_engine", "engine", show=False, id="engine.edit",
                tooltip="Any engine argument, and boot again with it"),
        Binding("f", "app.show_frontier", "plot", show=False, id="frontier",
                tooltip="Throughput against latency, a point for each setting; w sweeps the load"),
        Binding("x", "app.stop_load", "stop the load", show=False, id="load.stop",
                tooltip="Stop the load: abort what is in flight (it asks if that is much)"),
        Binding("colon", "app.command", "command", show=False, key_display=":", id="command",
                tooltip="A line such as max_num_seqs 48, load 8/s, goals ttft_p99=500ms"),
        Binding("y", "app.copy", "copy", show=False, id="copy",
                tooltip="Copy a value, the vllm serve command, or a row as Markdown"),
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
        Binding("comma", "seek(-1)", "mark before", show=False, key_display=", .",
                id="cursor.previous", tooltip="Read the charts at the mark before, or after it; "
                "< > by a column; Esc ends it; or point at a chart"),
        Binding("full_stop", "seek(1)", "mark after", show=False, id="cursor.next"),
        Binding("less_than_sign", "shift(-1)", "before", show=False, id="cursor.left"),
        Binding("greater_than_sign", "shift(1)", "after", show=False, id="cursor.right"),
        Binding("escape", "put_down", "no cursor", show=False, id="cursor.none"),
        Binding("ctrl+p", "app.command_palette", "commands", show=False, key_display="Ctrl+P",
                id="palette", tooltip="Everything else: themes, panels, commands"),
        Binding("question_mark", "app.show_help", "help", key_display="?", id="help",
                tooltip="This page"),
        Binding("ctrl+z", "app.suspend_process", "suspend", show=False, key_display="Ctrl+Z",
                id="suspend", tooltip="Give the terminal back to the shell; until `fg` the "
                "engine stands still as well, but not with --isolate"),
        Binding("q", "app.leave", "quit", id="quit",
                tooltip="Stop load and engine, leave; so does Ctrl+C, and twice: at once"),
    ]  # fmt: skip
    PANELS = ("throughput", "batch", "latency", "machine", "limits", "changes")
    CHARTED = PANELS[:2]
    KEYS: ClassVar[tuple[str, ...]] = (
        "limit.previous", "limit.less", "limit.type", "undo", "load.toggle", "load.edit",
        "compare", "tuner", "save",
    )  # fmt: skip
    """Names of the keys in the last line; those of `MORE_KEYS` follow where there is room."""
    MORE_KEYS: ClassVar[tuple[str, ...]] = (
        "history", "frontier", "goals", "verify", "log", "limit.halve", "load.less", "engine.edit",
        "guard", "command", "copy", "zoom.1", "cursor.previous", "load.stop", "palette",
    )  # fmt: skip
    BOOT_KEYS: ClassVar[tuple[str, ...]] = ("log", "load.edit", "goals", "palette")
    over = False
    """Whether the board shows a run that is over."""
    unread = READING  # said in the machine's panel in place of figures

    class Typed(Message):
        """The exact value of a limit is asked for."""

    def __init__(self, session: Watched, tail: LogTail) -> None:
        super().__init__()
        self._compositor = LeanCompositor()
        self.session = session
        self.tail = tail
        self.selected = limits_of(None)[0].name
        self.beneath: tuple[Canvas, ...] = ()
        self.cursor: int | None = None
        self._pointed = ""
        self._shown: Frame | None = None
        self._figured: Frame | None = None
        self._second = -1
        self._keys = KeyLine()
        self._keyed: object = None
        self._seen: set[TputError] = set()
        # Kept, not queried: a tick may come while Textual is removing the screen.
        self._grid = Container(id="board")
        self._canvases: dict[str, Canvas] = {
            "header": Canvas(id="header"),
            "clock": Canvas(id="clock"),
            "standing": Canvas(id="standing"),
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
        yield self._canvases["standing"]
        yield self._canvases["boot"]
        with self._grid:
            yield from (self._canvases[name] for name in self.PANELS)
        yield self._canvases["trouble"]
        yield from self.beneath
        yield self._keys

    def on_mount(self) -> None:
        """Show nothing but the boot at first."""
        self._grid.display = False
        self._canvases["trouble"].display = self._canvases["standing"].display = False

    def on_resize(self) -> None:
        """Paint anew once the panels have their sizes."""
        self.call_after_refresh(self._repaint)

    def tick(self) -> None:
        """Paint what has changed."""
        frame = self.session.latest
        self.tail.read()
        second = self.session.history.total
        self.show(frame, everything=second != self._second)
        self._second = second

    def redraw(self) -> None:
        """Advance the run, and paint everything."""
        self.show(self.session.advance(), everything=True)

    def _repaint(self) -> None:
        self.show(self.session.latest, everything=True)

    def show(self, frame: Frame, *, everything: bool) -> None:
        """Paint `frame`: limits and state always, figures and charts when `everything`."""
        if not self.is_running:
            # A tick may come while Textual is taking the screen down.
            return
        self._shown = frame
        self.selected = still_offered(frame, self.selected)
        failed = self._failed_boot(frame)
        self._arrange(frame, failed)
        painters: Painters = {
            "header": lambda w, h: self._header(frame, w),
            "clock": lambda w, h: [[(f"{clock(frame.elapsed_s):>{w}}", "label")]],
        }
        if self._canvases["standing"].display:
            painters["standing"] = lambda w, h: [standing(frame, w, failed)]
        self._show_keys(frame)
        if self._canvases["boot"].display:
            painters["boot"] = lambda w, h: boot(frame, list(self.tail.lines), w, h, over=self.over)
        else:
            painters |= self._limits(frame)
            if everything:
                self._figured = frame
                painters |= self._charts(frame) | {
                    "changes": lambda w, h: changes(frame, w, h),
                    "trouble": lambda w, h: trouble(frame, w, over=self.over),
                }
                width = self._canvases["latency"].size.width
                self._entitle("latency", window_caption(frame, width - 15))
                width = self._canvases["limits"].size.width
                self._entitle("limits", limits_caption(frame, width - 14))
                width = self._canvases["changes"].size.width
                self._entitle("changes", changes_caption(frame, width - 15))
        self._paint(painters)

    def react(self) -> None:
        """Paint at once what a key may have changed, and everything else right after it."""
        self.show(self.session.advance(), everything=False)
        self.call_after_refresh(self._complete)

    def _complete(self) -> None:
        if self._shown is not None:
            self.show(self._shown, everything=True)

    def _limits(self, frame: Frame) -> Painters:
        return {"limits": lambda w, h: limits(frame, self.selected, w, h)}

    def _header(self, frame: Frame, width: int) -> list[Row]:
        return [header(frame, width)]

    def _paint(self, painters: Painters) -> None:
        for name, draw in painters.items():
            canvas = self._canvases[name]
            if canvas.display and canvas.size.area:
                canvas.paint(draw(*canvas.size))

    def _charts(self, frame: Frame) -> Painters:
        """The panels with charts, read at the cursor; one title shows the mark there."""
        history, cursor, unread = self.session.history, self.cursor, self.unread
        read = self.maximized.id if self.maximized else self._pointed or self.CHARTED[0]
        for name in self.CHARTED:
            # Textual keeps a cell of the border at either end.
            room = self._canvases[name].outer_size.width - 2 - len(" 1 ·  ")
            caption = (
                "" if cursor is None or name != read else self._trail(frame).caption(cursor, room)
            )
            self._entitle(name, caption, named=len(caption) + len(name) < room)
        return {
            "throughput": lambda w, h: throughput(frame, history, w, h, cursor=cursor),
            "batch": lambda w, h: batch(frame, history, w, h, cursor=cursor),
            "latency": lambda w, h: latency(frame, w, h, history, cursor=cursor),
            "machine": lambda w, h: machine(frame, w, h, history, cursor=cursor, unread=unread),
        }

    def _trail(self, frame: Frame) -> Trail:
        return Trail(frame.marks, self.session.history)

    def _entitle(self, name: str, caption: str, *, named: bool = True) -> None:
        """Set a panel's title if it differs: a new title repaints the whole border."""
        number = f"{self.PANELS.index(name) + 1}{f' {name}' if named else ''}"
        # Content, not markup: a caption may have brackets.
        title = Content(f" {number} · {caption} " if caption else f" {number} ")
        if self._canvases[name].border_title != title.markup:
            self._canvases[name].border_title = title

    def _failed_boot(self, frame: Frame) -> str:
        """Why the last boot failed, in its two sentences; empty once that was acknowledged."""
        refused = frame.status.refused
        if self.over or refused is None or refused in self._seen:
            return ""
        return f"boot failed: {refused.message} {refused.hint}".strip()

    def _show_keys(self, frame: Frame) -> None:
        """Paint the last line, if other keys hold than those shown."""
        zoomed = self.maximized is not None
        compare = frame.compare
        ends = "stop A/B" if compare is not None and compare.title == "A/B" else "stop"
        compares = "A/B" if compare is None or compare.done else ends
        state = (frame.serving, frame.status.failure, self._grid.display)
        refused = refused_here(frame)
        facts = (self._keys.size, zoomed, compares, refused, *state)
        if facts == self._keyed:
            return
        self._keyed = facts
        known = {
            active.binding.id: active.binding
            for active in self.active_bindings.values()
            if active.binding.id and active.binding.id not in refused
        }
        words = {"escape": "board", "compare": compares}

        def keys(*names: str) -> list[Key]:
            held = [known[name] for name in names if name in known]
            return [
                Key(self.app.get_key_display(each), words.get(each.id or "") or each.description,
                    each.action)
                for each in held
            ]  # fmt: skip

        first = keys(*self.KEYS, *self.MORE_KEYS)
        if not frame.serving and not self.over:
            failed = frame.status.failure is not None
            tried = ("save", "history", "frontier") if self._grid.display else ()
            first = keys(*(("boot",) if failed else ()), *self.BOOT_KEYS, *tried)
        elif zoomed:
            first = [Key("Esc", "board", "put_down"), *keys("zoom.1"), *first]
        self._keys.show(first, keys("help", "quit"))

    def _arrange(self, frame: Frame, failed: str) -> None:
        """Show the boot until the engine is up, then the board, with a strip once it has failed."""
        # Where there is little height, the line gives its row up while it has nothing to say.
        said = self.size.height >= _TALL or noteworthy(frame, failed)
        if self._canvases["standing"].display != said:
            self._canvases["standing"].display = said
            self.set_class(said, "-standing")
            self.call_after_refresh(self._repaint)
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
        names = [knob.name for knob in limits_of(self._shown)]
        self._select(names[(names.index(self.selected) + direction) % len(names)])

    def _select(self, name: str) -> None:
        """Select a limit; only the panel of limits shows which."""
        self.selected = name
        if self._shown is not None and self._grid.display:
            self._paint(self._limits(self._shown))

    @on(Panel.Clicked)
    def _row_clicked(self, event: Panel.Clicked) -> None:
        if event.panel.id != "limits":
            return
        name = limit_at(event.x, event.y, self.selected, self._shown, *event.panel.size)
        if name is None:
            return
        self._select(name)
        if event.twice:
            self.post_message(self.Typed())

    def _put_cursor(self, second: int | None, pointed: str = "") -> None:
        """Move the charts' cursor, or remove it; paints only the charts, from the last frame."""
        if (second, pointed) == (self.cursor, self._pointed):
            return
        self.cursor, self._pointed = second, pointed
        if self._figured is not None and self._grid.display:
            self._paint(self._charts(self._figured))

    @on(Panel.Pointed)
    def _chart_pointed(self, event: Panel.Pointed) -> None:
        name, frame = event.panel.id or "", self._figured
        if event.x is None or frame is None or name not in self.CHARTED:
            # A cursor that keys have set stays when the pointer goes.
            if name == self._pointed:
                self._put_cursor(None)
            return
        history = self.session.history
        page, gutter = page_of(history, event.panel.size.width)
        second = page.second(max(0, event.x - gutter))
        marked = self._trail(frame).within(second, second + 2)
        known = history.total - len(history.buckets) <= second < history.total
        self._put_cursor(second if known and marked is None else marked, name)

    def action_seek(self, direction: int) -> None:
        """Move the cursor to the mark before or after it; from no cursor to the newest mark."""
        if self._figured is not None:
            self._put_cursor(self._trail(self._figured).beside(self.cursor, direction))

    def action_shift(self, direction: int) -> None:
        """Move the cursor by a column; from no cursor to the newest second."""
        history = self.session.history
        last = history.total - 1
        second = last if self.cursor is None else self.cursor + 2 * direction
        if history.buckets:
            self._put_cursor(max(history.total - len(history.buckets), min(last, second)))

    def action_put_down(self) -> None:
        """Bring the board back, acknowledge a failed boot, or remove the cursor."""
        refused = self._shown.status.refused if self._shown is not None else None
        if self.maximized is not None:
            self.action_zoom(self.PANELS.index(self.maximized.id or ""))
        elif refused is not None and refused not in self._seen:
            self._seen.add(refused)
            self._repaint()
        else:
            self._put_cursor(None)

    def action_zoom(self, number: int) -> None:
        """Show one panel over the whole screen, or the board again."""
        panel = self._canvases[self.PANELS[number]]
        if self.maximized is panel:
            self.minimize()
        elif self._grid.display:
            self.maximize(panel, container=False)
        self.call_after_refresh(self.redraw)

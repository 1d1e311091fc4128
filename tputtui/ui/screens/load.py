"""The load editor: every part of a load as text, with its kinds and a preview.

Main thread. What is typed is parsed at once; the preview waits until the typing stops, since it
takes time of the interpreter from the engine's thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Footer, Input, Label, Select

from tputtui.errors import UsageError
from tputtui.load.preview import Preview, preview
from tputtui.load.sections import FIELDS, Field, form_of, from_texts, to_texts
from tputtui.load.workload import Workload
from tputtui.profile.spec import class_goals
from tputtui.ui.canvas import Canvas
from tputtui.ui.panels.preview import preview_rows, preview_title
from tputtui.ui.terminal_app import leave_out_typed

__all__ = ["LoadEditor"]

_QUIET_S = 0.15
"""How long nothing must be typed before the preview is made."""

_ALONE = {
    "requests": ("prompt", "output", "pairs", "prefix", "sessions", "trace"),
    "trace": ("prompt", "output", "pairs", "prefix", "sessions", "requests"),
    "pairs": ("prompt", "output"),
}
"""Field to the other fields that cannot be given beside it."""

_WHY = {
    "requests": "as the real requests have it",
    "trace": "as the trace has it",
    "pairs": "drawn together, as joint lengths",
}
_NEEDED = {field.name: field.forms[0][1] for field in FIELDS if field.name in ("prompt", "output")}
"""Text of a field that must be given, when it opens again and was empty before."""


class Kind(Select[str], inherit_bindings=False):
    """The kinds of one field; ↑ and ↓ stay free to move between fields.

    shown: the kind of the typed text; a `value` that differs was chosen in the list.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "screen.move(-1)", "field", key_display="↑↓"),
        Binding("down", "screen.move(1)", "field", show=False),
        Binding("enter,space", "show_overlay", "list", key_display="⏎"),
        Binding("left", "cycle(-1)", "other kind", key_display="←→"),
        Binding("right", "cycle(1)", "other kind", show=False),
    ]

    def __init__(self, field: Field, shown: str) -> None:
        self._names = [name for name, _ in field.forms]
        self.field = field
        self.shown = shown or self._names[0]
        super().__init__(
            [(name, name) for name in self._names],
            value=self.shown,
            allow_blank=False,
            compact=True,
            id=f"{field.name}-kind",
        )

    def show(self, kind: str) -> None:
        """Show the kind of the typed text, without putting its example there."""
        self.shown = kind
        with self.prevent(Select.Changed):
            self.value = kind

    def action_cycle(self, direction: int) -> None:
        """Take the next kind, or the one before."""
        place = self._names.index(self.shown) + direction
        self.value = self._names[place % len(self._names)]


class Text(Input):
    """The text of one field."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Otherwise an input of one row would scroll.
        Binding("up", "screen.move(-1)", "field", key_display="↑↓"),
        Binding("down", "screen.move(1)", "field", show=False),
        Binding("enter", "submit", "apply", key_display="⏎"),
    ]


class LoadEditor(ModalScreen[None]):
    """Edits `workload`; Enter hands the new one to `use` and closes.

    use: a UsageError keeps the editor open and is shown.
    max_model_len: in force; None when no engine is up. block_size: of its KV cache, in tokens.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal"), (160, "-wide")]  # noqa: RUF012
    VERTICAL_BREAKPOINTS = [(0, "-short"), (36, "-tall")]  # noqa: RUF012
    AUTO_FOCUS = "#arrivals"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "kind, text", key_display="tab"),
        Binding("shift+tab", "app.focus_previous", "kind, text", show=False),
        Binding("escape", "leave", "leave all as it is", key_display="esc"),
    ]

    def __init__(
        self,
        workload: Workload,
        use: Callable[[Workload], None],
        *,
        max_model_len: int | None,
        block_size: int,
    ) -> None:
        super().__init__()
        self._base = workload
        self._use = use
        self._max_model_len = max_model_len
        self._block_size = block_size
        texts = to_texts(workload)
        self._inputs = {
            name: Text(text, id=name, select_on_focus=True, compact=True)
            for name, text in texts.items()
        }
        self._kinds = {
            field.name: Kind(field, form_of(field.name, texts[field.name])) for field in FIELDS
        }
        self._labels = {field.name: Label(markup=False, classes="label") for field in FIELDS}
        self._message = Label(markup=False, id="message")
        self._canvas = Canvas(id="preview")
        # Text of a field before another field closed it; text typed last, by field and kind.
        self._kept: dict[str, str] = {}
        self._typed: dict[tuple[str, str], str] = {}
        self._workload: Workload | None = workload
        self._error: UsageError | None = None
        self._bad = ""
        self._preview: Preview | None = None
        self._timer: Timer | None = None

    # -- layout ----------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """A row for each field, the message, the preview."""
        with Vertical(id="box") as box:
            box.border_title = " load "
            with VerticalScroll(id="fields", can_focus=False):
                for field in FIELDS:
                    with Horizontal(classes="row"):
                        yield self._labels[field.name]
                        yield self._kinds[field.name]
                        yield self._inputs[field.name]
            yield self._message
            yield self._canvas
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Show the preview at once; no cursor blinks."""
        for text in self._inputs.values():
            text.cursor_blink = False
        self._read()
        self.look()

    def on_resize(self) -> None:
        """Paint anew once the preview has its size."""
        self.call_after_refresh(self._paint)

    # -- what is typed ---------------------------------------------------------------------

    @on(Input.Changed)
    def _text_changed(self) -> None:
        self._read()

    @on(Select.Changed)
    def _kind_chosen(self, event: Select.Changed) -> None:
        kind = event.select
        if not isinstance(kind, Kind) or kind.value == kind.shown:
            return
        name, chosen = kind.field.name, str(kind.value)
        text = self._inputs[name]
        text.value = self._typed.get((name, chosen), dict(kind.field.forms)[chosen])
        text.cursor_position = len(text.value)

    def on_descendant_focus(self) -> None:
        """Mark the focused row, and show how its field is written."""
        self._say()

    def _read(self) -> None:
        """Parse what is typed: which fields are open, the kind of each, the first error."""
        self._open_and_close()
        self._error, self._bad = None, ""
        for name, text in self._inputs.items():
            try:
                kind = form_of(name, text.value)
            except UsageError as error:
                if self._error is None:
                    self._error, self._bad = error, name
                continue
            if kind and not text.disabled:
                self._kinds[name].show(kind)
                self._typed[name, kind] = text.value
        self._workload = None
        if self._error is None:
            texts = {name: text.value for name, text in self._inputs.items()}
            try:
                workload = from_texts(self._base, texts)
                class_goals(workload)
                self._workload = workload
            except UsageError as error:
                self._error = error
        self._say()
        self._wait()

    def _open_and_close(self) -> None:
        """Empty and close the fields that another excludes; opened again, they get their text back.

        A text that cannot be parsed yet excludes others too: fields must not flap while one types.
        """
        shut: dict[str, str] = {}
        for name, others in _ALONE.items():
            given = self._inputs[name].value.strip().lower() not in ("", "none", "off", "-")
            if given and name not in shut:
                shut |= dict.fromkeys(others, _WHY[name])
        with self.prevent(Input.Changed):
            for name, text in self._inputs.items():
                why = shut.get(name, "")
                if why and not text.disabled:
                    self._kept[name] = text.value or _NEEDED.get(name, "")
                    text.value = ""
                elif text.disabled and not why:
                    text.value = self._kept[name]
                text.placeholder = why
                text.disabled = self._kinds[name].disabled = bool(why)

    # -- what is shown ---------------------------------------------------------------------

    def _wait(self) -> None:
        if self._timer is not None:
            self._timer.stop()
            self._timer = None
        if self._workload is None or (
            self._preview is not None
            and (self._preview.whole or self._preview.workload) == self._workload
        ):
            self._paint()
        else:
            self._timer = self.set_timer(_QUIET_S, self.look)

    def look(self) -> None:
        """Make the preview of what is typed now, and paint it."""
        if self._workload is not None:
            try:
                self._preview = preview(
                    self._workload, max_model_len=self._max_model_len, block_size=self._block_size
                )
            except UsageError as error:
                self._error, self._bad = error, _file_field(self._workload)
            self._say()
        self._paint()

    def _paint(self) -> None:
        if self._preview is None or not self._canvas.size.area:
            return
        stale = self._error is not None
        title = preview_title(self._preview, stale=stale)
        if self._canvas.border_title != title:
            self._canvas.border_title = title
        size = self._canvas.size
        self._canvas.paint(preview_rows(self._preview, self._max_model_len, *size, stale=stale))

    def _say(self) -> None:
        here = self._here()
        for field in FIELDS:
            marker = "✗" if field.name == self._bad else "▸" if field.name == here else " "
            label, text = self._labels[field.name], f"{marker} {field.label}"
            if label.content != text:
                label.update(text, layout=False)
        if self._error is not None:
            message = f"✗ {self._error}"
        else:
            forms = next((field.forms for field in FIELDS if field.name == here), ())
            message = " · ".join(text for _, text in forms)
        self._message.set_class(self._error is not None, "-refused")
        if self._message.content != message:
            self._message.update(message)
        # A long hint takes rows from the preview, a short one gives them back.
        self.call_after_refresh(self._paint)

    def _here(self) -> str:
        for node in self.focused.ancestors_with_self if self.focused else ():
            if isinstance(node, Kind | Text):
                return str(node.id).removesuffix("-kind")
        return ""

    # -- keys ------------------------------------------------------------------------------

    def action_move(self, direction: int) -> None:
        """Go to the next open field in the same column, or to the one before."""
        column: dict[str, Widget] = {**self._inputs}
        if isinstance(self.focused, Kind):
            column = {**self._kinds}
        names = [name for name, widget in column.items() if not widget.disabled]
        here = self._here()
        place = names.index(here) + direction if here in names else 0
        column[names[place % len(names)]].focus()

    @on(Input.Submitted)
    def _apply(self) -> None:
        if self._workload is None:
            return
        try:
            self._use(self._workload)
        except UsageError as refusal:
            self._error, self._bad = refusal, ""
            self._say()
            self._paint()
            leave_out_typed(self.app)
            return
        self.dismiss()

    def action_leave(self) -> None:
        """Leave everything as it is."""
        self.dismiss()


def _file_field(load: Workload) -> str:
    """The field that names the file of the load; of several, the first that the preview reads."""
    if load.only_apart and load.apart[0].brings:
        return "classes"
    return "requests" if load.requests is not None else "trace"

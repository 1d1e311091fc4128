"""The engine form: find and edit any argument of a boot, and boot. Main thread.

Arguments come into force only with a boot, so all is a draft until then.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer, Input, Label

from tputtui.engine.protocol import Argument
from tputtui.engine.resolved import Resolved
from tputtui.errors import UsageError
from tputtui.profile import EngineValue
from tputtui.ui.argument_editor import Editor, Filter
from tputtui.ui.argument_list import ArgumentList
from tputtui.ui.canvas import Canvas
from tputtui.ui.draft import GOT, VIEWS, ArgumentDraft
from tputtui.ui.panels.arguments import about_rows, review_rows, views_row
from tputtui.ui.rows import fitted, width_of

__all__ = ["EngineForm"]


class EngineForm(ModalScreen[None]):
    """Edits the arguments `current`; F5 shows the changes, then hands all arguments to `use`.

    cost: what booting again costs, in a sentence. check: called before the changes are shown.
    use: boots. A UsageError from either keeps the form open, and is shown.
    preset: texts by name, put in as if they had been typed. resolved: what the last boot came to.
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (110, "-normal"), (160, "-wide")]  # noqa: RUF012
    AUTO_FOCUS = "ArgumentList"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "view(1)", "view", key_display="tab"),
        Binding("shift+tab", "view(-1)", show=False),
        Binding("f5", "boot", "boot", key_display="F5"),
        Binding("f5,enter", "really", "boot now", key_display="F5"),
        Binding("escape", "back", "back", key_display="esc"),
    ]

    def __init__(
        self,
        arguments: tuple[Argument, ...],
        current: Mapping[str, EngineValue],
        cost: str,
        use: Callable[[dict[str, EngineValue]], None],
        *,
        preset: Mapping[str, str] | None = None,
        check: Callable[[dict[str, EngineValue]], None] | None = None,
        resolved: Sequence[Resolved] = (),
    ) -> None:
        super().__init__()
        self._draft = ArgumentDraft(arguments, current, resolved)
        self._cost = cost
        self._use = use
        self._check = check
        self._preset = dict(preset or {})
        self._filter = Filter()
        self._editor = Editor()
        self._list = ArgumentList(self._draft)
        self._about = Canvas(id="about")
        self._views = Canvas(id="views")
        self._view = VIEWS[0]
        self._viewed_before = ""
        """The view to go back to while the changes are shown before a boot; else empty."""
        self._notice = ""
        self._doing: tuple[object, ...] = ()
        self._touched = self._leaving = False

    # -- layout ----------------------------------------------------------------------------

    def compose(self) -> ComposeResult:
        """The filter and the views, the list with its editor, the help."""
        with Vertical(id="box") as box:
            box.border_title = " engine arguments "
            box.border_subtitle = " in force after a boot "
            with Horizontal(id="finder"):
                yield Label("find ", id="find")
                yield self._filter
                yield self._views
            with Container(id="sides"):
                with Container(id="rows"):
                    yield self._list
                    yield self._editor
                yield self._about
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Put the preset texts in as if they had been typed."""
        notice = ""
        for name, text in self._preset.items():
            if argument := self._draft.arguments.get(name):
                try:
                    self._draft.put(argument, text)
                except UsageError as error:
                    notice = notice or str(error)
        self._look(keep=next(iter(self._preset), None))
        self._say(notice)

    def on_resize(self) -> None:
        """Paint anew once the list has its size."""
        self.call_after_refresh(self._paint)

    # -- what is shown ---------------------------------------------------------------------

    def _look(self, keep: str | None = None) -> None:
        """Show the rows of the view and the filter; `keep` is the name to stay on."""
        words = "" if self._viewed_before else self._filter.value
        self._list.show(self._draft.entries(self._view, words), keep, got=self._view == GOT)

    def _say(self, notice: str = "") -> None:
        """Paint, with `notice` above the help."""
        self._notice = notice
        self._paint()
        # A new footer costs a new layout: only where its keys are others.
        doing = (self._editor.argument, self._viewed_before)
        if doing != self._doing:
            self._doing = doing
            self.refresh_bindings()

    def _paint(self) -> None:
        if not self._about.size.area:
            return
        self._list.redraw()
        views = views_row(self._draft, self._view)
        self._views.styles.width = width_of(views)
        self._views.paint([views])
        self._paint_about()
        self._editor.place(*self._list.editable)

    def _paint_about(self) -> None:
        width, height = self._about.size
        notice = [fitted([(line, "bad")], width) for line in _wrapped(self._notice, width)]
        argument = self._editor.argument or self._list.chosen
        if self._viewed_before:
            rows = review_rows(self._draft, self._cost, width)
        elif argument is not None:
            typed = self._editor.value.strip() if self._editor.argument else None
            rows = about_rows(self._draft, argument, typed, width, max(1, height - len(notice)))
        else:
            rows = []
        self._about.paint([*notice, *rows])

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show only the keys of what can be done now."""
        del parameters
        if action == "really":
            return bool(self._viewed_before)
        if action == "known":
            return bool(self._editor.argument and self._editor.argument.choices)
        if action in ("boot", "edit", "cycle", "reset", "filter"):
            return not self._viewed_before
        return action != "view" or not (self._viewed_before or self._editor.argument)

    # -- moving ----------------------------------------------------------------------------

    def action_move(self, steps: int) -> None:
        """Move up or down the list."""
        if self._editor.argument is None:
            self._list.move(steps)
        self._list.focus()
        self._calm()

    def action_page(self, direction: int) -> None:
        """Move a page up or down."""
        self.action_move(direction * max(1, self._list.size.height - 2))

    def action_view(self, direction: int) -> None:
        """Show the next view, or the one before."""
        name = self._list.name_here
        views = self._draft.views
        self._view = views[(views.index(self._view) + direction) % len(views)]
        self._look(keep=name)
        self._list.focus()
        self._calm()

    def action_filter(self) -> None:
        """Focus the filter, and select its text."""
        self._filter.focus()
        self._filter.select_all()
        self._calm()

    def on_key(self, event: events.Key) -> None:
        """Begin a new filter with a character typed on the list."""
        # A key comes here before Textual looks for its binding.
        bound = event.key in ("space", "slash")
        if self._list.has_focus and event.is_printable and event.character and not bound:
            event.stop()
            self._stop_review()
            self._filter.focus()
            self._filter.value = event.character
            self._filter.cursor_position = 1

    def on_paste(self, event: events.Paste) -> None:
        """Begin a new filter with what is pasted on the list."""
        if self._list.has_focus and event.text.strip():
            event.stop()
            self._stop_review()
            self._filter.focus()
            self._filter.value = event.text.strip().splitlines()[0]
            self._filter.cursor_position = len(self._filter.value)

    @on(Input.Changed, "Filter")
    def _filtered(self) -> None:
        self._look()
        self._calm()

    @on(ArgumentList.Clicked)
    def _clicked(self, event: ArgumentList.Clicked) -> None:
        self._close()
        if event.twice and not self._viewed_before:
            self.action_edit()
        else:
            self._calm()

    def _calm(self) -> None:
        """Paint without a notice."""
        self._leaving = False
        self._say()

    # -- editing ---------------------------------------------------------------------------

    @on(Input.Submitted, "Filter")
    def action_edit(self) -> None:
        """Edit the value in its place; a switch goes to its other value."""
        argument = self._list.chosen
        if argument is None:
            return
        if argument.kind == "switch":
            self._list.focus()
            self.action_cycle(1)
            return
        self._editor.open(argument, self._draft.new(argument) or argument.default)
        self._calm()

    def action_cycle(self, direction: int) -> None:
        """Take the next of the known values, or the one before."""
        argument = self._list.chosen
        ring = self._draft.ring(argument) if argument else []
        if argument and ring:
            now = self._draft.new(argument) or argument.default
            place = ring.index(now) + direction if now in ring else 0
            self._draft.put(argument, ring[place % len(ring)])
            self._done(argument)

    def action_reset(self) -> None:
        """Go to the engine's default; from the default, back to the present value."""
        if (argument := self._list.chosen) is not None:
            self._draft.reset(argument)
            self._done(argument)

    def action_known(self, direction: int) -> None:
        """Put the next known value into the editor, or the one before."""
        self._editor.cycle(direction)

    @on(Input.Changed, "Editor")
    def _typing(self) -> None:
        self._notice = ""
        self._paint_about()

    @on(Input.Submitted, "Editor")
    def _take(self) -> bool:
        """Put the typed text into the draft; False, with a notice, where it is invalid."""
        argument = self._editor.argument
        if argument is not None:
            try:
                self._draft.put(argument, self._editor.text)
            except UsageError as error:
                self._say(f"✗ {error}")
                return False
            self._close()
            self._done(argument)
        return True

    def _done(self, argument: Argument) -> None:
        self._touched = True
        self._look(keep=argument.name)
        self._calm()

    def _close(self) -> None:
        if self._editor.argument is not None:
            self._list.focus()
            self._editor.close()

    # -- booting and leaving ---------------------------------------------------------------

    def action_boot(self) -> None:
        """Show the changes and what a boot costs; the same key again boots."""
        if not self._take():
            return
        if not self._draft.changes():
            self._say("✗ Nothing is changed, so there is nothing to boot with.")
            return
        try:
            if self._check is not None:
                self._check(dict(self._draft.args))
        except UsageError as error:
            self._refused(error)
            return
        self._viewed_before, self._view = self._view, "changed"
        self._look()
        self._list.focus()
        self._calm()

    def action_really(self) -> None:
        """Boot with what is shown."""
        try:
            self._use(dict(self._draft.args))
        except UsageError as error:
            self._stop_review()
            self._refused(error)
            return
        self.dismiss()

    def _refused(self, error: UsageError) -> None:
        """Show the refusal, on the argument that it names if it names one."""
        words = re.findall(r"--[\w-]+|\w+_\w+", error.message)
        names = [word.removeprefix("--").replace("-", "_") for word in words]
        name = next((name for name in names if name in self._draft.arguments), "")
        if name:
            self._unfilter()
            self._view = VIEWS[0]
        self._look(keep=name or self._list.name_here)
        self._say(f"✗ {error}")

    def _stop_review(self) -> None:
        if self._viewed_before:
            name = self._list.name_here
            self._view, self._viewed_before = self._viewed_before, ""
            self._look(keep=name)

    def _unfilter(self) -> None:
        with self.prevent(Input.Changed):
            self._filter.value = ""

    def action_back(self) -> None:
        """Go one step back: from editing, from the review, from the filter, then from the form."""
        count = len(self._draft.changes())
        if self._editor.argument is not None:
            self._close()
        elif self._viewed_before:
            self._stop_review()
        elif self._filter.value or self._filter.has_focus:
            name = self._list.name_here
            self._unfilter()
            self._look(keep=name)
            self._list.focus()
        elif self._touched and count and not self._leaving:
            changes = f"{count} change{'s' * (count != 1)}"
            self._say(f"F5 boots with {changes}. Esc again drops {'them' if count > 1 else 'it'}.")
            self._leaving = True
            return
        else:
            self.dismiss()
            return
        self._calm()


def _wrapped(text: str, width: int) -> list[str]:
    return [*textwrap.wrap(text, max(8, width)), ""] if text else []

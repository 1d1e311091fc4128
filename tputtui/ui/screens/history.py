"""The screen of all settings tried: their figures, going back to one, and two side by side."""

from __future__ import annotations

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import DataTable, Footer, Input

from tputtui.errors import BootNeeded, TputError
from tputtui.frame import Frame, Tried
from tputtui.frame.tried import between
from tputtui.knobs import kept_limits, shorthand
from tputtui.load.notation import describe_all_arrivals
from tputtui.measure.verdict import Difference
from tputtui.profile import EngineSpec
from tputtui.ui.canvas import Canvas
from tputtui.ui.copied import changes_text, row_text
from tputtui.ui.entry_table import EntryTable
from tputtui.ui.filter_line import filter_line
from tputtui.ui.panels.pair import about, pair
from tputtui.ui.panels.tried import Column, Entry, columns, entries, signs, title
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.screens.watching import WatchingScreen
from tputtui.ui.watched import Watched

__all__ = ["HistoryScreen", "TrialTable"]

_SCROLLBAR = 1


class TrialTable(EntryTable):
    """The settings, by their numbers."""

    BINDINGS: ClassVar[list[BindingType]] = [
        # Not `select_cursor`: a click on the cursor's row would change limits as well.
        Binding("enter", "screen.jump", "jump", key_display="⏎"),
    ]


class HistoryScreen(WatchingScreen):
    """A row for each setting; the engine runs on."""

    AUTO_FOCUS = "#trials"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("p", "pin", "pin"),
        Binding("d", "diff", "diff"),
        Binding("less_than_sign,comma", "sort(-1)", "sort by", key_display="< >"),
        Binding("greater_than_sign,full_stop", "sort(1)", "sort by", show=False),
        Binding("i,R,ctrl+r", "reverse", "invert", key_display="i"),
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("y", "copy", "copy"),
        Binding("u", "undo", "undo"),
        Binding("U", "redo", "redo", show=False),
        Binding("escape,h,q", "leave", "back", key_display="esc"),
    ]

    def __init__(self, session: Watched) -> None:
        super().__init__(session)
        self._title = Canvas(id="trials-title")
        self._table = TrialTable("trials", rising=("ttft", "tpot"))
        self._about = Canvas(id="trial")
        self._pane = Canvas(id="pair")
        self._filter = filter_line()
        self._marked: int | None = None
        self._pair: tuple[int, int] | None = None
        self._made: dict[int, tuple[object, dict[str, Entry]]] = {}
        self._compared: tuple[Tried, Tried, tuple[Difference, ...]] | None = None

    def compose(self) -> ComposeResult:
        """The line on the table, the table, the lines on one row, the pane for two."""
        yield self._title
        yield self._table
        yield self._about
        yield self._pane
        yield self._filter
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Hide the pane for two rows, and the filter, until they are wanted."""
        self._pane.display = self._filter.display = False
        self._filter.cursor_blink = False

    def show(self, frame: Frame) -> None:
        """Paint `frame`: cells that differ, and the lines on the chosen row."""
        if not self._table.size.area:
            return
        trials = {trial.number: trial for trial in frame.trials}
        if self._marked not in trials:
            self._marked = None
        if self._pair and not trials.keys() >= set(self._pair):
            self._pair = None
        shown = columns(self._table.size.width - _SCROLLBAR, bool(frame.profile.judged))
        rows = self._rows(frame, shown)
        kept = {number: cells for number, cells in rows.items() if self._matches(trials[number])}
        self._table.show(shown, kept)
        self._title.paint([title(frame, self._marked, self._title.size.width)])
        self._paint_below(frame, trials)

    # -- what the person does --------------------------------------------------------------

    def action_jump(self) -> None:
        """Apply the setting of the row again; ask first where that needs a boot."""
        number = self._table.chosen
        if number is None:
            return
        try:
            message = self._session.steer.jump(number)
        except BootNeeded as needed:
            self._offer_boot(number, needed)
        except TputError as refusal:
            self.refuse(refusal)
        else:
            self.notify(message, timeout=3)
            self.tick()

    def _offer_boot(self, number: int, needed: BootNeeded) -> None:
        try:
            cost = self._session.steer.engine.boot_cost
        except TputError as refusal:
            self.refuse(refusal)
            return
        sentences = [
            f"{needed.message} Boot that one?",
            cost,
            "History, marks and this table stay.",
        ]

        def boot() -> None:
            self.attempt(lambda: self._session.steer.jump(number, boot=True))

        self.app.push_screen(Confirm(f"boot the engine of row {number}", sentences, "boots", boot))

    def action_pin(self) -> None:
        """Compare with the chosen row from now on; a second time, with the row before again."""
        number = self._table.chosen
        if number is not None:
            pinned = self._session.latest.baseline == number
            self.attempt(lambda: self._session.steer.pin(None if pinned else number))

    def action_diff(self) -> None:
        """Mark the row; a second time, on another, show the two side by side."""
        number = self._table.chosen
        if self._pair is not None:
            self._pair = self._marked = None
        elif self._marked is None or number is None:
            self._marked = number
        elif self._marked == number:
            self._marked = None
        else:
            self._pair, self._marked = (self._marked, number), None
        self.tick()

    def action_sort(self, direction: int) -> None:
        """Sort by the next column to the left or right: figures highest first."""
        self._table.sort_beside(direction)

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._table.invert()

    @on(DataTable.RowHighlighted)
    def _moved(self) -> None:
        self.tick()

    def action_undo(self) -> None:
        """Undo the last change."""
        self.attempt(lambda: f"Undone: {self._session.steer.undo()}")

    def action_redo(self) -> None:
        """Redo the change that was undone last."""
        self.attempt(lambda: f"Done again: {self._session.steer.redo()}")

    def action_filter(self) -> None:
        """Show and focus the filter."""
        self._filter.display = True
        self._filter.focus()

    def action_copy(self) -> None:
        """Copy the chosen row as Markdown, or the two that are compared."""
        trials = {trial.number: trial for trial in self._session.latest.trials}
        chosen = trials.get(self._table.chosen or 0)
        if self._pair is not None:
            old, new = (trials[number] for number in self._pair)
            text = changes_text(self._differences(old, new))
        else:
            text = row_text(chosen) if chosen is not None else ""
        if text:
            self.app.copy_to_clipboard(text)
            self.notify("as Markdown.", title="Copied", timeout=3)

    @on(Input.Changed)
    def _typed(self) -> None:
        self.tick()

    @on(Input.Submitted)
    def _entered(self) -> None:
        self._filter.display = bool(self._filter.value)
        self._table.focus()

    def _matches(self, trial: Tried) -> bool:
        """Whether every word of the filter stands in what the row is about."""
        words = self._filter.value.lower().split()
        told = (trial.changed, trial.note, shorthand(kept_limits(trial.knobs, trial.booted)),
                describe_all_arrivals(trial.load), trial.phase.value)  # fmt: skip
        return all(word in " ".join(told).lower() for word in words)

    def action_leave(self) -> None:
        """Show all rows again, hide the pane for two rows, or go back to the board."""
        if self._filter.display:
            self._filter.value = ""
            self._filter.display = False
            self._table.focus()
        elif self._pair is not None:
            self._pair = None
            self.tick()
        else:
            self.dismiss()

    # -- inside ----------------------------------------------------------------------------

    def _rows(self, frame: Frame, shown: tuple[Column, ...]) -> dict[int, dict[str, Entry]]:
        """Every row's cells; an unchanged row gives the same object as before."""
        started_s = frame.t_s - frame.elapsed_s
        engines: list[EngineSpec] = []
        made: dict[int, tuple[object, dict[str, Entry]]] = {}
        for trial in frame.trials:
            if trial.engine not in engines:
                engines.append(trial.engine)
            number, engine = trial.number, engines.index(trial.engine) + 1
            which = signs(frame, number, (self._marked, *(self._pair or ())))
            made_of = (trial, shown, started_s, engine, which)
            made[number] = self._made.get(number, (None, {}))
            if made[number][0] != made_of:
                cells = entries(trial, shown, started_s=started_s, engine=engine, signs=which)
                made[number] = (made_of, cells)
        self._made = made
        return {number: cells for number, (_, cells) in made.items()}

    def _paint_below(self, frame: Frame, trials: dict[int, Tried]) -> None:
        """Paint two rows side by side, or a few lines on the chosen row."""
        both = self._pair
        self._pane.display = both is not None
        self._about.display = both is None
        width = self.size.width - 2
        if both is not None:
            old, new = trials[both[0]], trials[both[1]]
            height = self.size.height * 6 // 10 - 1
            rows = pair(old, new, self._differences(old, new), width, height)
            self._pane.border_title = f" {old.number} → {new.number} "
            self._pane.styles.height = len(rows) + 1
            # After the pane has its height.
            self.call_after_refresh(self._pane.paint, rows)
            return
        trial = trials.get(self._table.chosen or 0)
        words = self._words(frame, trial.number) if trial else ""
        started_s = frame.t_s - frame.elapsed_s
        self._about.paint(about(trial, words, width, started_s) if trial else [])

    def _words(self, frame: Frame, number: int) -> str:
        words = " · now" if number == frame.trials[-1].number else ""
        return words + (" · baseline" if number == frame.baseline else "")

    def _differences(self, old: Tried, new: Tried) -> tuple[Difference, ...]:
        """How the figures differ; computed anew only for other or newer settings."""
        if old.series is None or new.series is None:
            return ()
        if self._compared is None or self._compared[0] is not old or self._compared[1] is not new:
            self._compared = (old, new, between(old, new)[0])
        return self._compared[2]

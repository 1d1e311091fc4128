"""The application: timers, keys, dialogs, leaving. Main thread.

It reads the engine only through `session.latest`, and acts only through the session's methods.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path

from textual import on
from textual.app import SystemCommand
from textual.screen import Screen

from tputtui.errors import CeilingError, OthersError, TputError, UsageError
from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import Frame
from tputtui.goals import describe_goals, parse_goals
from tputtui.knobs import coarse_step, fine_step, knob
from tputtui.load.workload import Workload, scaled
from tputtui.profile import EngineValue
from tputtui.session.guard import parse_guard
from tputtui.session.session import Session
from tputtui.ui.board import Board
from tputtui.ui.commands import commands
from tputtui.ui.keys import listed_of
from tputtui.ui.limit_dialog import limit_dialog
from tputtui.ui.log_tail import LogTail
from tputtui.ui.offered import refused_here
from tputtui.ui.panels.limits import next_values
from tputtui.ui.saving import save_dialog
from tputtui.ui.screens.choose import Choice, Choose
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.help import HelpScreen
from tputtui.ui.screens.log import LogScreen
from tputtui.ui.screens.watching import WatchingScreen
from tputtui.ui.terminal_app import TerminalApp

__all__ = ["TputApp"]

_TICK_S = 0.25
_MANY = 100
"""So many requests in flight are not aborted by one key."""


class TputApp(TerminalApp):
    """The board of one session.

    start: called once the first frame is on the screen; boots the engine.
    log_path: the file with all that the engine prints. save_dir: where `s` saves.
    keys: key by binding name; they replace the default keys.
    leave_now: see `TerminalApp`.
    """

    def __init__(
        self,
        session: Session,
        *,
        start: Callable[[], None],
        log_path: Path | None = None,
        save_dir: Path | None = None,
        theme: str = "dark",
        keys: Mapping[str, str] | None = None,
        leave_now: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(theme, leave_now)
        self.session = session
        self.saved: list[Path] = []
        self._start = start
        self._log_path = log_path
        self._save_dir = save_dir or Path.cwd()
        self._notified: set[TputError] = set()
        self._tail = LogTail(log_path)
        self._board = Board(session, self._tail)
        self._plan = Plan()
        self._keys = dict(keys or {})
        self.set_keymap(self._keys)

    @property
    def _refused(self) -> frozenset[str]:
        return refused_here(self.session.latest)

    def get_default_screen(self) -> Screen[None]:
        """The board."""
        return self._board

    def on_ready(self) -> None:
        """The first frame is out: start the engine, then look at it four times a second."""
        self._board.redraw()
        self._start()
        self.set_interval(_TICK_S, self._tick)

    def _tick(self) -> None:
        if not self.is_running:
            # Textual removes the screens while its timers still run.
            return
        self._consider(self.session.advance())
        screen = self.looked_at
        if self.behind:
            pass
        elif isinstance(screen, LogScreen):
            screen.add(self._tail.read())
        elif isinstance(screen, Board | WatchingScreen):
            screen.tick()
        for news in self.session.news():
            self.notify(news, severity="warning", timeout=12)
        status = self.session.host.status
        for failure in (status.load_failure, status.refused):
            if failure is not None and failure not in self._notified:
                self._notified.add(failure)
                self.notify(failure.hint, title=failure.message, severity="error", timeout=12)
        if isinstance(status.failure, UsageError) and status.facts is None:
            # vLLM refuses the arguments: there is nothing to watch, so the terminal shows why.
            self.exit()

    def _consider(self, frame: Frame) -> None:
        """Let what the keys would do be predicted while the board is looked at."""
        if self.screen is self._board:
            name = self._board.selected
            self.session.consider(name, *next_values(frame, name))
        elif not isinstance(self.screen, Dialog):
            self.session.consider("")

    # -- limits ----------------------------------------------------------------------------

    def _try(self, act: Callable[..., object]) -> None:
        """Call `act` and paint, or notify why it failed; above a ceiling, offer a boot.

        Where it would cost other people's requests something, ask, and call it with `anyway=True`.
        """
        try:
            message = act()
        except OthersError as refusal:
            again = partial(self._try, partial(act, anyway=True))
            # Once a dialog that asked for a value has closed.
            self.call_later(self.push_screen, Confirm.anyway(refusal, again))
            return
        except CeilingError as refusal:
            self._offer_boot(refusal)
            return
        except TputError as refusal:
            self.notify(refusal.hint, title=refusal.message, severity="warning", timeout=6)
            return
        if isinstance(message, str) and message:
            self.notify(message, timeout=3)
        self._board.react()

    def _offer_boot(self, refusal: CeilingError) -> None:
        session, limit = self.session, knob(refusal.name)
        value = "" if limit.choices else f" {refusal.value}"
        sentences = [
            f"{refusal.message} Boot again with {limit.flag}{value}?",
            session.steer.engine.boot_cost,
            "History, marks and everything else that was changed stay.",
        ]

        def boot() -> None:
            self._try(lambda: session.steer.engine.boot_higher(refusal.name, refusal.value))

        self.push_screen(Confirm("boot with a higher ceiling", sentences, "boots", boot))

    def action_step(self, direction: int) -> None:
        """Change the selected limit by one small step."""
        self._change(fine_step, direction)

    def action_leap(self, direction: int) -> None:
        """Halve or double the selected limit."""
        self._change(coarse_step, direction)

    def _change(self, step: Callable[..., int], direction: int) -> None:
        session, name = self.session, self._board.selected

        def act(*, anyway: bool = False) -> str:
            ceilings, old = session.steer.limits.ceilings, session.steer.limits.asked(name)
            value = step(name, old, direction, ceilings)
            if session.steer.limits.set(name, value, anyway=anyway):
                return ""
            if direction < 0:
                return f"{name} is at its minimum."
            if not old and knob(name).absent:
                return f"{name} is none already: nothing is higher."
            # At the ceiling: setting a value beyond it offers a boot, or says why it cannot be.
            beyond = step(name, old, direction, ceilings.with_value(name, 2 * old + 2))
            session.steer.limits.set(name, beyond)
            return ""

        self._try(act)

    @on(Board.Typed)
    def action_type(self) -> None:
        """Ask for the exact value of the selected limit."""
        session, name = self.session, self._board.selected

        def set_typed(value: int | str) -> None:
            try:
                session.steer.limits.set(name, value)
            except CeilingError as refusal:
                # Once the dialog has closed.
                self.call_later(self._offer_boot, refusal)
            except OthersError:
                self._try(partial(session.steer.limits.set, name, value))
            self._board.redraw()

        def open_dialog() -> None:
            self.push_screen(limit_dialog(session, name, set_typed))

        self._try(open_dialog)

    def action_undo(self) -> None:
        """Undo the last change of a limit or of the load."""
        self._try(lambda: f"Undone: {self.session.steer.undo()}")

    def action_redo(self) -> None:
        """Redo the change that was undone last."""
        self._try(lambda: f"Done again: {self.session.steer.redo()}")

    def action_preempt(self) -> None:
        """Shrink the batch to its limit now."""
        self._try(self.session.steer.engine.preempt)

    # -- the engine ------------------------------------------------------------------------

    def action_toggle_engine(self) -> None:
        """Pause the engine, or let it run on."""
        self._try(self.session.steer.engine.toggle)

    def action_reset_prefix_cache(self) -> None:
        """Empty the prefix cache."""
        self._try(self.session.steer.engine.reset_prefix_cache)

    def action_edit_engine(self) -> None:
        """Edit any argument of the engine, and boot with it."""
        # Larger screens are imported when they are opened: the first frame must not wait for them.
        from tputtui.ui.screens.engine import EngineForm

        session = self.session

        def use(args: dict[str, EngineValue]) -> None:
            session.steer.engine.boot_with(args, {})
            self._board.redraw()

        def open_form() -> None:
            cost, facts = session.steer.engine.boot_cost, session.host.status.facts
            assert facts is not None
            args = session.engine.args
            self.push_screen(EngineForm(facts.arguments, args, cost, use, resolved=facts.resolved))

        self._try(open_form)

    def action_boot_again(self) -> None:
        """Boot again after a failure."""
        if self.session.host.status.failure is not None:
            self.session.steer.engine.boot_again()

    # -- load ------------------------------------------------------------------------------

    def action_toggle_load(self) -> None:
        """Hold the load, or let it run."""
        self._try(self.session.steer.load.toggle)

    def action_stop_load(self) -> None:
        """Abort what is in flight; ask first where that is much."""
        in_flight = self.session.latest.accounting.in_flight
        if in_flight < _MANY:
            self._try(self.session.steer.load.stop)
            return
        sentences = [
            f"{in_flight:,} requests are in flight: all of them end here, as aborted.",
            "Space holds the load instead, and lets them finish.",
        ]
        act = partial(self._try, self.session.steer.load.stop)
        self.push_screen(Confirm("stop the load", sentences, "aborts them", act))

    def action_scale_load(self, direction: int) -> None:
        """Raise the load by a quarter, or lower it by a fifth."""
        session = self.session
        self._try(lambda: session.steer.load.set(scaled(session.steer.load.asked, direction)))

    def action_edit_load(self) -> None:
        """Edit every part of the load."""
        from tputtui.ui.screens.load import LoadEditor

        session = self.session

        def use(workload: Workload) -> None:
            session.steer.load.set(workload)
            self._board.redraw()

        status = session.host.status
        editor = LoadEditor(
            session.steer.load.asked,
            use,
            max_model_len=status.knobs.max_model_len if status.knobs else None,
            # Before an engine is up, vLLM's default on most machines.
            block_size=status.facts.block_size if status.facts else 16,
        )
        self.push_screen(editor)

    def action_edit_goals(self) -> None:
        """Ask for goals."""
        session = self.session

        def use(texts: list[str]) -> None:
            session.set_goals(parse_goals(texts[0]))
            self._board.redraw()

        hint = "ttft, tpot, e2e or job, a percentile, a limit: ttft_p99=500ms, tpot_p99=50ms."
        self.push_screen(Dialog("goals", [("", describe_goals(session.goals))], hint, use))

    def action_edit_guard(self) -> None:
        """Ask for the guard: what a change must not break."""
        session = self.session

        def use(texts: list[str]) -> None:
            session.steer.set_guard(parse_guard(texts[0]) if texts[0].strip() else None)
            self._board.redraw()

        hint = "A change that breaks it is undone by itself: ttft_p99=2s,kv=0.97. Empty: none."
        self.push_screen(Dialog("guard", [("", session.steer.guard)], hint, use))

    def action_compare(self) -> None:
        """Run an A/B of the present limits, or stop it."""
        experiments, compare = self.session.steer.experiments, self.session.latest.compare
        under_way = compare is not None and not compare.done
        self._try(experiments.stop if under_way else experiments.compare)

    def action_verify(self) -> None:
        """Ask, then boot with exactly the present values and measure them again."""
        self._ask_verify(
            "verify boot",
            "Boot again with exactly the present limits as ceilings, measure under the same load, "
            "and compare?",
            "What it finds is saved with the profile (s): tuned live becomes verified.",
        )

    def action_verify_served(self) -> None:
        """Ask, then measure vLLM's own server with exactly the present values."""
        self._ask_verify(
            "as served",
            "Boot vLLM's own server in place of this engine, with exactly the present limits as "
            "ceilings, measure under the same load over HTTP, and boot this engine again?",
            "What HTTP, tokenizer and API server add is saved with the profile (s), as served.",
            served=True,
        )

    def _ask_verify(self, title: str, question: str, saved: str, *, served: bool = False) -> None:
        session = self.session

        def ask() -> None:
            session.advance()  # the check is about the present state
            session.steer.experiments.check_verify(served=served)
            engine = session.steer.engine
            sentences = [question, engine.server_cost if served else engine.boot_cost, saved]
            act = partial(self._try, partial(session.steer.experiments.verify, served=served))
            self.push_screen(Confirm(title, sentences, "boots", act))

        self._try(ask)

    def action_show_tuner(self) -> None:
        """Open the tuner's screen."""
        from tputtui.ui.screens.tuner import TunerScreen

        keep = partial(setattr, self, "_plan")
        self.push_screen(TunerScreen(self.session, self._plan, keep, self.action_verify))

    def action_show_history(self) -> None:
        """Open the table of all settings tried."""
        from tputtui.ui.screens.history import HistoryScreen

        self.push_screen(HistoryScreen(self.session))

    def action_show_frontier(self) -> None:
        """Plot every setting measured so far, throughput against latency."""
        from tputtui.ui.screens.frontier import FrontierScreen

        self.push_screen(FrontierScreen(self.session))

    def action_command(self) -> None:
        """Ask for a line that sets a limit, the load, goals or the guard."""
        from tputtui.ui.command_line import EXAMPLES, carry_out

        def use(texts: list[str]) -> None:
            try:
                message = carry_out(self.session, texts[0])
            except CeilingError as refusal:
                # Once the dialog has closed.
                self.call_later(self._offer_boot, refusal)
                return
            if message:
                self.notify(message, timeout=3)
            self._board.redraw()

        self.push_screen(Dialog("command", [("", "")], EXAMPLES, use))

    def action_copy(self) -> None:
        """Ask what to copy: a value, the command, the changes."""
        from tputtui.ui.copied import copies

        def copy(what: str, make: Callable[[], str]) -> None:
            try:
                text = make()
            except TputError as refusal:
                self.notify(refusal.hint, title=refusal.message, severity="warning", timeout=6)
                return
            if not text:
                self.notify(f"There is no {what} yet.", severity="warning", timeout=4)
                return
            self.copy_to_clipboard(text)
            self.notify(text.partition("\n")[0][:60], title=f"Copied: {what}", timeout=4)

        makes = copies(self.session, self._board.selected)
        choices = [Choice(key, what, partial(copy, what, make)) for key, what, make in makes]
        self.push_screen(Choose("copy to the clipboard", choices))

    # -- the rest --------------------------------------------------------------------------

    def action_save(self) -> None:
        """Ask for a name and save a profile."""

        def saved(path: Path) -> None:
            self.saved.append(path)
            self.notify(f"{path}", title="Saved", timeout=8)

        def ask() -> None:
            self.push_screen(save_dialog(self.session, self._save_dir, saved))

        self._try(ask)

    def action_show_log(self) -> None:
        """Show the engine's whole log."""
        self.push_screen(LogScreen(self._tail, str(self._log_path or "")))

    def action_show_help(self) -> None:
        """Show keys and meanings."""
        self.push_screen(HelpScreen(listed_of(Board.BINDINGS, self._keys, self._refused)))

    def woken(self) -> None:
        """Begin a new window after the process was stopped, so that none spans the gap."""
        super().woken()
        self.session.woken()

    async def action_quit(self) -> None:
        """Leave: the palette's Quit."""
        self.action_leave()

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Everything that has a key, and the themes."""
        return commands(self, self._board.action_zoom, self._keys, self._refused)

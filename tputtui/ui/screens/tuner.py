"""The tuner's screen: the plan, the trials as they come, the outcome. The engine runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Footer

from tputtui.errors import BootNeeded, TputError, UsageError
from tputtui.experiments.tuner.plan import Plan, parse_engines, space_of
from tputtui.experiments.tuner.proposers import SEARCHES
from tputtui.frame import Frame
from tputtui.text.format import counted
from tputtui.ui.canvas import Canvas
from tputtui.ui.offered import refused_here
from tputtui.ui.panels.tuner import plan_rows, status_row, tuner_rows
from tputtui.ui.screens.confirm import Confirm
from tputtui.ui.screens.dialog import Dialog
from tputtui.ui.screens.watching import WatchingScreen
from tputtui.ui.watched import Watched

__all__ = ["TunerScreen"]

_PLANNING = (
    "start",
    "pick",
    "change",
    "find",
    "vary",
    "boots",
    "search",
    "budget",
    "goals",
    "resume",
)
_PARTS = ("goals", "find", "vary", "boots", "search", "budget")
"""The parts of the plan that the arrows go through, from top to bottom."""
_BUDGETS_S = tuple(60.0 * minutes for minutes in (2, 5, 10, 15, 20, 30, 45, 60, 90, 120))


class TunerScreen(WatchingScreen):
    """Shows the plan until the search starts, then the trials and the outcome.

    plan: to start from; None for a recorded run, which can only be looked at. keep: called with
    every changed plan. verify: called to ask for a verify boot.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "start", "start", key_display="⏎"),
        Binding("enter", "take", "take it", key_display="⏎"),
        # The form itself says what the arrows do: the last line has no room for it.
        Binding("up", "pick(-1)", "pick", show=False, key_display="↑↓"),
        Binding("down", "pick(1)", "pick", show=False),
        Binding("right", "change(1)", "change", show=False, key_display="←→"),
        Binding("left", "change(-1)", "change", show=False),
        Binding("f", "find", "find"),
        Binding("y", "vary", "vary"),
        Binding("e", "boots", "boots"),
        Binding("m", "search", "search"),
        Binding("b", "budget", "budget"),
        Binding("o", "goals", "goals"),
        Binding("g", "resume", "go on"),
        Binding("x", "finish", "stop, keep the best"),
        Binding("v", "verify", "take and verify"),
        Binding("r", "reject", "leave it"),
        Binding("r", "anew", "search anew"),
        Binding("escape,t,q", "leave", "back", key_display="esc"),
    ]

    def __init__(
        self,
        session: Watched,
        plan: Plan | None,
        keep: Callable[[Plan], None] = lambda plan: None,
        verify: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(session)
        self._plan = plan
        self._keep = keep
        self._verify = verify
        self._title = Canvas(id="tuner-title")
        self._canvas = Canvas(id="tuner")
        self._state = session.latest.tuner
        self._planning = plan is not None and self._state is None
        self._phase = ""
        self._picked = _PARTS[0]

    def compose(self) -> ComposeResult:
        """The line on the tuner's state, and everything else."""
        yield self._title
        yield self._canvas
        yield Footer(show_command_palette=False, compact=True)

    def show(self, frame: Frame) -> None:
        """Paint `frame`; only cells that differ are written."""
        self._state = frame.tuner
        if not self._canvas.size.area:
            return
        plan = self._plan if self._planning else None
        self._title.paint([status_row(frame, plan, self._title.size.width)])
        width, height = self._canvas.size
        if plan is not None:
            rows = plan_rows(frame, plan, width, self._picked)
        elif frame.tuner is None:
            rows = [[(" The tuner has not been used in this run so far.", "muted")]]
        else:
            rows = tuner_rows(frame, width, height, over=self._plan is None)
        self._canvas.paint(rows)
        phase = f"{self._planning} {frame.tuner and (frame.tuner.phase, frame.tuner.offered)}"
        if phase != self._phase:
            # Other keys can be used now.
            self._phase = phase
            self.refresh_bindings()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Show only keys that do something now."""
        # The state shown last: another look would move the run on.
        state = self._state
        over = state is not None and state.over and not self._planning
        match action:
            case "finish":
                return state is not None and not state.over and self._plan is not None
            case "verify" if "verify" in refused_here(self._session.latest):
                return False
            case "take" | "verify" | "reject":
                return over and bool(state and state.offered) and self._plan is not None
            case "anew":
                return over and not (state and state.offered) and self._plan is not None
        return self._planning if action in _PLANNING else True

    # -- the plan --------------------------------------------------------------------------

    def action_start(self) -> None:
        """Start the search."""
        if self._plan is not None:
            self._tune(self._plan)

    def _tune(self, plan: Plan, told: str = "") -> None:
        """Search by `plan`; told: what is said where that begins."""

        def act(*, anyway: bool = False) -> str:
            self._session.steer.experiments.tune(plan, anyway=anyway)
            self._planning = False
            return told

        self.attempt(act, shown_s=4.0)

    def action_pick(self, direction: int) -> None:
        """Pick another part of the plan."""
        self._picked = _PARTS[(_PARTS.index(self._picked) + direction) % len(_PARTS)]
        self.tick()

    async def action_change(self, direction: int) -> None:
        """Change the picked part: its next value, or ask for it."""
        match self._picked:
            case "goals":
                await self.action_goals()
            case "find":
                self.action_find()
            case "vary":
                self.action_vary()
            case "boots":
                self.action_boots()
            case "search":
                self.action_search(direction)
            case "budget" if self._plan is not None:
                beyond = [each for each in _BUDGETS_S[::direction]
                          if (each - self._plan.budget_s) * direction > 0]  # fmt: skip
                self._change(budget_s=next(iter(beyond), self._plan.budget_s))

    async def action_goals(self) -> None:
        """Ask for goals."""
        await self.app.run_action("edit_goals")

    def action_find(self) -> None:
        """Search limits for the load as it is, or the load as well."""
        self._change(load=not self._plan.load if self._plan else False)

    def action_search(self, direction: int = 1) -> None:
        """Take the next way to search, or the one before."""
        names = list(SEARCHES)
        at = names.index(self._plan.search) if self._plan else -1
        self._change(search=names[(at + direction) % len(names)])

    def action_vary(self) -> None:
        """Ask which limits to vary, and through which values."""

        def use(text: str) -> None:
            frame = self._session.latest
            facts, asked = frame.status.facts, frame.asked
            if facts is not None and asked is not None:
                space_of(Plan(vary=text), asked, facts, frame.profile.load)
            self._change(vary=text)

        hint = (
            "max_num_seqs=16..256 doubles; max_num_seqs=16,64; scheduling_policy: all its words. "
            "Empty: sequences and batched tokens, halved down from their ceilings."
        )
        self._ask("limits to vary", self._plan.vary if self._plan else "", hint, use)

    def action_boots(self) -> None:
        """Ask for engine arguments to boot with as well."""

        def use(text: str) -> None:
            parse_engines(text)
            self._change(engines=text)

        hint = (
            "block_size=16,32 async_scheduling=true,false: each combination is booted and searched "
            "one after the other, and the boots count into the budget. Empty: no other engine."
        )
        self._ask("engine arguments to boot with", self._plan.engines if self._plan else "",
                  hint, use)  # fmt: skip

    def action_budget(self) -> None:
        """Ask how long the search may take."""

        def use(text: str) -> None:
            try:
                minutes = float(text.lower().removesuffix("min").strip())
            except ValueError:
                raise UsageError(f"{text!r} is no number of minutes.", "Write 10.") from None
            if not 0.5 <= minutes <= 1440:
                raise UsageError(f"{text} min: half a minute to a day, please.")
            self._change(budget_s=60 * minutes)

        hint = "Minutes, for search and confirmation together."
        self._ask("budget", f"{self._plan.budget_s / 60:g}" if self._plan else "", hint, use)

    async def action_resume(self) -> None:
        """Go on with the trials of the newest run that has any, if they are about this setting."""
        # Imported only here: reading a log needs numpy and takes a while.
        from tputtui.record.resuming import resumed

        plan, asked = self._plan, self._session.latest.profile
        if plan is None:
            return
        try:
            plan = await asyncio.to_thread(resumed, plan, asked, "")
        except TputError as refusal:
            self.refuse(refusal)
            return
        self._tune(plan, f"Going on after {counted(len(plan.earlier_trials), 'trial')}.")

    # -- while it runs, and after ----------------------------------------------------------

    def action_finish(self) -> None:
        """Try no more settings; a second time, skip the confirmation as well."""
        self.attempt(self._session.steer.experiments.finish_tuning, shown_s=5.0)

    def action_take(self) -> None:
        """Apply the better setting; ask first where that needs a boot."""
        self._take(lambda: None)

    def action_verify(self) -> None:
        """Apply the better setting, and ask for a verify boot of it."""
        self._take(self._verify)

    def action_reject(self) -> None:
        """Leave everything as it is, and go back to the plan."""
        self.notify("Everything stays as it was.", timeout=3)
        self.action_anew()

    def action_anew(self) -> None:
        """Go back to the plan."""
        self._planning = True
        self.tick()

    # -- inside ----------------------------------------------------------------------------

    def _take(self, then: Callable[[], None]) -> None:
        steer = self._session.steer
        try:
            message = steer.take()
        except BootNeeded as needed:
            sentences = [
                f"{needed.message} Boot that one?",
                steer.engine.boot_cost,
            ]

            def boot() -> None:
                self.attempt(lambda: steer.take(boot=True), shown_s=5.0)

            self.app.push_screen(Confirm("boot what was found", sentences, "boots", boot))
        except TputError as refusal:
            self.refuse(refusal)
        else:
            self.notify(
                f"{message}. u on the board undoes it, s saves it.", title="Taken", timeout=6
            )
            self.dismiss()
            then()

    def _change(self, **changes: object) -> None:
        if self._plan is not None:
            self._plan = replace(self._plan, **changes)  # type: ignore[arg-type]
            self._keep(self._plan)
        self.tick()

    def _ask(self, title: str, text: str, hint: str, use: Callable[[str], None]) -> None:
        dialog = Dialog(title, [("", text)], hint, lambda texts: use(texts[0].strip()))
        self.app.push_screen(dialog)

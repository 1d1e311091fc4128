"""Everything that a person can change in a run, and the experiments under way. Front end's thread.

Orders go to the engine thread through the host and come into force between two steps. A sweep, an
A/B, a verify boot and the guard change settings by themselves: each new frame moves them on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from tputtui.engine.host import Clock
from tputtui.engine.models import check_no_secret
from tputtui.engine.orders import Orders, RunLoad, Status, StopLoad
from tputtui.errors import BootNeeded, KnobError, UsageError
from tputtui.experiments.setting import Setting
from tputtui.experiments.under_way import Experiments
from tputtui.experiments.verifying import (
    Next,
    Verifying,
    check_real,
    check_window,
    is_measured,
    waiting,
)
from tputtui.export.startup import start_up
from tputtui.frame import SERVING, Frame
from tputtui.frame.tried import Trials
from tputtui.knobs import Knobs, differing, knob, turned
from tputtui.load.sections import difference
from tputtui.load.source import check_trace
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.profile import EngineSpec, EngineValue, Profile, tokenizer_of
from tputtui.profile.evidence import Evidence
from tputtui.session.asked import Asked
from tputtui.session.guard import Guard
from tputtui.session.guarding import Guarding
from tputtui.session.helm import Helm, Windows
from tputtui.session.tuner import Tuner
from tputtui.session.undo import Changes

__all__ = ["Steering"]


class Steering:
    """Steers what `host` runs.

    asked: what was asked for last. trials: every setting tried. guard: what a turn must not break.
    windows: begun anew when something is turned. look, snapshot: how everything stands now, and the
    profile that holds it.
    """

    def __init__(
        self,
        host: Orders,
        recorder: Recorder,
        asked: Asked,
        trials: Trials,
        clock: Clock,
        guard: Guard | None,
        windows: Windows,
        look: Callable[[], Frame],
        snapshot: Callable[[], Profile],
    ) -> None:
        self._host = host
        self._recorder = recorder
        self._asked = asked
        self._trials = trials
        self._clock = clock
        self._look = look
        self._snapshot = snapshot
        self._helm = Helm(host, asked, clock, windows)
        self._changes = Changes()
        self._experiments = Experiments()
        self.tuner = Tuner(host, asked, self._helm, self._experiments, clock,
                           self._limits, self._break_off, self._go_to)  # fmt: skip
        self._guarding = Guarding(guard)
        self._verifying: Verifying | None = None
        self._verify_waits = False
        self._news: list[str] = []

    # -- moved on by frames ----------------------------------------------------------------

    @property
    def under_way(self) -> str:
        """What turns things by itself now: "a sweep", "an A/B", "the tuner", or nothing."""
        return self._experiments.under_way

    @property
    def legs(self) -> bool:
        """Whether that puts on legs, which are no settings of the person's."""
        return self._experiments.legs

    @property
    def stands(self) -> Setting | None:
        """The person's setting, which will stand again once that is over; None without."""
        return self._experiments.before

    def notice(self, status: Status) -> None:
        """Begin anew with an engine that has just come up."""
        if self._asked.follow(status):
            self._changes.clear()
            self._guarding.stand_down()
            self._helm.turned()

    def follow(self, seen: Frame) -> Frame:
        """Move on what is under way by what is seen; the frame with how that stands."""
        under_way = self.under_way
        # The engine may be gone since: then there is nothing to turn any more.
        with suppress(KnobError):
            self._helm.grant(self._experiments.follow(seen, self._recorder))
            # A leg is no turn of the person's.
            if not self.legs and (broken := self._guarding.follow(seen, self._recorder)):
                self._undo_broken(broken)
            self._follow_verify(seen)
        if under_way == "an A/B" and not self.under_way:
            self._note_compare()
        verified = self._verifying.state if self._verifying else None
        if self._verify_waits:
            verified = waiting(seen)
        return replace(
            seen,
            sweep=self._experiments.sweep_state,
            compare=verified or self._experiments.compare_state,
            tuner=self._experiments.tuner_state,
            guard=self._guarding.text,
        )

    def news(self) -> list[str]:
        """What happened by itself since this was last asked, in sentences."""
        news, self._news = self._news, []
        return news

    def evidence(self) -> Evidence | None:
        """What a verify boot found of the setting that stands, if it did."""
        verifying, profile = self._verifying, self._asked.profile
        if verifying and verifying.is_of(profile.engine, self._asked.knobs, profile.load):
            return verifying.evidence
        return None

    # -- limits -----------------------------------------------------------------------------

    def set_knob(self, name: str, value: int | str) -> bool:
        """Ask for a limit, in force by the next step; whether it differs from the last asked.

        Raises KnobError when it is out of bounds or the engine is not up, CeilingError when a boot
        would let it be so high.
        """
        asked = self._setting().knobs
        new = self._asked.with_limit(self._host.status, asked, name, value)
        if new == asked:
            return False
        self._turn_away(name, "A limit was turned.")
        self._helm.ask(new)
        return True

    def undo(self) -> str:
        """Take back the last turn of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to take back.
        """
        self._break_off("Undone.")
        before = self._changes.undo(self._setting())
        if before is None:
            raise UsageError("Nothing to undo.", "Limits and load stand as they were started.")
        return self._helm.put_on(before, "undo")

    def redo(self) -> str:
        """Do again what was undone last; what was done, in words.

        Raises UsageError when nothing was undone since the last turn.
        """
        self._break_off("Done again.")
        after = self._changes.redo(self._setting())
        if after is None:
            raise UsageError("Nothing to do again.", "Only what was just undone can be.")
        return self._helm.put_on(after, "redo")

    def preempt(self) -> str:
        """Shrink the batch to `max_num_seqs` now rather than by draining; says so, in words.

        Raises UsageError when nothing runs above the limit.
        """
        self._limits()
        return self._helm.preempt(self._look().draining_seqs)

    def reset_prefix_cache(self) -> str:
        """Empty the prefix cache."""
        self._limits()
        return self._helm.reset_prefix_cache()

    def toggle_engine(self) -> str:
        """Pause the engine between two steps, or let it go on; what was done, in words."""
        self._limits()
        self._break_off("The engine was paused.")
        return self._helm.toggle_engine()

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Go back to the limits and load of a trial; what was done, in words.

        Raises BootNeeded when it ran on another engine, unless `boot` allows one, and UsageError
        when there is no such trial.
        """
        self._limits()
        trial = self._trials.find(number)
        setting, booted = Setting(trial.knobs, trial.load), trial.booted
        return self._go_to(f"row {number}", trial.engine, setting, booted, boot=boot)

    def asked(self, name: str) -> int:
        """A limit as last asked for. Raises KnobError while the engine is not up."""
        return self._setting().knobs.get(name)

    def ceilings(self) -> Knobs:
        """The highest the engine can take. Raises KnobError while it is not up."""
        self._limits()
        return self._helm.facts.ceilings

    # -- load -------------------------------------------------------------------------------

    def set_workload(self, workload: Workload) -> bool:
        """Go on with another load; whether it differs.

        Raises UsageError when its trace cannot be opened.
        """
        before = self._experiments.before
        old = before.load if before else self._helm.load
        if workload == old:
            return False
        if workload.trace != old.trace or workload.arrivals != old.arrivals:
            check_trace(workload, tokenizer_of(self._helm.engine))
        if self._asked.knobs is not None and self._host.status.state in SERVING:
            self._turn_away("load", "The load was turned.")
        self._helm.put_load(workload, difference(self._helm.load, workload))
        return True

    def toggle_load(self) -> str:
        """Start the load, or hold it; what was done, in words."""
        self._limits()
        self._break_off("The load was held.")
        return self._helm.toggle_load()

    def restart_load(self) -> int:
        """Begin the load with its first request, on an empty engine; the number of the order."""
        self._break_off("The load was begun anew.")
        return self._helm.restart("load begun anew")

    def stop_load(self) -> None:
        """Abort what is in flight and go back to the first request."""
        self._limits()
        self._break_off("The load was stopped.")
        self._helm.turned()
        self._host.order(StopLoad())

    # -- goals and experiments --------------------------------------------------------------

    @property
    def guard(self) -> str:
        """What a turn must not break, as it was written; empty for nothing."""
        return self._guarding.text

    def set_guard(self, guard: Guard | None) -> None:
        """Guard turns from now on by this; None: no more."""
        self._guarding = Guarding(guard)

    def measure_anew(self) -> None:
        """Begin a new window: what is in flight now settles first, then figures count."""
        self._helm.measure_anew()

    def sweep(self) -> None:
        """Step the load up from an eighth until saturation, a point a level; then restore it.

        Raises UsageError for a load without a constant level, KnobError while no engine is up.
        """
        self._limits()
        self._break_off("Started again.")
        first = self._experiments.sweep(self._setting(), self._clock())
        if not self._host.load_wanted:
            self._host.order(RunLoad())
        self._helm.grant(first)

    def compare(self) -> str:
        """Run an A/B: the pinned baseline, or the limits before these, against these.

        Raises UsageError when there is nothing else to compare these with.
        """
        self._break_off("Started again.")
        asked = self._limits()
        other = self._trials.other(asked, self._helm.engine)
        if other is None:
            raise UsageError(
                "There is nothing to compare with.", "Turn a limit first, or pin a row (h lists)."
            )
        goals = self._asked.profile.goals
        first = self._experiments.compare(other.knobs, self._setting(), goals, self._clock())
        self._helm.grant(first)
        return f"A/B: {differing(other.knobs, asked)}. Any turn breaks it off."

    def check_verify(self) -> EngineSpec:
        """What `verify` would boot; raises what it would raise, so ask before asking a person."""
        self._limits()
        check_real(self._helm.facts.simulated)
        if self.under_way:
            raise UsageError(
                f"{self.under_way.capitalize()} is under way: no window is of this setting alone.",
                "Let it end, or stop it; then v.",
            )
        check_window(self._look())
        exact, _, refused = start_up(self._snapshot())
        if refused:
            raise UsageError(refused)
        return exact

    def verify(self) -> str:
        """Boot with exactly the present values, and measure them again; what is done, in words.

        Where they have not been measured for 10 s, that is waited for.
        Raises UsageError where there will be no figures to compare with, while an experiment is
        under way, on a simulated device, or where vLLM would not boot with these values; KnobError
        with no engine up.
        """
        exact = self.check_verify()
        self._verifying = None
        if not is_measured(self._look()):
            self._verify_waits = True
            return "The setting that stands is measured for 10 s first. Any turn breaks it off."
        return self._begin_verify(exact)

    def _begin_verify(self, exact: EngineSpec) -> str:
        limits, booted = self._limits(), self._helm.facts.booted
        verifying = Verifying(self._look(), self._recorder, exact, self._host.status.refused)
        self.boot_with(exact.args, turned(limits, booted), only=True)
        self._verifying = verifying
        return "Booting with exactly these values, to measure them again."

    def stop_experiment(self) -> None:
        """Break a sweep or an A/B off and put everything back; what it found stays."""
        self._break_off("Stopped.")

    def pin(self, number: int | None) -> None:
        """Compare with that trial from now on, or raise UsageError; None: with the one before."""
        self._trials.pin(number, self._clock())

    # -- boots ------------------------------------------------------------------------------

    def boot_again(self) -> None:
        """Boot the same engine anew, with the limits as they were asked for last."""
        self._helm.boot_again()

    def boot_with(
        self, args: Mapping[str, EngineValue], knobs: Mapping[str, int], *, only: bool = False
    ) -> None:
        """Boot another engine in place of this one, in this process; the load goes on with it.

        args: its engine arguments, all of them. knobs: limits to start with; the others that had
        been turned stay as they are, as far as the new ceilings let them, or with `only` do not.
        Where it does not boot, the engine of before is booted again.
        Raises KnobError while no engine is up, UsageError for an argument that holds a secret.
        """
        self._limits()
        check_no_secret(args)
        self._break_off("Another engine is booted.")
        self._helm.boot(args, knobs, only=only)

    def boot_higher(self, name: str, value: int) -> None:
        """Boot the same engine with a higher ceiling for one limit, and that limit at it."""
        limit = knob(name)
        ceiling = {limit.argument: bool(value) if limit.choices else value}
        self.boot_with({**self._helm.engine.args, **ceiling}, {name: value})

    @property
    def boot_cost(self) -> str:
        """What another boot costs, in a sentence. Raises KnobError while no engine is up."""
        self._limits()
        return self._helm.boot_cost(self._recorder.accounting.in_flight)

    # -- inside -----------------------------------------------------------------------------

    def _limits(self) -> Knobs:
        status = self._host.status
        self.notice(status)
        return self._asked.limits(status)

    def _setting(self) -> Setting:
        """What stands, or will stand again when an experiment is over."""
        self._limits()
        return self._experiments.before or self._helm.present

    def _go_to(
        self, what: str, engine: EngineSpec, setting: Setting, booted: Knobs, *, boot: bool
    ) -> str:
        """Put on another setting, of another engine if `boot` allows; what was done, in words."""
        if engine != self._helm.engine:
            if not boot:
                raise BootNeeded(f"{what.capitalize()} ran on another engine.", self.boot_cost)
            self.boot_with(engine.args, turned(setting.knobs, booted), only=True)
            if setting.load != self._helm.load:
                self._helm.put_load(setting.load, difference(self._helm.load, setting.load))
            return f"Booting the engine of {what}."
        self._turn_away(what, "Another setting was chosen.")
        return self._helm.put_on(setting, what) or "Already there."

    def _turn_away(self, what: str, why: str) -> None:
        """The person turns `what`: end experiments, remember what stands, stand guard."""
        self._break_off(why)
        self._experiments.forget()
        self._verifying = None
        self._changes.made(self._setting(), what, self._clock())
        self._guarding.turned(self._recorder, self._clock())

    def _follow_verify(self, seen: Frame) -> None:
        if self._verify_waits and is_measured(seen):
            # First: what is looked at from here on must not begin it again.
            self._verify_waits = False
            try:
                self._news.append(self._begin_verify(self.check_verify()))
            except UsageError as error:
                self._news.append(str(error))
            return
        if (verifying := self._verifying) is None:
            return
        match verifying.follow(seen, self._recorder):
            case Next.BEGIN:
                verifying.begun(self._helm.restart("verify: measured again"))
            case Next.ANEW:
                self._helm.measure_anew()

    def _note_compare(self) -> None:
        """Keep beside the present row what an A/B of it came to."""
        if (state := self._experiments.compare_state) is not None:
            self._trials.note(f"A/B, {state.named}: {state.note}")

    def _undo_broken(self, broken: str) -> None:
        """The guard takes back the last turn."""
        if (before := self._changes.undo(self._setting())) is not None:
            self._trials.note(f"undone by the guard: {broken}")
            said = self._helm.put_on(before, f"guard ({broken})")
            self._news.append(f"The guard took it back: {broken}. {said}")

    def _break_off(self, why: str) -> None:
        """End an experiment and put back what it had turned."""
        self._verify_waits = False
        if self._verifying is not None:
            self._verifying.stop(why)
        under_way = self.under_way
        self._helm.grant(self._experiments.stop(why))
        if under_way == "an A/B":
            self._note_compare()

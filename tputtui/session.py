"""One run: a hosted engine, its load, what was measured. The only thing a front end talks to.

Called on the front end's thread. Orders go to the engine thread and come into force between two
steps; `frame()` says how things stand, as one immutable picture.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from tputtui import profile
from tputtui.engine.host import Clock, Host
from tputtui.engine.orders import Orders, Status
from tputtui.engine.protocol import Engine, EngineFacts, State
from tputtui.errors import BootNeeded, UsageError
from tputtui.export.startup import start_up
from tputtui.frame import SERVING, CompareState, Frame
from tputtui.goals import Goal
from tputtui.hardware import HardwareSampler
from tputtui.knobs import Knobs, differing, knob, turned
from tputtui.load.sections import difference
from tputtui.load.source import check_trace
from tputtui.load.workload import Workload
from tputtui.measure.history import History
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import series
from tputtui.measure.window import SPAN_S
from tputtui.observer import Observer
from tputtui.profile import EngineSpec, EngineValue, Profile, tokenizer_of
from tputtui.profile.evidence import TUNED, Evidence
from tputtui.proof import measured, tuned
from tputtui.record.journal import Journal
from tputtui.tune.asked import Asked
from tputtui.tune.experiments import Experiments, Wish
from tputtui.tune.guard import Guard
from tputtui.tune.guarding import Guarding
from tputtui.tune.points import Points
from tputtui.tune.trials import Trials
from tputtui.tune.turns import Setting, Turns
from tputtui.tune.verifying import Next, Verifying

__all__ = ["Session"]

_JOURNAL_TIMEOUT_S = 3.0
_PER_DEPTH_S = 240.0
"""Seconds of 250 steps each that a recorder keeps, once over."""

MakeHost = Callable[[Callable[[], Engine], Recorder, Workload, Clock], Orders]


class Session:
    """Starts, steers and closes one run.

    make_engine: builds a cold engine. clock: the engine's clock, monotonic seconds.
    make_host: where the engine's loop runs. guard: what a turn must not break.
    written: the text of the profile it was started from; what is saved keeps its comments.
    log_path: where the session log goes; None for none. span_s: what a window grows to.
    """

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        profile: Profile,
        clock: Clock = time.monotonic,
        hardware: HardwareSampler | None = None,
        make_host: MakeHost = Host,
        guard: Guard | None = None,
        written: str = "",
        log_path: Path | None = None,
        span_s: float = SPAN_S,
    ) -> None:
        self.recorder = Recorder(max(1, math.ceil(span_s / _PER_DEPTH_S)))
        self.host = make_host(make_engine, self.recorder, profile.load, clock)
        self._clock = clock
        started_s = clock()
        self._observer = Observer(self.recorder, started_s, span_s)
        self.journal = Journal(log_path, self.recorder, started_s) if log_path else None
        self._asked = Asked(profile)
        self._turns = Turns()
        self._hardware = hardware
        self._points = Points()
        self._trials = Trials()
        self._experiments = Experiments()
        self._guarding = Guarding(guard)
        self._verifying: Verifying | None = None
        self._written = written
        self._watchers: list[Callable[[Frame], None]] = []
        if self.journal is not None:
            self.watch(self.journal.see)
        self._news: list[str] = []

    # -- life ------------------------------------------------------------------------------

    def start(self, *, load: bool = True) -> None:
        """Start the engine thread and the samplers, and boot."""
        if self._hardware is not None:
            self._hardware.start()
        if self.journal is not None:
            self.journal.start()
        self.host.boot(self.engine, self._asked.kept(self.host.status), load=load)
        self.host.start()

    def boot_again(self) -> None:
        """Boot the same engine anew, with the limits as they were asked for last."""
        self.host.boot(self.engine, self._asked.kept(self.host.status), load=True)
        self._asked.knobs = None

    def boot_with(
        self, args: Mapping[str, EngineValue], knobs: Mapping[str, int], *, only: bool = False
    ) -> None:
        """Boot another engine in place of this one, in this process; the load goes on with it.

        args: its engine arguments, all of them. knobs: limits to start with; the others that had
        been turned stay as they are, as far as the new ceilings let them, or with `only` do not.
        Where it does not boot, the engine of before is booted again.
        Raises KnobError while no engine is up.
        """
        self._limits()
        self._break_off("Another engine is booted.")
        status = self.host.status
        kept = {} if only else self._asked.kept(status)
        boot, fallback = self._asked.boot(status, args, {**kept, **knobs})
        self._turned()
        self.host.boot_anew(boot, fallback)

    def boot_higher(self, name: str, value: int) -> None:
        """Boot the same engine with a higher ceiling for one limit, and that limit at it."""
        argument = knob(name).argument
        args = {**self.engine.args, argument: bool(value) if knob(name).choices else value}
        self.boot_with(args, {name: value})

    @property
    def boot_cost(self) -> str:
        """What another boot costs, in a sentence. Raises KnobError while no engine is up."""
        self._limits()
        in_flight = self.recorder.accounting.in_flight
        also = f"; the {in_flight:,} requests in flight are aborted" if in_flight else ""
        took_s = self._facts().boot_s
        return f"The load pauses for about {took_s:.0f} s, as long as the last boot took{also}."

    def close(self, timeout_s: float) -> bool:
        """Stop everything; False if the engine thread did not end in time."""
        if self._hardware is not None:
            self._hardware.stop(min(timeout_s, 1.0))
        closed = self.host.close(timeout_s)
        if self.journal is not None:
            self.frame()
            self.journal.close(min(timeout_s, _JOURNAL_TIMEOUT_S))
        return closed

    # -- limits and load -------------------------------------------------------------------

    def set_knob(self, name: str, value: int | str) -> bool:
        """Ask for a limit, in force by the next step; whether it differs from the last asked.

        Raises KnobError when it is out of bounds or the engine is not up, CeilingError when a boot
        would let it be so high.
        """
        asked = self._setting().knobs
        new = self._asked.with_limit(self.host.status, asked, name, value)
        if new == asked:
            return False
        self._turn_away(name, "A limit was turned.")
        self._ask(new)
        return True

    def set_workload(self, workload: Workload) -> bool:
        """Go on with another load; whether it differs.

        Raises UsageError when its trace cannot be opened.
        """
        before = self._experiments.before
        old = before.load if before else self.workload
        if workload == old:
            return False
        if workload.trace != old.trace or workload.arrivals != old.arrivals:
            check_trace(workload, tokenizer_of(self.engine))
        if self._asked.knobs is not None and self.host.status.state in SERVING:
            self._turn_away("load", "The load was turned.")
        self._load(workload, difference(self.workload, workload))
        return True

    def undo(self) -> str:
        """Take back the last turn of a limit or of the load; what was done, in words.

        Raises UsageError when there is nothing to take back.
        """
        self._break_off("Undone.")
        before = self._turns.undo(self._setting())
        if before is None:
            raise UsageError("Nothing to undo.", "Limits and load stand as they were started.")
        return self._put_on(before, "undo")

    def redo(self) -> str:
        """Do again what was undone last; what was done, in words.

        Raises UsageError when nothing was undone since the last turn.
        """
        self._break_off("Done again.")
        after = self._turns.redo(self._setting())
        if after is None:
            raise UsageError("Nothing to do again.", "Only what was just undone can be.")
        return self._put_on(after, "redo")

    def preempt(self) -> str:
        """Shrink the batch to `max_num_seqs` now rather than by draining; says so, in words.

        Raises UsageError when nothing runs above the limit.
        """
        self._limits()
        over = self.frame().draining_seqs
        if not over:
            raise UsageError("Nothing to preempt.", "No more sequences run than max_num_seqs.")
        self._turned()
        self.host.preempt()
        return f"{over} preempted: they wait, and compute their KV cache again."

    def reset_prefix_cache(self) -> str:
        """Empty the prefix cache."""
        self._limits()
        self._turned()
        self.host.reset_prefix_cache()
        return "Prefix cache emptied; what ran computes its KV cache again."

    def toggle_engine(self) -> str:
        """Pause the engine between two steps, or let it go on; what was done, in words."""
        self._limits()
        self._break_off("The engine was paused.")
        self._turned()
        if self.host.status.state is State.PAUSED:
            self.host.resume()
            return "The engine goes on."
        self.host.pause()
        return "Engine paused: what is in flight stands still, what arrives queues up."

    def measure_anew(self) -> None:
        """Begin a new window: what is in flight now settles first, then figures count."""
        self._turned()

    def set_goals(self, goals: tuple[Goal, ...]) -> None:
        """Judge by other goals from now on."""
        self._asked.profile = msgspec.structs.replace(self._asked.profile, goals=goals)
        self._observer.judge_anew()

    @property
    def guard(self) -> str:
        """What a turn must not break, as it was written; empty for nothing."""
        return self._guarding.text

    def set_guard(self, guard: Guard | None) -> None:
        """Guard turns from now on by this; None: no more."""
        self._guarding = Guarding(guard)

    def sweep(self) -> None:
        """Step the load up from an eighth until saturation, a point a level; then restore it.

        Raises UsageError for a load without a constant level, KnobError while no engine is up.
        """
        self._limits()
        self._break_off("Started again.")
        first = self._experiments.sweep(self._setting(), self._clock())
        if self.host.status.state is not State.RUNNING:
            self.host.run_load()
        self._grant(first)

    def compare(self) -> str:
        """Run an A/B: the pinned baseline, or the limits before these, against these.

        Raises UsageError when there is nothing else to compare these with.
        """
        self._break_off("Started again.")
        asked = self._limits()
        other = self._trials.other(asked, self.engine)
        if other is None:
            raise UsageError(
                "There is nothing to compare with.", "Turn a limit first, or pin a row (t lists)."
            )
        what = differing(other.knobs, asked)
        self._grant(
            self._experiments.compare(other.knobs, self._setting(), self.goals, self._clock())
        )
        return f"A/B: {what}. Any turn breaks it off."

    def verify(self) -> str:
        """Boot with exactly the present values, and measure them again; what is done, in words.

        Raises UsageError while there are no figures to compare with, KnobError with no engine up.
        """
        limits, booted = self._limits(), self._facts().booted
        self._break_off("A verify boot was asked for.")
        frame = self.frame()
        found, window = measured(frame, self.recorder), frame.window
        if found is None:
            raise UsageError(
                f"There is nothing to compare with yet: the window is {window.phase.value}.",
                "Once it is steady, v again.",
            )
        before = series(self.recorder, window.start_s, window.end_s, self.goals, every=True)
        start = start_up(self.snapshot())
        stale = self.host.status.refused
        self.boot_with(start.spec.args, turned(limits, booted), only=True)
        self._verifying = Verifying(found, before, self.engine, self.workload, stale)
        return "Booting with exactly these values, to measure them again."

    def stop_experiment(self) -> None:
        """Break a sweep or an A/B off and put everything back; what it found stays."""
        self._break_off("Stopped.")

    def pin(self, number: int | None) -> None:
        """Compare with the trial of that number from now on; None: with the one before again.

        Raises UsageError when there is no such trial.
        """
        self._trials.pin(number)

    def jump(self, number: int, *, boot: bool = False) -> str:
        """Go back to the limits and load of a trial; what was done, in words.

        Raises BootNeeded when it ran on another engine, unless `boot` allows one, and UsageError
        when there is no such trial.
        """
        self._limits()
        trial = self._trials.find(number)
        if trial.engine != self.engine:
            if not boot:
                raise BootNeeded(f"Row {number} ran on another engine.", self.boot_cost)
            self.boot_with(trial.engine.args, turned(trial.knobs, trial.booted), only=True)
            if trial.load != self.workload:
                self._load(trial.load, difference(self.workload, trial.load))
            return f"Booting the engine of row {number}."
        self._turn_away(f"row {number}", "Another setting was chosen.")
        return self._put_on(Setting(trial.knobs, trial.load), f"row {number}") or "Already there."

    def clear_points(self) -> None:
        """Forget what was measured at other settings."""
        self._points.clear()

    def toggle_load(self) -> str:
        """Start the load, or hold it; what was done, in words."""
        self._limits()
        self._break_off("The load was held.")
        self._turned()
        if self.host.status.state is State.RUNNING:
            self.host.pause_load()
            return "Load paused: requests in flight are served to their end."
        self.host.run_load()
        return "Load running."

    def restart_load(self) -> None:
        """Begin the load with its first request, on an empty engine."""
        self._break_off("The load was begun anew.")
        self._restart("load begun anew")

    def stop_load(self) -> None:
        """Abort what is in flight and go back to the first request."""
        self._limits()
        self._break_off("The load was stopped.")
        self._turned()
        self.host.stop_load()

    # -- how things stand ------------------------------------------------------------------

    @property
    def history(self) -> History:
        """The run second by second, for charts."""
        return self._observer.history

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The goals in force."""
        return self._asked.profile.goals

    @property
    def workload(self) -> Workload:
        """The load last asked for."""
        return self._asked.profile.load

    @property
    def engine(self) -> EngineSpec:
        """What was booted, or is being booted."""
        return self._asked.profile.engine

    def asked(self, name: str) -> int:
        """A limit as last asked for. Raises KnobError while the engine is not up."""
        return self._setting().knobs.get(name)

    def ceilings(self) -> Knobs:
        """The highest the engine can take. Raises KnobError while it is not up."""
        self._limits()
        return self._facts().ceilings

    def frame(self) -> Frame:
        """How everything stands now. Looking is also what moves a sweep on."""
        now_s, status = self._clock() - self.host.lag_s, self.host.status
        self._follow(status)
        hardware = self._hardware.latest() if self._hardware else None
        profile, asked = self._asked.profile, self._asked.knobs
        seen = self._observer.frame(now_s, status, profile, asked, hardware)
        if not self._experiments.comparing:
            self._points.follow(seen, swept=self._experiments.sweeping)
            self._trials.follow(seen, self.recorder)
        self._grant(self._experiments.follow(seen, self.recorder))
        if broken := self._guarding.follow(seen, self.recorder):
            self._undo_broken(broken)
        frame = replace(
            seen,
            points=self._points.all(),
            sweep=self._experiments.sweep_state,
            trials=self._trials.all(),
            baseline=self._trials.baseline,
            compare=self._verified(seen) or self._experiments.compare_state,
            guard=self._guarding.text,
        )
        for see in self._watchers:
            see(frame)
        return frame

    def watch(self, see: Callable[[Frame], None]) -> None:
        """Show every frame to `see` as well; it must return at once."""
        self._watchers.append(see)

    def news(self) -> list[str]:
        """What happened by itself since this was last asked, in sentences."""
        news, self._news = self._news, []
        if self.journal is not None and (failure := self.journal.told_failure()):
            news.append(failure)
        return news

    def save(self, path: Path, *, overwrite: bool = False) -> Path:
        """Write limits, load and figures as they stand to a profile; returns its path.

        Comments of the profile that the run was started from stay; with `overwrite`, those of the
        file that is there. Raises ProfileExists, or ProfileError when it cannot be written.
        """
        like = self._written
        if overwrite and path.expanduser().is_file():
            like = profile.read(path.expanduser())
        return profile.save(self.snapshot(), path, overwrite=overwrite, like=like or None)

    def snapshot(self) -> Profile:
        """The profile that `save` writes."""
        frame, status = self.frame(), self.host.status
        found = tuned(frame, self.recorder) if frame.asked else None
        knobs, load = self._asked.kept(status), self.workload
        verifying = self._verifying
        if verifying and verifying.is_of(self.engine, self._asked.knobs, load):
            found = verifying.evidence or found
        if (before := self._experiments.before) is not None and status.facts is not None:
            # What the window holds is a level of a sweep or a leg, not this setting.
            knobs, load = turned(before.knobs, status.facts.booted), before.load
            kind = "a sweep" if self._experiments.sweeping else "an A/B"
            found = Evidence(TUNED, note=f"no figures: {kind} was under way")
        profile = self._asked.profile
        return msgspec.structs.replace(profile, load=load, knobs=knobs, evidence=found)

    # -- inside ----------------------------------------------------------------------------

    def _limits(self) -> Knobs:
        status = self.host.status
        self._follow(status)
        return self._asked.limits(status)

    def _facts(self) -> EngineFacts:
        return self._asked.facts(self.host.status)

    def _setting(self) -> Setting:
        """What stands, or will stand again when an experiment is over."""
        limits = self._limits()
        return self._experiments.before or Setting(limits, self.workload)

    def _turn_away(self, what: str, why: str) -> None:
        """The person turns `what`: end experiments, remember what stands, stand guard."""
        self._break_off(why)
        self._experiments.forget()
        self._verifying = None
        self._turns.turn(self._setting(), what, self._clock())
        self._guarding.turned(self.recorder, self._clock())

    def _verified(self, seen: Frame) -> CompareState | None:
        """How a verify boot stands, moved on by what is seen; None where there was none."""
        verifying = self._verifying
        if verifying is None:
            return None
        match verifying.follow(seen, self.recorder):
            case Next.BEGIN:
                self._restart("verify: measured again")
            case Next.ANEW:
                self._turned()
        return verifying.state

    def _undo_broken(self, broken: str) -> None:
        """The guard takes back the last turn."""
        before = self._turns.undo(self._setting())
        if before is None:
            return
        self._trials.note(f"undone by the guard: {broken}")
        said = self._put_on(before, f"guard ({broken})")
        self._news.append(f"The guard took it back: {broken}. {said}")

    def _follow(self, status: Status) -> None:
        """Begin anew with an engine that has just come up."""
        if self._asked.follow(status):
            self._turns.clear()
            self._guarding.stand_down()
            self._turned()

    def _put_on(self, setting: Setting, why: str) -> str:
        """Limits and load of another setting, as far as they differ; what that is, in words."""
        said = []
        if text := differing(self._limits(), setting.knobs):
            self._ask(setting.knobs, why)
            said.append(text)
        if setting.load != self.workload:
            text = difference(self.workload, setting.load)
            self._load(setting.load, f"{why}: {text}")
            said.append(text)
        return ", ".join(said)

    def _restart(self, text: str) -> None:
        self._turned()
        self.host.begin_leg(self._limits(), self.workload, text)

    def _ask(self, knobs: Knobs, why: str = "") -> None:
        self._asked.knobs = knobs
        self._turned()
        self.host.set_knobs(knobs, why)

    def _load(self, workload: Workload, text: str) -> None:
        self._asked.with_load(workload)
        self._turned()
        self.host.set_workload(workload, text)

    def _turned(self) -> None:
        self._observer.turned(self._clock())

    def _break_off(self, why: str) -> None:
        """End an experiment and put back what it had turned."""
        if self._verifying is not None:
            self._verifying.stop(why)
        self._grant(self._experiments.stop(why))

    def _grant(self, wish: Wish | None) -> None:
        """Put on what an experiment wants."""
        if wish is None:
            return
        knobs = wish.knobs or self._limits()
        if wish.fresh:
            self._asked.knobs = knobs
            self._asked.with_load(wish.load)
            self._turned()
            self.host.begin_leg(knobs, wish.load, wish.text)
        elif wish.load != self.workload:
            self._load(wish.load, wish.text)

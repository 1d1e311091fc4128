"""The tuner on the running engine: trial after trial, then the best against the start, in pairs.

Front end's thread; receives frames and returns the leg to put on next. Every trial serves the same
requests from an empty engine. The pairs of the confirmation serve other requests, so that a setting
that was chosen because it had luck with the first ones does not win by that luck.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tputtui.engine.protocol import EngineFacts
from tputtui.errors import TputError
from tputtui.experiments.compare import FIRST_LOOK, MAX_PAIRS
from tputtui.experiments.comparing import Comparing, Side
from tputtui.experiments.leg import LegWatch, LiveLeg
from tputtui.experiments.setting import Setting
from tputtui.experiments.tuner.boots import BootQuestion, Boots, differing_args
from tputtui.experiments.tuner.outcome import limits_text, outcome
from tputtui.experiments.tuner.physics import Physics, Question
from tputtui.experiments.tuner.plan import LEG_S, Plan, engines_of
from tputtui.experiments.tuner.rounds import Found, Round, best_of
from tputtui.experiments.tuner.scoring import Score, score, trial_of
from tputtui.experiments.tuner.search import Ask
from tputtui.experiments.tuner.space import describe_axes
from tputtui.frame import Frame, TunerState
from tputtui.goals import Goal
from tputtui.measure.recorder import Recorder
from tputtui.predict.forecast import Wanted
from tputtui.predict.foresight import Foresight
from tputtui.profile import EngineSpec, Profile
from tputtui.text.format import rate

__all__ = ["Tuning"]

_LOOK_EVERY_S = 1.0
_SEED_APART = 1_000_003
"""Difference of the trials' seed from the confirmation's."""
_HOPELESS_S, _HOPELESS = 10.0, 4.0
"""A trial is hopeless when a request has waited for so many seconds, and so many TTFT limits."""
_SHORTEST_S = 2.0
_AHEAD_S = 4.0
"""Seconds of a trial after which the next forecasts are asked for."""
_LENGTHS_S = (5.0, 10.0)
"""How long a trial is measured that ends early, or need not be measured long."""
_LONGEST_WAIT_S = 60.0


class Tuning:
    """Tunes by `plan` from the `present` setting on `engine`; facts: of that engine.

    Raises UsageError or KnobError for a plan that cannot be carried out.
    """

    def __init__(
        self,
        plan: Plan,
        present: Setting,
        engine: EngineSpec,
        facts: EngineFacts,
        goals: Sequence[Goal],
        now_s: float,
        foresight: Foresight | None = None,
    ) -> None:
        plan.check(present.load, tuple(goals))
        self._plan = plan
        self._foresight = foresight or Foresight()
        self._asked_ahead = False
        self._expected = math.nan
        self._present = present
        self._goals = tuple(goals)
        self._engines = engines_of(plan, engine)
        self._booted = facts.booted
        self._boots = Boots(plan, self._engines, present, facts)
        self._boot_s = facts.again_s
        self._booting: int | None = None
        self._began_s = self._now_s = now_s
        self._trials = list(plan.earlier_trials)
        self._drift = math.nan
        self._rounds: dict[int, Round] = {}
        self._ask: Ask | None = None
        self._asked_s, self._looked_s = now_s, -math.inf
        self._watch = LegWatch(now_s)
        self._confirming: Comparing | None = None
        self._finish = False
        self._note = self._over = self._broken = ""
        self._round = self._enter(0, facts)
        first = self._round.space
        self._asked_for = TunerState(
            phase="searching",
            note="",
            load=plan.load,
            search=plan.search,
            varied=describe_axes(first.axes),
            boots=plan.engines,
            engines=tuple(differing_args(spec, engine) for spec in self._engines),
            start=first.values(first.start),
            settings=len(first) * len(self._engines),
            # Those of its classes are the load's.
            of=Profile(engine, present.load, goals=tuple(g for g in goals if not g.traffic)),
        )
        self._next(now_s)

    # -- what is wanted --------------------------------------------------------------------

    @property
    def leg(self) -> LiveLeg | None:
        """The leg that should run now; None when the tuner has ended."""
        if self._over:
            return None
        if self._confirming is not None:
            return self._confirming.leg
        if self._booting is not None:
            # Its limits are not known before it is up.
            text = f"engine {self._booting + 1} of {len(self._engines)}"
            engine = self._engines[self._booting]
            return LiveLeg(self._present.knobs, self._present.load, text, engine)
        assert self._ask is not None
        load = self._round.load(self._ask.level, self._present.load.seed + _SEED_APART)
        knobs, engine = self._round.knobs(self._ask.point), self._engines[self._round.engine]
        return LiveLeg(knobs, load, f"trial {self._number}", engine)

    @property
    def state(self) -> TunerState:
        """How far the tuner is."""
        best = self._best()
        state = replace(
            self._asked_for,
            phase="done" if self._over else "confirming" if self._confirming else "searching",
            note=self._over or self._note,
            trials=tuple(self._trials),
            best=self._newest(best) if best else None,
            holds=best is not None and best.holds,
            value=best.seen.value if best else math.nan,
            left_s=self._left_s(),
            drift=self._drift,
            found=best.round.space.values(best.point) if best else {},
            differences=self._confirming.state.differences if self._confirming else (),
        )
        if not self._over:
            return state
        pairs = self._confirming
        kept = (pairs.attained("A"), pairs.attained("B")) if pairs else ()
        return outcome(state, self._goals, self._broken, *kept)

    @property
    def offer(self) -> tuple[EngineSpec, Setting] | None:
        """Engine and setting that the tuner offers to take; None when there are none."""
        best = self._best()
        if best is None or not self.state.offered:
            return None
        round_, point, level = best
        setting = Setting(round_.knobs(point), round_.load(level, self._present.load.seed))
        return self._engines[round_.engine], setting

    def finish(self, now_s: float) -> str:
        """End the search and confirm the best; on a second call, end at once. Returns what is done.

        In words.
        """
        if self._finish or self._confirming is not None:
            self.stop("Ended by the user before it was confirmed.")
            return "The tuner is stopped."
        self._finish = True
        if not self._to_confirm():
            return "No more trials."
        return "No more trials: the best is compared with the start. Again stops that as well."

    def stop(self, why: str) -> None:
        """End the tuner early, if it has not ended."""
        if not self._over:
            self._broken = self._over = why

    # -- what happens ----------------------------------------------------------------------

    def booted(self, facts: EngineFacts, now_s: float) -> None:
        """The engine that the leg needs is up."""
        if self._confirming is not None:
            self._confirming.put_on(now_s)
        elif self._booting is not None:
            number, self._booting = self._booting, None
            self._boot_s = facts.again_s
            try:
                self._round = self._enter(number, facts)
            except TputError as error:
                self._note = error.message
            self._next(now_s)
        else:
            self._begin(now_s)

    def refused(self, why: TputError, now_s: float) -> None:
        """The engine that the leg needs does not boot; the engine before it is up again."""
        if self._confirming is not None or self._booting is None:
            self.stop(f"An engine that booted before does not boot now: {why.message}")
            return
        self._booting = None
        self._note = why.message
        self._next(now_s)

    def follow(self, frame: Frame, recorder: Recorder) -> bool:
        """Take in a frame of the leg asked for; whether another leg must start now."""
        self._now_s = frame.t_s
        if self._over:
            # The tuner was stopped since the last frame.
            return True
        if self._confirming is not None:
            anew = self._confirming.follow(frame, recorder)
            note = self._confirming.state.note
            self._note = note.replace(": A ", ": the start, ").replace(": B ", ": the best, ")
            if self._confirming.leg is None:
                self._over = self._confirming.state.note
            return anew
        return self._follow_trial(frame, recorder)

    def _follow_trial(self, frame: Frame, recorder: Recorder) -> bool:
        watch, ask = self._watch, self._ask
        assert ask is not None
        if self._finish:
            self._confirm(frame.t_s)
            return True
        watch.follow(frame, recorder)
        self._look_ahead(frame.t_s)
        doing = f"measuring, {frame.t_s - watch.cut_s:.0f} s" if watch.warm else watch.note
        self._note = f"{self._named(ask)} · {doing}"
        if watch.broken:
            self.stop(watch.broken)
            return True
        now_s, ended = min(frame.t_s, watch.ended_s), watch.ended_s < math.inf
        if not watch.warm and self._hopeless(frame, recorder):
            watch.cut_s = frame.t_s
        if ended and not now_s - watch.cut_s >= _SHORTEST_S:
            self.stop("The load ended before a trial was measured.")
            return True
        if not watch.warm or (frame.t_s - self._looked_s < _LOOK_EVERY_S and not ended):
            return False
        self._looked_s = frame.t_s
        scored = score(recorder, watch.cut_s, now_s, self._goals, must_keep_up=self._must_keep_up)
        why = self._round.search.enough(ask, scored.seen)
        waits = self._foresight.busy and not self._foreseen
        if waits and scored.seen.length_s < _LONGEST_WAIT_S and not ended:
            # The first trial goes on until it is known what to try next.
            return False
        if not (why or ended):
            return False
        self._tell(ask, scored, why or "the load ended", frame, recorder)
        self._next(frame.t_s)
        return True

    # -- trials ----------------------------------------------------------------------------

    def _enter(self, number: int, facts: EngineFacts) -> Round:
        """Begin the search on an engine that is up. Raises UsageError or KnobError."""
        left, now_s = len(self._boots.left), self._now_s
        until_s = now_s + (self._search_until_s - now_s) / (1 + left) if left else math.inf
        made = Round.on(self._plan, number, self._present, self._booted, facts, until_s)
        self._rounds[number] = made
        return made

    def _next(self, now_s: float) -> None:
        """Choose what to put on next: a trial, another engine, or the confirmation."""
        self._now_s = now_s
        late = now_s >= min(self._round.until_s, self._search_until_s)
        tried = any(trial.engine == self._round.engine for trial in self._trials)
        self._ask = None if late and tried else self._round.search.ask()
        if self._ask is not None:
            self._begin(now_s)
        elif self._affords_boot(now_s):
            self._booting = self._boots.next()
            self._note = f"booting {self._asked_for.engines[self._booting]}"
        else:
            self._confirm(now_s)

    def _affords_boot(self, now_s: float) -> bool:
        """Whether an engine is left, and time to boot it, for a trial, and to confirm the best."""
        done_s = now_s + self._boot_s + self._leg_s()
        return bool(self._boots.left) and done_s <= self._search_until_s

    @property
    def _search_until_s(self) -> float:
        """When the search must end, to leave time for the confirmation."""
        return self._began_s + self._plan.budget_s - FIRST_LOOK * 2 * self._leg_s()

    def _begin(self, now_s: float) -> None:
        self._asked_s, self._looked_s = now_s, -math.inf
        self._watch = LegWatch(now_s)
        self._asked_ahead = False
        self._expected = math.nan
        self._expect()
        if not self._foreseen:
            self._ask_ahead()

    # -- predictions -----------------------------------------------------------------------

    @property
    def _physics(self) -> Physics | None:
        judge = self._round.search.judge
        return judge if isinstance(judge, Physics) and not judge.failed else None

    @property
    def _foreseen(self) -> bool:
        """Whether nothing has to be forecast, or something has been."""
        return self._physics is None or self._physics.works

    def _look_ahead(self, now_s: float) -> None:
        """Take what has been forecast, and ask for more once the trial has told enough."""
        physics = self._physics
        if physics is None:
            return
        if not self._asked_ahead and now_s - self._watch.cut_s >= _AHEAD_S:
            self._asked_ahead = self._ask_ahead()
        answer = self._foresight.answer()
        if answer is not None and answer.forecasts is not None:
            told = dict(zip(answer.asked, answer.forecasts, strict=True))
            physics.take({q: f for q, f in told.items() if isinstance(q, Question)})
            boots = {q: f for q, f in told.items() if isinstance(q, BootQuestion)}
            if self._round.engine == 0:
                self._boots.take(boots, physics.promised)
            if not self._asked_ahead:
                # By the steps before this trial alone.
                self._expect()

    def _expect(self) -> None:
        """Note what the trial is predicted to give."""
        physics, ask = self._physics, self._ask
        if physics is not None and ask is not None and math.isnan(self._expected):
            self._expected = physics.expected(ask.point, ask.level)

    def _ask_ahead(self) -> bool:
        """Ask for forecasts, unless others are being computed; whether it was done."""
        physics, now, ask = self._physics, self._round, self._ask
        if physics is None or ask is None:
            return True
        seed = self._present.load.seed + _SEED_APART
        trial = [Question(ask.point, ask.level, length_s) for length_s in _LENGTHS_S]
        questions = physics.questions(now.search.best, trial)
        wanted = [
            (each, Wanted(now.knobs(each.point), now.load(each.level, seed), each.length_s))
            for each in questions
        ]
        boots = self._boots.wanted(physics.level, seed) if now.engine == 0 else []
        return self._foresight.ask([*wanted, *boots], self._goals, must_keep_up=self._must_keep_up)

    def _hopeless(self, frame: Frame, recorder: Recorder) -> bool:
        """Whether a request has waited for so long that the trial need not get warm."""
        limits_s = [goal.limit_s for goal in self._goals if goal.metric == "ttft"]
        if not limits_s or not recorder.oldest_due_s >= self._watch.began_s:
            return False
        waited_s = frame.t_s - recorder.oldest_due_s
        return waited_s >= max(_HOPELESS_S, _HOPELESS * max(limits_s))

    @property
    def _must_keep_up(self) -> bool:
        """Whether a load that arrives faster than it is served counts as missing its goals."""
        arrives = not self._present.load.closed
        waits = any(goal.metric != "tpot" for goal in self._goals)
        return arrives and (self._plan.load or waits)

    def _tell(self, ask: Ask, scored: Score, why: str, frame: Frame, recorder: Recorder) -> None:
        now, watch = self._round, self._watch
        trial = trial_of(
            scored,
            recorder,
            (watch.cut_s, watch.cut_s + scored.seen.length_s),
            self._goals,
            number=self._number,
            engine=now.engine,
            knobs=now.space.values(ask.point),
            load=now.load(ask.level, 0),
            index=ask.level,
            again=ask.again,
            why=why,
            binding=frame.binding,
            took_s=frame.t_s - self._asked_s,
            predicted=self._expected,
            known=self._trials,
        )
        if ask.again:
            before = now.search.pooled(ask.point, ask.level).value
            self._drift = trial.value / before - 1 if before > 0 else math.nan
        self._trials.append(trial)
        now.search.tell(ask.point, ask.level, scored.seen)

    def _confirm(self, now_s: float) -> None:
        """Compare the best with the start, in pairs; end where they are the same."""
        best, first = self._to_confirm(), self._rounds[0]
        why = self._round.search.over or "The time is up."
        if left := [self._asked_for.engines[number] for number in self._boots.left]:
            why = f"{why} There was no time to boot {', '.join(left)}."
        self._over = "Ended by the user." if self._finish else why
        if best is None:
            return
        round_, point, level = best
        fits = int((self._began_s + self._plan.budget_s - now_s) / (2 * self._leg_s()))
        self._over = ""
        self._confirming = Comparing(
            Side(first.base, self._engines[0]),
            Side(round_.knobs(point), self._engines[round_.engine]),
            round_.load(level, self._present.load.seed),
            self._goals,
            now_s,
            max_pairs=max(FIRST_LOOK, min(fits, MAX_PAIRS)),
        )

    # -- figures ---------------------------------------------------------------------------

    @property
    def _number(self) -> int:
        return len(self._trials) + 1

    def _best(self) -> Found | None:
        """The best point of all engines."""
        return best_of(self._rounds.values())

    def _to_confirm(self) -> Found | None:
        """The best point, where it holds and differs from the start; None otherwise."""
        best = self._best()
        if best is None or not best.holds:
            return None
        same = best.round.engine == 0 and best.point == best.round.space.start
        return None if same else best

    def _newest(self, best: Found) -> int:
        """The number of the newest trial of `best`."""
        wanted = best.round.engine, best.round.space.values(best.point), best.level
        return max(t.number for t in self._trials if (t.engine, t.knobs, t.index) == wanted)

    def _named(self, ask: Ask) -> str:
        again = ", again" if ask.again else ""
        setting = limits_text(self._round.space.values(ask.point))
        unit = "req/s" if self._goals else "tok/s"
        told = "" if math.isnan(self._expected) else f", {rate(self._expected, 0)} {unit} predicted"
        return f"trial {self._number}{again}: {setting}{told}"

    def _leg_s(self) -> float:
        """Seconds that a leg takes: the upper quartile of the trials so far."""
        took_s = sorted(trial.took_s for trial in self._trials)
        return took_s[len(took_s) * 3 // 4] if took_s else LEG_S

    def _left_s(self) -> float:
        """Seconds left at most."""
        if self._over:
            return 0.0
        left_s = self._began_s + self._plan.budget_s - self._now_s
        if self._confirming is not None:
            left_s = self._confirming.left_s(self._leg_s())
        return max(0.0, left_s)

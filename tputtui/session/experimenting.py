"""What a person can do with experiments: a sweep, an A/B, the tuner, a verify boot.

Front end's thread. Experiments change settings by themselves, one experiment at a time; each new
frame moves them on. A change by the person ends the experiment under way first.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from tputtui.engine.host import Clock
from tputtui.errors import KnobError, UsageError
from tputtui.experiments.serving import Before, Serving
from tputtui.experiments.setting import Setting
from tputtui.experiments.tuner.plan import Plan
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
from tputtui.frame import Frame, proof
from tputtui.frame.tried import TriedSettings
from tputtui.knobs import differing, kept_limits
from tputtui.measure.recorder import Recorder
from tputtui.predict.foresight import Foresight
from tputtui.profile import EngineSpec
from tputtui.profile.evidence import Evidence
from tputtui.session.helm import Helm
from tputtui.session.others import check_sends, spare

__all__ = ["ExperimentSteering"]


class ExperimentSteering:
    """Starts, moves on and ends experiments; `helm` puts on the settings that they want.

    trials: every setting tried; the result of an A/B is noted there. foresight: predicts for the
    tuner.
    """

    def __init__(
        self,
        helm: Helm,
        recorder: Recorder,
        trials: TriedSettings,
        clock: Clock,
        foresight: Foresight,
    ) -> None:
        self._helm = helm
        self._recorder = recorder
        self._trials = trials
        self._clock = clock
        self._experiments = Experiments(foresight)
        self._verifying: Verifying | None = None
        self._verify_waits: bool | None = None
        self._seen: Frame | None = None
        self._news: list[str] = []

    # -- how they stand ----------------------------------------------------------------------

    @property
    def under_way(self) -> str:
        """The experiment under way: "a sweep", "an A/B", "the tuner", or empty."""
        return self._experiments.under_way

    @property
    def legs(self) -> bool:
        """Whether the experiment under way puts on legs: these are not settings of the person."""
        return self._experiments.legs

    @property
    def before(self) -> Setting | None:
        """The person's setting, which returns after the experiment; None without an experiment."""
        return self._experiments.before

    @property
    def setting(self) -> Setting:
        """The person's setting, in force now or again after the experiment.

        Raises KnobError while no engine is up.
        """
        present = self._helm.present
        return self.before or present

    @property
    def evidence(self) -> Evidence | None:
        """What a verify boot measured of the present setting; None without one."""
        verifying, profile = self._verifying, self._helm.profile
        if verifying and verifying.is_of(profile.engine, self._helm.asked, profile.load):
            return verifying.evidence
        return None

    @property
    def verifies(self) -> bool:
        """Whether a verify boot is under way, or waited for."""
        verifying = self._verifying
        return self._verify_waits is not None or (verifying is not None and not verifying.over)

    def news(self) -> list[str]:
        """What happened by itself since the last call, in sentences."""
        news, self._news = self._news, []
        return news

    # -- a sweep, an A/B ---------------------------------------------------------------------

    def sweep(self, *, anyway: bool = False) -> None:
        """Step the load up from an eighth of it until saturation; then restore it.

        Each level gives a point. anyway: here and below, also beside requests of other people.

        Raises UsageError for a load without a constant level, KnobError while no engine is up,
        OthersError without `anyway`.
        """
        self._check_alone(anyway, "loads are put on top of theirs, up to saturation")
        self.stop("Started again.")
        first = self._experiments.sweep(self.setting, self._clock())
        self._helm.run_load()
        self._helm.grant(first)

    def compare(self, *, anyway: bool = False) -> str:
        """Run an A/B of the present limits against the pinned baseline, or the last other limits.

        Returns what is compared, in words. Raises UsageError when there are no other limits.
        """
        self._check_alone(anyway, "limits change under them again and again")
        self.stop("Started again.")
        present = self.setting
        other = self._trials.other(present.knobs, self._helm.engine)
        if other is None:
            raise UsageError(
                "There is nothing to compare with.", "Change a limit first, or pin a row (h lists)."
            )
        goals = self._helm.profile.judged
        first = self._experiments.compare(other.knobs, present, goals, self._clock())
        self._helm.grant(first)
        return f"A/B: {differing(other.knobs, present.knobs)}. Any change ends it."

    def stop(self, why: str = "Ended by the user.") -> None:
        """End the experiment under way for the reason `why`, a sentence, and put everything back.

        Its results stay. Raises KnobError while no engine is up.
        """
        self._verify_waits = None
        if (verifying := self._verifying) is not None and not verifying.over:
            verifying.stop(why)
            self._back_from(verifying)
        under_way = self.under_way
        self._helm.grant(self._experiments.stop(why))
        if under_way == "an A/B":
            self._note_compare()

    def forget(self) -> None:
        """Drop the results of A/B and verify boot: another setting is put on."""
        self._experiments.forget()
        self._verifying = None

    # -- the tuner ---------------------------------------------------------------------------

    def tune(self, plan: Plan, *, anyway: bool = False) -> None:
        """Search for the best setting by `plan`; at the end the setting before is put back.

        `Steering.take` puts on the best one. Raises UsageError or KnobError for a plan that cannot
        be carried out.
        """
        self._check_alone(anyway, "limits change under them again and again")
        self.stop("Started again.")
        goals, status = self._helm.profile.judged, self._helm.status
        first = self._experiments.tune(plan, self.setting, status, goals, self._clock())
        self._helm.grant(first)

    def finish_tuning(self) -> str:
        """End the search and confirm the best; on a second call, end. What is done, in words.

        Raises UsageError when the tuner is not under way.
        """
        return self._experiments.finish(self._clock())

    @property
    def tuned(self) -> tuple[EngineSpec, Setting]:
        """Engine and setting that the tuner offers. Raises UsageError when there are none."""
        tuned = self._experiments.tuned
        if tuned is None or self.under_way == "the tuner":
            raise UsageError("The tuner has found nothing to take.", "t shows how it stands.")
        return tuned

    @property
    def tuner_note(self) -> str:
        """The tuner's verdict, if the present setting is the one it offers; empty otherwise."""
        state, profile = self._experiments.tuner_state, self._helm.profile
        standing = profile.engine, (self._helm.asked, profile.load)
        return f"tuner: {state.verdict}" if state and self._experiments.tuned == standing else ""

    # -- a verify boot -----------------------------------------------------------------------

    def check_verify(self, *, served: bool = False) -> EngineSpec:
        """The engine that `verify` would boot. Raises the errors that `verify` would raise.

        Call it before the person is asked to confirm.
        """
        if served and self._helm.facts.served:
            raise UsageError(
                "This is vLLM's own server already.", "v boots it with exactly these values."
            )
        check_real(self._helm.facts.simulated)
        check_sends(self._helm.status)
        if self.under_way:
            raise UsageError(
                f"{self.under_way.capitalize()} is under way: no window is of this setting alone.",
                "Let it end, or stop it; then v.",
            )
        if (seen := self._seen_of_present) is not None:
            check_window(seen)
        exact, _, refused = start_up(self._helm.profile)
        if refused:
            raise UsageError(refused)
        return exact

    def verify(self, *, served: bool = False) -> str:
        """Boot with exactly the present values, and measure them again; what is done, in words.

        served: vLLM's own server, under the same load over HTTP; then the engine comes back.
        Where the present setting has been measured for less than 10 s, the boot waits for that.
        Raises UsageError where there will be no figures to compare with, while an experiment is
        under way, on a simulated device, or where vLLM would not boot with these values; KnobError
        with no engine up.
        """
        exact = self.check_verify(served=served)
        seen = self._seen_of_present
        if seen is None or not is_measured(seen):
            self._verifying = None
            self._verify_waits = served
            return "The present setting is measured for 10 s first. Any change ends it."
        return self._begin_verify(exact, seen, served)

    # -- moved on by frames ------------------------------------------------------------------

    def follow(self, seen: Frame) -> None:
        """Move the experiment under way on by the frame `seen`."""
        self._seen = seen
        under_way = self.under_way
        with suppress(KnobError):
            # The engine may be gone since the frame: then there is nothing to put on.
            self._helm.grant(self._experiments.follow(seen, self._recorder))
        if under_way == "an A/B" and not self.under_way:
            self._note_compare()

    def follow_verify(self, seen: Frame) -> None:
        """Move a verify boot on by the frame `seen`. Raises KnobError where the engine is gone."""
        if (served := self._verify_waits) is not None and is_measured(seen):
            # Before the boot: the frames that it makes must not start a second one.
            self._verify_waits = None
            try:
                exact = self.check_verify(served=served)
                self._news.append(self._begin_verify(exact, seen, served))
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
        if verifying.over:
            self._back_from(verifying)

    def with_states(self, seen: Frame) -> Frame:
        """The frame `seen` with the states of sweep, A/B, verify boot and tuner."""
        verified = self._verifying.state if self._verifying else None
        if self._verify_waits is not None:
            verified = waiting(seen)
        return replace(
            seen,
            sweep=self._experiments.sweep_state,
            compare=verified or self._experiments.compare_state,
            tuner=self._experiments.tuner_state,
        )

    # -- inside ------------------------------------------------------------------------------

    def _check_alone(self, anyway: bool, effect: str) -> None:
        """Raise for an experiment that cannot begin, or that requests of others would feel."""
        self._helm.check_up()
        check_sends(self._helm.status)
        what = f"{effect}; only requests of this board are judged"
        spare(self._recorder, what, anyway=anyway)

    @property
    def _seen_of_present(self) -> Frame | None:
        """The last frame, if it shows the engine, limits and load that are asked for now."""
        seen, asked = self._seen, self._helm.profile
        if seen is None or seen.asked != self._helm.asked:
            return None
        same = seen.profile.engine == asked.engine and seen.profile.load == asked.load
        return seen if same else None

    def _begin_verify(self, exact: EngineSpec, seen: Frame, served: bool) -> str:
        limits, facts, status = self._helm.limits, self._helm.facts, self._helm.status
        kept = kept_limits(limits, facts.booted)
        if served:
            known = self.evidence or proof.tuned(seen, self._recorder)
            before = Before(self._helm.engine, limits, kept)
            verifying: Verifying = Serving(
                seen, self._recorder, exact, status.refused, before, known
            )
        else:
            verifying = Verifying(seen, self._recorder, exact, status.refused)
        self.stop("Another engine is booted.")
        self._helm.boot(exact.args, kept, only=True, served=served)
        self._verifying = verifying
        what = "vLLM's server" if served else "Booting"
        return f"{what} with exactly these values, to measure them again."

    def _back_from(self, verifying: Verifying) -> None:
        """Boot the engine in process again where vLLM's server has taken its place."""
        if isinstance(verifying, Serving) and self._helm.serves:
            spec, _, kept = verifying.before
            self._helm.boot(spec.args, kept, only=True)

    def _note_compare(self) -> None:
        """Write the result of an A/B beside the row of the present setting."""
        if (state := self._experiments.compare_state) is not None:
            self._trials.note(f"A/B, {state.named}: {state.note}")

"""What a person can change: limits, load and engine, each on its own. Front end's thread."""

from __future__ import annotations

from collections.abc import Mapping

from tputtui.engine.carrying import check_carried
from tputtui.engine.models import check_no_secret
from tputtui.frame import SERVING
from tputtui.knobs import Knobs, knob
from tputtui.load.carrier import check_schema
from tputtui.load.sections import difference
from tputtui.load.source import check_files
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import above
from tputtui.profile import EngineValue, may_render, tokenizer_of
from tputtui.session.changing import Changing
from tputtui.session.experimenting import ExperimentSteering
from tputtui.session.helm import Helm
from tputtui.session.others import check_sends, spare

__all__ = ["EngineSteering", "LimitSteering", "LoadSteering"]


class LimitSteering:
    """Changes limits; they are in force by the next step."""

    def __init__(
        self,
        helm: Helm,
        recorder: Recorder,
        changing: Changing,
        experiments: ExperimentSteering,
    ) -> None:
        self._helm = helm
        self._recorder = recorder
        self._changing = changing
        self._experiments = experiments

    def set(self, name: str, value: int | str, *, anyway: bool = False) -> bool:
        """Ask for a limit; whether the value differs from the one last asked for.

        anyway: also where it costs requests of other people something. Raises OthersError without,
        KnobError when the value is out of bounds or no engine is up, CeilingError when it needs a
        boot with a higher ceiling.
        """
        setting = self._experiments.setting
        new = self._helm.limits_with(setting, name, value)
        if new == setting.knobs:
            return False
        if new.num_gpu_blocks < setting.knobs.num_gpu_blocks:
            spare(self._recorder, "some may wait for room in the KV cache", anyway=anyway)
        self._changing.about_to(name, "A limit was changed.")
        self._helm.ask(new, anyway=anyway)
        return True

    def asked(self, name: str) -> int:
        """The value last asked for of a limit. Raises KnobError while no engine is up."""
        return self._experiments.setting.knobs.get(name)

    @property
    def ceilings(self) -> Knobs:
        """The highest values that the engine can take. Raises KnobError while none is up."""
        return self._helm.facts.ceilings


class LoadSteering:
    """Changes the load, starts it and holds it."""

    def __init__(self, helm: Helm, changing: Changing, experiments: ExperimentSteering) -> None:
        self._helm = helm
        self._changing = changing
        self._experiments = experiments

    @property
    def asked(self) -> Workload:
        """The person's load, in force now or again after the experiment under way."""
        before = self._experiments.before
        return before.load if before else self._helm.load

    def set(self, workload: Workload) -> bool:
        """Ask for another load; whether it differs from the one before.

        Raises UsageError when its file or its schema cannot be opened.
        """
        check_sends(self._helm.status)
        old = self.asked
        if workload == old:
            return False
        new_file = (workload.traces, workload.request_files) != (old.traces, old.request_files)
        if new_file or workload.all_arrivals != old.all_arrivals:
            engine = self._helm.engine
            check_files(workload, tokenizer_of(engine), by_server=may_render(engine))
        check_schema(workload)
        check_carried(workload, self._helm.engine)
        if self._helm.asked is not None and self._helm.status.state in SERVING:
            self._changing.about_to("load", "The load was changed.")
        self._helm.put_load(workload, difference(self._helm.load, workload))
        return True

    def toggle(self) -> str:
        """Start the load, or hold it; what was done, in words. Raises KnobError with no engine."""
        self._helm.check_up()
        check_sends(self._helm.status)
        self._experiments.stop("The load was held.")
        return self._helm.toggle_load()

    def restart(self) -> int:
        """Restart the load from its first request on an empty engine; the number of the order."""
        check_sends(self._helm.status)
        self._experiments.stop("The load was begun anew.")
        return self._helm.restart("load begun anew")

    def stop(self) -> None:
        """Abort the requests in flight and go back to the first one. KnobError with no engine."""
        self._helm.check_up()
        check_sends(self._helm.status)
        self._experiments.stop("The load was stopped.")
        self._helm.stop_load()


class EngineSteering:
    """Pauses the engine, empties it, or boots it again.

    anyway: also where it costs requests of other people something; OthersError without.
    """

    def __init__(self, helm: Helm, recorder: Recorder, experiments: ExperimentSteering) -> None:
        self._helm = helm
        self._recorder = recorder
        self._experiments = experiments

    def toggle(self, *, anyway: bool = False) -> str:
        """Pause the engine between two steps, or resume it; what was done, in words."""
        self._helm.check_up()
        if not self._helm.paused:
            spare(self._recorder, "they would stand still until it goes on", anyway=anyway)
        self._experiments.stop("The engine was paused.")
        return self._helm.toggle_engine(anyway=anyway)

    def preempt(self, *, anyway: bool = False) -> str:
        """Shrink the batch to `max_num_seqs` now rather than by draining; what was done, in words.

        Raises UsageError when nothing runs above the limit.
        """
        recorder, limit = self._recorder, self._helm.limits.max_num_seqs
        over = above(recorder.accounting, recorder.engines, limit)
        if over:
            effect = "some would wait, and compute their prompts anew"
            spare(recorder, effect, anyway=anyway)
        return self._helm.preempt(over, anyway=anyway)

    def reset_prefix_cache(self, *, anyway: bool = False) -> str:
        """Empty the prefix cache; what was done, in words. Raises KnobError with no engine."""
        self._helm.check_up()
        spare(self._recorder, "those that run would compute their prompts anew", anyway=anyway)
        return self._helm.reset_prefix_cache(anyway=anyway)

    def boot_again(self) -> None:
        """Boot the same engine anew, with the limits last asked for."""
        self._helm.boot_again()

    def boot_with(
        self, args: Mapping[str, EngineValue], knobs: Mapping[str, int], *, only: bool = False
    ) -> None:
        """Boot another engine in place of this one, in this process; the load continues on it.

        args: all of its engine arguments. knobs: limits to start with. only: whether the other
        limits begin as booted; otherwise those that were changed keep their values, up to the new
        ceilings. If the engine does not boot, the engine before it is booted again.
        Raises KnobError while no engine is up, UsageError for an argument that holds a secret.
        """
        self._helm.check_up()
        check_no_secret(args)
        self._experiments.stop("Another engine is booted.")
        self._helm.boot(args, knobs, only=only)

    def boot_higher(self, name: str, value: int) -> None:
        """Boot the same engine with `value` as a limit's ceiling, and set the limit to it."""
        limit = knob(name)
        ceiling = {limit.argument: bool(value) if limit.choices else value}
        self.boot_with({**self._helm.engine.args, **ceiling}, {name: value})

    @property
    def boot_cost(self) -> str:
        """What another boot costs, in a sentence. Raises KnobError while no engine is up."""
        return self._helm.boot_cost(self._recorder.accounting.in_flight)

    @property
    def server_cost(self) -> str:
        """The same where vLLM's own server is booted in its place."""
        return self._helm.server_cost(self._recorder.accounting.in_flight)

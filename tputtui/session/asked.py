"""The engine, limits, load and goals that a session has asked for, with all checks.

Front end's thread. It gives no orders.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tputtui.engine.orders import Start, Status
from tputtui.engine.protocol import EngineFacts
from tputtui.errors import KnobError
from tputtui.frame import SERVING
from tputtui.knobs import Knobs, checked, kept_limits
from tputtui.load.workload import Workload
from tputtui.profile import EngineValue, Profile

__all__ = ["Asked"]


class Asked:
    """What was asked for last.

    profile: engine, load and goals. knobs: the limits; None while no engine is up.
    """

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.knobs: Knobs | None = None
        self._facts: EngineFacts | None = None

    def follow(self, status: Status) -> bool:
        """Take over an engine that has just come up, with its limits; whether one has."""
        if self.knobs is not None and self.knobs is status.refused_knobs:
            # A server refused them: what stands is what is in force.
            self.knobs = status.knobs
        facts = status.facts
        if facts is None or facts is self._facts or status.state not in SERVING:
            return False
        if status.knobs is None or status.spec is None:
            return False
        self._facts = facts
        # After a failed boot, the engine is the one before, not the one asked for.
        self.profile = msgspec.structs.replace(self.profile, engine=status.spec)
        self.knobs = status.knobs
        return True

    def limits(self, status: Status) -> Knobs:
        """The limits asked for last. Raises KnobError while no engine is up."""
        if self.knobs is None or status.state not in SERVING:
            # Until the ordered boot begins, the status is still that of the engine before.
            state = "about to boot" if status.state in SERVING else status.state.lower()
            raise KnobError(f"The engine is {state}.", "Its limits can be changed once it is up.")
        return self.knobs

    def facts(self, status: Status) -> EngineFacts:
        """The facts of the engine that is up. Raises KnobError while none is."""
        self.limits(status)
        assert status.facts is not None
        return status.facts

    def with_limit(self, status: Status, asked: Knobs, name: str, value: int | str) -> Knobs:
        """`asked` with one limit changed.

        Raises KnobError when the value is out of bounds, CeilingError when it needs a boot with a
        higher ceiling.
        """
        facts = self.facts(status)
        if name in facts.fixed:
            raise KnobError(f"{name} cannot be changed here: {facts.fixed[name]}.")
        number = checked(name, value, facts.ceilings, facts.floor(name, asked))
        new = asked.with_value(name, number)
        if (needed := facts.floor("num_gpu_blocks", new)) > new.num_gpu_blocks:
            raise KnobError(
                f"One request of {new.max_model_len:,} tokens needs {needed:,} blocks, and "
                f"num_gpu_blocks is {new.num_gpu_blocks:,}.",
                "Raise num_gpu_blocks first.",
            )
        return new

    def with_load(self, workload: Workload) -> None:
        """Set another load, and drop the evidence, which is about the load before."""
        self.profile = msgspec.structs.replace(self.profile, load=workload, evidence=None)

    def kept(self, status: Status) -> dict[str, int]:
        """The limits to keep for another boot or a file; before an engine is up, the profile's."""
        if self.knobs is None or status.facts is None:
            return self.profile.knobs
        return kept_limits(self.knobs, status.facts.booted)

    def boot(
        self, status: Status, args: Mapping[str, EngineValue], knobs: Mapping[str, int]
    ) -> tuple[Start, Start]:
        """Ask for an engine with `args`; its start, and that of the present one as a fallback."""
        old, kept = self.profile.engine, self.kept(status)
        spec = msgspec.structs.replace(old, args=dict(args))
        self.profile = msgspec.structs.replace(self.profile, engine=spec, evidence=None)
        self.knobs = None
        return Start(spec, dict(knobs)), Start(old, kept, status.served)

"""What a session has asked for: engine, limits, load and goals, with all checks. Gives no orders.

Front end's thread.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tputtui.engine.orders import Start, Status
from tputtui.engine.protocol import EngineFacts
from tputtui.errors import KnobError
from tputtui.frame import SERVING
from tputtui.knobs import Knobs, checked, turned
from tputtui.load.workload import Workload
from tputtui.profile import EngineValue, Profile

__all__ = ["Asked"]


class Asked:
    """profile: what was asked for last. knobs: its limits; None while no engine is up."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.knobs: Knobs | None = None
        self._facts: EngineFacts | None = None

    def follow(self, status: Status) -> bool:
        """Take over an engine that has just come up, with its limits; whether there was one."""
        facts = status.facts
        if facts is None or facts is self._facts or status.state not in SERVING:
            return False
        if status.knobs is None or status.spec is None:
            return False
        self._facts = facts
        # A boot that failed has gone back to another engine than was asked for.
        self.profile = msgspec.structs.replace(self.profile, engine=status.spec)
        self.knobs = status.knobs
        return True

    def limits(self, status: Status) -> Knobs:
        """The limits. Raises KnobError while no engine is up."""
        if self.knobs is None or status.state not in SERVING:
            # Until the boot that was ordered begins, the status is that of the engine before it.
            state = "about to boot" if status.state in SERVING else status.state.lower()
            raise KnobError(f"The engine is {state}.", "Its limits can be turned once it is up.")
        return self.knobs

    def facts(self, status: Status) -> EngineFacts:
        """What the engine that is up is. Raises KnobError while none is."""
        self.limits(status)
        assert status.facts is not None
        return status.facts

    def with_limit(self, status: Status, asked: Knobs, name: str, value: int | str) -> Knobs:
        """`asked` with one limit turned.

        Raises KnobError when it is out of bounds, CeilingError when a boot would let it be so high.
        """
        facts = self.facts(status)
        if name in facts.fixed:
            raise KnobError(f"{name} cannot be turned here: {facts.fixed[name]}.")
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
        """Another load; what was measured is not of it."""
        self.profile = msgspec.structs.replace(self.profile, load=workload, evidence=None)

    def kept(self, status: Status) -> dict[str, int]:
        """Limits worth keeping for another boot, or a file: none before an engine was up."""
        if self.knobs is None or status.facts is None:
            return self.profile.knobs
        return turned(self.knobs, status.facts.booted)

    def boot(
        self, status: Status, args: Mapping[str, EngineValue], knobs: Mapping[str, int]
    ) -> tuple[Start, Start]:
        """Another engine to boot, and the present one to go back to; asked for from now on."""
        old, kept = self.profile.engine, self.kept(status)
        spec = msgspec.structs.replace(old, args=dict(args))
        self.profile = msgspec.structs.replace(self.profile, engine=spec, evidence=None)
        self.knobs = None
        return Start(spec, dict(knobs)), Start(old, kept)

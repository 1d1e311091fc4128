"""A session on the deterministic engine, turned by hand: no thread, no real time."""

from __future__ import annotations

from typing import Any, Self

from tputtui.engine.fake import FakeEngine
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, Start
from tputtui.load.workload import Workload
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.session.session import Session
from tputtui.simulate.clock import VirtualTime


class Rig:
    """`session`, its `host` and the `clock` it lives by."""

    def __init__(
        self,
        load: Workload,
        knobs: dict[str, int] | None = None,
        span_s: float = 60.0,
        kind: type[FakeEngine] = FakeEngine,
        args: dict[str, EngineValue] | None = None,
        **engine: Any,
    ) -> None:
        self.clock = VirtualTime()
        self.engine_options = engine
        self.session = Session(
            lambda served=False: kind(self.clock, **self.engine_options),
            Profile(EngineSpec("shape:demo", args or {}), load, knobs or {}),
            self.clock,
            span_s=span_s,
        )
        host = self.session.host
        assert isinstance(host, Host)
        self.host = host

    @classmethod
    def of(cls, profile: Profile) -> Self:
        return cls(profile.load, profile.knobs)

    @classmethod
    def booted(cls, load: Workload, **knobs: int) -> Self:
        rig = cls(load, knobs)
        rig.boot()
        return rig

    def boot(self) -> None:
        profile = self.session._asked.profile
        self.session.host.order(Boot(Start(profile.engine, profile.knobs), load=True))
        self.turn()

    def turn(self) -> None:
        """One turn of the loop; idle time passes in small pieces."""
        wait_s = self.host.run_pass()
        if wait_s > 0:
            self.clock.advance(min(wait_s, 0.05))

    def run(self, seconds: float) -> None:
        """Turn for that long, looking four times a second as a front end does."""
        end_s = self.clock() + seconds
        look_s = self.clock()
        while self.clock() < end_s:
            self.turn()
            if self.clock() >= look_s:
                self.session.advance()
                look_s = self.clock() + 0.25

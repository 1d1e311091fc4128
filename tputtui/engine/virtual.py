"""A host in virtual time, without a thread: the caller of `run_for` runs its loop."""

from __future__ import annotations

from collections.abc import Callable

from tputtui.engine.host import Host
from tputtui.engine.orders import Close
from tputtui.engine.protocol import Engine
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.simulate.clock import VirtualTime

__all__ = ["VirtualHost"]

_LATER_S = 0.001
"""The coarsest time that a session log has."""


class VirtualHost(Host):
    """A host that runs as fast as the CPU allows, and only within `run_for`."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        recorder: Recorder,
        workload: Workload,
        clock: VirtualTime,
    ) -> None:
        super().__init__(make_engine, recorder, workload, clock)
        self._time = clock

    def start(self) -> None:
        """Do nothing: there is no thread."""

    def close(self, timeout_s: float) -> bool:
        """Stop load and engine, a moment later: what is aborted then is in no window."""
        self._time.wait_until(self._time() + _LATER_S)
        self.order(Close())
        self.run_pass()
        return True

    def run_for(self, seconds: float) -> bool:
        """Run the loop until `seconds` have passed on the virtual clock."""
        until_s = self._time() + seconds
        while self._time() < until_s:
            if (wait_s := self.run_pass()) > 0:
                self._time.wait_until(min(self._time() + wait_s, until_s))
        return True

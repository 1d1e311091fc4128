"""Measures an engine under loads made for it, and fits what its steps cost. Main thread."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from tputtui.engine.host import Host
from tputtui.engine.orders import BeginLeg, Boot, Start, StopLoad
from tputtui.engine.protocol import Engine, EngineFacts
from tputtui.errors import EngineError
from tputtui.headless.progress import Progress
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.recorder import Recorder
from tputtui.profile import EngineSpec
from tputtui.simulate.calibration import Residual
from tputtui.simulate.design import Load, designed
from tputtui.simulate.fitted import Fitted, Measurement, fitted

__all__ = ["PASSES", "Calibrating", "TimedEngine", "residuals"]

_MOST_STEPS = 200
"""Measurements kept of one load, evenly spaced, so that no load counts for more than another."""
_FEWEST_STEPS = 8
PASSES = 4
"""How often each load is put on: the speed of a shared machine drifts over time."""
_WARM_S = 0.3


class TimedEngine(Engine, Protocol):
    """An engine that measures its own steps."""

    measurements: list[Measurement]
    load: int


class Calibrating:
    """One engine, whose loop this thread runs.

    seconds: measuring time for each load, over all passes. stop: asked between steps whether to
    give up. clock: the engine's, in seconds.
    host: runs the loop. recorder: what the host records. loads: those to measure, empty before
    `boot`.
    """

    def __init__(
        self,
        engine: TimedEngine,
        seconds: float,
        stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine, self._seconds, self._stop, self._clock = engine, seconds, stop, clock
        nothing = Workload(ClosedLoop(0), Fixed(1), Fixed(1))
        self.recorder = Recorder()
        self.host = Host(lambda: engine, self.recorder, nothing, clock)
        self.loads: list[Load] = []

    def boot(self, spec: EngineSpec) -> EngineFacts:
        """Boot the engine. Raises the failure that kept it from booting."""
        self.host.order(Boot(Start(spec, {}), load=False))
        self._step()
        facts = self.host.status.facts
        assert facts is not None
        self.loads = designed(facts.ceilings, facts.kv_tokens)
        return facts

    def measure(self, progress: Progress) -> list[Measurement]:
        """Put every load on `PASSES` times, each time in another order, until `stop` says so."""
        rows: list[Measurement] = []
        orders = random.Random(0)
        for again in range(PASSES):
            order = list(range(len(self.loads)))
            orders.shuffle(order)
            for done, number in enumerate(order):
                if self._stop():
                    return rows
                label, nth = self.loads[number].label, again * len(order) + done + 1
                line = f"measuring {nth} of {PASSES * len(order)}: {label}"
                progress.tell(line, "loads", self._clock(), repeat=True)
                rows += self.under(number)
        return rows

    def under(self, number: int) -> list[Measurement]:
        """Measurements of the steps under one of the loads, in one pass."""
        load, engine, facts = self.loads[number], self._engine, self.host.status.facts
        assert facts is not None
        knobs = facts.booted.overridden(dict(load.knobs))
        self.host.order(BeginLeg(knobs, load.workload, load.label))
        self._go_on(_WARM_S, 0)
        engine.measurements.clear()
        engine.load = number
        self._go_on(self._seconds / PASSES, _FEWEST_STEPS)
        kept = engine.measurements[:: max(1, len(engine.measurements) * PASSES // _MOST_STEPS)]
        self.host.order(StopLoad())
        self._step()
        return kept

    def close(self) -> None:
        """Give the engine's memory back."""
        self.host.close(0.0)
        self.host.run_pass()

    def _go_on(self, seconds: float, steps: int) -> None:
        """Run for `seconds` and `steps` steps, but never longer than 20 × `seconds`."""
        began_s = self._clock()
        while not self._stop():
            spent_s = self._clock() - began_s
            few = len(self._engine.measurements) < steps
            if spent_s > seconds and (not few or spent_s > 20 * seconds):
                return
            self._step()

    def _step(self) -> None:
        self.host.run_pass()
        if (failure := self.host.status.failure) is not None:
            raise failure


def residuals(rows: Sequence[Measurement], loads: Sequence[Load]) -> list[Residual]:
    """How far a fit to all other loads is off in predicting each load's time.

    Raises EngineError where fewer than three loads were measured.
    """
    errors = []
    numbers = sorted({row.load for row in rows})
    if len(numbers) < 3:
        raise EngineError("Too little was measured to fit anything.", "Give it more time.")
    for number in numbers:
        own = [row for row in rows if row.load == number]
        cost = fitted([row for row in rows if row.load != number])
        took_s = sum(row.device_s + row.host_s for row in own)
        off = _predicted_s(cost, own) / took_s - 1
        errors.append(
            Residual(loads[number].label, len(own), float(f"{took_s:.3g}"), float(f"{off:.3g}"))
        )
    return errors


def _predicted_s(cost: Fitted, rows: Sequence[Measurement]) -> float:
    return sum(cost.device_s(row.work) + cost.host_s(row.work) for row in rows)

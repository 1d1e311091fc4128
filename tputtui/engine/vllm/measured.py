"""A real vLLM engine that records the work and the time of each step. Engine thread."""

from __future__ import annotations

import math
from typing import Any

from tputtui.engine.protocol import StepReport
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.engine.vllm.work import work_of
from tputtui.load.request import RequestSpec
from tputtui.simulate.fitted import Measurement
from tputtui.simulate.work import Work

__all__ = ["MeasuredEngine"]


class MeasuredEngine(VllmEngine):
    """An engine that measures its steps.

    measurements: one for each step since the caller emptied the list. load: number of the load,
    stored in each measurement.
    """

    def __init__(self) -> None:
        super().__init__()
        self.measurements: list[Measurement] = []
        self.load = 0
        self._work = Work()
        self._submitted = 0
        self._ended_s = math.nan

    def submit(self, request: RequestSpec) -> None:
        """Queue one request."""
        self._submitted += 1
        super().submit(request)

    def step(self) -> StepReport:
        """Run one step."""
        self._work = Work()
        report = super().step()
        step = report.sample
        assert step is not None
        between_s = step.end_s - step.duration_s - self._ended_s
        if self._work.tokens:
            self.measurements.append(
                Measurement(
                    self.load,
                    self._work,
                    step.duration_s - step.host_s,
                    step.host_s,
                    between_s,
                    self._submitted,
                )
            )
        self._submitted = 0
        # With nothing in flight, the time until the next step is idle time, not engine time.
        self._ended_s = step.end_s if self._live else math.nan
        return report

    def _scheduled(self, output: Any) -> None:
        self._work = work_of(output)

"""As served: vLLM's own server with exactly the present values, under the same load over HTTP.

What production runs has an HTTP server, a tokenizer and a process boundary on top of the engine.
This boots it in place of the engine, measures, and says what they add; then the engine in process
comes back. Front end's thread; receives frames.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from tputtui.errors import TputError
from tputtui.experiments.verifying import Verifying
from tputtui.frame import Frame
from tputtui.frame.proof import as_served
from tputtui.knobs import Knobs
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.verdict import Verdict
from tputtui.profile import EngineSpec
from tputtui.profile.evidence import Evidence, Measured

__all__ = ["Before", "Serving"]


class Before(NamedTuple):
    """The engine in process that comes back: what it was booted with, and its limits.

    kept: those of the limits that differ from its boot.
    """

    spec: EngineSpec
    knobs: Knobs | None
    kept: Mapping[str, int]


class Serving(Verifying):
    """Compares vLLM's server with the figures of `frame`, those of the engine `before`.

    known: the evidence of the present setting so far; the server's figures go beside it.
    """

    title = "served"
    served = True

    def __init__(
        self,
        frame: Frame,
        recorder: Recorder,
        spec: EngineSpec,
        refused: TputError | None,
        before: Before,
        known: Evidence,
    ) -> None:
        super().__init__(frame, recorder, spec, refused)
        self.before = before
        self._known = known
        self._note = "booting vLLM's server with exactly these values"

    def is_of(self, engine: EngineSpec, knobs: Knobs | None, load: Workload) -> bool:
        """Whether the result is about this setting: that of the engine in process."""
        return (engine, knobs, load) == (self.before.spec, self.before.knobs, self.load)

    # -- inside ------------------------------------------------------------------------------

    def _conclude(self, again: Measured) -> None:
        # A server is slower than its engine alone: that is no fault of the setting.
        self._differences = tuple(
            replace(row, judgement=Verdict.UNJUDGED) if row.judgement.clear else row
            for row in self._differences
        )
        self.evidence = as_served(self._known, again)
        rate, *latencies = self._differences
        adds = [f"{row.metric.label} {row.change:+.1%}" for row in (rate, *latencies[:1])]
        self._end(f"As served, HTTP and all: {', '.join(adds)}. s saves it beside the others.")

    def _refused(self, refused: TputError) -> None:
        self._end(f"vLLM's server does not boot with exactly these values: {refused.message}")

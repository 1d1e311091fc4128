"""A deterministic engine that tells of its steps as a server of two engines does."""

from __future__ import annotations

from dataclasses import replace

from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import Counts, EngineFacts, Report, StepReport
from tputtui.measure.samples import EngineLoad
from tputtui.profile import EngineSpec

__all__ = ["TwoEngines"]


class TwoEngines(FakeEngine):
    """Three quarters of each step are the first engine's, the rest the second's."""

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Boot as two."""
        return replace(super().boot(spec, report), engines=2, stepped=False)

    def step(self) -> StepReport:
        """One step, and the share that each engine has in it."""
        report = super().step()
        assert report.sample is not None
        whole = report.sample
        least = whole.running // 4
        halves = {
            engine: [
                whole._replace(
                    running=running,
                    prefill_tokens=round(whole.prefill_tokens * share),
                    decode_tokens=round(whole.decode_tokens * share),
                )
            ]
            for engine, running, share in ((0, whole.running - least, 0.75), (1, least, 0.25))
        }
        return report._replace(of_engines=halves)

    def counts(self) -> Counts:
        """The counts of both, and of each."""
        counts = super().counts()
        least = counts.running // 4
        return counts._replace(
            engines=(
                EngineLoad(counts.running - least, counts.waiting, 0.75, 0.02),
                EngineLoad(least, 0, 0.25, 0.021),
            )
        )

"""A deterministic engine that tells of its steps as a server of two engines does."""

from __future__ import annotations

from dataclasses import replace

from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import Counts, EngineFacts, Report, StepReport
from tputtui.measure.samples import EngineLoad, kv_frac_of
from tputtui.profile import EngineSpec

__all__ = ["TwoEngines", "TwoSizes"]


class TwoEngines(FakeEngine):
    """Three quarters of each step are the first engine's, the rest the second's.

    Booted with a data_parallel_size of 1 it is one engine. kv: (blocks usable, share used) of each.
    waits: at which of them requests wait, by its steps.
    """

    engines = 2
    kv: tuple[tuple[int, float], ...] = ((1024, 0.75), (1024, 0.75))
    waits: tuple[bool, ...] = (True, True)

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Boot as two."""
        self.engines = 1 if spec.args.get("data_parallel_size") == 1 else 2
        facts = super().boot(spec, report)
        if self.engines == 1:
            return facts
        least = min(blocks for blocks, _ in self.kv) + 1
        self._knobs = replace(facts.booted, num_gpu_blocks=least)
        return replace(
            facts,
            ceilings=replace(facts.ceilings, num_gpu_blocks=least),
            booted=self._knobs,
            kv_tokens=self.usable * facts.block_size,
            engines=2,
            stepped=False,
        )

    @property
    def usable(self) -> int:
        """KV blocks of both."""
        return sum(blocks for blocks, _ in self.kv)

    def step(self) -> StepReport:
        """One step, and the share that each engine has in it."""
        report = super().step()
        if self.engines == 1:
            return report
        assert report.sample is not None
        whole = report.sample
        least = whole.running // 4
        halves = {
            engine: [
                whole._replace(
                    running=running,
                    waiting=whole.waiting * self.waits[engine],
                    prefill_tokens=round(whole.prefill_tokens * share),
                    decode_tokens=round(whole.decode_tokens * share),
                    kv_blocks=self.kv[engine][0],
                    kv_frac=self.kv[engine][1],
                )
            ]
            for engine, running, share in ((0, whole.running - least, 0.75), (1, least, 0.25))
        }
        together = whole._replace(
            kv_blocks=self.usable, kv_frac=kv_frac_of(self._loads(whole.running, whole.waiting))
        )
        return report._replace(sample=together, of_engines=halves)

    def counts(self) -> Counts:
        """The counts of both, and of each."""
        counts = super().counts()
        if self.engines == 1:
            return counts
        loads = self._loads(counts.running, counts.waiting)
        return counts._replace(kv_blocks=self.usable, engines=loads)

    def _loads(self, running: int, waiting: int) -> tuple[EngineLoad, EngineLoad]:
        (first, first_frac), (second, second_frac) = self.kv
        least = running // 4
        return (
            EngineLoad(running - least, waiting, first_frac, 0.02, first),
            EngineLoad(least, 0, second_frac, 0.021, second),
        )


class TwoSizes(TwoEngines):
    """The second has a third of the first one's KV cache, and far more of it in use.

    It alone has a queue.
    """

    kv = ((6000, 0.25), (2000, 0.95))
    waits = (False, True)

"""Steps that the plugin inside a server tells of, as the samples of one engine. Engine thread.

Running, waiting, prefill, decode and KV cache are the engine's, of everybody's requests; generated
tokens are those of our own, so that every figure of throughput is about the load that we send.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

from tputtui.engine.served.inside import Inside
from tputtui.engine.wire import StepBatch
from tputtui.measure.samples import DRAFTED, STEP, EngineLoad, StepSample

__all__ = ["SeenSteps"]

logger = logging.getLogger(__name__)

_LATE_S = 1.0
"""Steps that have not come by then were lost."""

_LIMITS = ("max_num_seqs", "max_num_batched_tokens", "kv_blocks")
_NOW = ("running", "waiting")
_COUNTED = ("prefill_tokens", "decode_tokens", "generated_tokens", "cached_tokens",
            "looked_up_tokens", "preemptions", "context_tokens", *DRAFTED)  # fmt: skip


class SeenSteps:
    """Makes samples of what `inside` receives.

    engines: how many the server has. everybodys: generated tokens are everybody's. lost: steps
    that were not fetched in time.
    """

    def __init__(self, inside: Inside, engines: int, *, everybodys: bool = False) -> None:
        self._inside = inside
        self._engines = engines
        self._everybodys = everybodys
        self._own_tokens = 0
        self._sample_end_s = self._since_s = 0.0
        self._end_s: dict[int, float] = {}
        self._last: dict[int, StepSample] = {}
        self._of_engines: dict[int, list[StepSample]] = {}
        self.lost = 0

    @property
    def engines(self) -> tuple[EngineLoad, ...]:
        """Every engine as it was when it last told; none before all have."""
        told = [self._inside.newest(engine) for engine in range(self._engines)]
        return tuple(
            EngineLoad(
                each.running,
                each.waiting,
                each.kv_frac,
                self._last[at].duration_s if at in self._last else math.nan,
                each.kv_blocks,
            )
            for at, each in enumerate(told)
            if each is not None and None not in told
        )

    def of_engines(self) -> dict[int, list[StepSample]]:
        """The steps of each of several engines that are in what `take` returned last."""
        of_engines, self._of_engines = self._of_engines, {}
        return of_engines

    def awaits(self, now_s: float) -> bool:
        """Whether the steps of tokens that have come are still on their way."""
        return bool(self._own_tokens) and now_s - self._since_s < _LATE_S

    def take(self, own_tokens: int, now_s: float) -> list[StepSample]:
        """The steps that have arrived; own_tokens: ours that came since this was last called."""
        if not self._own_tokens:
            self._since_s = now_s
        self._own_tokens += own_tokens
        arrived = self._inside.arrived()
        if lost := sum(steps.lost for steps in arrived):
            self.lost += lost
            logger.warning("%d steps were not fetched in time", lost)
        arrived = [steps for steps in arrived if steps.rows]
        if not arrived:
            if self.awaits(now_s) or not self._own_tokens:
                return []
            # Their steps were lost: they are counted all the same, and with no later one.
            return self._with_own_tokens([self._no_step(now_s)])
        made: dict[int, list[StepSample]] = {}
        for steps in arrived:
            made.setdefault(steps.engine, []).extend(self._samples(steps))
        self._last |= {engine: samples[-1] for engine, samples in made.items()}
        rows = [each for samples in made.values() for each in samples]
        if self._engines > 1:
            self._of_engines = made
            rows = [self._together(made)]
        return rows if self._everybodys else self._with_own_tokens(rows)

    def _no_step(self, now_s: float) -> StepSample:
        """A sample in which nothing was scheduled, under the limits of the newest one."""
        values = dict.fromkeys(STEP, 0.0)
        values |= {name: sum(getattr(row, name) for row in self._last.values()) for name in _LIMITS}
        values["end_s"] = now_s
        return StepSample(**values)  # type: ignore[arg-type]

    def _samples(self, steps: StepBatch) -> list[StepSample]:
        samples = []
        for row in steps.rows:
            sample = StepSample(*row)  # type: ignore[arg-type]
            # A journey that is quicker than all before moves the clocks; time goes on all the same.
            end_s = self._inside.here_s(steps.engine, sample.end_s)
            end_s = self._end_s[steps.engine] = max(end_s, self._end_s.get(steps.engine, end_s))
            samples.append(sample._replace(end_s=end_s))
        return samples

    def _together(self, made: Mapping[int, Sequence[StepSample]]) -> StepSample:
        """Steps of several engines as one: totals, over the time that they took together."""
        rows = [each for samples in made.values() for each in samples]
        end_s = max(self._sample_end_s, *(row.end_s for row in rows))
        # An engine without a step since is idle, or in a long one: it tells which.
        newest = [made[at][-1] if at in made else self._inside.newest(at) for at in self._last]
        now = [each for each in newest if each is not None]
        values = dict.fromkeys(STEP, 0.0)
        values |= {name: sum(getattr(row, name) for row in self._last.values()) for name in _LIMITS}
        values |= {name: sum(getattr(each, name) for each in now) for name in _NOW}
        values |= {name: sum(getattr(row, name) for row in rows) for name in _COUNTED}
        usable = sum(each.kv_blocks for each in now)
        used = sum(each.kv_frac * each.kv_blocks for each in now)
        values["kv_frac"] = used / max(1, usable)
        values["end_s"] = end_s
        began_s = min(row.end_s - row.duration_s for row in rows)
        values["duration_s"] = end_s - max(self._sample_end_s, began_s)
        self._sample_end_s = end_s
        return StepSample(**values)  # type: ignore[arg-type]

    def _with_own_tokens(self, rows: list[StepSample]) -> list[StepSample]:
        """Our own tokens in place of everybody's, spread over `rows` as those were generated."""
        left, whole = self._own_tokens, sum(row.generated_tokens for row in rows)
        self._own_tokens = 0
        spread = []
        for row in rows[:-1]:
            share = round(left * row.generated_tokens / whole) if whole else 0
            share = min(left, share)
            left, whole = left - share, whole - row.generated_tokens
            spread.append(row._replace(generated_tokens=share))
        return [*spread, rows[-1]._replace(generated_tokens=left)]

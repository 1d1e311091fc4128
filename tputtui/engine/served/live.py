"""A server's live traffic as a run: nothing is sent, everybody's requests are seen. Engine thread.

Our plugin inside the server tells its steps, and of each request that ends the exact times. So a
change is judged by the traffic's own figures before and after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace

from tputtui.engine.protocol import Counts, EngineFacts, Report, StepReport
from tputtui.engine.served.engine import ServedEngine
from tputtui.errors import EngineError
from tputtui.load.request import RequestSpec
from tputtui.measure.samples import Outcome, RequestSample
from tputtui.profile import EngineSpec

__all__ = ["LiveEngine"]

_TICK_S = 0.05
_SILENT_S = 10.0
_OUTCOMES = {"abort": Outcome.ABORTED, "error": Outcome.FAILED}
"""By vLLM's finish reason; every other one is an answer that came to its end."""

Row = Sequence[float | int | str | None]


class LiveEngine(ServedEngine):
    """Watches a server that has our plugin inside, and changes its limits."""

    _everybodys = True
    _number = 0
    _began_s = _ended_s = 0.0

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Connect and take control. Raises EngineError where the server offers none."""
        facts = super().boot(spec, report)
        if self._seen is None:
            raise EngineError(
                f"{facts.device} has no plugin of tputtui inside.",
                "`tputtui attach` without an address says how it would have to be started.",
            )
        if self._behind is not None:
            raise EngineError(
                f"{facts.device} tells its steps, and not the times of requests.",
                "vLLM does from 0.26 on; `tputtui server:URL` puts a load of yours on it.",
            )
        if "max_num_seqs" in facts.fixed:
            raise EngineError(
                f"The limits of {facts.device} cannot be changed: {facts.fixed['max_num_seqs']}.",
                f"`tputtui attach {facts.device}` without the token watches it.",
            )
        self._began_s = self._clock()
        self._inside.gather()
        return replace(facts, live=True)

    def submit(self, request: RequestSpec) -> None:
        """Refuse: what arrives here is not ours to send. Raises ValueError."""
        raise ValueError("live traffic is watched, and nothing sent")

    def step(self) -> StepReport:
        """What has come since the last call. Raises EngineError if the server is gone."""
        time.sleep(_TICK_S)
        self._check_alive()
        if self._clock() - self._inside.heard_s > _SILENT_S:
            raise EngineError(
                f"{self._address.name} is gone: nothing came from it for {_SILENT_S:.0f} s.",
                "`tputtui attach` shows whether it is up.",
            )
        self._scraped()
        assert self._seen is not None
        samples = self._seen.take(0, self._clock())
        seen = self._requests()
        sample, earlier = (samples[-1], samples[:-1]) if samples else (None, ())
        return StepReport(
            sample,
            [],
            [],
            [],
            earlier,
            unfinished=True,
            of_engines=self._seen.of_engines(),
            seen=seen,
        )

    def counts(self) -> Counts:
        """Everybody's requests, as the engines count them."""
        counts = super().counts()
        running = sum(each.running for each in counts.engines)
        waiting = sum(each.waiting for each in counts.engines)
        return counts._replace(
            running=running,
            waiting=waiting,
            unbooked=running + waiting,
            oldest_s=self._inside.oldest_s,
        )

    # -- inside ------------------------------------------------------------------------------

    def _requests(self) -> list[RequestSample]:
        """Requests that have ended since we came, in the order of their ends."""
        rows = sorted(self._inside.ended(), key=lambda row: _number(row[0]))
        samples = [self._sample(row) for row in rows if len(row) == _FIELDS]
        return [each for each in samples if each.due_s >= self._began_s]

    def _sample(self, row: Row) -> RequestSample:
        at_s, e2e_s, ttft_s, queued_s, prompt, output, cached = map(_number, row[:-1])
        # An API server that tells later than another does not turn back the time of the tables.
        end_s = self._ended_s = max(self._ended_s, self._inside.here_s(0, at_s))
        due_s = end_s - e2e_s
        self._number += 1
        tokens = int(output)
        return RequestSample(
            number=self._number,
            outcome=_OUTCOMES.get(str(row[-1]), Outcome.FINISHED),
            due_s=due_s,
            submitted_s=due_s,
            scheduled_s=due_s + queued_s,
            first_token_s=due_s + ttft_s if tokens else math.nan,
            end_s=end_s,
            prompt_tokens=int(prompt),
            output_tokens=tokens,
            wanted_tokens=tokens,
            cached_tokens=int(cached),
            preemptions=0,
        )


_FIELDS = 8


def _number(value: float | int | str | None) -> float:
    return float(value) if isinstance(value, int | float) else 0.0

"""The load generator: which requests are due by now. Pure, seeded, clock-free.

Request number i of a seed is always the same request, whatever the timing, the limits or the
arrival process: its lengths and tokens come from a counter-based generator keyed by (seed, i).
The engine thread asks `due(now)` between steps; there is no load thread.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

from tputtui.load.workload import ClosedLoop, Fixed, Lengths, LogNormal, Uniform, Workload

__all__ = ["Generator", "RequestSpec"]

_FIRST_TOKEN = 4
"""Token ids below this are special in most vocabularies (padding, begin, end, unknown)."""


@dataclass(frozen=True, slots=True)
class RequestSpec:
    """One request to send.

    due_s: when the arrival process wanted it sent (the engine's clock, seconds).
    prompt_token_ids: the prompt, random and so sharing no prefix with another.
    output_tokens: how many tokens it shall generate, exactly.
    clamped: whether a length was cut to fit `max_model_len`.
    """

    number: int
    due_s: float
    prompt_token_ids: list[int]
    output_tokens: int
    clamped: bool


class Generator:
    """Says which requests are due; the workload may change at any time without losing or doubling.

    vocab_size: prompts are drawn from ids 4 … vocab_size - 1.
    """

    def __init__(self, workload: Workload, vocab_size: int) -> None:
        self.workload = workload
        self._vocab_size = vocab_size
        self._open = False
        self.restart()

    def restart(self) -> None:
        """Begin again at request 0, held."""
        self._open = False
        self._next_number = 0
        self._seed = self.workload.seed
        self._arrivals = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 1, 0]))
        # Poisson: the next arrival comes when this much expected arrivals (∫ rate dt) has passed.
        self._work_to_next = float(self._arrivals.exponential())
        self._clock_s = -math.inf
        # Closed loop: when each place that is now free became free.
        self._freed_s: deque[float] = deque()

    @property
    def held(self) -> bool:
        """Whether arrivals are paused."""
        return not self._open

    def resume(self, now_s: float) -> None:
        """Let requests arrive from now on. Time spent held brings no backlog."""
        self._open = True
        self._clock_s = now_s
        self._freed_s.clear()

    def hold(self) -> None:
        """Let no more requests arrive."""
        self._open = False

    def change(self, workload: Workload, now_s: float) -> None:
        """Go on with another workload from `now_s`; a new seed applies from the next restart."""
        if isinstance(self.workload.arrivals, ClosedLoop):
            self._clock_s = max(self._clock_s, now_s)
        else:
            self._advance(now_s)
        self._freed_s.clear()
        self.workload = workload

    def freed(self, now_s: float) -> None:
        """Tell that a request has left the engine: a closed loop's place is free from `now_s`."""
        if self._open and isinstance(self.workload.arrivals, ClosedLoop):
            self._freed_s.append(now_s)

    def next_due_s(self, in_flight: int) -> float:
        """When the next request is due, given how many are in flight; infinity if none will be."""
        if not self._open:
            return math.inf
        arrivals = self.workload.arrivals
        if isinstance(arrivals, ClosedLoop):
            return self._clock_s if in_flight < arrivals.in_flight else math.inf
        if arrivals.rate <= 0:
            return math.inf
        return self._clock_s + self._work_to_next / arrivals.rate

    def due(self, now_s: float, in_flight: int, max_model_len: int) -> list[RequestSpec]:
        """Every request due by `now_s`, oldest first, clamped to `max_model_len` tokens in all."""
        if not self._open:
            return []
        specs = []
        for due_s in self._due_times(now_s, in_flight):
            specs.append(self._spec(self._next_number, due_s, max_model_len))
            self._next_number += 1
        return specs

    def _due_times(self, now_s: float, in_flight: int) -> list[float]:
        arrivals = self.workload.arrivals
        if isinstance(arrivals, ClosedLoop):
            wanted = max(0, arrivals.in_flight - in_flight)
            times = [self._freed_s.popleft() if self._freed_s else now_s for _ in range(wanted)]
            # Places freed while too many were in flight are not refilled.
            self._freed_s.clear()
            self._clock_s = now_s
            return sorted(times)
        times = []
        while (due_s := self.next_due_s(in_flight)) <= now_s:
            times.append(due_s)
            self._clock_s = due_s
            self._work_to_next = float(self._arrivals.exponential())
        return times

    def _advance(self, now_s: float) -> None:
        """Use up the waiting already done at the old rate, so that the new one starts from now."""
        arrivals = self.workload.arrivals
        if not isinstance(arrivals, ClosedLoop) and self._open:
            # What is overdue stays due at once; it is not drawn again.
            waited = max(0.0, now_s - self._clock_s) * arrivals.rate
            self._work_to_next = max(0.0, self._work_to_next - waited)
        self._clock_s = max(self._clock_s, now_s)

    def _spec(self, number: int, due_s: float, max_model_len: int) -> RequestSpec:
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, 0, number]))
        wanted_prompt = _draw(self.workload.prompt, rng)
        wanted_output = _draw(self.workload.output, rng)
        prompt = min(wanted_prompt, max_model_len - 1)
        output = min(wanted_output, max_model_len - prompt)
        # Drawn one after another, so a clamped prompt is a prefix of the unclamped one.
        tokens = rng.integers(_FIRST_TOKEN, self._vocab_size, prompt, dtype=np.int64)
        clamped = (prompt, output) != (wanted_prompt, wanted_output)
        return RequestSpec(number, due_s, tokens.tolist(), output, clamped)


def _draw(lengths: Lengths, rng: np.random.Generator) -> int:
    match lengths:
        case Fixed(tokens):
            return tokens
        case Uniform(low, high):
            return int(rng.integers(low, high + 1))
        case LogNormal(median, sigma, low, high):
            drawn = median * math.exp(sigma * float(rng.standard_normal()))
            return max(low, min(high, round(drawn)))

"""A load served by a small scheduler, with learnt step costs, in virtual time. Pure.

It batches as vLLM's scheduler does: running requests first, one token for each that decodes,
prompts in chunks up to what the step has left; then waiting requests while there are sequences,
tokens and KV cache for them. What the limits of admission refuse leaves at once, and in a closed
loop its client waits as the real one does (`engine.dispatch`). It leaves out priorities, blocks
shared by prefixes (`hit_frac` of each prompt counts as computed) and structured output.
`--simulate` runs vLLM's own scheduler; the tests hold this one to it.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from functools import partial
from typing import NamedTuple

import numpy as np

from tputtui.knobs import Knobs
from tputtui.load.generator import Generator
from tputtui.load.merged import generator_of
from tputtui.load.request import REFUSED_WAIT_S, RequestSpec
from tputtui.load.workload import Workload
from tputtui.measure.recorder import ENDED, row_of
from tputtui.measure.stats import Floats
from tputtui.predict.costs import StepCosts

__all__ = ["Machine", "Served", "served"]

_MOST_STEPS = 8_000
"""A forecast of steps this many is long enough: what is left of chance is below a percent."""
_WARM_UP_S, _LATEST_S = 3.0, 30.0
"""When a leg counts as warm (`experiments.leg`)."""


class Machine(NamedTuple):
    """What the scheduler has to know of the engine besides its costs."""

    block_size: int
    overlapped: bool = False
    hit_frac: float = 0.0
    """Share of each prompt that the prefix cache supplies, where it is on."""
    vocab_size: int = 1000
    tokenizer: str = ""
    """Of the model, for traces of text; a path or hub id."""
    state_tokens: int = 0
    """What each sequence takes of the KV cache besides, in tokens: states of layers without
    attention."""


class Served(NamedTuple):
    """What was served from an empty engine on, in seconds since then."""

    ended: Floats
    """Requests that ended or were refused, with the columns that `ENDED` names."""
    tokens: Floats
    """(time, tokens generated) of each step."""
    due_s: Floats
    """When each request was due."""
    warm_s: float
    """From when on a leg is measured."""
    end_s: float
    most_decodes: int
    """Of any step from then on."""
    preemptions: int
    traffic: dict[str, int]
    """What the label of a request means: the class of traffic, and its number."""


class _Request:
    __slots__ = (
        "due_s",
        "finish",
        "first_s",
        "generated",
        "label",
        "output",
        "prompt",
        "scheduled_s",
        "todo",
    )

    def __init__(self, spec: RequestSpec, cached: int, label: int) -> None:
        self.due_s, self.prompt, self.output = spec.due_s, spec.prompt_tokens, spec.output_tokens
        self.label = label
        self.todo = spec.prompt_tokens - cached
        self.generated = 0
        self.finish = -1
        self.first_s = self.scheduled_s = math.nan


def served(
    workload: Workload, knobs: Knobs, costs: StepCosts, machine: Machine, length_s: float
) -> Served:
    """Serve `workload` with limits `knobs` until `length_s` after it is warm.

    Raises UsageError where its trace cannot be read.
    """
    return _Run(workload, knobs, costs, machine).until(length_s)


class _Run:
    """One run. Requests are numbered by the generator; a step's results come at its end."""

    def __init__(
        self, workload: Workload, knobs: Knobs, costs: StepCosts, machine: Machine
    ) -> None:
        make = partial(Generator, vocab_size=machine.vocab_size, tokenizer=machine.tokenizer)
        self._generator = generator_of(workload, make)
        self._knobs, self._costs, self._machine = knobs, costs, machine
        self._hit = machine.hit_frac if knobs.enable_prefix_caching else 0.0
        # Of each sequence, on average half a block is empty.
        self._besides = machine.state_tokens + machine.block_size / 2
        usable = max(1, knobs.num_gpu_blocks - 1) * machine.block_size
        self._capacity = float(usable) if knobs.num_gpu_blocks else math.inf
        self._room = self._capacity - knobs.watermark_blocks * machine.block_size
        self._waiting: deque[tuple[int, _Request]] = deque()
        self._running: dict[int, _Request] = {}
        self._prefilling: dict[int, _Request] = {}
        self._finishes: list[tuple[int, int]] = []
        self._refused: deque[float] = deque()
        """Until when the client of each refused request waits, ascending."""
        self._step = self._decodes = self._preemptions = 0
        self._last_prefill, self._backed_up = -math.inf, False
        self._unbegun = self._finished = 0
        """Prompt tokens of the requests without a first token; requests with their last one."""
        self._used = 0.0
        """Tokens that the running requests hold in the KV cache."""
        self._rows: list[tuple[float, ...]] = []
        self._due: list[float] = []
        self._traffic: dict[str, int] = {}

    def until(self, length_s: float) -> Served:
        """Run."""
        generator, costs = self._generator, self._costs
        alone, past = costs.decode_only_s(min(self._knobs.max_num_seqs, 1 << 16))
        levels, bin_s = costs.levels.tolist(), costs.bin_s
        every_s = 1 / costs.stalls_per_s if costs.stalls_per_s > 0 else math.inf
        next_stall_s = every_s / 2
        now_s, warm_s, end_s = 0.0, math.nan, math.inf
        most_in_flight = most_decodes = ended = 0
        tokens: list[tuple[float, int]] = []
        late: tuple[list[tuple[int, _Request]], list[int]] = ([], [])
        generator.resume(0.0)
        next_due_s, closed = 0.0, True
        while now_s < end_s and self._step < _MOST_STEPS:
            if closed or next_due_s <= now_s:
                in_flight = self._arrive(now_s)
                most_in_flight = max(most_in_flight, in_flight)
                next_due_s, closed = self._next_due_s(in_flight), False
            if not self._running and not self._waiting:
                if next_due_s == math.inf:
                    break
                now_s = max(now_s, next_due_s)
                continue
            self._step += 1
            self._make_room()
            decodes = self._decodes
            context = self._used
            prefill, firsts = self._fill(self._knobs.max_num_batched_tokens - decodes, now_s)
            if prefill:
                took_s = costs.mixed_s(decodes, prefill, context)
            elif decodes:
                took_s = alone[decodes] + past[decodes] * context
            else:
                took_s = 0.0
            now_s += took_s * levels[int(now_s / bin_s) % len(levels)]
            if now_s >= next_stall_s:
                now_s += costs.stall_s
                next_stall_s += every_s
            tokens.append((now_s, decodes + len(firsts)))
            came = firsts, self._decoded(firsts)
            if self._machine.overlapped:
                # What a step has computed is known only when the next one has run.
                came, late = late, came
            for _, request in came[0]:
                if math.isnan(request.first_s):
                    request.first_s = now_s
                    self._unbegun -= request.prompt
            for number in came[1]:
                self._leave(number, now_s)
                closed = True
            ended = self._finished
            if math.isnan(warm_s):
                whole = ended >= max(1, most_in_flight) and now_s >= _WARM_UP_S
                if whole or now_s >= _LATEST_S:
                    warm_s = now_s if now_s > _WARM_UP_S + 1.0 else _WARM_UP_S
                    end_s = warm_s + length_s
            else:
                most_decodes = max(most_decodes, decodes)
        if generator.failure is not None:
            raise generator.failure
        none = np.zeros((0, len(ENDED)))
        return Served(
            ended=np.array(self._rows) if self._rows else none,
            tokens=np.array(tokens, dtype=float).reshape(-1, 2),
            due_s=np.array(self._due),
            warm_s=warm_s,
            end_s=now_s,
            most_decodes=most_decodes,
            preemptions=self._preemptions,
            traffic=self._traffic,
        )

    # -- inside ----------------------------------------------------------------------------

    def _arrive(self, now_s: float) -> int:
        """Take what is due; the requests in flight."""
        while self._refused and self._refused[0] <= now_s:
            self._refused.popleft()
        taken = len(self._running) + len(self._waiting) + len(self._refused)
        size = self._machine.block_size
        for spec in self._generator.arriving(now_s, taken, self._knobs.max_model_len):
            label = self._traffic.setdefault(spec.carried.label.traffic, len(self._traffic))
            if self._full():
                self._due.append(spec.due_s)
                job_s = self._generator.lost(spec.number, now_s)
                self._rows.append(
                    row_of(end_s=now_s, due_s=spec.due_s, job_s=job_s, rejected=1.0, label=label)
                )
                self._refused.append(now_s + REFUSED_WAIT_S)
                continue
            self._unbegun += spec.prompt_tokens
            cached = int(self._hit * spec.prompt_tokens / size) * size
            cached = min(cached, spec.prompt_tokens - 1)
            self._waiting.append((spec.number, _Request(spec, cached, label)))
            self._due.append(spec.due_s)
        return len(self._running) + len(self._waiting)

    def _next_due_s(self, in_flight: int) -> float:
        """When to look for arrivals again."""
        again_s = self._refused[0] if self._refused else math.inf
        return min(self._generator.next_due_s(in_flight + len(self._refused)), again_s)

    def _full(self) -> bool:
        """Whether an arrival is refused."""
        most, tokens = self._knobs.max_num_queued_reqs, self._knobs.max_num_queued_tokens
        if most and len(self._running) + len(self._waiting) >= most:
            return True
        return bool(tokens) and self._unbegun >= tokens

    def _make_room(self) -> None:
        """Preempt the newest while the decodes have no blocks."""
        running = self._running
        while len(running) > 1 and (
            self._used + self._decodes + self._besides * len(running) > self._capacity
        ):
            number = next(reversed(running))
            request = running[number]
            if 0 <= request.finish < self._step:
                # It has ended, which is known only after this step.
                break
            del running[number]
            if self._prefilling.pop(number, None) is None:
                self._decodes -= 1
                request.generated = request.output - request.finish + self._step - 1
                # The KV entry of its newest token is not computed yet.
                self._used += 1
            self._used -= request.prompt + request.generated
            request.finish = -1
            request.todo = request.prompt + request.generated
            self._waiting.appendleft((number, request))
            self._preemptions += 1

    def _fill(self, budget: int, now_s: float) -> tuple[int, list[tuple[int, _Request]]]:
        """Fill the step with prefill: its tokens, and the requests whose prompt it ends."""
        if self._defers():
            return 0, []
        had, firsts = budget, []
        most = self._knobs.long_prefill_token_threshold or budget
        running = self._running
        for number, request in list(self._prefilling.items()):
            taken = min(request.todo, budget, most)
            budget -= taken
            request.todo -= taken
            if not request.todo:
                del self._prefilling[number]
                firsts.append((number, request))
        while self._waiting and budget > 0 and len(running) < self._knobs.max_num_seqs:
            number, request = self._waiting[0]
            tokens = request.prompt + request.generated
            if running and self._used + tokens + self._besides * (len(running) + 1) > self._room:
                break
            self._waiting.popleft()
            if math.isnan(request.scheduled_s):
                request.scheduled_s = now_s
            running[number] = request
            self._used += tokens
            taken = min(request.todo, budget, most)
            budget -= taken
            request.todo -= taken
            if request.todo:
                self._prefilling[number] = request
            else:
                firsts.append((number, request))
        for number, request in firsts:
            # Its first token comes at the end of this step, the last so many steps later.
            request.generated += 1
            request.finish = self._step + request.output - request.generated
            heapq.heappush(self._finishes, (request.finish, number))
        self._backed_up = bool(self._waiting)
        if had > budget:
            self._last_prefill = self._step
        return had - budget, firsts

    def _defers(self) -> bool:
        """Whether this step is of decodes alone, as vLLM 0.33 has it: not while any are left over
        from a step with prefill."""
        every = self._knobs.prefill_schedule_interval
        decodes_alone = every > 1 and self._decodes > 0 and not self._backed_up
        return decodes_alone and self._step - self._last_prefill < every

    def _decoded(self, firsts: list[tuple[int, _Request]]) -> list[int]:
        """Count what decodes from the next step on; the requests whose last token came."""
        self._used += self._decodes
        self._decodes += len(firsts)
        finished = []
        while self._finishes and self._finishes[0][0] <= self._step:
            step, number = heapq.heappop(self._finishes)
            request = self._running.get(number)
            # A request that was preempted may be there twice.
            if request is not None and request.finish == step and number not in finished:
                finished.append(number)
        self._decodes -= len(finished)
        return finished

    def _leave(self, number: int, now_s: float) -> None:
        request = self._running.pop(number)
        self._finished += 1
        n = request.output
        self._used -= request.prompt + n - 1
        tpot_s = (now_s - request.first_s) / (n - 1) if n > 1 else math.nan
        self._rows.append(
            row_of(
                end_s=now_s,
                ttft_s=request.first_s - request.due_s,
                tpot_s=tpot_s,
                e2e_s=now_s - request.due_s,
                queue_s=request.scheduled_s - request.due_s,
                prefill_s=request.first_s - request.scheduled_s,
                decode_s=now_s - request.first_s,
                good=1.0,
                due_s=request.due_s,
                began=1.0,
                label=request.label,
                job_s=self._generator.ended(number, now_s, n, ()),
            )
        )

"""Hooks on one scheduler: the engine notes its steps, and they are summed up beside it.

    schedule, update_from_output ── times, counts, vLLM's own objects ──▶ noted
    noted ── a thread, while the engine waits for its model, or whoever asks ──▶ rows

What hundreds of sequences had computed takes longer to sum up than all the rest of a hook. vLLM
makes the lists of a step anew for each, so that they can be read later.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from tputtui.engine.vllm.limits import LiveLimits, kv_frac
from tputtui.engine.vllm.scheduled import (
    Composition,
    composition,
    prompts_of,
    waiting_for_an_adapter,
)
from tputtui.knobs import Knobs
from tputtui.plugin.ring import Ring
from tputtui.plugin.tokens import tokens_of

__all__ = ["Row", "Watch"]

_EVERY_S = 0.05
_LOOK_EVERY_S = 1.0
_MOST_NOTED = 256
"""Steps that may lie there; the engine sums them up itself where its threads leave no time to."""
_MOST_UNDER_WAY = 64
"""Steps that were scheduled and never ran are forgotten above it."""

Row = tuple[float, ...]
_Now = tuple[Composition | None, int]
"""What a step consists of, where that cannot be told later; and the requests that wait for their
adapter."""
_NOTHING_NOW: _Now = (None, 0)
_UnderWay = tuple[float, float, tuple[int, int], _Now]
"""When its scheduling began and ended, in s; requests running and waiting then."""
_Noted = tuple[_UnderWay, float, float, Any, Any, tuple[Knobs, int], int]
"""The arguments of `_Sum._row`."""

log = logging.getLogger("vllm.tputtui")


class Watch:
    """Tells of each step of `scheduler`, until `remove`.

    All but the summing-up on the engine's thread, where a step costs it a few microseconds: what is
    the same for many steps is looked up once.

    rows: gets a row of each step, in `StepSample`'s order. before: called before each step once
    `limits` have changed, until it says that there is nothing more to do. after: called with the
    time in s when a step is over, about once a second. failed: called once where anything here went
    wrong; the hooks are off by then, and nobody else has noticed.
    """

    def __init__(
        self,
        scheduler: Any,
        limits: LiveLimits,
        rows: Ring[Row],
        clock: Callable[[], float],
        *,
        before: Callable[[], bool],
        after: Callable[[float], None],
        failed: Callable[[], None],
    ) -> None:
        self._scheduler, self._limits, self._clock = scheduler, limits, clock
        self._before, self._after, self._failed = before, after, failed
        self._sum = _Sum(scheduler, rows)
        self._noted = self._sum.noted
        self._prompt_of = prompts_of(scheduler.requests)
        self._with_adapters = scheduler.lora_config is not None
        self._counts, self._free_blocks = scheduler.get_request_counts, limits.free_blocks
        self._under_way: dict[int, _UnderWay] = {}
        self._look_s = 0.0
        self._off = False
        self.limits_changed()
        own = scheduler.__dict__
        self._own = {name: own.get(name) for name in ("schedule", "update_from_output")}
        self._schedule, self._update = scheduler.schedule, scheduler.update_from_output
        scheduler.schedule = self._watched_schedule
        scheduler.update_from_output = self._watched_update
        self._sum.start()

    def limits_changed(self) -> None:
        """Look at the limits again; also where somebody may change them from now on."""
        self._changing = True
        self._in_force = self._limits.knobs, self._limits.kv_blocks

    def sum_up(self) -> None:
        """Every step that is over has its row."""
        try:
            self._sum.up()
        except Exception:
            self._fail()

    def remove(self) -> None:
        """Take the hooks off; what another plugin put there before comes back."""
        self._off = True
        self._sum.stop()
        own = self._scheduler.__dict__
        ours = {"schedule": self._watched_schedule, "update_from_output": self._watched_update}
        for name, hook in ours.items():
            if own.get(name) != hook:
                continue  # Somebody hooked on top of us: we only pass on from here.
            if self._own[name] is None:
                del own[name]
            else:
                own[name] = self._own[name]

    def _watched_schedule(self, *args: Any, **kwargs: Any) -> Any:
        if self._off:
            return self._schedule(*args, **kwargs)
        began_s = self._clock()
        if self._changing:
            try:
                more = self._before()
                self.limits_changed()
                self._changing = more
            except Exception:
                self._fail()
        output = self._schedule(*args, **kwargs)
        try:
            drafts = getattr(output, "scheduled_spec_decode_tokens", None)
            now = self._told_now(output, drafts) if drafts or self._with_adapters else _NOTHING_NOW
            self._under_way[id(output)] = (began_s, self._clock(), self._counts(), now)
        except Exception:
            self._fail()
        return output

    def _told_now(self, output: Any, drafts: Any) -> _Now:
        """What cannot be told later: the model runner drops draft tokens that the grammar forbids,
        and the queue moves on."""
        step = composition(output, self._prompt_of) if drafts else None
        return step, waiting_for_an_adapter(self._scheduler) if self._with_adapters else 0

    def _watched_update(self, *args: Any, **kwargs: Any) -> Any:
        if self._off:
            return self._update(*args, **kwargs)
        came_s = self._clock()
        outputs = self._update(*args, **kwargs)
        try:
            output = args[0] if args else kwargs["scheduler_output"]
            under_way = self._under_way.pop(id(output), None)
            end_s = self._clock()
            if under_way is not None:
                self._noted.append(
                    (
                        under_way, came_s, end_s, output, outputs,
                        self._in_force, self._free_blocks(),
                    )
                )  # fmt: skip
            if end_s >= self._look_s:
                self._look(end_s)
        except Exception:
            self._fail()
        return outputs

    def _look(self, now_s: float) -> None:
        self._look_s = now_s + _LOOK_EVERY_S
        if len(self._under_way) > _MOST_UNDER_WAY:
            self._under_way.clear()
        self._sum.up_if_late()
        self._after(now_s)

    def _fail(self) -> None:
        if self._off:
            return
        log.exception("tputtui: watching failed and is off; the engine goes on without it")
        self.remove()
        with contextlib.suppress(Exception):
            self._failed()


class _Sum:
    """Makes a row of each step noted, in a thread of its own or when `up` is called.

    noted: what `Watch` leaves of each step. error: of which the thread has ended.
    """

    def __init__(self, scheduler: Any, rows: Ring[Row]) -> None:
        self.noted: deque[_Noted] = deque()
        self.error: Exception | None = None
        self._rows, self._requests = rows, scheduler.requests
        # A request can be gone by the time its steps are summed up.
        self._prompts: dict[str, int] = {
            name: one.num_prompt_tokens for name, one in self._requests.items()
        }
        self._end_s = 0.0
        self._lock = threading.Lock()
        self._over = threading.Event()

    def start(self) -> None:
        """Begin to sum up beside the engine."""
        threading.Thread(target=self._run, name="tputtui-steps", daemon=True).start()

    def stop(self) -> None:
        """Leave it; what is noted is forgotten."""
        self._over.set()
        with self._lock:
            self.noted.clear()

    def up(self) -> None:
        """Make the rows of every step noted so far. Raises what the thread has ended of."""
        with self._lock:
            if self.error is not None:
                raise self.error
            while self.noted:
                self._rows.append(self._row(*self.noted.popleft()))

    def up_if_late(self) -> None:
        """Make the rows here where the thread has no time to, or has ended."""
        if self.error is not None or len(self.noted) > _MOST_NOTED:
            self.up()

    def _run(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                self.up()
            except Exception as error:
                self.error = error
                return

    def _row(
        self,
        under_way: _UnderWay,
        came_s: float,
        end_s: float,
        output: Any,
        outputs: Any,
        in_force: tuple[Knobs, int],
        free: int,
    ) -> Row:
        began_s, scheduled_s, (running, waiting), (step, held_back) = under_way
        knobs, kv_blocks = in_force
        host_s = scheduled_s - began_s + end_s - came_s
        # Scheduled while the one before was computed: it began where that one ended.
        step_s, self._end_s = end_s - max(began_s, self._end_s), end_s
        prompts = self._prompts
        for name in output.finished_req_ids:
            prompts.pop(name, None)
        for new in output.scheduled_new_reqs:
            prompts[new.req_id] = self._length_of(new)
        if step is None:
            step = composition(output, self._prompt_of)
        tokens = tokens_of(output, outputs)
        return (
            end_s, step_s, running, waiting, step.prefill_tokens, step.decode_tokens,
            tokens.generated, tokens.cached, tokens.looked_up, tokens.preempted,
            kv_frac(free, kv_blocks), knobs.max_num_seqs, knobs.max_num_batched_tokens,
            host_s, step.prefill_context + step.decode_context, kv_blocks, held_back, step.drafted,
            *tokens.checked.values(),
        )  # fmt: skip

    def _prompt_of(self, name: str) -> int:
        return self._prompts.get(name, 0)

    def _length_of(self, new: Any) -> int:
        request = self._requests.get(new.req_id)
        if request is None:
            return len(new.prompt_token_ids or ())
        prompt: int = request.num_prompt_tokens
        return prompt

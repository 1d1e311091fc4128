"""Looks at each step of a booted vLLM engine: what is scheduled, what comes out, whose time it is.

Engine thread only. Hooks on the booted instances, taken off again at shutdown; the configuration
stays as production would have it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tputtui.engine.vllm.limits import LiveLimits

__all__ = ["StepWatch"]


class Scheduled(NamedTuple):
    """What the scheduler put into a step: sequences, and tokens.

    context: tokens that those sequences had computed before.
    """

    running: int = 0
    waiting: int = 0
    prefill: int = 0
    decode: int = 0
    context: int = 0


class StepWatch:
    """Between `begin` and the next: what one step was.

    awaiting: internal ids of requests without a first token; whoever submits adds to it.
    first_tokens: (internal id, when) of those that got it.
    clock: what seconds are counted by. scheduled: told each step's `SchedulerOutput`.
    core_s: seconds in the engine core; scheduler_s: of those, in the scheduler's own code.
    """

    def __init__(
        self,
        engine: Any,
        limits: LiveLimits,
        clock: Callable[[], float],
        scheduled: Callable[[Any], None],
    ) -> None:
        self.awaiting: set[str] = set()
        self.first_tokens: list[tuple[str, float]] = []
        self.scheduled = Scheduled()
        self.core_s = self.scheduler_s = 0.0
        self._client = engine.engine_core
        self._scheduler = self._client.engine_core.scheduler
        self._requests = self._scheduler.requests
        self._counts = self._scheduler.get_request_counts
        self._wrap(limits, clock, scheduled)

    def begin(self) -> None:
        """Another step begins."""
        self.first_tokens = []
        self.core_s = self.scheduler_s = 0.0
        last = self.scheduled
        self.scheduled = Scheduled(last.running, last.waiting)

    def remove(self) -> None:
        """Take the hooks off: they make cycles that vLLM's frozen garbage would keep alive."""
        for owner, name in (
            (self._scheduler, "schedule"),
            (self._scheduler, "update_from_output"),
            (self._client, "get_output"),
        ):
            with contextlib.suppress(AttributeError):
                delattr(owner, name)
        del self._client, self._scheduler, self._requests, self._counts

    def _wrap(
        self, limits: LiveLimits, clock: Callable[[], float], scheduled: Callable[[Any], None]
    ) -> None:
        scheduler, client = self._scheduler, self._client
        schedule, get_output = scheduler.schedule, client.get_output
        update = scheduler.update_from_output

        def watched_schedule(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            limits.before_schedule()
            output = schedule(*args, **kwargs)
            self._note_schedule(output)
            scheduled(output)
            self.scheduler_s += clock() - began_s
            return output

        def watched_update(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            outputs = update(*args, **kwargs)
            self.scheduler_s += clock() - began_s
            return outputs

        def watched_output(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            outputs = get_output(*args, **kwargs)
            self.core_s = clock() - began_s
            if self.awaiting:
                self._note_first_tokens(outputs)
            return outputs

        scheduler.schedule = watched_schedule
        scheduler.update_from_output = watched_update
        client.get_output = watched_output

    def _note_schedule(self, output: Any) -> None:
        requests = self._requests
        tokens = output.num_scheduled_tokens
        total = output.total_num_scheduled_tokens
        cached = output.scheduled_cached_reqs
        prefill = sum(tokens[request.req_id] for request in output.scheduled_new_reqs)
        context = sum(cached.num_computed_tokens)
        context += sum(request.num_computed_tokens for request in output.scheduled_new_reqs)
        # Nearly always the others decode one token each, and there is nothing to look into.
        if 0 in cached.num_output_tokens or total - prefill > len(cached.req_ids):
            for name, had, computed in zip(
                cached.req_ids, cached.num_output_tokens, cached.num_computed_tokens, strict=True
            ):
                request = requests[name]
                left = (request.num_tokens if had else request.num_prompt_tokens) - computed
                # A preempted request computes all it has again, in chunks. With async scheduling
                # the first decode can be scheduled before the first token is known: then only
                # what is left of the prompt is prefill.
                if not had or left > 1:
                    prefill += max(0, min(tokens[name], left))
        running, waiting = self._counts()
        self.scheduled = Scheduled(running, waiting, prefill, total - prefill, context)

    def _note_first_tokens(self, outputs: Any) -> None:
        for output in outputs.outputs:
            if output.request_id in self.awaiting and output.new_token_ids:
                self.awaiting.discard(output.request_id)
                self.first_tokens.append((output.request_id, outputs.timestamp))

"""Observes each step of a booted vLLM engine: scheduled work, first tokens, times.

Engine thread only. The hooks are on the booted instances and are removed at shutdown; the
configuration stays the same as in production.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

from tputtui.engine.vllm.limits import LiveLimits
from tputtui.engine.vllm.scheduled import Classifier, Scheduled

__all__ = ["StepWatch"]


class StepWatch:
    """Holds the data of one step, from one `begin` to the next.

    awaiting: internal ids of requests without a first token; the engine adds each new request.
    first_tokens: (internal id, when in s) of requests that got their first token.
    clock: monotonic seconds. scheduled: called with each step's `SchedulerOutput`.
    core_s: seconds in the engine core. scheduler_s: seconds of these in the scheduler's own code.
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
        self._wrap(limits, clock, scheduled)

    def begin(self) -> None:
        """Clear the data for the next step."""
        self.first_tokens = []
        self.core_s = self.scheduler_s = 0.0
        last = self.scheduled
        self.scheduled = Scheduled(last.running, last.waiting, adapter_waiting=last.adapter_waiting)

    def remove(self) -> None:
        """Remove the hooks: they form reference cycles, which vLLM's frozen garbage keeps alive."""
        for owner, name in (
            (self._scheduler, "schedule"),
            (self._scheduler, "update_from_output"),
            (self._scheduler, "get_grammar_bitmask"),
            (self._client, "get_output"),
        ):
            with contextlib.suppress(AttributeError):
                delattr(owner, name)
        del self._client, self._scheduler

    def _wrap(
        self, limits: LiveLimits, clock: Callable[[], float], scheduled: Callable[[Any], None]
    ) -> None:
        scheduler, client = self._scheduler, self._client
        classify = Classifier(scheduler)
        schedule, get_output = scheduler.schedule, client.get_output
        update: Any = getattr(scheduler, "update_from_output", None)
        grammar: Any = getattr(scheduler, "get_grammar_bitmask", None)

        def watched_schedule(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            limits.before_schedule()
            output = schedule(*args, **kwargs)
            self.scheduled = classify(output)
            scheduled(output)
            self.scheduler_s += clock() - began_s
            return output

        def watched_update(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            outputs = update(*args, **kwargs)
            self.scheduler_s += clock() - began_s
            return outputs

        def watched_grammar(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            bitmask = grammar(*args, **kwargs)
            self.scheduler_s += clock() - began_s
            return bitmask

        def watched_output(*args: Any, **kwargs: Any) -> Any:
            began_s = clock()
            outputs = get_output(*args, **kwargs)
            self.core_s = clock() - began_s
            if self.awaiting:
                self._note_first_tokens(outputs)
            return outputs

        scheduler.schedule = watched_schedule
        # These two are only timed: a vLLM without them is served as well.
        if update is not None:
            scheduler.update_from_output = watched_update
        if grammar is not None:
            scheduler.get_grammar_bitmask = watched_grammar
        client.get_output = watched_output

    def _note_first_tokens(self, outputs: Any) -> None:
        for output in outputs.outputs:
            if output.request_id in self.awaiting and output.new_token_ids:
                self.awaiting.discard(output.request_id)
                self.first_tokens.append((output.request_id, outputs.timestamp))

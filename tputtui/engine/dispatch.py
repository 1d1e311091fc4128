"""Requests on their way: from the generator to the engine, and back into both books."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import closing

from tputtui.engine.ledger import Ledger
from tputtui.engine.protocol import Ended, Engine
from tputtui.load.generator import Generator, RequestSpec
from tputtui.measure.samples import Outcome

__all__ = ["Dispatch"]

logger = logging.getLogger(__name__)

_SENDING_S = 0.02
_SENT_AT_ONCE = 10_000


class Dispatch:
    """Hands over what is due, and tells `ledger` and generator of what has ended.

    clock: the engine's, monotonic seconds.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], float]) -> None:
        self._ledger = ledger
        self._clock = clock

    def send(self, engine: Engine, generator: Generator, max_model_len: int) -> bool:
        """Hand over what is due; whether a request was refused."""
        refused = False
        # A hundred thousand at once must not hold up the steps, nor the orders; and a clock that
        # stands still meanwhile (virtual time) ends nothing.
        enough_s, left = self._clock() + _SENDING_S, _SENT_AT_ONCE
        # Twice: what became due while the first were sent must not wait for a whole step.
        for _ in range(2):
            now_s, in_flight, sent = self._clock(), self._ledger.in_flight, False
            with closing(generator.arriving(now_s, in_flight, max_model_len)) as arriving:
                for request in arriving:
                    sent = True
                    refused = not self._taken(engine, generator, request) or refused
                    left -= 1
                    if left <= 0 or self._clock() > enough_s:
                        return refused
            if refused or not sent:
                break
        return refused

    def leave(
        self,
        generator: Generator | None,
        ended: Iterable[Ended],
        outcome: Outcome | None = None,
    ) -> None:
        """Requests have left the engine, as `outcome` or as the ledger finds."""
        for request in ended:
            how = self._ledger.leave(request, outcome)
            if generator is None:
                continue
            if how is Outcome.FINISHED:
                generator.ended(
                    request.number, request.end_s, request.output_tokens, request.token_ids
                )
            else:
                generator.lost(request.number, request.end_s)

    def _taken(self, engine: Engine, generator: Generator, request: RequestSpec) -> bool:
        """Hand one request over; whether the engine takes it."""
        self._ledger.issue(request, self._clock())
        try:
            engine.submit(request)
        except ValueError as refusal:
            logger.warning("request %d refused: %s", request.number, refusal)
            self._ledger.drop(request.number, Outcome.REJECTED, self._clock())
            generator.lost(request.number, self._clock())
            return False
        return True

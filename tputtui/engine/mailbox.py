"""Orders on their way to the engine thread: put in on any thread, taken out between two steps."""

from __future__ import annotations

import itertools
from queue import Empty, SimpleQueue

from tputtui.engine.orders import Order, SetLimits

__all__ = ["Mailbox"]

_LONGEST_WAIT_S = 3600.0

_Numbered = tuple[int, Order]


class Mailbox:
    """Holds orders, each with its number, in the order they were given."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[_Numbered] = SimpleQueue()

    def put(self, number: int, order: Order) -> None:
        """Put an order in."""
        self._orders.put((number, order))

    def take(self, wait_s: float) -> list[_Numbered]:
        """Those there are; of `SetLimits` in a row the last. wait_s: how long to wait for one."""
        orders: list[_Numbered] = []
        try:
            if wait_s > 0:
                orders.append(self._orders.get(timeout=min(wait_s, _LONGEST_WAIT_S)))
            while True:
                orders.append(self._orders.get_nowait())
        except Empty:
            pass
        # A storm of changes: only the last one is worth the work.
        return [
            numbered
            for numbered, after in itertools.zip_longest(orders, orders[1:])
            if not (
                isinstance(numbered[1], SetLimits) and after and isinstance(after[1], SetLimits)
            )
        ]

"""Orders for the engine thread: any thread puts them in, the loop takes them between two steps."""

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
        """Take all orders; of consecutive `SetLimits` the last. wait_s: longest wait for one."""
        orders: list[_Numbered] = []
        try:
            if wait_s > 0:
                orders.append(self._orders.get(timeout=min(wait_s, _LONGEST_WAIT_S)))
            while True:
                orders.append(self._orders.get_nowait())
        except Empty:
            pass
        # During a burst of changes only the last limits need to be applied.
        return [
            numbered
            for numbered, after in itertools.zip_longest(orders, orders[1:])
            if not (
                isinstance(numbered[1], SetLimits) and after and isinstance(after[1], SetLimits)
            )
        ]

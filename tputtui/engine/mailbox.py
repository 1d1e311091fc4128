"""Orders on their way to the engine thread: put in on any thread, taken out between two steps."""

from __future__ import annotations

import itertools
from queue import Empty, SimpleQueue

__all__ = ["Mailbox"]

_LONGEST_WAIT_S = 3600.0

_Order = tuple[int, str, tuple[object, ...]]
_NO_ORDER: _Order = (0, "", ())


class Mailbox:
    """Holds orders, each a number, a name and its arguments, in the order they were given."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[_Order] = SimpleQueue()

    def put(self, number: int, name: str, args: tuple[object, ...]) -> None:
        """Put an order in."""
        self._orders.put((number, name, args))

    def take(self, wait_s: float) -> list[_Order]:
        """Those there are; of `set_knobs` in a row the last. wait_s: how long to wait for one."""
        orders: list[_Order] = []
        try:
            if wait_s > 0:
                orders.append(self._orders.get(timeout=min(wait_s, _LONGEST_WAIT_S)))
            while True:
                orders.append(self._orders.get_nowait())
        except Empty:
            pass
        # A storm of turns: only the last one is worth the work.
        return [
            order
            for order, after in itertools.zip_longest(orders, orders[1:], fillvalue=_NO_ORDER)
            if not order[1] == after[1] == "set_knobs"
        ]

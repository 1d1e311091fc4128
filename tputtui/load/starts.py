"""New requests that are due, taken from two queues one at a time. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

__all__ = ["Starts", "taken"]


class Starts(NamedTuple):
    """New requests that are due. times: when each was, taken from the two queues as it is read.

    before: due times of before. places: since when each free place of a closed loop is free.
    """

    times: Iterable[float]
    before: deque[float]
    places: deque[float]


def taken(queue: deque[float]) -> Iterator[float]:
    """Each due time, which is then no longer in the queue."""
    while queue:
        yield queue.popleft()

"""The newest of what is made one after the other, numbered, for readers that come now and then."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import islice
from typing import Generic, TypeVar

__all__ = ["Ring"]

T = TypeVar("T")


class Ring(Generic[T]):
    """Keeps `capacity` of them. count: how many there have been."""

    def __init__(self, capacity: int) -> None:
        self._kept: deque[T] = deque(maxlen=capacity)
        self.count = 0

    def append(self, one: T) -> None:
        """Add one."""
        self._kept.append(one)
        self.count += 1

    def extend(self, several: Iterable[T]) -> None:
        """Add several."""
        for one in several:
            self.append(one)

    def since(self, seen: int) -> tuple[list[T], int]:
        """Those after the first `seen`, and how many of them are no longer kept.

        None for a number that there never was: below 0, or of another ring.
        """
        if not 0 <= seen <= self.count:
            return [], 0
        kept = min(len(self._kept), self.count - seen)
        newest = list(islice(self._kept, len(self._kept) - kept, None))
        return newest, self.count - seen - kept

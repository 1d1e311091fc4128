"""All the servers that are watched: what one look at them shows. On the thread that looks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tputtui.attach.address import Address
from tputtui.attach.poller import News
from tputtui.attach.span import Figures, added
from tputtui.attach.track import Server, Track

__all__ = ["Fleet", "Looked", "Scrapes"]


class Scrapes(Protocol):
    """Where the news comes from."""

    def news(self) -> list[News]:
        """What has come since this was last asked."""


@dataclass(frozen=True, slots=True)
class Looked:
    """How all of them stand at `t_s`, in the order in which they were named.

    total: of those whose figures are of now, over their last intervals; `counted` of them.
    """

    t_s: float
    servers: tuple[Server, ...]
    total: Figures
    counted: int


class Fleet:
    """Keeps a track of each server.

    clock: monotonic seconds, the one that scrapes are stamped with.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        scrapes: Scrapes,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.period_s = period_s
        self._scrapes = scrapes
        self._clock = clock
        self._tracks = [Track(address, clock(), period_s) for address in addresses]

    def take(self) -> None:
        """Take the news."""
        for news in self._scrapes.news():
            track = self._tracks[news.server]
            if news.reading is not None:
                track.told(news.at_s, news.reading)
            elif news.about is not None:
                track.learned(news.about)
            else:
                track.failed(news.why)

    def look(self) -> Looked:
        """Take the news, and say how everything stands."""
        self.take()
        now_s = self._clock()
        servers = tuple(track.view(now_s) for track in self._tracks)
        counted = [server for server in servers if server.counts]
        return Looked(now_s, servers, _total([server.now for server in counted]), len(counted))


def _total(figures: Sequence[Figures]) -> Figures:
    kv = [each.kv_frac for each in figures if not math.isnan(each.kv_frac)]
    return Figures(
        generated_per_s=added(each.generated_per_s for each in figures),
        prompt_per_s=added(each.prompt_per_s for each in figures),
        ended_per_s=added(each.ended_per_s for each in figures),
        preemptions_per_s=added(each.preemptions_per_s for each in figures),
        running=added(each.running for each in figures),
        waiting=added(each.waiting for each in figures),
        kv_frac=sum(kv) / len(kv) if kv else math.nan,
    )

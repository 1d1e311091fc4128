"""All watched servers, and one snapshot of them. Runs on the thread of whoever looks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tputtui.attach.address import Address
from tputtui.attach.poller import News
from tputtui.attach.span import ServerFigures, added
from tputtui.attach.track import Server, Track

__all__ = ["Fleet", "Looked", "Scrapes"]


class Scrapes(Protocol):
    """The source of news."""

    def news(self) -> list[News]:
        """The news since the last call."""


@dataclass(frozen=True, slots=True)
class Looked:
    """The state of all servers at `t_s`, in the order in which they were named.

    total: sums over the last interval of those servers whose figures are current. counted: how
    many servers that are.
    """

    t_s: float
    servers: tuple[Server, ...]
    total: ServerFigures
    counted: int


class Fleet:
    """Keeps a track of each server.

    clock: monotonic seconds; the same clock stamps the scrapes.
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
        """Give each track its news."""
        for news in self._scrapes.news():
            track = self._tracks[news.server]
            if news.reading is not None:
                track.add(news.at_s, news.reading)
            elif news.about is not None:
                track.learned(news.about)
            else:
                track.failed(news.why)

    def look(self) -> Looked:
        """Take the news, and return the state of all servers."""
        self.take()
        now_s = self._clock()
        servers = tuple(track.view(now_s) for track in self._tracks)
        counted = [server for server in servers if server.counts]
        return Looked(now_s, servers, _total([server.now for server in counted]), len(counted))


def _total(figures: Sequence[ServerFigures]) -> ServerFigures:
    kv = [each.kv_frac for each in figures if not math.isnan(each.kv_frac)]
    return ServerFigures(
        generated_per_s=added(each.generated_per_s for each in figures),
        prompt_per_s=added(each.prompt_per_s for each in figures),
        ended_per_s=added(each.ended_per_s for each in figures),
        preemptions_per_s=added(each.preemptions_per_s for each in figures),
        running=added(each.running for each in figures),
        waiting=added(each.waiting for each in figures),
        kv_frac=sum(kv) / len(kv) if kv else math.nan,
    )

"""How latencies are spread, in bins of equal ratio. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.stats import Floats

__all__ = ["PER_DECADE", "Histogram", "histograms"]

PER_DECADE = 24
"""Bins for a factor of ten: each reaches 10 % further than the one before."""
_NEWEST = 2000
"""Requests that are counted at most, so that a look costs the same at any rate."""
_LEAST_S = 1e-6


@dataclass(frozen=True, slots=True)
class Histogram:
    """Requests by latency. counts: of bin `first`, `first` + 1, …; bin i begins at `edge(i)`."""

    name: str
    """`ttft`, `tpot` or `e2e`."""
    first: int
    counts: tuple[int, ...]

    @property
    def n(self) -> int:
        """How many requests it counts."""
        return sum(self.counts)

    @staticmethod
    def edge(index: float) -> float:
        """Where bin `index` begins, in seconds."""
        return float(10.0 ** (index / PER_DECADE))


def histograms(recorder: Recorder, start_s: float, end_s: float) -> tuple[Histogram, ...]:
    """TTFT, TPOT and E2E of the newest requests with start_s < time ≤ end_s; none for no request.

    TTFT is of requests whose first token came in that time, the others of those that finished.
    """
    first = recorder.first_tokens.between(start_s, end_s)[-_NEWEST:]
    ended = recorder.ended.between(start_s, end_s)[-_NEWEST:]
    spread = (
        _histogram("ttft", first[:, 1]),
        _histogram("tpot", ended[:, ENDED["tpot_s"]]),
        _histogram("e2e", ended[:, ENDED["e2e_s"]]),
    )
    return tuple(each for each in spread if each is not None)


def _histogram(name: str, values: Floats) -> Histogram | None:
    kept = values[~np.isnan(values)]
    if not len(kept):
        return None
    bins = np.floor(np.log10(np.maximum(kept, _LEAST_S)) * PER_DECADE).astype(np.int64)
    first = int(bins.min())
    return Histogram(name, first, tuple(np.bincount(bins - first).tolist()))

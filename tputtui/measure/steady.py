"""Whether a window is steady: no figure in it drifts up or down. Pure.

After Kelton & Law, "A new approach for dealing with the startup problem in discrete event
simulation", Naval Research Logistics Quarterly 30 (1983), 641-658: batch means are regressed on
time, and a stretch whose slope differs from zero is not yet steady. Their method averages over
replications; here there is one run, so the batches must be long enough to be nearly independent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tputtui.measure.stats import Floats

__all__ = ["Trend", "binned", "steady", "trend"]

_BATCHES = 20
_T99 = 2.878
"""Student's t, two-sided 1 %, for 18 degrees of freedom: 20 batches less slope and intercept."""
_MARGIN = 0.10
"""A drift that is a smaller fraction of the mean does not matter, even where it is significant."""


@dataclass(frozen=True, slots=True)
class Trend:
    """The straight line through a series.

    slope_frac: its change from the window's start to its end ÷ the series' mean.
    resolved: whether that change differs from zero by more than chance explains (1 % level).
    """

    slope_frac: float
    resolved: bool

    @property
    def drifting(self) -> bool:
        """Whether the series is not steady: its change is resolved, and at least 10 %."""
        return self.resolved and abs(self.slope_frac) >= _MARGIN


def trend(values: Floats) -> Trend | None:
    """The trend of evenly spaced observations, shape (m,); None for m < 20 or with gaps (NaN).

    Ordinary least squares on 20 batch means, t-test of the slope. The test wrongly refuses 1 % of
    steady windows whose observations are independent, about 2 % at 5 observations a batch and a
    correlation of 0.5 between neighbours, about 20 % at 0.9 (all three without the 10 % margin).
    Shrinking the sample size for that correlation would accept drains: their curvature around the
    straight line looks like such a correlation.
    """
    if len(values) < _BATCHES or not np.isfinite(values).all():
        return None
    if np.ptp(values) == 0:
        return Trend(0.0, False)
    indices = np.array_split(np.arange(len(values)), _BATCHES)
    # Each batch stands at its own centre: where m is no multiple of 20, batches differ in length.
    times = np.array([batch.mean() for batch in indices])
    means = np.array([values[batch].mean() for batch in indices])
    times -= times.mean()
    spread = float(times @ times)
    slope = float(times @ means) / spread
    residuals = means - means.mean() - slope * times
    slope_error = math.sqrt(float(residuals @ residuals) / (_BATCHES - 2) / spread)
    mean = abs(float(values.mean()))
    change = slope * len(values)
    return Trend(
        slope_frac=change / mean if mean else math.copysign(math.inf, change),
        resolved=abs(slope) > _T99 * slope_error,
    )


def steady(*series: Floats) -> bool | None:
    """Whether none of the series drifts; None where none drifts but one is too short to decide."""
    trends = [trend(values) for values in series]
    if any(each is not None and each.drifting for each in trends):
        return False
    return None if None in trends else True


def binned(times: Floats, weights: Floats, start: float, end: float, bins: int = 100) -> Floats:
    """Sum of `weights` in each of `bins` equal parts of start < time ≤ end, shape (bins,).

    times, weights: shape (k,), in any order; times outside are left out.
    """
    if end <= start:
        return np.zeros(bins)
    inside = (times > start) & (times <= end)
    place = np.ceil((times[inside] - start) * (bins / (end - start))).astype(np.intp) - 1
    # Rounding can put a time at either end one bin too far.
    place = np.clip(place, 0, bins - 1)
    return np.bincount(place, weights=weights[inside], minlength=bins).astype(np.float64)

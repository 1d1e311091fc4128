"""Turnover batches: how much a window's figures vary, told by its generations of requests. Pure.

What an engine gives in one second resembles what it gave in the second before: the same requests
are in it. A *turnover* is the time in which they have all left and others have taken their places,
about the mean E2E latency. Batches of at least a turnover have little in common with their
neighbours; what is left is the correlation of neighbours, φ, by which their variance is inflated:
(1 + φ) / (1 - φ), as Skart does (Tafazzoli & Wilson, "Skart: A skewness- and autoregression-
adjusted batch-means procedure for simulation analysis", IIE Transactions 43, 2011, 110-128).

Few batches say little about φ. So it is shrunk towards 0.3, which is worth eight batches.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tputtui.measure.stats import Floats

__all__ = ["FEWEST", "MOST", "Spread", "batch_count", "spread", "turnover_s"]

MOST = 30
"""Batches of a window, at most."""
FEWEST = 3
"""Fewer batches give no interval."""
_SHORTEST_S = 1.0
_PRIOR_PHI, _PRIOR_BATCHES = 0.3, 8
_LARGEST_PHI = 0.8
_TELLING = 5
"""Batches from which on φ is estimated at all."""


class Spread(NamedTuple):
    """variance: of one batch, in its unit squared, inflated by the correlation of neighbours.

    freedom: degrees of freedom that the variance rests on.
    """

    variance: float
    freedom: float


def batch_count(length_s: float, turnover_s: float) -> int:
    """As many batches as whole turnovers fit into `length_s` seconds, a second long at least."""
    turnover_s = max(turnover_s, _SHORTEST_S)
    return max(1, min(MOST, int(length_s / turnover_s))) if turnover_s < math.inf else 1


def turnover_s(e2e_s: Floats, requests: float, length_s: float) -> float:
    """Seconds in which a window's requests are replaced by others: their mean E2E latency.

    e2e_s: of requests that have left, shape (k,), NaN for those that ended badly. requests: in the
    engine on average. Where none ended well, Little's law gives the time spent in it, requests in
    it ÷ those that leave it a second (Operations Research 9, 1961, 383-387); infinite where none
    has left.
    """
    there = e2e_s[~np.isnan(e2e_s)]
    if len(there):
        return float(there.mean())
    return requests * length_s / len(e2e_s) if len(e2e_s) else math.inf


def spread(batches: Floats) -> Spread:
    """Variance of a batch, and what it rests on; `batches` in order of time, shape (m,), m ≥ 2.

    φ is corrected for its bias, -(1 + 3φ)/m (Kendall, Biometrika 41, 1954, 403-404), and kept
    within 0 … 0.8. Of m batches as many as m (1 - φ) / (1 + φ) would be worth as much were they
    independent; one less are the degrees of freedom (Zwiers & von Storch, Journal of Climate 8,
    1995, 336-351), and at least one.
    """
    m = len(batches)
    centred = batches - batches.mean()
    squares = float(centred @ centred)
    phi = _PRIOR_PHI
    if m >= _TELLING and squares > 0:
        phi = (float(centred[1:] @ centred[:-1]) / squares + 1 / m) / (1 - 3 / m)
        phi = min(max(phi, 0.0), _LARGEST_PHI)
    phi = (m * phi + _PRIOR_BATCHES * _PRIOR_PHI) / (m + _PRIOR_BATCHES)
    inflation = (1 + phi) / (1 - phi)
    return Spread(squares / (m - 1) * inflation, max(1.0, m / inflation - 1))

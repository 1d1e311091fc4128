"""Turnover batches: how much a window's figures vary from one generation of requests to the next.

Pure. What an engine gives in one second resembles what it gave in the second before, because the
same requests are in it. A *turnover* is the time in which all of them have left and others have
taken their places: about the mean E2E latency. Batches of at least a turnover have little in common
with their neighbours. The remaining correlation of neighbours, φ, inflates the variance by
(1 + φ) / (1 - φ), as Skart does (Tafazzoli & Wilson, "Skart: A skewness- and autoregression-
adjusted batch-means procedure for simulation analysis", IIE Transactions 43, 2011, 110-128).

Few batches say little about φ. So φ is shrunk towards 0.3 with the weight of eight batches.

φ of neighbours says too little about what is slower than they are: a machine that drifts over many
batches while each one has noise of its own. So the same is asked of two and of three neighbours
taken together as well, while ten such remain, and the largest answer counts. (Variances at several
scales: Lo & MacKinlay, "Stock market prices do not follow random walks: evidence from a simple
specification test", Review of Financial Studies 1, 1988, 41-66.)
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats

__all__ = ["FEWEST", "MOST", "Spread", "spread", "spread_of_neighbours", "turnover_batches"]

MOST = 30
"""Most batches of a window."""
FEWEST = 3
"""Fewer batches give no interval."""
_SHORTEST_S = 1.0
_PRIOR_PHI, _PRIOR_BATCHES = 0.3, 8
_LARGEST_PHI = 0.8
_ROUNDING = 1e-12
"""Batches are logarithms, relative deviations or shares: smaller differences are rounding."""
_TELLING = 5
"""Fewest batches from which φ is estimated."""
_TOGETHER = (2, 3)
"""So many neighbours are taken for one batch as well."""
_FEWEST_TOGETHER = 10
"""Fewer of these say less about slow variation than chance does."""


class Spread(NamedTuple):
    """How much batches vary."""

    variance: float
    """Variance of one batch, in its unit squared, inflated by the correlation of neighbours."""
    freedom: float
    """Degrees of freedom of that variance."""


def turnover_batches(recorder: Recorder, start_s: float, end_s: float) -> int:
    """Number of turnovers in start_s < time ≤ end_s, each at least a second long: from 1 to 30.

    A turnover takes the mean E2E latency of the good requests that ended. Without good requests,
    Little's law gives the time that a request spends in the engine: requests inside ÷ requests that
    leave per second (Operations Research 9, 1961, 383-387). 1 where no request has left.
    """
    ended = recorder.ended.between(start_s, end_s)
    if not len(ended):
        return 1
    e2e_s = ended[:, ENDED["e2e_s"]]
    there = e2e_s[~np.isnan(e2e_s)]
    length_s, turnover_s = end_s - start_s, 0.0
    if len(there):
        turnover_s = float(there.mean())
    elif len(steps := recorder.steps.between(start_s, end_s)):
        in_engine = float((steps[:, STEP["running"]] + steps[:, STEP["waiting"]]).mean())
        turnover_s = in_engine * length_s / len(ended)
    return max(1, min(MOST, int(length_s / max(turnover_s, _SHORTEST_S))))


def spread_of_neighbours(batches: Floats) -> Spread:
    """Variance of a batch and its degrees of freedom, by the correlation of neighbours.

    φ is corrected for its bias, -(1 + 3φ)/m (Kendall, Biometrika 41, 1954, 403-404), and kept
    within 0 … 0.8. m batches are worth m (1 - φ) / (1 + φ) independent ones; the degrees of freedom
    are one less (Zwiers & von Storch, Journal of Climate 8, 1995, 336-351), and at least one.
    """
    m = len(batches)
    centred = batches - batches.mean()
    squares = float(centred @ centred)
    phi = _PRIOR_PHI
    if squares <= m * _ROUNDING**2:
        squares = 0.0
    elif m >= _TELLING:
        phi = (float(centred[1:] @ centred[:-1]) / squares + 1 / m) / (1 - 3 / m)
        phi = min(max(phi, 0.0), _LARGEST_PHI)
    phi = (m * phi + _PRIOR_BATCHES * _PRIOR_PHI) / (m + _PRIOR_BATCHES)
    inflation = (1 + phi) / (1 - phi)
    return Spread(squares / (m - 1) * inflation, max(1.0, m / inflation - 1))


def spread(batches: Floats) -> Spread:
    """Variance of a batch, and its degrees of freedom: the largest of the scales of time.

    batches: in order of time, shape (m,), m ≥ 2. From 20 on neighbours are also taken together (the
    oldest are left out where they do not divide evenly); k of them have the variance of one ÷ k
    where batches are independent. For effects: goals ask in their own way how far an engine wanders
    (`attainment`), and would be found met later.
    """
    widest = spread_of_neighbours(batches)
    for k in _TOGETHER:
        together = len(batches) // k
        if together >= _FEWEST_TOGETHER:
            recent = batches[len(batches) - together * k :]
            slower = spread_of_neighbours(recent.reshape(together, k).mean(axis=1))
            if k * slower.variance > widest.variance:
                widest = Spread(k * slower.variance, min(widest.freedom, slower.freedom))
    return widest

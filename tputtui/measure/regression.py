"""A robust fit of times that are sums of non-negative parts. Pure.

Relative errors are what is made small, since a time's noise grows with its length, with Huber's
weights against outliers, iterated: Carroll & Ruppert, Transformation and Weighting in Regression
(1988), ch. 2; Holland & Welsch, "Robust regression using iteratively reweighted least-squares",
Communications in Statistics A6 (1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tputtui.measure.stats import Floats

__all__ = ["Fit", "fit_parts"]

_HUBER = 1.345
"""Huber's constant: 95 % as efficient as least squares where errors are normal."""
_ROUNDS = 50
_WHOLE_STEPS = 10
_STILL = 1e-4
"""A round that moves no fitted value by more than this part of it is the last one."""
_APART = 0.1
"""The least part of a column that the others must leave over: what was seen of it is carried on
to zero at most tenfold, and a model is never quite straight."""
_SINGULAR = 1e-10
_TINY = 1e-9
_LONGEST_SEARCH = 10


@dataclass(frozen=True, slots=True)
class Fit:
    """values ≈ columns · coefficients.

    coefficients: shape (k,), none below 0. errors: their standard errors, errors of the values
    taken as independent; infinite where a column hardly varies by itself.
    r2: part of the values' variance explained, outliers weighted down.
    """

    coefficients: Floats
    errors: Floats
    r2: float


def fit_parts(columns: Floats, values: Floats) -> Fit:
    """Fit `values` > 0, shape (n,), by `columns` ≥ 0, shape (n, k), n > k, one of them constant."""
    scale = np.maximum(columns.max(axis=0), _TINY)
    columns = columns / scale
    median = float(np.median(values))
    # The first weights go by the values themselves, the later ones by what was fitted.
    weights = 1 / np.maximum(values, 0.1 * median) ** 2
    fitted = np.zeros(len(values))
    for again in range(_ROUNDS):
        found = _non_negative(columns, values, weights)
        before, fitted = fitted, np.maximum(columns @ found, 1e-3 * median)
        off = (values - fitted) / fitted
        usual = _HUBER * max(1.4826 * float(np.median(np.abs(off))), _TINY)
        trust = np.minimum(1.0, usual / np.maximum(np.abs(off), _TINY))
        new = trust / fitted**2
        # Two fits can lead to each other for ever: half a step lies between them.
        weights = new if again < _WHOLE_STEPS else (weights + new) / 2
        if np.max(np.abs(fitted - before) / fitted) < _STILL:
            break
    # Huber & Ronchetti, Robust Statistics, 2nd ed. (2009), sec. 7.6: the variance of what is left.
    clipped = off * trust
    inside = max(float(np.mean(np.abs(off) <= usual)), 0.1)
    deviation = math.sqrt(float(clipped @ clipped) / (len(off) - columns.shape[1])) / inside
    spread = float(trust @ (values - np.average(values, weights=trust)) ** 2)
    left = float(trust @ (values - fitted) ** 2)
    return Fit(
        coefficients=found / scale,
        errors=_errors(columns / fitted[:, None], deviation) / scale,
        r2=max(0.0, 1 - left / spread) if spread > 0 else 0.0,
    )


def _non_negative(columns: Floats, values: Floats, weights: Floats) -> Floats:
    """Weighted least squares with no coefficient below 0, shape (k,).

    Lawson & Hanson, Solving Least Squares Problems (1974), ch. 23: exact, column by column.
    """
    k = columns.shape[1]
    weighted = columns * weights[:, None]
    gram, moments = columns.T @ weighted, weighted.T @ values
    found = np.zeros(k)
    chosen, barred = np.zeros(k, dtype=bool), np.zeros(k, dtype=bool)
    least = _TINY * float(np.abs(moments).max())
    for _ in range(_LONGEST_SEARCH * k):
        gain = np.where(chosen | barred, -np.inf, moments - gram @ found)
        best = int(np.argmax(gain))
        if gain[best] <= least:
            break
        chosen[best] = True
        part = gram[np.ix_(chosen, chosen)]
        if not np.linalg.det(part) > _SINGULAR * np.prod(np.diag(part)):
            # What it would add, the others say already.
            chosen[best], barred[best] = False, True
            continue
        barred[:] = False
        found = _freed(gram, moments, found, chosen)
    return found


def _freed(gram: Floats, moments: Floats, found: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """The solution in the columns `chosen`, less those that it drives below 0: they are let go."""
    while True:
        free = np.zeros(len(found))
        free[chosen] = np.linalg.solve(gram[np.ix_(chosen, chosen)], moments[chosen])
        low = np.flatnonzero(chosen & (free <= 0))
        if not len(low):
            return free
        # As far towards it as all stay above.
        shares = found[low] / (found[low] - free[low])
        found = found + float(shares.min()) * (free - found)
        found[low[np.argmin(shares)]] = 0.0
        chosen &= found > 0


def _errors(columns: Floats, deviation: float) -> Floats:
    """Standard error of each coefficient: deviation ÷ norm of what the others leave of its column.

    Frisch & Waugh (1933), Lovell (1963).
    """
    errors = np.full(columns.shape[1], np.inf)
    for i in range(len(errors)):
        column, others = columns[:, i], np.delete(columns, i, axis=1)
        left = column - others @ np.linalg.lstsq(others, column, rcond=None)[0]
        norm = float(np.linalg.norm(left))
        if norm > _APART * float(np.linalg.norm(column)):
            errors[i] = deviation / norm
    return errors

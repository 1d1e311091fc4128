"""A robust fit of times that are sums of non-negative parts. Pure.

The fit minimises relative errors, because a time's noise grows with its length. Huber's weights,
iterated, limit the influence of outliers: Carroll & Ruppert, Transformation and Weighting in
Regression (1988), ch. 2; Holland & Welsch, "Robust regression using iteratively reweighted
least-squares", Communications in Statistics A6 (1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tputtui.measure.stats import Floats

__all__ = ["Fit", "fit_parts"]

_HUBER = 1.345
"""Huber's constant: 95 % of the efficiency of least squares where errors are normal."""
_ROUNDS = 50
_WHOLE_STEPS = 10
_STILL = 1e-4
"""The iteration ends when no fitted value changes by more than this fraction."""
_APART = 0.1
"""Smallest fraction of a column that the other columns must leave unexplained. The fit then
extrapolates at most tenfold to zero; further it would not be reliable, as no model is exact."""
_SINGULAR = 1e-10
_TINY = 1e-9
_LONGEST_SEARCH = 10


@dataclass(frozen=True, slots=True)
class Fit:
    """The fit values ≈ columns · coefficients.

    coefficients: shape (k,), none below 0. errors: their standard errors, shape (k,), with errors
    of the values assumed independent; infinite where the other columns explain a column.
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
    # The first weights follow from the values themselves, the later ones from the fitted values.
    weights = 1 / np.maximum(values, 0.1 * median) ** 2
    fitted = np.zeros(len(values))
    for again in range(_ROUNDS):
        coefficients = _non_negative(columns, values, weights)
        before, fitted = fitted, np.maximum(columns @ coefficients, 1e-3 * median)
        off = (values - fitted) / fitted
        usual = _HUBER * max(1.4826 * float(np.median(np.abs(off))), _TINY)
        trust = np.minimum(1.0, usual / np.maximum(np.abs(off), _TINY))
        new = trust / fitted**2
        # Two fits can alternate for ever; taking the mean of their weights ends that.
        weights = new if again < _WHOLE_STEPS else (weights + new) / 2
        if np.max(np.abs(fitted - before) / fitted) < _STILL:
            break
    # Huber & Ronchetti, Robust Statistics, 2nd ed. (2009), sec. 7.6: the variance of the residuals.
    clipped = off * trust
    inside = max(float(np.mean(np.abs(off) <= usual)), 0.1)
    deviation = math.sqrt(float(clipped @ clipped) / (len(off) - columns.shape[1])) / inside
    spread = float(trust @ (values - np.average(values, weights=trust)) ** 2)
    left = float(trust @ (values - fitted) ** 2)
    return Fit(
        coefficients=coefficients / scale,
        errors=_errors(columns / fitted[:, None], deviation) / scale,
        r2=max(0.0, 1 - left / spread) if spread > 0 else 0.0,
    )


def _non_negative(columns: Floats, values: Floats, weights: Floats) -> Floats:
    """Coefficients of weighted least squares, none below 0, shape (k,).

    Lawson & Hanson, Solving Least Squares Problems (1974), ch. 23: exact, one column at a time.
    """
    k = columns.shape[1]
    weighted = columns * weights[:, None]
    gram, moments = columns.T @ weighted, weighted.T @ values
    solution = np.zeros(k)
    chosen, barred = np.zeros(k, dtype=bool), np.zeros(k, dtype=bool)
    least = _TINY * float(np.abs(moments).max())
    for _ in range(_LONGEST_SEARCH * k):
        gain = np.where(chosen | barred, -np.inf, moments - gram @ solution)
        best = int(np.argmax(gain))
        if gain[best] <= least:
            break
        chosen[best] = True
        part = gram[np.ix_(chosen, chosen)]
        if not np.linalg.det(part) > _SINGULAR * np.prod(np.diag(part)):
            # The chosen columns explain this one already.
            chosen[best], barred[best] = False, True
            continue
        barred[:] = False
        solution = _freed(gram, moments, solution, chosen)
    return solution


def _freed(gram: Floats, moments: Floats, start: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """The solution in the columns `chosen`; removes from `chosen` the columns it drives below 0.

    start: the solution before, none of it below 0.
    """
    solution = start
    while True:
        free = np.zeros(len(solution))
        free[chosen] = np.linalg.solve(gram[np.ix_(chosen, chosen)], moments[chosen])
        low = np.flatnonzero(chosen & (free <= 0))
        if not len(low):
            return free
        # Move towards it only as far as no coefficient falls below 0.
        shares = solution[low] / (solution[low] - free[low])
        solution = solution + float(shares.min()) * (free - solution)
        solution[low[np.argmin(shares)]] = 0.0
        chosen &= solution > 0


def _errors(columns: Floats, deviation: float) -> Floats:
    """Standard error of each coefficient: deviation ÷ norm of its column's unexplained part.

    That is the part of the column that the other columns do not explain; infinite where it is
    below `_APART` of the column.

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

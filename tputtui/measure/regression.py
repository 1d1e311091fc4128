"""A robust fit of times that are sums of non-negative parts. Pure.

Relative errors are what is made small, since a time's noise grows with its length, with Huber's
weights against outliers, iterated: Carroll & Ruppert, Transformation and Weighting in Regression
(1988), ch. 2; Holland & Welsch, "Robust regression using iteratively reweighted least-squares",
Communications in Statistics A6 (1977).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

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

    The best of every set of columns whose own solution is positive: exact, and quick for few.
    """
    k = columns.shape[1]
    weighted = columns * weights[:, None]
    gram, moments = columns.T @ weighted, weighted.T @ values
    best, least = np.zeros(k), 0.0
    for size in range(1, k + 1):
        for chosen in map(list, combinations(range(k), size)):
            part = gram[np.ix_(chosen, chosen)]
            if not np.linalg.det(part) > _SINGULAR * np.prod(np.diag(part)):
                continue
            found = np.zeros(k)
            found[chosen] = np.linalg.solve(part, moments[chosen])
            # The sum of squares, less that of the values alone.
            squares = float(found @ gram @ found - 2 * found @ moments)
            if (found >= 0).all() and squares < least:
                best, least = found, squares
    return best


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

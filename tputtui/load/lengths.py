"""Lengths of prompts and outputs: seven distributions as plain values, and their quantiles. Pure.

Lengths are drawn by the inverse of the distribution: `drawn(lengths, u)` is the length at quantile
u. So one stream of uniform numbers serves all distributions, and request i of a seed keeps its rank
when the distribution is changed.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from statistics import NormalDist
from typing import Annotated

import msgspec

__all__ = ["Fixed", "Histogram", "Lengths", "LogNormal", "Normal", "Pairs", "Uniform", "Zipf",
           "drawn", "drawn_pair"]  # fmt: skip

LONGEST = 16_777_216
Tokens = Annotated[int, msgspec.Meta(ge=1, le=LONGEST)]
Positive = Annotated[float, msgspec.Meta(gt=0, le=LONGEST)]
Weight = Annotated[float, msgspec.Meta(gt=0, le=1e12)]
_STANDARD = NormalDist()


class _Lengths(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind"):
    """The base of all distributions; `kind` names which one it is."""


class Fixed(_Lengths, frozen=True, tag="fixed"):
    """Every length is `tokens`."""

    tokens: Tokens


class Uniform(_Lengths, frozen=True, tag="uniform"):
    """Whole numbers from `min` to `max`, both included, all equally likely."""

    min: Tokens
    max: Tokens

    def __post_init__(self) -> None:
        _ordered(self.min, self.max)


class Normal(_Lengths, frozen=True, tag="normal"):
    """N(`mean`, `sd`²), rounded; values outside `min`..`max` are moved to the bound."""

    mean: Positive
    sd: Annotated[float, msgspec.Meta(ge=0, le=LONGEST)]
    min: Tokens = 1
    max: Tokens = LONGEST

    def __post_init__(self) -> None:
        _ordered(self.min, self.max)


class LogNormal(_Lengths, frozen=True, tag="lognormal"):
    """exp(N(ln `median`, `sigma`²)), rounded; values outside `min`..`max` are moved to the bound.

    sigma: standard deviation of the logarithm; with 0.5 the middle 95 % span a factor of 7.
    """

    median: Positive
    sigma: Annotated[float, msgspec.Meta(ge=0, le=5)]
    min: Tokens = 1
    max: Tokens = 1_048_576

    def __post_init__(self) -> None:
        _ordered(self.min, self.max)


class Zipf(_Lengths, frozen=True, tag="zipf"):
    """P(n) ∝ n^-`exponent` for n from `min` to `max`: many short lengths and a heavy tail."""

    exponent: Annotated[float, msgspec.Meta(ge=0, le=20)]
    min: Tokens
    max: Annotated[int, msgspec.Meta(ge=1, le=1_048_576)]

    def __post_init__(self) -> None:
        _ordered(self.min, self.max)


class Histogram(_Lengths, frozen=True, tag="histogram"):
    """`bins` of (from, to, weight): draws a bin by weight, then any length in it equally likely."""

    bins: Annotated[
        tuple[tuple[Tokens, Tokens, Weight], ...], msgspec.Meta(min_length=1, max_length=10_000)
    ]

    def __post_init__(self) -> None:
        for low, high, _ in self.bins:
            _ordered(low, high)


Lengths = Fixed | Uniform | Normal | LogNormal | Zipf | Histogram

Pairs = Annotated[
    tuple[tuple[Tokens, Tokens, Weight], ...], msgspec.Meta(min_length=1, max_length=100_000)
]
"""Joint lengths: (prompt, output, weight), drawn together."""


def drawn(lengths: Lengths, u: float) -> int:
    """The length at quantile 0 ≤ `u` < 1, in tokens."""
    match lengths:
        case Fixed(tokens):
            return tokens
        case Uniform(low, high):
            return low + int(u * (high - low + 1))
        case Normal(mean, sd, low, high):
            return max(low, min(high, round(mean + sd * _z(u))))
        case LogNormal(median, sigma, low, high):
            return max(low, min(high, round(median * math.exp(sigma * _z(u)))))
        case Zipf(_, low, high):
            ends = _zipf_ends(lengths)
            return min(high, low + bisect_right(ends, u * ends[-1]))
        case Histogram(bins):
            ends = _ends(bins)
            place = min(bisect_right(ends, u * ends[-1]), len(bins) - 1)
            low, high, weight = bins[place]
            # The position of u within the bin is uniform again.
            within = (u * ends[-1] - (ends[place] - weight)) / weight
            return max(low, min(high, low + int(within * (high - low + 1))))


def drawn_pair(pairs: Pairs, u: float) -> tuple[int, int]:
    """The (prompt, output) lengths at quantile 0 ≤ `u` < 1."""
    ends = _ends(pairs)
    prompt, output, _ = pairs[min(bisect_right(ends, u * ends[-1]), len(pairs) - 1)]
    return prompt, output


def _z(u: float) -> float:
    # 0 has no quantile, so the smallest u of 53 bits replaces it.
    return _STANDARD.inv_cdf(max(u, 2.0**-54))


@lru_cache(maxsize=8)
def _zipf_ends(lengths: Zipf) -> list[float]:
    return list(accumulate(n**-lengths.exponent for n in range(lengths.min, lengths.max + 1)))


@lru_cache(maxsize=8)
def _ends(weighted: tuple[tuple[int, int, float], ...]) -> list[float]:
    return list(accumulate(weight for _, _, weight in weighted))


def _ordered(low: int, high: int) -> None:
    if low > high:
        raise ValueError(f"min {low} is above max {high}")

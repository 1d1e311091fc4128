"""The one z-value of all intervals. Pure, and without NumPy."""

from __future__ import annotations

from statistics import NormalDist

__all__ = ["Z95"]

Z95 = NormalDist().inv_cdf(0.975)
"""How many standard errors an interval of 95 % reaches to either side."""

"""How grave a figure is, as a style: calm, warn, bad. The figure stands beside it. Pure."""

from __future__ import annotations

import math

__all__ = ["preempted_look", "queue_look", "share_look"]

_WARN, _BAD = 0.8, 0.95
"""Shares of a cache from which on it is nearly, and as good as, full."""
_LONG = 0.25
"""Requests that wait per sequence that may run: above this they wait a good part of their time."""
_MANY = 0.1


def share_look(fraction: float) -> str:
    """Of a share that should not reach 1."""
    if math.isnan(fraction) or fraction < _WARN:
        return "calm"
    return "warn" if fraction < _BAD else "bad"


def queue_look(waiting: float, limit: float) -> str:
    """Of a queue in front of `limit` sequences: bad where more wait than may run."""
    if not waiting > 0:
        return "text"
    share = waiting / max(limit, 1)
    if share <= _LONG:
        return "calm"
    return "warn" if share <= 1 else "bad"


def preempted_look(preemptions: float, running: float) -> str:
    """Of preemptions in a second: bad where a tenth of what runs is computed again."""
    if not preemptions > 0:
        return "text"
    return "warn" if preemptions < _MANY * max(running, 1) else "bad"

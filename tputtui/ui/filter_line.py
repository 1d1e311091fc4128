"""The line that `/` opens, on every screen whose list can be filtered."""

from __future__ import annotations

from textual.widgets import Input

__all__ = ["filter_line"]


def filter_line() -> Input:
    """The line for words that what is listed has to have."""
    return Input(id="filter", placeholder="words to filter by", compact=True)

"""Counts the prompt tokens that each tier of the KV cache has supplied. Engine thread."""

from __future__ import annotations

from collections import Counter
from typing import Any

from tputtui.measure.tiers import OWN, UNNAMED

__all__ = ["Tiers"]


class Tiers:
    """Tokens by tier since the boot; nothing without a connector, which adds the tiers."""

    def __init__(self) -> None:
        self._tokens: Counter[str] = Counter()

    def see(self, stats: Any) -> None:
        """Add what one step found. stats: vLLM's SchedulerStats."""
        beyond = getattr(stats, "connector_prefix_cache_stats", None)
        if beyond is None:
            return
        if stats.prefix_cache_stats is not None:
            self._tokens[OWN] += stats.prefix_cache_stats.hits
        # Older versions do not tell the tiers apart.
        named = getattr(beyond, "hits_by_source", None) or {UNNAMED: beyond.hits}
        for source, tokens in named.items():
            self._tokens[str(getattr(source, "value", source))] += tokens

    @property
    def told(self) -> tuple[tuple[str, int], ...]:
        """Each tier that has supplied any, by vLLM's name, with its tokens."""
        return tuple((name, tokens) for name, tokens in self._tokens.items() if tokens)

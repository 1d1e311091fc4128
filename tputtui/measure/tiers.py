"""From which tier of the KV cache hits came: the GPU's own, the CPU's memory, a disk. Pure.

vLLM counts them where a connector or KV offloading adds tiers to the GPU's cache
(`CacheHitSource`, seen in 0.32).
"""

from __future__ import annotations

from collections.abc import Iterable

from tputtui.text.format import percent

__all__ = ["OWN", "UNNAMED", "beyond_the_gpu", "tier_text"]

OWN, UNNAMED = "device", "external_unspecified"
"""vLLM's names of the GPU's own cache, and of a tier that its connector does not name."""
_WORDS = {OWN: "GPU", "host": "CPU", UNNAMED: "external"}


def beyond_the_gpu(tiers: Iterable[tuple[str, float]]) -> bool:
    """Whether another tier than the GPU's own has supplied anything.

    tiers: vLLM's name of each, and how much it supplied.
    """
    return any(name != OWN and amount > 0 for name, amount in tiers)


def tier_text(tiers: Iterable[tuple[str, float]]) -> str:
    """What each tier supplied, as a share of all: "GPU 75% · CPU 25%"; empty without any."""
    there = [(name, amount) for name, amount in tiers if amount > 0]
    total = sum(amount for _, amount in there)
    return " · ".join(f"{_WORDS.get(name, name)} {percent(n / total, 0)}" for name, n in there)

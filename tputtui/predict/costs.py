"""What a step costs, for any batch: a robust fit, and what it leaves over. Pure.

time ≈ fixed + prefilling + per decode + per prefill token + per token of context, each not below 0
(`regression.fit_parts`). What the sum does not explain is corrected by size: batches are padded,
and kernels change with their size. Where no step of a size was seen, the correction of the nearest
size holds. What is left varies with time: slow drift is resampled in blocks (Künsch, "The jackknife
and the bootstrap for general stationary observations", Annals of Statistics 17, 1989), and the
stalls of the machine come as often as they came.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tputtui.measure.regression import fit_parts
from tputtui.measure.stats import Floats

__all__ = ["StepCosts", "learnt"]

_FEWEST = 40
"""Fewest steps to learn from."""
_COLUMNS = 5
_STALL = 2.5
"""A step has stalled where it takes so many times what it costs."""
_OF_AN_OCTAVE = 4
"""Sizes to an octave."""
_PRIOR_STEPS = 2.0
"""So many steps without any deviation are added to each size."""
_OFTEN = 8
"""A size of which so many steps are kept was seen often."""
_MIXED = 0.9
"""Where more of the steps have prefill, their sizes are those that count."""
_ROUNDS = 3
_BIN_S, _BLOCK, _LEVELS = 0.5, 8, 512
"""Drift is followed in bins of time, and resampled in blocks of so many bins."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """The costs of an engine's steps."""

    parts: tuple[float, ...]
    """Seconds: a step, a step with prefill, a decode token, a prefill token, a token of context."""
    alone: Floats
    """Factors by size for steps that only decode, shape (sizes,)."""
    mixed: Floats
    """The same for steps with prefill, by their decodes."""
    prefilling: Floats
    """The same for steps with prefill, by their prefill tokens."""
    levels: Floats
    """How much slower or faster than usual the engine is, every `bin_s` seconds; 1 on average."""
    stall_s: float
    """Mean length of the machine's stalls."""
    stalls_per_s: float
    """How often they come, in a second of steps without them."""
    decodes: tuple[float, float]
    """Fewest and most decodes of a step that was seen."""
    often: Floats
    """Decodes of the sizes of batch that were seen often, ascending, shape (n,): in steps without
    prefill, unless nearly all have some."""
    scatter: float
    """Usual relative deviation of a single step."""
    steps: int
    """How many steps it was learnt from."""
    bin_s: float = _BIN_S

    def error(self, length_s: float) -> float:
        """Relative standard error of what is served in so many seconds: by drift, and by stalls."""
        bins = max(1, round(length_s / self.bin_s))
        whole = len(self.levels) // bins * bins
        drift = float(self.levels[:whole].reshape(-1, bins).mean(axis=1).std()) if whole else 0.0
        # The time that stalls take is compound Poisson, their lengths about uniform.
        squares = 4 / 3 * self.stall_s**2 * self.stalls_per_s * length_s
        return math.hypot(drift, math.sqrt(squares) / max(length_s, 1e-9))

    def octaves_off(self, decodes: float) -> float:
        """Doublings from a batch of so many decodes to the nearest size that was seen often."""
        if not len(self.often):
            return math.inf
        apart = np.log2(max(decodes, 1.0)) - np.log2(np.maximum(self.often, 1.0))
        return max(0.0, float(np.abs(apart).min()) - 1 / _OF_AN_OCTAVE)

    def decode_only_s(self, most: int) -> tuple[list[float], list[float]]:
        """Seconds of a step of 0 … `most` decodes: without context, and for each token of it."""
        n = np.arange(most + 1)
        fixed, _, decode, _, past = self.parts
        by_size = _at(self.alone, n)
        return ((fixed + decode * n) * by_size).tolist(), (past * by_size).tolist()

    def mixed_s(self, decodes: int, prefill: int, context: float) -> float:
        """Seconds of a step with prefill."""
        fixed, prefilling, decode, token, past = self.parts
        took_s = fixed + prefilling + decode * decodes + token * prefill + past * context
        by_size = self.mixed[_size(decodes, len(self.mixed))]
        return float(took_s * by_size * self.prefilling[_size(prefill, len(self.prefilling))])


def learnt(kept: Floats, newest: Floats, seed: int = 0) -> StepCosts | None:
    """The costs by the steps of a `StepBook`; None where there are too few.

    newest: in order of time. seed: of the resampling.
    """
    if len(newest) < _FEWEST or len(kept) <= _COLUMNS:
        return None
    took_s, decodes, prefill = kept[:, 1], kept[:, 2], kept[:, 3]
    columns = _columns(kept)
    used = columns.any(axis=0)
    fit = fit_parts(columns[:, used], took_s)
    parts = np.zeros(columns.shape[1])
    parts[used] = fit.coefficients
    ratio = took_s / np.maximum(columns @ parts, 1e-9)
    sound = ratio <= _STALL * np.median(ratio)
    has_prefill = prefill > 0
    alone = _by_size(np.log(ratio), decodes, sound & ~has_prefill)
    logs, chosen = np.log(ratio), sound & has_prefill
    mixed, prefilling = np.ones(1), np.ones(1)
    for _ in range(_ROUNDS):
        mixed = _by_size(logs - np.log(_at(prefilling, prefill)), decodes, chosen)
        prefilling = _by_size(logs - np.log(_at(mixed, decodes)), prefill, chosen)
    found = StepCosts(
        parts=tuple(parts.tolist()),
        alone=alone,
        mixed=mixed,
        prefilling=prefilling,
        levels=np.ones(1),
        stall_s=0.0,
        stalls_per_s=0.0,
        decodes=(float(decodes.min()), float(decodes.max())),
        # A step with prefill says little of what its decodes cost: while an engine fills up, every
        # size has some.
        often=_often(decodes if (newest[:, 3] > 0).mean() > _MIXED else decodes[~has_prefill]),
        scatter=float(1.4826 * np.median(np.abs(logs[sound] - np.median(logs[sound])))),
        steps=len(kept),
    )
    return _with_time(found, newest, seed)


# -- inside ------------------------------------------------------------------------------------


def _columns(steps: Floats) -> Floats:
    decodes, prefill, context = steps[:, 2], steps[:, 3], steps[:, 4]
    return np.column_stack((np.ones(len(steps)), prefill > 0, decodes, prefill, context))


def _often(decodes: Floats) -> Floats:
    """The largest batch of each size of which enough steps are kept."""
    sizes = _sizes(decodes)
    return np.array(
        [
            float(decodes[sizes == size].max())
            for size in np.unique(sizes)
            if np.count_nonzero(sizes == size) >= _OFTEN
        ]
    )


def _size(n: float, sizes: int) -> int:
    return min(sizes - 1, math.ceil(_OF_AN_OCTAVE * math.log2(max(n, 1))))


def _at(factors: Floats, n: NDArray[np.generic]) -> Floats:
    """The factor for each of `n`."""
    return np.asarray(factors[np.minimum(_sizes(n), len(factors) - 1)])


def _sizes(n: NDArray[np.generic]) -> NDArray[np.int_]:
    """Sizes end at powers of two and their fractions, as padded batches do."""
    octaves = np.log2(np.maximum(n.astype(float), 1.0))
    return np.asarray(np.ceil(_OF_AN_OCTAVE * octaves), dtype=int)


def _by_size(logs: Floats, counts: Floats, chosen: NDArray[np.bool_]) -> Floats:
    """The typical deviation of each size as a factor; between sizes that were seen, in between."""
    if not chosen.any():
        return np.ones(1)
    sizes = _sizes(counts[chosen])
    logs = logs[chosen]
    seen = np.unique(sizes)
    values = []
    for size in seen:
        mine = logs[sizes == size]
        values.append(float(np.median(mine)) * len(mine) / (len(mine) + _PRIOR_STEPS))
    return np.exp(np.interp(np.arange(seen[-1] + 1), seen, values))


def _typical_s(costs: StepCosts, steps: Floats) -> Floats:
    """What the steps cost by `costs`, at the usual level."""
    plain = _columns(steps) @ np.array(costs.parts)
    decodes, prefill = steps[:, 2], steps[:, 3]
    with_prefill = _at(costs.mixed, decodes) * _at(costs.prefilling, prefill)
    return np.asarray(plain * np.where(prefill > 0, with_prefill, _at(costs.alone, decodes)))


def _with_time(costs: StepCosts, newest: Floats, seed: int) -> StepCosts:
    """`costs` scaled to the mean of the newest steps, with their drift and stalls."""
    typical_s = _typical_s(costs, newest)
    took_s = newest[:, 1]
    ratio = took_s / np.maximum(typical_s, 1e-9)
    usual = float(np.median(ratio))
    stalled = ratio > _STALL * usual
    sound_s, cost_s = took_s[~stalled], typical_s[~stalled]
    scale = float(sound_s.sum() / cost_s.sum())
    excess_s = (took_s - scale * typical_s)[stalled]
    fixed, prefilling, decode, token, past = (scale * part for part in costs.parts)
    bins = ((newest[~stalled, 0] - newest[0, 0]) / _BIN_S).astype(int)
    sums = np.bincount(bins, sound_s), np.bincount(bins, scale * cost_s)
    seen = sums[1] > 0
    drift = sums[0][seen] / sums[1][seen]
    random = np.random.default_rng(seed)
    starts = random.integers(0, max(1, len(drift) - _BLOCK + 1), _LEVELS // _BLOCK)
    blocks = [np.resize(drift[start : start + _BLOCK], _BLOCK) for start in starts]
    levels = np.concatenate(blocks)
    return StepCosts(
        parts=(fixed, prefilling, decode, token, past),
        alone=costs.alone,
        mixed=costs.mixed,
        prefilling=costs.prefilling,
        levels=levels / levels.mean(),
        stall_s=float(excess_s.mean()) if len(excess_s) else 0.0,
        stalls_per_s=len(excess_s) / max(float(sound_s.sum()), 1e-9),
        decodes=costs.decodes,
        often=costs.often,
        scatter=costs.scatter,
        steps=costs.steps,
    )

"""What another value of a limit would do, beside what the setting in force gives. Pure.

A forecast is compared with the forecast of the setting in force, not with what was measured of it:
what the scheduler and the costs leave out cancels for the most part. The change that this gives is
applied to the measured figures.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tputtui.knobs import Knobs
from tputtui.measure.normal import Z95
from tputtui.measure.series import Batched
from tputtui.predict.forecast import Forecast

__all__ = ["FOLLOWED", "Expected", "Outlook", "fits", "outlook"]

FOLLOWED = (
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_model_len",
    "long_prefill_token_threshold",
    "num_gpu_blocks",
    "watermark_blocks",
    "enable_prefix_caching",
)
"""The limits that the predicting scheduler follows."""
_FAILED = 0.10
"""Where the setting in force is off its own forecast by more, nothing is predicted."""
_USUAL = {
    "tokens_per_s": 0.03, "goodput_per_s": 0.03,
    "tpot_p50": 0.04, "tpot_p90": 0.06, "ttft_p50": 0.07, "ttft_p90": 0.07,
}  # fmt: skip
"""Standard deviation of ln(true ÷ predicted change) for a doubled limit, chance left out, as it was
in the worlds of `benchmarks/tuner.py`: seeds from 100 on, those below are to judge it by."""
_UNSEEN = 0.25
"""The same for a batch that is a doubling away from the sizes that were seen often: where batches
are padded, nothing tells what another size costs."""
_CLEAR = 0.1
"""A distance from the worst goal, ln(latency ÷ limit), that predictions do not get wrong."""


@dataclass(frozen=True, slots=True)
class Expected:
    """A predicted figure: its value, its change from the setting in force, as a fraction, and half
    the width of the value's 95 % interval."""

    value: float
    change: float
    half: float


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a limit's value would give."""

    name: str
    value: int
    knobs: Knobs
    """All limits, with that value."""
    figures: Mapping[str, Expected]
    """By the key of a metric (`measure.series`); empty where it is not predicted."""
    beyond: bool = False
    """Whether nothing is predicted because its batches lie off the range that was measured."""
    meets: bool | None = None
    """Whether it clearly meets, or clearly misses, the goals; None for neither, or without any."""


def fits(present: Forecast, tokens_per_s: float) -> bool:
    """Whether a forecast of the setting in force agrees with the tokens/s that it gives."""
    if not (present.tokens_per_s > 0 and tokens_per_s > 0):
        return False
    return abs(math.log(tokens_per_s / present.tokens_per_s)) <= _FAILED


def outlook(
    name: str,
    knobs: Knobs,
    old: int,
    present: Forecast,
    new: Forecast,
    measured: Mapping[str, Batched],
    offered_per_s: float = math.inf,
    *,
    goals: bool = False,
) -> Outlook:
    """The outlook for limits `knobs`, in which `name` is no longer `old`.

    present, new: forecasts of the setting in force and of that one. measured: what the first gives,
    by the key of a metric; its error counts twice, since the other one is measured as well.
    offered_per_s: requests that arrive; where fewer are served, they wait
    for ever longer, and no TTFT is predicted.
    """
    value = knobs.get(name)
    if present.beyond or new.beyond or not math.isfinite(new.far):
        return Outlook(name, value, knobs, {}, beyond=True)
    pairs = {"tokens_per_s": (present.tokens_per_s, new.tokens_per_s)}
    for metric in ("tpot", "ttft"):
        before, after = getattr(present, f"{metric}_s"), getattr(new, f"{metric}_s")
        pairs[f"{metric}_p50"] = before.p50, after.p50
        pairs[f"{metric}_p90"] = before.p90, after.p90
    meets = None
    if goals and abs(new.miss) > _CLEAR:
        meets = new.miss < 0
    if goals and max(present.miss, new.miss) < -_CLEAR:
        # Nearer to a goal, goodput follows the shape of a latency's distribution.
        pairs["goodput_per_s"] = present.value, new.value
    queues = min(present.requests_per_s, new.requests_per_s) < 0.95 * offered_per_s < math.inf
    figures = {}
    octaves = abs(math.log2(max(value, 1) / max(old, 1)))
    for key, (before, after) in pairs.items():
        now = measured.get(key)
        if now is None or not (before > 0 and after > 0 and now.value > 0):
            continue
        if queues and key.startswith("ttft"):
            continue
        chance = now.error()[0]
        if math.isnan(chance):
            chance = max(present.error, new.error)
        usual = _USUAL[key] * math.sqrt(max(octaves, 1.0))
        error = math.hypot(math.sqrt(2) * chance, usual, _UNSEEN * new.far)
        gives = after / before * now.value
        half = gives * math.expm1(Z95 * error)
        figures[key] = Expected(gives, after / before - 1, half)
    return Outlook(name, value, knobs, figures, meets=meets)

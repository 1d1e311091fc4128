"""What a step takes by a calibration: sums of parts that were measured. Pure.

The device's time is piecewise linear in the tokens scheduled, since the matrices' part of it is
flat where weights are read and steep where arithmetic counts, and linear in the rest. What is
fitted is what a step usually takes; since a load's time is a sum, it is then scaled to the mean,
and how single steps scatter about that is kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from tputtui.measure.regression import fit_parts
from tputtui.measure.stats import Floats
from tputtui.simulate.work import Work

__all__ = ["Coefficient", "Fitted", "Measurement", "fitted"]

_KNOTS = (8, 32, 128, 512)
_Z95 = 1.959964
_LONGEST = 4.0
_QUANTILES, _ALIKE = 20, 8


class Measurement(msgspec.Struct, frozen=True):
    """One step of the engine that is calibrated.

    device_s, host_s: of the step, spent in the model and in vLLM's own Python around it.
    between_s: from the step before to this one, NaN where nothing was in flight meanwhile;
    submitted: requests handed over in it. load: which of the calibration's loads it was of.
    """

    load: int
    work: Work
    device_s: float
    host_s: float
    between_s: float
    submitted: int


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds for one of something, with half the width of its 95 % interval.

    Without `error_s` it did not vary enough by itself for one.
    """

    value_s: float
    error_s: float | None = None


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Cost` by coefficients.

    token_knots: up to so many tokens of a step each costs the first of `token`, up to the next
    knot the second, and so on. fixed: a step; prefilling: one with a prefill in it, which no whole
    CUDA graph runs; mixed: one with decodes besides; decode,
    decode_context, prefill, prefill_pair: one of what `Work` counts. host_*: vLLM's own Python, for
    a step with a token in it, a sequence, a prefill and its token. submit: a request handed over.
    spread: steps of the same work as factors of their mean, at even quantiles.
    """

    token_knots: list[int]
    token: list[Coefficient]
    fixed: Coefficient
    prefilling: Coefficient
    mixed: Coefficient
    decode: Coefficient
    decode_context: Coefficient
    prefill: Coefficient
    prefill_pair: Coefficient
    host_fixed: Coefficient
    host_sequence: Coefficient
    host_prefill: Coefficient
    host_prefill_token: Coefficient
    submit: Coefficient
    spread: list[float]

    def device_s(self, work: Work) -> float:
        """Seconds of the device for a step."""
        took_s = self.fixed.value_s
        for part, each in zip(_parts(work.tokens, self.token_knots), self.token, strict=True):
            took_s += part * each.value_s
        return (
            took_s
            + (self.prefilling.value_s if work.prefills else 0.0)
            + (self.mixed.value_s if work.decodes and work.prefills else 0.0)
            + work.decodes * self.decode.value_s
            + work.decode_context * self.decode_context.value_s
            + work.prefills * self.prefill.value_s
            + work.prefill_pairs * self.prefill_pair.value_s
        )

    def host_s(self, work: Work) -> float:
        """Seconds of vLLM's own Python for a step, and of the loop that turns it."""
        return (
            self.host_fixed.value_s
            + work.sequences * self.host_sequence.value_s
            + work.prefills * self.host_prefill.value_s
            + work.prefill_tokens * self.host_prefill_token.value_s
        )

    def submit_s(self) -> float:
        """Seconds for a request that is handed over."""
        return self.submit.value_s


def fitted(rows: Sequence[Measurement]) -> Fitted:
    """Fit steps by relative error, outliers weighted down, no coefficient below zero."""
    works = [row.work for row in rows]
    most = max(work.tokens for work in works)
    knots = [knot for knot in _KNOTS if knot < most]
    device = np.array(
        [
            (
                1.0,
                *_parts(w.tokens, knots),
                float(bool(w.prefills)),
                float(bool(w.decodes and w.prefills)),
                w.decodes,
                w.decode_context,
                w.prefills,
                w.prefill_pairs,
            )
            for w in works
        ]
    )
    host = np.array([(1.0, w.sequences, w.prefills, w.prefill_tokens) for w in works])
    timed = [row for row in rows if not math.isnan(row.between_s)]
    fixed, *others = _coefficients(device, np.array([row.device_s for row in rows]))
    token = others[: len(knots) + 1]
    prefilling, mixed, decode, context, prefill, pair = others[len(knots) + 1 :]
    in_step = _coefficients(host, np.array([row.host_s for row in rows]))
    loop, submit = _coefficients(
        np.array([(1.0, row.submitted) for row in timed]),
        np.array([row.between_s for row in timed]),
    )
    host_fixed = Coefficient(in_step[0].value_s + loop.value_s, in_step[0].error_s)
    return Fitted(
        token_knots=knots,
        token=token,
        fixed=fixed,
        prefilling=prefilling,
        mixed=mixed,
        decode=decode,
        decode_context=context,
        prefill=prefill,
        prefill_pair=pair,
        host_fixed=host_fixed,
        host_sequence=in_step[1],
        host_prefill=in_step[2],
        host_prefill_token=in_step[3],
        submit=submit,
        spread=_spread(rows),
    )


def _parts(tokens: int, knots: Sequence[int]) -> list[float]:
    """How many of `tokens` lie below the first knot, between it and the second, …"""
    parts, before = [], 0
    for knot in knots:
        parts.append(float(max(0, min(tokens, knot) - before)))
        before = knot
    return [*parts, float(max(0, tokens - before))]


def _coefficients(columns: Floats, values: Floats) -> list[Coefficient]:
    used = [bool(column.any()) for column in columns.T]
    found = fit_parts(columns[:, used], np.maximum(values, 1e-9))
    usual = columns[:, used] @ found.coefficients
    # One that took many times as long had something else happen to it.
    scale = float(np.minimum(values, _LONGEST * usual).sum() / usual.sum())
    coefficients = found.coefficients * scale
    known = iter(zip(coefficients.tolist(), found.errors.tolist(), strict=True))
    made = []
    for each in used:
        value, error = next(known) if each else (0.0, math.inf)
        made.append(
            Coefficient(
                float(f"{value:.4g}"),
                float(f"{_Z95 * error:.3g}") if math.isfinite(error) else None,
            )
        )
    return made


def _spread(rows: Sequence[Measurement]) -> list[float]:
    """How steps of the same kind of work scatter: factors of their mean, at even quantiles."""
    alike: dict[tuple[int, int, int], list[float]] = {}
    for row in rows:
        kind = (row.load, row.work.decodes, row.work.prefill_tokens)
        alike.setdefault(kind, []).append(row.device_s)
    factors = [
        min(each / median, _LONGEST)
        for times in alike.values()
        if len(times) >= _ALIKE and (median := float(np.median(times))) > 0
        for each in times
    ]
    if not factors:
        return [1.0]
    at = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    found = np.quantile(factors, at)
    return [float(f"{each:.3g}") for each in (found / found.mean()).tolist()]

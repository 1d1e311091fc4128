"""The time of a step by a calibration: a sum of measured parts. Pure.

The device's time is piecewise linear in the scheduled tokens, since the time of the matrices is
flat while weight reads dominate and steep while arithmetic dominates. It is linear in the other
counts. The fit gives the typical time of a step. Since the time of a load is a sum of steps, the
fit is then scaled to the mean, and the scatter of single steps is kept beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np

from tputtui.measure.normal import Z95
from tputtui.measure.regression import fit_parts
from tputtui.measure.stats import Floats
from tputtui.simulate.work import Work

__all__ = ["Coefficient", "Fitted", "Measurement", "fitted"]

_KNOTS = (8, 32, 128, 512)
_LONGEST = 4.0
_QUANTILES, _ALIKE = 20, 8


class Measurement(msgspec.Struct, frozen=True):
    """One step of the engine that is calibrated."""

    load: int
    """Index of the calibration's load that ran."""
    work: Work
    device_s: float
    """Seconds of the step in the model."""
    host_s: float
    """Seconds of the step in vLLM's Python."""
    between_s: float
    """Seconds between the previous step and this one; NaN if nothing was in flight meanwhile."""
    submitted: int
    """Requests submitted in that time."""


class Coefficient(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Seconds per unit, with half the width of the 95 % interval.

    `error_s` is missing if the count did not vary independently enough to estimate it.
    """

    value_s: float
    error_s: float | None = None


class Fitted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `Cost` by coefficients, each in s per unit.

    `host_*` are times of vLLM's Python, the others times of the device.
    """

    token_knots: list[int]
    """Numbers of tokens in a step at which the time per token changes."""
    token: list[Coefficient]
    """A token below the first knot, between the first and the second, and so on."""
    fixed: Coefficient
    """Each step."""
    prefilling: Coefficient
    """Added for a step with a prefill, which does not run as one CUDA graph."""
    mixed: Coefficient
    """Added for a step with both prefills and decodes."""
    decode: Coefficient
    """A sequence that decodes."""
    decode_context: Coefficient
    """A token that a decode attends to."""
    prefill: Coefficient
    """A sequence that prefills."""
    prefill_pair: Coefficient
    """A pair of a prefilled token and a token that it attends to."""
    host_fixed: Coefficient
    """Each step, with the loop around it."""
    host_sequence: Coefficient
    host_prefill: Coefficient
    """A sequence that prefills."""
    host_prefill_token: Coefficient
    submit: Coefficient
    """A submitted request."""
    spread: list[float]
    """Times of steps of the same work ÷ their mean, at evenly spaced quantiles."""

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
        """Seconds of vLLM's Python for a step, and of the loop around it."""
        return (
            self.host_fixed.value_s
            + work.sequences * self.host_sequence.value_s
            + work.prefills * self.host_prefill.value_s
            + work.prefill_tokens * self.host_prefill_token.value_s
        )

    def submit_s(self) -> float:
        """Seconds for a submitted request."""
        return self.submit.value_s


def fitted(rows: Sequence[Measurement]) -> Fitted:
    """Fit steps by relative error; outliers weigh less, and no coefficient is negative."""
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
    """How many of `tokens` are below the first knot, between it and the second, …"""
    parts, before = [], 0
    for knot in knots:
        parts.append(float(max(0, min(tokens, knot) - before)))
        before = knot
    return [*parts, float(max(0, tokens - before))]


def _coefficients(columns: Floats, values: Floats) -> list[Coefficient]:
    used = [bool(column.any()) for column in columns.T]
    fit = fit_parts(columns[:, used], np.maximum(values, 1e-9))
    usual = columns[:, used] @ fit.coefficients
    # A step that took many times as long was disturbed by something else.
    scale = float(np.minimum(values, _LONGEST * usual).sum() / usual.sum())
    coefficients = fit.coefficients * scale
    known = iter(zip(coefficients.tolist(), fit.errors.tolist(), strict=True))
    made = []
    for each in used:
        value, error = next(known) if each else (0.0, math.inf)
        made.append(
            Coefficient(
                float(f"{value:.4g}"),
                float(f"{Z95 * error:.3g}") if math.isfinite(error) else None,
            )
        )
    return made


def _spread(rows: Sequence[Measurement]) -> list[float]:
    """The scatter of steps of the same work: time ÷ mean, at evenly spaced quantiles."""
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
    quantiles = np.quantile(factors, at)
    return [float(f"{each:.3g}") for each in (quantiles / quantiles.mean()).tolist()]

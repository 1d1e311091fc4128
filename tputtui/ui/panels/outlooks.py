"""What another value of a limit would do, in a line: predicted, and said to be. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tputtui.knobs import spoken
from tputtui.predict.outlook import Expected, Outlook

__all__ = ["change_text", "foretold_text", "outlook_line"]

_PREDICTED = "predicted"
_BEYOND = ("off the range measured so far", "off the measured range", "not measured")
"""In place of figures, the longest first."""
_WIDE = 7.5
"""Points from which on a change is shown with its interval."""
_UNITS = ((1e-3, 1e6, "µs"), (0.9995, 1e3, "ms"), (math.inf, 1.0, "s"))
"""Below so many seconds: the factor to a unit, and the unit."""


def outlook_line(outlooks: Sequence[tuple[str, Outlook]], width: int) -> str:
    """Outlooks, each after its key or "", in `width` cells; empty where there are none.

    Latencies go first where there is no room, then the later outlooks.
    """
    told = [(key, each) for key, each in outlooks if each.figures or each.beyond]
    while told:
        for detail in (3, 2, 1, 0):
            parts = [f"{key} {_text(each, detail)}".strip() for key, each in told]
            predicted = [i for i, (_, each) in enumerate(told) if each.figures]
            if predicted:
                parts[predicted[-1]] += f", {_PREDICTED}"
            if len(line := " · ".join(parts)) <= width:
                return line
        told.pop()
    return ""


def foretold_text(change: float | None, width: int) -> str:
    """What was predicted of a change, beside its verdict; empty where it does not fit."""
    if change is None:
        return ""
    text = f"  {_PREDICTED} {change_text(change)}"
    return text if len(text) <= width else ""


def change_text(change: float) -> str:
    """A predicted change, in whole percent or as a factor: −20 %, ×12, ±0 %."""
    if change >= 9.995:
        return f"×{1 + change:,.0f}"
    points = round(change * 100)
    return f"{points:+d} %".replace("-", "−") if points else "±0 %"


# -- inside ------------------------------------------------------------------------------------


def _text(each: Outlook, detail: int) -> str:
    """detail: 3 with TTFT, 2 with TPOT, 1 with TPOT but without its interval, 0 tokens/s alone."""
    value = spoken(each.name, each.value)
    if not each.figures:
        return f"{value}: {_BEYOND[0 if detail == 3 else 1 if detail else 2]}"
    parts = []
    if tokens := each.figures.get("tokens_per_s"):
        parts.append(f"{_about(tokens) if detail > 1 else change_text(tokens.change)} tok/s")
    for name, least in (("TPOT", 1), ("TTFT", 3)):
        latency = each.figures.get(f"{name.lower()}_p50")
        if latency is not None and detail >= least:
            parts.append(f"{name} {_within(latency, interval=detail > 1)}")
    if each.meets is not None and detail > 1:
        parts.append("meets the goals" if each.meets else "misses a goal")
    return f"{value}: {', '.join(parts)}"


def _about(expected: Expected) -> str:
    """A change with half its interval in points: about −20 %, or −20 ±12 % where it is wide."""
    half = 100 * (1 + expected.change) * expected.half / expected.value
    if half < _WIDE or expected.change >= 9.995:
        return f"about {change_text(expected.change)}"
    return change_text(expected.change).replace(" %", f" ±{half:.0f} %")


def _within(expected: Expected, *, interval: bool) -> str:
    """A latency with half its interval: 12 ms ±2; as many digits as the interval allows."""
    factor, unit = next((f, unit) for below, f, unit in _UNITS if expected.value < below)
    value, half = expected.value * factor, expected.half * factor
    digits = min(2, max(0, -math.floor(math.log10(half)))) if half > 0 else 2
    if value >= 100:
        digits = 0
    text = f"{value:.{digits}f} {unit}"
    return f"{text} ±{max(half, 10.0**-digits):.{digits}f}" if interval else text

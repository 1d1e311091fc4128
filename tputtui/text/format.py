"""Numbers as text of a fixed width, so that nothing moves when they change. Pure."""

from __future__ import annotations

import math

__all__ = ["bar", "clock", "compact", "counted", "percent", "rate", "seconds", "size"]

MISSING = "–"


def compact(value: float, width: int = 6) -> str:
    """A count, right-aligned: 7, 3,221, 123k, 4.57M; a dash for NaN. Width 0: no padding."""
    if not math.isfinite(value):
        return MISSING.rjust(width)
    text = f"{value:,.0f}"
    if len(text) > (width or 7):
        for unit, scale in (("k", 1e3), ("M", 1e6), ("G", 1e9), ("T", 1e12)):
            scaled = value / scale
            text = f"{scaled:.2f}{unit}" if abs(scaled) < 9.995 else f"{scaled:,.0f}{unit}"
            if abs(scaled) < 999.5:
                break
    return text.rjust(width)


def rate(value: float, width: int = 6) -> str:
    """A rate, right-aligned, with one or two decimals while it is small."""
    if not math.isfinite(value):
        return MISSING.rjust(width)
    if abs(value) >= 99.95:
        return compact(value, width)
    return f"{value:.1f}".rjust(width) if abs(value) >= 9.995 else f"{value:.2f}".rjust(width)


def seconds(value: float, width: int = 7) -> str:
    """A duration, right-aligned, three significant digits: 940 µs, 17.4 ms, 1.03 s, 2m05."""
    if math.isinf(value):
        return "∞".rjust(width)
    if math.isnan(value):
        return MISSING.rjust(width)
    if value < 999.5e-6:
        text = f"{value * 1e6:.0f} µs"
    elif value < 99.95e-3:
        text = f"{value * 1e3:.3g} ms" if value >= 9.995e-3 else f"{value * 1e3:.2f} ms"
        if value >= 9.995e-3:
            text = f"{value * 1e3:.1f} ms"
    elif value < 999.5e-3:
        text = f"{value * 1e3:.0f} ms"
    elif value < 9.995:
        text = f"{value:.2f} s"
    elif value < 99.95:
        text = f"{value:.1f} s"
    elif value < 6000:
        text = f"{int(value) // 60}m{int(value) % 60:02d}"
    else:
        text = f"{int(value) // 3600}h{int(value) // 60 % 60:02d}"
    return text.rjust(width)


def percent(fraction: float, width: int = 4) -> str:
    """A fraction as whole percent, right-aligned; above 0 it is <1% at least."""
    if not math.isfinite(fraction):
        return MISSING.rjust(width)
    if 0 < fraction < 0.005:
        return "<1%".rjust(width)
    return f"{fraction * 100:.0f}%".rjust(width)


def counted(number: int, thing: str) -> str:
    """A number with its noun: 1 trial, 2 trials."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def clock(value: float) -> str:
    """Elapsed time: 0:42, 12:05, 1:02:03."""
    whole = max(0, int(value))
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def size(count: float, width: int = 6) -> str:
    """Bytes in GiB or MiB, right-aligned."""
    if count >= 100 * 2**30:
        return f"{count / 2**30:.0f}G".rjust(width)
    if count >= 2**30:
        return f"{count / 2**30:.1f}G".rjust(width)
    return f"{count / 2**20:.0f}M".rjust(width)


def bar(fraction: float, width: int) -> tuple[str, str]:
    """A gauge of `width` cells as its (filled, empty) parts, to half a cell."""
    if not math.isfinite(fraction):
        return "", "─" * width
    halves = round(max(0.0, min(1.0, fraction)) * width * 2)
    filled = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return filled, "─" * (width - len(filled))

"""Parses and writes a load as text, for the command line, the editor and marks. Pure.

arrivals   96 · 8/s · constant:8/s · gamma(0.5):8/s · 1..30/s over 60s · recorded x2
levels     8 · 1..30 over 60s [exp] · 5,10,20 each 30s · 20 for 5s, 2 for 10s ·
           0s=2, 40s=8, 60s=3 every 120s
lengths    256 · 64-512 · 256~0.5[16-2048] · normal:256±64[16-2048] · zipf:1.2[1-4096] ·
           hist:1-100=3,101-400=1
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tputtui.errors import UsageError
from tputtui.load.lengths import (
    LONGEST,
    Fixed,
    Histogram,
    Lengths,
    LogNormal,
    Normal,
    Uniform,
    Zipf,
)
from tputtui.load.levels import Bursts, Diurnal, Level, Ramp, Steps
from tputtui.load.workload import (
    Arrivals,
    ClosedLoop,
    Constant,
    Gamma,
    Recorded,
    Workload,
    level_of,
)

__all__ = ["describe_all_arrivals", "describe_arrivals", "describe_lengths", "named_reason",
           "parse_arrivals", "parse_lengths", "reason"]  # fmt: skip

NUMBER = r"(\d+(?:\.\d+)?(?:e-?\d+)?|\.\d+)"
_BOUNDS = r"(?:\[(\d+)-(\d+)\])?"
_NORMAL = re.compile(rf"normal:{NUMBER}(?:±|\+-){NUMBER}{_BOUNDS}")
_LOGNORMAL = re.compile(rf"(?:lognormal:)?{NUMBER}~{NUMBER}{_BOUNDS}")
_ZIPF = re.compile(rf"zipf:{NUMBER}\[(\d+)-(\d+)\]")
_BIN = re.compile(rf"(\d+)(?:-(\d+))?={NUMBER}")
_PROCESS = re.compile(rf"(constant|poisson|gamma(?:\({NUMBER}\))?|closed|recorded)(?::|$| )(.*)")
_SECONDS = rf"{NUMBER}(s|m|h)?"
_RAMP = re.compile(rf"{NUMBER}\.\.{NUMBER} ?over ?{_SECONDS} ?(exp|linear)?")
_STEPS = re.compile(rf"([-\d.,e]+) ?each ?{_SECONDS}")
_BURSTS = re.compile(rf"{NUMBER} ?for ?{_SECONDS}, ?{NUMBER} ?for ?{_SECONDS}")
_DIURNAL = re.compile(rf"(.+?) ?every ?{_SECONDS}")
_POINT = re.compile(rf"{_SECONDS}={NUMBER}")
_MISPLACED = re.compile(r"/s(?! ?(?:$|,|\.\.|(?:over|each|for|every)\b))")
"""A rate's unit with something behind it that does not belong there."""
_UNIT_S = {None: 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

LENGTHS_HINT = (
    "Write 256 (fixed), 64-512 (uniform), 256~0.5[16-2048] (lognormal: median~sigma[min-max]), "
    "normal:256±64, zipf:1.2[1-4096] or hist:1-100=3,101-400=1."
)
ARRIVALS_HINT = (
    "Write 96 (in flight, closed loop), 8/s (Poisson), constant:8/s, gamma(0.5):8/s or recorded; "
    "levels also as 1..30/s over 60s, 5,10,20/s each 30s, 20/s for 5s, 2/s for 10s."
)


def parse_lengths(text: str) -> Lengths:
    """Parse lengths; the module's docstring lists the forms. Raises UsageError with a hint."""
    plain = text.strip().replace(" ", "").lower()
    lengths: Lengths | None = None
    try:
        if re.search(r"\d{400}", plain):
            # Python converts no number of some thousand digits, and says so in words of its own.
            raise ValueError("a number has more digits than any length")
        if plain.isascii() and plain.isdigit():
            lengths = Fixed(int(plain))
        elif match := re.fullmatch(r"(\d+)-(\d+)", plain):
            lengths = Uniform(int(match[1]), int(match[2]))
        elif match := _NORMAL.fullmatch(plain):
            lengths = Normal(float(match[1]), float(match[2]), **_bounds(match))
        elif match := _ZIPF.fullmatch(plain):
            lengths = Zipf(float(match[1]), int(match[2]), int(match[3]))
        elif match := _LOGNORMAL.fullmatch(plain):
            lengths = LogNormal(float(match[1]), float(match[2]), **_bounds(match))
        elif plain.startswith("hist:"):
            lengths = Histogram(tuple(_bin(part) for part in plain[5:].split(",")))
        if lengths is not None:
            # Constructors do not check the annotated bounds; conversion does.
            checked: Lengths = msgspec.convert(msgspec.to_builtins(lengths), Lengths)
            return checked
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"Lengths {text!r}: {reason(error)}.", LENGTHS_HINT) from None
    raise UsageError(f"{text!r} is not a length in tokens.", LENGTHS_HINT)


def describe_lengths(lengths: Lengths) -> str:
    """The text that `parse_lengths` turns back into the same lengths."""
    match lengths:
        case Fixed(tokens):
            return str(tokens)
        case Uniform(low, high):
            return f"{low}-{high}"
        case Normal(mean, sd, low, high):
            bounds = "" if (low, high) == (1, LONGEST) else f"[{low}-{high}]"
            return f"normal:{number(mean)}±{number(sd)}{bounds}"
        case LogNormal(median, sigma, low, high):
            bounds = "" if (low, high) == (1, 1_048_576) else f"[{low}-{high}]"
            return f"{number(median)}~{number(sigma)}{bounds}"
        case Zipf(exponent, low, high):
            return f"zipf:{number(exponent)}[{low}-{high}]"
        case Histogram(bins):
            return "hist:" + ",".join(
                f"{low}-{high}={number(weight)}" for low, high, weight in bins
            )


def parse_arrivals(text: str) -> Arrivals:
    """Parse arrivals; the module's docstring lists the forms. Raises UsageError with a hint."""
    plain = re.sub(r"\s+", " ", text.strip().lower())
    plain = re.sub(r" ?in flight(?= ?(?:$|over|each|for|every))", "", plain)
    plain = plain.replace("req/s", "/s").strip()
    process, shape, level_text = "", None, plain
    if match := _PROCESS.fullmatch(plain):
        process, shape, level_text = match[1].partition("(")[0], match[2], match[3].strip()
    try:
        if process == "recorded":
            raw: dict[str, Any] = {"kind": "recorded", "speed": _speed(level_text)}
        elif re.fullmatch(r"(inf(inity)?|∞)( ?/s)?", level_text):
            raise UsageError(
                f"Load {text.strip()!r} has no end.",
                "For as much as the engine takes, write a number in flight, such as 1000.",
            )
        else:
            # A person may write "/s" after a number or at the end.
            open_loop = "/s" in level_text
            if _MISPLACED.search(level_text):
                raise ValueError(level_text)
            level = _level(re.sub(r" ?/s\b", "", level_text).strip())
            kind = process or ("poisson" if open_loop else "closed")
            if open_loop == (kind == "closed"):
                unit = "requests in flight, without /s" if open_loop else "a rate: add /s"
                raise ValueError(f"{kind} takes {unit}")
            raw = {"kind": kind, "in_flight" if kind == "closed" else "rate": level}
            if kind == "gamma":
                raw["burstiness"] = float(shape or 0.5)
        checked: Arrivals = msgspec.convert(raw, Arrivals)
        return checked
    except (ValueError, msgspec.ValidationError) as error:
        known = isinstance(error, msgspec.ValidationError) or "takes" in str(error)
        why = f": {reason(error)}" if known else " is not a load"
        raise UsageError(f"Load {text.strip()!r}{why}.", ARRIVALS_HINT) from None


def describe_arrivals(arrivals: Arrivals) -> str:
    """The text that `parse_arrivals` turns back into the same arrivals."""
    match arrivals:
        case ClosedLoop(level):
            return f"{_describe(level, '')} in flight"
        case Recorded(speed):
            return "recorded" if speed == 1 else f"recorded x{number(speed)}"
        case Constant():
            process = "constant:"
        case Gamma(_, burstiness):
            process = f"gamma({number(burstiness)}):"
        case _:
            process = ""
    return process + _describe(level_of(arrivals), "/s")


def describe_all_arrivals(load: Workload) -> str:
    """All arrivals of a load for a person: 8/s + batch 16 in flight."""
    own = [] if load.only_apart else [describe_arrivals(load.arrivals)]
    apart = [f"{each.name} {describe_arrivals(each.arrivals)}"
             for each in load.apart if each.arrivals is not None]  # fmt: skip
    return " + ".join((*own, *apart))


def number(value: float) -> str:
    """The shortest text that reads back as the same number."""
    short = f"{value:g}"
    return short if float(short) == value and "+" not in short else repr(value).replace("+", "")


def seconds_of(text: str) -> float:
    """ "5", "5s", "2m" or "1h" in seconds. Raises ValueError."""
    match = re.fullmatch(_SECONDS, text.strip().lower())
    if match is None:
        raise ValueError(f"{text.strip()!r} takes seconds, like 5s or 2m")
    return float(match[1]) * _UNIT_S[match[2]]


def _level(text: str) -> Any:
    def at(match: re.Match[str], group: int) -> float:
        return float(match[group]) * _UNIT_S[match[group + 1]]

    if match := _RAMP.fullmatch(text):
        curve = "exponential" if match[5] == "exp" else "linear"
        return {"kind": "ramp", "start": float(match[1]), "end": float(match[2]),
                "over_s": at(match, 3), "curve": curve}  # fmt: skip
    if match := _STEPS.fullmatch(text):
        values = [float(part) for part in match[1].split(",")]
        return {"kind": "steps", "values": values, "each_s": at(match, 2)}
    if match := _BURSTS.fullmatch(text):
        return {"kind": "bursts", "on": float(match[1]), "on_s": at(match, 2),
                "off": float(match[4]), "off_s": at(match, 5)}  # fmt: skip
    if match := _DIURNAL.fullmatch(text):
        points = []
        for part in match[1].split(","):
            if (point := _POINT.fullmatch(part.strip())) is None:
                raise ValueError(part)
            points.append((at(point, 1), float(point[3])))
        return {"kind": "diurnal", "points": points, "period_s": at(match, 2)}
    plain = re.sub(r"(?<=\d) (?=\d{3}\b)", "", text)
    if re.fullmatch(NUMBER, plain, re.ASCII) is None:
        raise ValueError(plain)
    value = float(plain)
    return int(value) if value.is_integer() else value


def _describe(level: Level, unit: str) -> str:
    match level:
        case Ramp(start, end, over_s, curve):
            how = " exp" if curve == "exponential" else ""
            return f"{number(start)}..{number(end)}{unit} over {number(over_s)}s{how}"
        case Steps(values, each_s):
            return f"{','.join(map(number, values))}{unit} each {number(each_s)}s"
        case Bursts(on, on_s, off_s, off):
            return f"{number(on)}{unit} for {number(on_s)}s, {number(off)} for {number(off_s)}s"
        case Diurnal(points, period_s):
            listed = ", ".join(f"{number(at)}s={number(value)}" for at, value in points)
            return f"{listed}{unit} every {number(period_s)}s"
        case _:
            return number(level) + unit


def _speed(text: str) -> float:
    factor = re.fullmatch(rf"[x×]?{NUMBER}[x×]?", text.replace(" ", "") or "1", re.ASCII)
    if factor is None:
        raise ValueError(text)
    return float(factor[1])


def _bounds(match: re.Match[str]) -> dict[str, int]:
    return {"min": int(match[3]), "max": int(match[4])} if match[3] else {}


def _bin(text: str) -> tuple[int, int, float]:
    match = _BIN.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no bin: write 1-100=3 (from-to=weight)")
    return int(match[1]), int(match[2] or match[1]), float(match[3])


def named_reason(error: msgspec.ValidationError) -> str:
    """`reason`, after the name of the setting that it is about where msgspec tells it."""
    name = str(error).partition(" - at `$.")[2].rstrip("`")
    return f"{name}: {reason(error)}" if name else reason(error)


def reason(error: Exception) -> str:
    """Why msgspec or a parser refused a value, in plain words instead of Python's types."""
    what = str(error).partition(" - at")[0].rstrip(".")
    if bound := re.fullmatch(r"Expected `(?:int|float)` (>=|<=|>|<) ([-\d.e+]+)", what):
        words = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}
        return f"it must be {words[bound[1]]} {float(bound[2]):,.15g}"
    if wrong := re.fullmatch(r"Expected `(int|float)( \| object)?(?: \| null)?`, got `\w+`", what):
        kind = "a whole number" if wrong[1] == "int" else "a number"
        return f"it must be {kind}{' or a curve' if wrong[2] else ''}"
    if missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        return f"{missing[1]} is missing"
    if what.startswith("Expected `str` matching regex"):
        return "it is too long, or has a character that cannot stand there"
    return what[:1].lower() + what[1:]

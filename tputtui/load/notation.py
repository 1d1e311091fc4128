"""A load as a person writes it, and back: on the command line, in dialogs, on marks. Pure."""

from __future__ import annotations

import re

import msgspec

from tputtui.errors import UsageError
from tputtui.load.workload import (
    ClosedLoop,
    Fixed,
    Lengths,
    LogNormal,
    OpenLoop,
    Uniform,
    Workload,
)

__all__ = [
    "describe_arrivals",
    "describe_lengths",
    "difference",
    "override",
    "parse_arrivals",
    "parse_lengths",
]

_NUMBER = r"(\d+(?:\.\d+)?)"
_LOGNORMAL = re.compile(rf"(?:lognormal:)?{_NUMBER}~{_NUMBER}(?:\[(\d+)-(\d+)\])?")


def parse_lengths(text: str) -> Lengths:
    """Lengths as typed: `256` fixed, `64-512` uniform, `256~0.5[16-2048]` lognormal.

    Raises UsageError with the three forms when `text` is none of them.
    """
    plain = text.strip().replace(" ", "")
    lengths: Lengths | None = None
    try:
        if plain.isascii() and plain.isdigit():
            lengths = Fixed(int(plain))
        elif match := re.fullmatch(r"(\d+)-(\d+)", plain):
            lengths = Uniform(int(match[1]), int(match[2]))
        elif match := _LOGNORMAL.fullmatch(plain):
            bounds = {"min": int(match[3]), "max": int(match[4])} if match[3] else {}
            lengths = LogNormal(float(match[1]), float(match[2]), **bounds)
        if lengths is not None:
            # Constructors do not check the annotated bounds; conversion does.
            checked: Lengths = msgspec.convert(msgspec.to_builtins(lengths), Lengths)
            return checked
    except (ValueError, msgspec.ValidationError) as error:
        raise UsageError(f"Lengths {text!r}: {error}.", _FORMS) from None
    raise UsageError(f"{text!r} is not a length in tokens.", _FORMS)


_FORMS = (
    "Write 256 (fixed), 64-512 (uniform) or 256~0.5[16-2048] (lognormal: median~sigma[min-max])."
)


def describe_lengths(lengths: Lengths) -> str:
    """The text `parse_lengths` reads back as the same lengths."""
    match lengths:
        case Fixed(tokens):
            return str(tokens)
        case Uniform(low, high):
            return f"{low}-{high}"
        case LogNormal(median, sigma, low, high):
            bounds = "" if (low, high) == (1, 1_048_576) else f"[{low}-{high}]"
            return f"{median:g}~{sigma:g}{bounds}"


def parse_arrivals(text: str) -> ClosedLoop | OpenLoop:
    """Arrivals as typed: `96` in flight (closed loop), `8/s` Poisson (open loop).

    Raises UsageError with the two forms when `text` is neither.
    """
    plain = text.strip().lower().replace(" ", "").removesuffix("inflight").replace("req/s", "/s")
    hint = "Write 96 (in flight, closed loop) or 8/s (Poisson arrivals, open loop)."
    try:
        if plain.endswith("/s"):
            return msgspec.convert({"kind": "poisson", "rate": float(plain[:-2])}, OpenLoop)
        return msgspec.convert({"kind": "closed", "in_flight": int(plain)}, ClosedLoop)
    except ValueError as error:
        why = str(error).partition(" - at")[0] if isinstance(error, msgspec.ValidationError) else ""
        message = f"Load {text.strip()!r}: {why[:1].lower() + why[1:]}." if why else ""
        raise UsageError(message or f"{text.strip()!r} is not a load.", hint) from None


def override(
    base: Workload, arrivals: str | None, prompt: str | None, output: str | None, seed: str | None
) -> Workload:
    """`base` with what was typed on the command line put on top. Raises UsageError."""
    if seed is not None and not (seed.isascii() and seed.isdigit() and int(seed) < 2**63):
        raise UsageError(f"--load-seed {seed!r} is not a whole number from 0 to 2⁶³ - 1.")
    return Workload(
        parse_arrivals(arrivals) if arrivals is not None else base.arrivals,
        parse_lengths(prompt) if prompt is not None else base.prompt,
        parse_lengths(output) if output is not None else base.output,
        int(seed) if seed is not None else base.seed,
    )


def difference(old: Workload, new: Workload) -> str:
    """What changed from one load to another, as a mark says it."""
    said = []
    if old.arrivals != new.arrivals:
        said.append(f"load {describe_arrivals(old)} → {describe_arrivals(new)}")
    if old.prompt != new.prompt:
        said.append(f"prompt {describe_lengths(old.prompt)} → {describe_lengths(new.prompt)}")
    if old.output != new.output:
        said.append(f"output {describe_lengths(old.output)} → {describe_lengths(new.output)}")
    if old.seed != new.seed:
        said.append(f"seed {old.seed} → {new.seed} at the next start")
    return ", ".join(said)


def describe_arrivals(workload: Workload) -> str:
    """ "96 in flight" or "8 req/s"."""
    match workload.arrivals:
        case ClosedLoop(n):
            return f"{n} in flight"
        case other:
            return f"{other.rate:g} req/s"

"""The live limits: their values, and one table that describes each of them.

A *ceiling* is the highest value that the booted engine can take; a *knob* is the limit in force, at
or below its ceiling. Every value is a whole number; for a choice it is the index of the word.
Some limits can be absent: 0 stands for that, and is spoken as "none".
Pure data, used on every thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from tputtui.errors import CeilingError, KnobError, nearest

__all__ = [
    "ADMISSION",
    "KNOBS",
    "MAIN",
    "UNTOLD",
    "Knob",
    "Knobs",
    "checked",
    "coarse_step",
    "differing",
    "fine_step",
    "kept_limits",
    "knob",
    "known",
    "names_differing",
    "offered",
    "parse_value",
    "shorthand",
    "spoken",
    "started_at",
    "whole_number",
]  # fmt: skip


UNTOLD = 2**62
"""Stands for a limit that a server does not report, and for no ceiling; above every real value."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """One value for each live limit. Ceilings and the limits as booted have the same fields."""

    max_num_seqs: int
    """Most sequences in the running batch."""
    max_num_batched_tokens: int
    """Most tokens scheduled in one engine step, prefill and decode together."""
    max_model_len: int
    """Most prompt plus output tokens of one request."""
    long_prefill_token_threshold: int = 0
    """Most tokens of one prompt in one step; 0 for no such limit."""
    num_gpu_blocks: int = 0
    """Blocks of the KV cache as vLLM counts them, its placeholder block included."""
    watermark_blocks: int = 0
    """Blocks kept free when a waiting request is admitted beside running ones."""
    enable_prefix_caching: int = 0
    """0 off, 1 on."""
    scheduling_policy: int = 0
    """0 fcfs, 1 priority."""
    scheduler_reserve_full_isl: int = 0
    """0 off, 1 on: admit a request only when its whole prompt fits the KV cache."""
    num_speculative_tokens: int = 0
    """Most draft tokens of a sequence in one step; 0 drafts none, and where nothing can draft."""
    max_num_queued_reqs: int = 0
    """Most requests in flight, waiting and running, of all engines; 0 for no such limit."""
    max_num_queued_tokens: int = 0
    """From so many prompt tokens without a first token on, arrivals are refused; 0 for never."""
    prefill_schedule_interval: int = 1
    """Prefill runs once in so many engine steps at most; 1 for in every step."""

    def get(self, name: str) -> int:
        """The value of the limit called `name`."""
        value: int = getattr(self, name)
        return value

    def with_value(self, name: str, value: int) -> Knobs:
        """A copy with one limit changed."""
        return replace(self, **{name: value})

    def as_dict(self) -> dict[str, int]:
        """Name to value, in the table's order."""
        return asdict(self)

    def overridden(self, values: Mapping[str, int | None]) -> Knobs:
        """A copy with the `values` that are not None."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})

    def clamped(self, ceilings: Knobs) -> Knobs:
        """A copy with every value at most its ceiling."""
        return Knobs(*(min(self.get(f.name), ceilings.get(f.name)) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Knob:
    """The description of one live limit, for the screen and for checking typed values."""

    name: str
    label: str
    """Its name on the screen."""
    unit: str
    """Empty for a choice."""
    minimum: int
    """The smallest value that it ever takes."""
    fine: int
    """Size of a small step, in `unit`. A coarse step halves or doubles."""
    argument: str
    """vLLM's engine argument that sets it at boot: its flag, with underscores."""
    boots: bool
    """Whether a boot with that argument raises its ceiling; otherwise the ceiling follows from the
    other limits."""
    trade: str
    """One sentence on what a change of it costs and gives."""
    choices: tuple[str, ...] = ()
    """The words for the values 0, 1, …; empty for a number."""
    absent: str = ""
    """The word for 0, where that is no limit at all; empty where 0 is a value like others."""
    optional: bool = False
    """Whether many engines have none of it: their ceiling is 0, and no screen shows it."""

    @property
    def flag(self) -> str:
        """vLLM's flag."""
        return f"--{self.argument.replace('_', '-')}"

    def unit_of(self, value: int) -> str:
        """The unit as it stands behind `value`: "1 step", "4 steps"; empty behind a word."""
        if not value and self.absent:
            return ""
        return self.unit.removesuffix("s") if value == 1 else self.unit

    @property
    def reach(self) -> str:
        """How it is changed, in words: live, or above its ceiling by a boot."""
        if self.absent:
            return f"live; {self.absent}, or 0, is no limit"
        return "live up to its ceiling, above it by a boot" if self.boots else "live"


_SWITCH = ("off", "on")
_NONE = "none"

KNOBS: tuple[Knob, ...] = (
    Knob(
        "max_num_seqs", "sequences", "seqs", 1, 1, "max_num_seqs", True,
        "More share a step: more tokens/s in all, a slower next token for each.",
    ),
    Knob(
        "max_num_batched_tokens", "batched tokens", "tok", 1, 64, "max_num_batched_tokens", True,
        "Larger steps finish prefill sooner (TTFT) but hold decoding up (ITL).",
    ),
    Knob(
        "max_model_len", "model length", "tok", 2, 64, "max_model_len", True,
        "The longest request admitted; bounds what one can take of the KV cache.",
    ),
    Knob(
        "long_prefill_token_threshold", "long prefill", "tok", 0, 64,
        "long_prefill_token_threshold", False,
        "A long prompt takes at most this of a step: others decode on beside it, its own TTFT "
        "grows. 0: no limit.",
    ),
    Knob(
        "num_gpu_blocks", "KV budget", "blk", 2, 16, "num_gpu_blocks_override", True,
        "As if the card had less memory: blocks are held back as they come free. Fewer requests "
        "fit, more are preempted.",
    ),
    Knob(
        "watermark_blocks", "KV watermark", "blk", 0, 4, "watermark", False,
        "Blocks kept free when a request is admitted: fewer preemptions, a smaller batch. The flag "
        "takes it as a fraction.",
    ),
    Knob(
        "enable_prefix_caching", "prefix caching", "", 0, 1, "enable_prefix_caching", True,
        "On: a prompt's known beginning is not computed again. Off shows what the hits are worth.",
        _SWITCH,
    ),
    Knob(
        "scheduling_policy", "policy", "", 0, 1, "scheduling_policy", False,
        "fcfs: first come, first served. priority: here the shortest prompt first, so long ones "
        "wait.",
        ("fcfs", "priority"),
    ),
    Knob(
        "scheduler_reserve_full_isl", "reserve whole prompt", "", 0, 1,
        "scheduler_reserve_full_isl", False,
        "On: a request is admitted only when its whole prompt fits the KV cache. Off admits more, "
        "and may preempt.",
        _SWITCH,
    ),
    Knob(
        "num_speculative_tokens", "draft tokens", "tok", 0, 1, "speculative_config", False,
        "Speculation: so many tokens of a sequence are guessed, and checked in one step. Accepted "
        "ones shorten TPOT, rejected ones are work for nothing. 0: none.",
        optional=True,
    ),
    Knob(
        "max_num_queued_reqs", "queued reqs", "reqs", 0, 1, "max_num_queued_reqs", False,
        "With so many in flight, waiting or running, arrivals are refused (HTTP 503): whoever gets "
        "in waits less.",
        (), _NONE,
    ),
    Knob(
        "max_num_queued_tokens", "queued tokens", "tok", 0, 64, "max_num_queued_tokens", False,
        "Prompts of so many tokens wait for a first token: arrivals are refused. TTFT wanted × "
        "prompt tokens/s.",
        (), _NONE,
    ),
    Knob(
        "prefill_schedule_interval", "prefill every", "steps", 1, 1, "prefill_schedule_interval",
        False,
        "The steps between only decode: a steadier next token (ITL), a later first one (TTFT).",
    ),
)  # fmt: skip

ADMISSION = tuple(limit.name for limit in KNOBS if limit.absent)
"""The limits by which requests are refused as they arrive."""
MAIN = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
_BY_NAME = {knob.name: knob for knob in KNOBS}


def knob(name: str) -> Knob:
    """The description of the limit `name`. Raises KnobError with the nearest name."""
    limit = _BY_NAME.get(name)
    if limit is None:
        hint = nearest(name, _BY_NAME) or f"Known: {', '.join(_BY_NAME)}."
        raise KnobError(f"There is no limit called {name!r}.", hint)
    return limit


def offered(ceilings: Knobs | None) -> tuple[Knob, ...]:
    """The limits that an engine with these ceilings has; those that all have, without an engine."""
    return tuple(
        limit
        for limit in KNOBS
        if not limit.optional or (ceilings and 0 < ceilings.get(limit.name) < UNTOLD)
    )


def spoken(name: str, value: int) -> str:
    """A value as text, as it is shown and typed: a number, or the word of a choice."""
    if value >= UNTOLD:
        return "untold"
    limit = _BY_NAME[name]
    if not value and limit.absent:
        return limit.absent
    return limit.choices[value] if limit.choices else str(value)


def known(value: float) -> float:
    """A limit as a number to calculate with; NaN where a server does not report it."""
    return value if value < UNTOLD else math.nan


def names_differing(old: Knobs, new: Knobs) -> list[str]:
    """The names of the limits that differ, in the order of `KNOBS`."""
    return [knob.name for knob in KNOBS if old.get(knob.name) != new.get(knob.name)]


def differing(old: Knobs, new: Knobs) -> str:
    """The differences in words: "max_num_seqs 64 → 32, …"; empty when nothing differs."""
    return ", ".join(
        f"{name} {spoken(name, old.get(name))} → {spoken(name, new.get(name))}"
        for name in names_differing(old, new)
    )


def apart(a: Knobs, b: Knobs) -> tuple[str, str]:
    """Each side by the limits that differ: ("max_num_seqs 64", "max_num_seqs 32")."""
    names = names_differing(a, b)
    of_a, of_b = (
        ", ".join(f"{name} {spoken(name, side.get(name))}" for name in names) for side in (a, b)
    )
    return of_a, of_b


def shorthand(values: Mapping[str, int]) -> str:
    """Limits in few words: the main three as 64/2048/2048, then the others by name."""
    main = "/".join(
        str(values[name]) if values[name] < UNTOLD else "–" for name in MAIN if name in values
    )
    rest = [f"{k} {spoken(k, v)}" for k, v in values.items() if k not in MAIN]
    return ", ".join([main, *rest]) if main else ", ".join(rest)


def kept_limits(knobs: Knobs, booted: Knobs) -> dict[str, int]:
    """The limits of `knobs` worth keeping: the main three, and others that differ from the boot.

    Limits that a server does not report are left out.
    """
    return {
        name: value
        for name, value in knobs.as_dict().items()
        if value < UNTOLD and (name in MAIN or value != booted.get(name))
    }


def checked(name: str, value: object, ceilings: Knobs, floor: int = 0) -> int:
    """`value` as a limit that the engine can take now; raises KnobError with bounds and flag.

    floor: the smallest value that the other limits in force allow, where it exceeds the table's
    minimum. Every limit passes through this check: above the booted value vLLM fails an assertion,
    or silently computes wrong tokens (`max_model_len`); and it silently accepts floats.
    """
    limit = knob(name)
    ceiling = ceilings.get(name)
    least = max(limit.minimum, floor)
    bounds = f"{least} to {ceiling} {limit.unit}" if ceiling < UNTOLD else f"{least} or more"
    if least == ceiling:
        bounds = f"{least} {limit.unit_of(least)}, and nothing else"
    if limit.absent:
        bounds = f"{limit.absent}, or 1 or more"
        value = 0 if value == limit.absent else value
    if limit.choices:
        bounds = " or ".join(limit.choices[: ceiling + 1])
        if isinstance(value, str) and value in limit.choices:
            value = limit.choices.index(value)
        elif isinstance(value, bool):
            value = int(value)
    elif isinstance(value, bool):
        value = str(value)
    if not isinstance(value, int) or (limit.choices and not 0 <= value < len(limit.choices)):
        kind = "one of its words" if limit.choices else "a whole number"
        raise KnobError(f"{name}: {value!r} is not {kind}.", f"It takes {bounds}.")
    if value > ceiling:
        typed = spoken(name, value) if limit.choices else str(value)
        message = f"{name} {typed} is above its ceiling {spoken(name, ceiling)}."
        if not limit.boots:
            more = f" A boot with more in {limit.flag} raises that." if limit.optional else ""
            raise KnobError(message, f"It takes {bounds}.{more}")
        word = "" if limit.choices else f" {value}"
        hint = f"It takes {bounds}; to go higher, boot with {limit.flag}{word}."
        raise CeilingError(message, hint, name, value)
    if value < least:
        raise KnobError(f"{name} {value} is too low.", f"It takes {bounds}.")
    return value


def started_at(name: str, value: int | str) -> int:
    """A checked value to start with, before any ceiling is known. Raises KnobError."""
    choices = knob(name).choices
    highest = len(choices) - 1 if choices else UNTOLD
    return checked(name, value, Knobs(*[highest] * len(KNOBS)))


def parse_value(name: str, text: str) -> int | str:
    """A typed limit: "256", "1 024" and "4k" as a number, other text as it was typed."""
    value = None if knob(name).choices else whole_number(text)
    return text.strip().lower() if value is None else value


def whole_number(text: str) -> int | None:
    """A whole number as vLLM reads one on its command line: 4k is 4,000, 4K is 4,096, 1.5k 1,500.

    Unlike vLLM, it accepts digit separators: "1,024", "1 024", "1_024". None for other text.
    """
    plain = re.sub(r"(?<=\d)[,_ ](?=\d)", "", text.strip())
    match = re.fullmatch(r"([+-]?\d{1,18})(?:(\.\d{1,18})?([kmgt])|([KMGT]))?", plain, re.ASCII)
    if match is None:
        return None
    number, fraction, decimal, binary = match.groups()
    if binary:
        return int(number) << 10 * (1 + "KMGT".index(binary))
    if decimal:
        return int(float(number + (fraction or "")) * 1000 ** (1 + "kmgt".index(decimal)))
    return int(number)


def fine_step(name: str, value: int, direction: int, ceilings: Knobs) -> int:
    """The value one small step up (+1) or down (-1), within bounds and on the grid of the step.

    A limit that is absent counts as higher than every value: a step down gives a large one.
    """
    limit = _BY_NAME[name]
    if limit.absent and not value:
        return _LARGE * _batch(limit, ceilings) if direction < 0 else 0
    target = value + direction * limit.fine
    if direction > 0:
        target -= target % limit.fine
    elif target % limit.fine:
        target += limit.fine - target % limit.fine
    return _bounded(limit, target, ceilings)


def coarse_step(name: str, value: int, direction: int, ceilings: Knobs) -> int:
    """`value` doubled (+1) or halved (-1), within bounds; from 0 up to a 64th of the ceiling.

    A limit that can be absent: as in `fine_step`; doubled far beyond a large value it is absent.
    """
    limit = _BY_NAME[name]
    if limit.absent and not value:
        return fine_step(name, value, direction, ceilings)
    if direction > 0:
        target = value * 2 or max(limit.fine, ceilings.get(name) // 64)
        if limit.absent and target > _LARGE**2 * _batch(limit, ceilings):
            return 0
    else:
        target = value // 2
        if limit.minimum == 0 and 0 < target < limit.fine:
            target = 0
    return _bounded(limit, target, ceilings)


_LARGE = 4
"""Batches that are large for a limit of what is in flight."""


def _batch(limit: Knob, ceilings: Knobs) -> int:
    """A full batch in the unit of `limit`."""
    return ceilings.max_num_seqs if limit.unit == "reqs" else ceilings.max_num_batched_tokens


def _bounded(limit: Knob, value: int, ceilings: Knobs) -> int:
    # Lower than the lowest value would be no limit.
    least = limit.fine if limit.absent else limit.minimum
    return max(least, min(ceilings.get(limit.name), value))

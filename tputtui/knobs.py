"""The live limits: their values, and one table of what each of them is.

A *ceiling* is the highest value the booted engine can take; a *knob* is the limit in force, at or
below it. Every value is a whole number; one that is a choice counts its words from 0.
Pure data, used on every thread.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from tputtui.errors import CeilingError, KnobError, nearest

__all__ = ["KNOBS", "UNTOLD", "Knob", "Knobs", "checked", "coarse_step", "differing", "fine_step",
           "knob", "known", "parse_value", "shorthand", "spoken",
           "started_at", "turned", "whole_number"]  # fmt: skip


UNTOLD = 2**62
"""A limit that a server keeps to itself: above every value that there is."""


@dataclass(frozen=True, slots=True)
class Knobs:
    """One value for each live limit. The same shape holds ceilings and what an engine booted with.

    max_num_seqs: sequences admitted to the running batch.
    max_num_batched_tokens: tokens scheduled in one engine step, prefill and decode together.
    max_model_len: prompt plus output tokens of one request.
    long_prefill_token_threshold: tokens of one prompt in one step; 0 is no such limit.
    num_gpu_blocks: blocks of the KV cache, vLLM's placeholder block included, as vLLM counts them.
    watermark_blocks: blocks kept free when a waiting request is admitted beside others.
    enable_prefix_caching, scheduler_reserve_full_isl: 0 off, 1 on.
    scheduling_policy: 0 fcfs, 1 priority.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int
    long_prefill_token_threshold: int = 0
    num_gpu_blocks: int = 0
    watermark_blocks: int = 0
    enable_prefix_caching: int = 0
    scheduling_policy: int = 0
    scheduler_reserve_full_isl: int = 0

    def get(self, name: str) -> int:
        """The value of the knob called `name`."""
        value: int = getattr(self, name)
        return value

    def with_value(self, name: str, value: int) -> Knobs:
        """A copy with one knob changed."""
        return replace(self, **{name: value})

    def as_dict(self) -> dict[str, int]:
        """Name to value, in the table's order."""
        return asdict(self)

    def overridden(self, values: Mapping[str, int | None]) -> Knobs:
        """A copy with every value that is not None put in place."""
        return replace(self, **{k: v for k, v in values.items() if v is not None})

    def clamped(self, ceilings: Knobs) -> Knobs:
        """A copy with nothing above `ceilings`."""
        return Knobs(*(min(self.get(f.name), ceilings.get(f.name)) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Knob:
    """What one live limit is, for the screen and for checking what is typed.

    unit: empty for a choice. minimum: the least it ever takes; 0 where that means none.
    fine: what one small step adds or takes away, in `unit`. A coarse step halves or doubles.
    argument: vLLM's engine argument (its flag, spelt with underscores) that sets it at boot.
    boots: whether a boot with that argument raises its ceiling; without, the ceiling is what makes
    sense beside the other limits. choices: the words for 0, 1, …
    trade: one sentence on what turning it costs and gives.
    """

    name: str
    label: str
    unit: str
    minimum: int
    fine: int
    argument: str
    boots: bool
    trade: str
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> str:
        """vLLM's flag."""
        return f"--{self.argument.replace('_', '-')}"

    @property
    def reach(self) -> str:
        """How it is changed, in words: live, or above its ceiling by a boot."""
        return "live up to its ceiling, above it by a boot" if self.boots else "live"


_SWITCH = ("off", "on")

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
        "scheduler_reserve_full_isl", "whole prompts", "", 0, 1, "scheduler_reserve_full_isl",
        False,
        "On: a request is admitted only when its whole prompt fits the KV cache. Off admits more, "
        "and may preempt.",
        _SWITCH,
    ),
)  # fmt: skip

_MAIN = ("max_num_seqs", "max_num_batched_tokens", "max_model_len")
_BY_NAME = {knob.name: knob for knob in KNOBS}


def knob(name: str) -> Knob:
    """What the limit called `name` is. Raises KnobError with the nearest name."""
    found = _BY_NAME.get(name)
    if found is None:
        hint = nearest(name, _BY_NAME) or f"Known: {', '.join(_BY_NAME)}."
        raise KnobError(f"There is no limit called {name!r}.", hint)
    return found


def spoken(name: str, value: int) -> str:
    """A value as it is shown and typed: a number, or the word of a choice."""
    if value >= UNTOLD:
        return "untold"
    choices = _BY_NAME[name].choices
    return choices[value] if choices else str(value)


def known(value: float) -> float:
    """A limit as a number to reckon with: NaN where a server keeps it to itself."""
    return value if value < UNTOLD else math.nan


def differing(old: Knobs, new: Knobs) -> str:
    """What differs, in words: "max_num_seqs 64 → 32, …"; empty when nothing does."""
    return ", ".join(
        f"{knob.name} {spoken(knob.name, old.get(knob.name))} → "
        f"{spoken(knob.name, new.get(knob.name))}"
        for knob in KNOBS
        if old.get(knob.name) != new.get(knob.name)
    )


def apart(a: Knobs, b: Knobs) -> tuple[str, str]:
    """Both by what they differ in: ("max_num_seqs 64", "max_num_seqs 32"); empty when alike."""
    names = [knob.name for knob in KNOBS if a.get(knob.name) != b.get(knob.name)]
    of_a, of_b = (
        ", ".join(f"{name} {spoken(name, side.get(name))}" for name in names) for side in (a, b)
    )
    return of_a, of_b


def shorthand(values: Mapping[str, int]) -> str:
    """Limits in few words: the main three as 64/2048/2048, then the others by name."""
    main = "/".join(
        str(values[name]) if values[name] < UNTOLD else "–" for name in _MAIN if name in values
    )
    rest = [f"{k} {spoken(k, v)}" for k, v in values.items() if k not in _MAIN]
    return ", ".join([main, *rest]) if main else ", ".join(rest)


def turned(knobs: Knobs, booted: Knobs) -> dict[str, int]:
    """What is worth keeping of `knobs`: the main three, and others that are not as booted.

    What a server keeps to itself is not known, and so not kept.
    """
    return {
        name: value
        for name, value in knobs.as_dict().items()
        if value < UNTOLD and (name in _MAIN or value != booted.get(name))
    }


def checked(name: str, value: object, ceilings: Knobs, floor: int = 0) -> int:
    """`value` as a limit the engine can take now, or a KnobError that names bounds and flag.

    floor: the least the other limits in force allow, where that is more than the table's minimum.
    Every limit goes through here: above the booted value vLLM asserts, or silently computes
    wrong tokens (`max_model_len`), and it accepts floats without a word.
    """
    limit = knob(name)
    ceiling = ceilings.get(name)
    least = max(limit.minimum, floor)
    bounds = f"{least} to {ceiling} {limit.unit}" if ceiling < UNTOLD else f"{least} or more"
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
        raise KnobError(f"{name} must be {kind}, not {value!r}.", f"It takes {bounds}.")
    if value > ceiling:
        typed = spoken(name, value) if limit.choices else str(value)
        said = f"{name} {typed} is above its ceiling {spoken(name, ceiling)}."
        if not limit.boots:
            raise KnobError(said, f"It takes {bounds}.")
        word = "" if limit.choices else f" {value}"
        hint = f"It takes {bounds}; to go higher, boot with {limit.flag}{word}."
        raise CeilingError(said, hint, name, value)
    if value < least:
        raise KnobError(f"{name} {value} is too low.", f"It takes {bounds}.")
    return value


def started_at(name: str, value: int | str) -> int:
    """A value to start with, before any ceiling is known. Raises KnobError, like `checked`."""
    choices = knob(name).choices
    highest = len(choices) - 1 if choices else UNTOLD
    return checked(name, value, Knobs(*[highest] * len(KNOBS)))


def parse_value(name: str, text: str) -> int | str:
    """A typed limit: "256", "1 024" and "4k" as a number, anything else as it stands."""
    value = None if knob(name).choices else whole_number(text)
    return text.strip().lower() if value is None else value


def whole_number(text: str) -> int | None:
    """A whole number as vLLM reads one on its command line: 4k is 4,000, 4K is 4,096, 1.5k 1,500.

    Beyond vLLM, digits may be set apart: "1,024", "1 024", "1_024". None for anything else.
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
    """The next value one small step up (+1) or down (-1), kept in bounds and on the step's grid."""
    limit = _BY_NAME[name]
    target = value + direction * limit.fine
    if direction > 0:
        target -= target % limit.fine
    elif target % limit.fine:
        target += limit.fine - target % limit.fine
    return _bounded(limit, target, ceilings)


def coarse_step(name: str, value: int, direction: int, ceilings: Knobs) -> int:
    """Double (+1) or halve (-1), kept in bounds; from 0 up to the ceiling, halved six times."""
    limit = _BY_NAME[name]
    if direction > 0:
        target = value * 2 or max(limit.fine, ceilings.get(name) // 64)
    else:
        target = value // 2
        if limit.minimum == 0 and 0 < target < limit.fine:
            target = 0
    return _bounded(limit, target, ceilings)


def _bounded(limit: Knob, value: int, ceilings: Knobs) -> int:
    return max(limit.minimum, min(ceilings.get(limit.name), value))

"""The live limits: their values, and one table of what each of them is.

A *ceiling* is what the engine booted with; a *knob* is the limit in force, at or below it.
Pure data, used on every thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace

from tputtui.errors import KnobError, nearest

__all__ = ["KNOBS", "Knob", "Knobs", "checked", "coarse_step", "fine_step", "parse_value"]


@dataclass(frozen=True, slots=True)
class Knobs:
    """One value for each live limit. The same shape holds ceilings.

    max_num_seqs: sequences admitted to the running batch.
    max_num_batched_tokens: tokens scheduled in one engine step, prefill and decode together.
    max_model_len: prompt plus output tokens of one request.
    """

    max_num_seqs: int
    max_num_batched_tokens: int
    max_model_len: int

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

    fine: what one small step adds or takes away, in `unit`. A coarse step halves or doubles.
    trade: one sentence on what turning it costs and gives.
    """

    name: str
    label: str
    unit: str
    minimum: int
    fine: int
    flag: str
    trade: str


KNOBS: tuple[Knob, ...] = (
    Knob(
        "max_num_seqs", "sequences", "seqs", 1, 1, "--max-num-seqs",
        "More share a step: more tokens/s in all, a slower next token for each.",
    ),
    Knob(
        "max_num_batched_tokens", "batched tokens", "tok", 1, 64, "--max-num-batched-tokens",
        "Larger steps finish prefill sooner (TTFT) but hold decoding up (ITL).",
    ),
    Knob(
        "max_model_len", "model length", "tok", 2, 64, "--max-model-len",
        "The longest request admitted; bounds what one can take of the KV cache.",
    ),
)  # fmt: skip

_BY_NAME = {knob.name: knob for knob in KNOBS}


def checked(name: str, value: object, ceilings: Knobs) -> int:
    """`value` as a limit the engine can take now, or a KnobError that names bounds and flag.

    Every limit goes through here: above the booted value vLLM asserts, or silently computes
    wrong tokens (`max_model_len`), and it accepts floats without a word.
    """
    knob = _BY_NAME.get(name)
    if knob is None:
        raise KnobError(f"There is no limit called {name!r}.", nearest(name, _BY_NAME))
    ceiling = ceilings.get(name)
    bounds = f"{knob.minimum} to {ceiling} {knob.unit}"
    if isinstance(value, bool) or not isinstance(value, int):
        raise KnobError(f"{name} must be a whole number, not {value!r}.", f"It takes {bounds}.")
    if value > ceiling:
        raise KnobError(
            f"{name} {value} is above its ceiling {ceiling}.",
            f"It takes {bounds}; to go higher, boot with {knob.flag} {value}.",
        )
    if value < knob.minimum:
        raise KnobError(f"{name} {value} is too low.", f"It takes {bounds}.")
    return value


def parse_value(name: str, text: str, ceilings: Knobs) -> int:
    """A typed limit ("256", "1 024", "4k") as a number, or a KnobError."""
    plain = text.strip().replace(",", "").replace("_", "").replace(" ", "").lower()
    factor = 1
    if plain.endswith("k"):
        plain, factor = plain[:-1], 1024
    if not plain.isascii() or not plain.lstrip("+-").isdigit():
        return checked(name, text.strip(), ceilings)
    return checked(name, int(plain) * factor, ceilings)


def fine_step(name: str, value: int, direction: int, ceilings: Knobs) -> int:
    """The next value one small step up (+1) or down (-1), kept in bounds and on the step's grid."""
    knob = _BY_NAME[name]
    target = value + direction * knob.fine
    if direction > 0:
        target -= target % knob.fine
    elif target % knob.fine:
        target += knob.fine - target % knob.fine
    return _bounded(knob, target, ceilings)


def coarse_step(name: str, value: int, direction: int, ceilings: Knobs) -> int:
    """Double (+1) or halve (-1), kept in bounds."""
    return _bounded(_BY_NAME[name], value * 2 if direction > 0 else value // 2, ceilings)


def _bounded(knob: Knob, value: int, ceilings: Knobs) -> int:
    return max(knob.minimum, min(ceilings.get(knob.name), value))

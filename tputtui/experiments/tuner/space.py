"""What the tuner may change: a grid of limits with their values, and levels of the load. Pure.

A point of the grid is a tuple of indices, one for each axis; a level is an index as well.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tputtui.errors import UsageError
from tputtui.knobs import KNOBS, Knobs, checked, knob, parse_value, spoken

__all__ = [
    "Dimension",
    "Point",
    "Space",
    "describe_axes",
    "levels_around",
    "parse_axes",
    "usual_axes",
]

Point = tuple[int, ...]
"""For each axis, the index of its value."""

_USUAL = {"max_num_seqs": 4, "max_num_batched_tokens": 128}
"""The limits that are varied by default, and the smallest value worth trying of each."""
_MOST_VALUES = 7
_FORM = "Write max_num_seqs=16..256 (doubling), or max_num_seqs=16,64,256."
_LEVELS_EACH_WAY = 60
_LEVEL_FACTOR = 1.05


@dataclass(frozen=True, slots=True)
class Dimension:
    """A limit and the values to try, ascending."""

    name: str
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Space:
    """Every combination of `axes` that vLLM would boot with, at any of `levels`.

    start, start_level: the point and level in force when the search begins.
    levels: loads, ascending, in requests in flight or requests/s; one where it is not searched.
    capped: whether goodput cannot exceed the level (arrivals at a rate); then no level below one
    that holds is worth trying.
    """

    axes: tuple[Dimension, ...]
    start: Point
    levels: tuple[float, ...] = (math.nan,)
    start_level: int = 0
    capped: bool = False

    def __iter__(self) -> Iterator[Point]:
        """Every point that boots; the last axis varies fastest."""
        for point in itertools.product(*(range(len(axis.values)) for axis in self.axes)):
            if self.boots(point):
                yield point

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def values(self, point: Point) -> dict[str, int]:
        """The limits at a point, by name."""
        return {axis.name: axis.values[i] for axis, i in zip(self.axes, point, strict=True)}

    def boots(self, point: Point) -> bool:
        """Whether vLLM boots with a point's limits: a step must have room for every sequence."""
        values = self.values(point)
        tokens = values.get("max_num_batched_tokens")
        sequences = values.get("max_num_seqs")
        return tokens is None or sequences is None or tokens >= sequences

    def point_of(self, values: Mapping[str, int]) -> Point | None:
        """The point with these values; None when the grid does not contain it."""
        try:
            return tuple(axis.values.index(values[axis.name]) for axis in self.axes)
        except (KeyError, ValueError):
            return None


def usual_axes(
    limits: Knobs, ceilings: Knobs, in_flight: int | None = None
) -> tuple[Dimension, ...]:
    """The axes max_num_seqs and max_num_batched_tokens, halved down from their ceilings.

    in_flight: the most requests that are ever in flight; more sequences than that change nothing.
    """
    axes = []
    for name, least in _USUAL.items():
        ceiling, present = ceilings.get(name), limits.get(name)
        values = _halved(ceiling, min(least, present))
        if name == "max_num_seqs" and in_flight is not None:
            enough = min((v for v in values if v >= in_flight), default=ceiling)
            values = [value for value in values if value <= max(enough, present)]
        axes.append(_with(Dimension(name, tuple(values)), present))
    return tuple(axes)


def parse_axes(
    text: str, limits: Knobs, ceilings: Knobs, floor: Callable[[str], int] = lambda name: 0
) -> tuple[Dimension, ...]:
    """Axes as typed: `max_num_seqs=16..256, scheduling_policy`; each gets the present value too.

    An axis without values gets all words of a choice, or values halved down from the ceiling.
    floor: by name, the smallest value that the other limits allow.
    Raises UsageError, or KnobError for a value that the engine cannot take.
    """
    axes: list[Dimension] = []
    for item in _items(text):
        name, _, written = item.partition("=")
        name = name.strip().replace("-", "_")
        limit, ceiling = knob(name), ceilings.get(name)
        if any(axis.name == name for axis in axes):
            raise UsageError(f"{name} is there twice.", "Give all its values at once.")
        if written.strip():
            values = _written(name, written, ceilings, floor(name))
        elif limit.choices or (limit.optional and ceiling < _MOST_VALUES):
            values = list(range(ceiling + 1))
        elif ceiling >= 2**40:
            raise UsageError(f"{name} has no ceiling to start from.", _FORM)
        else:
            least = max(limit.minimum, limit.fine, floor(name), 1)
            values = _halved(ceiling, min(least, limits.get(name) or 1))
            values = [0, *values] if limit.optional else values
        axes.append(_with(Dimension(name, tuple(sorted(set(values)))), limits.get(name)))
    if not axes:
        raise UsageError("There is nothing to vary.", _FORM)
    return tuple(axes)


def describe_axes(axes: Sequence[Dimension]) -> str:
    """The text `parse_axes` reads back as the same axes."""
    return ", ".join(
        f"{axis.name}={','.join(spoken(axis.name, value) for value in axis.values)}"
        for axis in axes
    )


def levels_around(level: float, *, whole: bool) -> tuple[tuple[float, ...], int]:
    """Levels 5 % apart, up to 18 times lower and higher than `level`, and the index of `level`.

    whole: requests in flight, which are whole numbers.
    """
    levels = {level}
    for step in range(-_LEVELS_EACH_WAY, _LEVELS_EACH_WAY + 1):
        value = level * _LEVEL_FACTOR**step
        levels.add(max(1.0, float(round(value))) if whole else float(f"{value:.3g}"))
    ordered = tuple(sorted(levels))
    return ordered, ordered.index(level)


# -- inside ------------------------------------------------------------------------------------


def _halved(ceiling: int, least: int) -> list[int]:
    """`ceiling` halved again and again, not below `least`: ascending, 7 values at most."""
    values = [ceiling]
    while len(values) < _MOST_VALUES and values[0] // 2 >= max(1, least):
        values.insert(0, values[0] // 2)
    return values


def _with(axis: Dimension, value: int) -> Dimension:
    return Dimension(axis.name, tuple(sorted({*axis.values, value})))


def _items(text: str) -> list[str]:
    """The items between commas; a bare value that names no limit belongs to the item before it."""
    items: list[str] = []
    for part in text.replace(";", ",").split(","):
        bare = part.strip()
        if not bare:
            continue
        name = bare.partition("=")[0].strip().replace("-", "_")
        if items and "=" not in bare and not any(name == known.name for known in KNOBS):
            items[-1] += f",{bare}"
        else:
            items.append(bare)
    return items


def _written(name: str, text: str, ceilings: Knobs, floor: int) -> list[int]:
    low, dots, high = text.partition("..")
    parts = [low, high] if dots else text.split(",")
    given = [checked(name, parse_value(name, part), ceilings, floor) for part in parts]
    if not dots:
        return given
    value, last = given
    if not 0 < value <= last:
        raise UsageError(f"{name}: {text.strip()!r} is no range upwards.", _FORM)
    values = []
    while value < last:
        values.append(value)
        value *= 2
    return [*values, last]

"""The live limits: asked for, in force, ceiling, draining; what the selected one trades. Pure.

Once it is predicted what the keys would do to the selected limit, that stands below, where the room
for it is kept; where there is none, in place of what the limit trades.
"""

from __future__ import annotations

import textwrap
from typing import NamedTuple

from tputtui.frame import Frame
from tputtui.knobs import KNOBS, UNTOLD, Knob, Knobs, coarse_step, known, offered, spoken
from tputtui.text.format import bar, size
from tputtui.ui.panels.outlooks import outlook_line
from tputtui.ui.rows import Row, fitted, width_of

__all__ = ["limit_at", "limits", "limits_caption", "limits_of", "next_values", "still_offered"]

_MAIN = 3
"""The first limits of the table have a row each; the others share rows where there is room."""
_CELL = 38
_AHEAD = 2
"""Rows for what is predicted, where more than so many are left."""
_UNTOLD = ("not told by the server", "muted")
_NAME = max(len(knob.name) for knob in KNOBS) + 1


class _Place(NamedTuple):
    """Where a limit is shown: its row, and columns from `start` to before `end`."""

    knob: Knob
    y: int
    start: int
    end: int


def limits(frame: Frame, selected: str, width: int, height: int) -> list[Row]:
    """The limits in as many rows as fit; rows left say what the selected limit trades."""
    places = _places(selected, limits_of(frame), width, height)
    rows: list[Row] = [[] for _ in range(max(place.y for place in places) + 1)] if places else []
    for place in places:
        chosen = place.knob.name == selected
        if place.end - place.start > _CELL:
            rows[place.y] = _row(frame, place.knob, chosen, width)
        else:
            rows[place.y] += fitted(_cell(frame, place.knob, chosen), place.end - place.start)
    room, cells = height - len(rows), max(20, width - 4)
    if room > 0:
        ahead = _ahead(frame, selected, cells, room)
        kept = room - _AHEAD if room > _AHEAD else room - len(ahead)
        lines = _whole(_description(frame, selected, len(places)), cells, kept) if kept else []
        rows += [[(f"  {line}", "muted")] for line in (*lines, *ahead)]
    return rows


def _ahead(frame: Frame, selected: str, width: int, room: int) -> list[str]:
    """What the keys would do to the selected limit: a line for each where there is room."""
    if frame.asked is None:
        return []
    value = frame.asked.get(selected)
    shown = [
        ("[" if each.value < value else "]", each)
        for each in sorted(frame.outlooks, key=lambda each: each.value)
        if each.name == selected and each.value in next_values(frame, selected)
    ]
    alone = [outlook_line([each], width) for each in shown] if room > _AHEAD else []
    return list(filter(None, alone or [outlook_line(shown, width)]))


def next_values(frame: Frame, name: str) -> tuple[int, ...]:
    """The values that halving and doubling a limit give; none that is refused, or in force."""
    facts, asked = frame.status.facts, frame.asked
    if facts is None or asked is None:
        return ()
    value = asked.get(name)
    if value >= UNTOLD:
        return ()
    values = {coarse_step(name, value, way, facts.ceilings) for way in (-1, 1)}
    floor = facts.floor(name, asked)
    return tuple(sorted(each for each in values - {value} if each >= floor))


def limits_caption(frame: Frame, width: int) -> str:
    """The limit that binds now, for the panel's title: evidence and advice as far as they fit."""
    binding = frame.binding
    if binding is None:
        return ""
    caption = f"bound by {binding.bound.value}"
    engines = f" on {binding.engines}" if binding.engines else ""
    for more in (engines, f": {binding.evidence}", f" → {binding.advice}"):
        if len(caption) + len(more) > width:
            break
        caption += more
    return caption


def limits_of(frame: Frame | None) -> tuple[Knob, ...]:
    """The limits that the engine of a frame has, in the order of the panel."""
    facts = frame.status.facts if frame is not None else None
    return offered(facts.ceilings if facts is not None else None)


def still_offered(frame: Frame, selected: str) -> str:
    """The limit called `selected`, or the first one where a boot has taken that away."""
    names = [knob.name for knob in limits_of(frame)]
    return selected if selected in names else names[0]


def limit_at(
    x: int, y: int, selected: str, frame: Frame | None, width: int, height: int
) -> str | None:
    """The name of the limit shown in a cell of the panel; None for none."""
    for place in _places(selected, limits_of(frame), width, height):
        if place.y == y and place.start <= x < place.end:
            return place.knob.name
    return None


def _places(selected: str, every: tuple[Knob, ...], width: int, height: int) -> list[_Place]:
    """All limits where they fit beside one another, else the selected one's page, a row each."""
    columns = max(1, width // _CELL)
    others = every[_MAIN:]
    if height > _MAIN + -(-len(others) // columns):
        places = [_Place(knob, y, 0, width) for y, knob in enumerate(every[:_MAIN])]
        cell = width // columns
        for i, knob in enumerate(others):
            row, column = divmod(i, columns)
            places.append(_Place(knob, _MAIN + row, column * cell, (column + 1) * cell))
        return [place._replace(end=min(place.end, place.start + _CELL))
                if place.y >= _MAIN else place for place in places]  # fmt: skip
    a_page = max(1, height - 1 if height > _MAIN else height)
    index = next(i for i, knob in enumerate(every) if knob.name == selected)
    first = index // a_page * a_page
    return [_Place(knob, y, 0, width) for y, knob in enumerate(every[first : first + a_page])]


def _description(frame: Frame, selected: str, shown: int) -> str:
    """The selected limit in a sentence: its name where no row shows it, its size, its trade."""
    every, facts = limits_of(frame), frame.status.facts
    index, knob = next((i, k) for i, k in enumerate(every) if k.name == selected)
    parts = [f"{index + 1}/{len(every)}"] if shown < len(every) else []
    if shown == len(every) and index >= _MAIN:
        parts.append(knob.name)
    if facts is not None and selected in facts.fixed:
        parts.append(f"cannot be changed: {facts.fixed[selected]}")
    elif facts is not None and index >= _MAIN:
        parts.append(f"booted {spoken(selected, facts.booted.get(selected))}")
    if facts is not None and selected == "num_gpu_blocks" and frame.asked is not None:
        usable = frame.asked.num_gpu_blocks - 1
        tokens = f"{facts.kv_tokens_in(usable):,} tok"
        memory = size(usable * facts.kv_block_bytes, 0) if facts.kv_block_bytes else ""
        parts.append(", ".join(filter(None, (tokens, memory))))
    return " · ".join([*parts, knob.trade])


def _whole(text: str, width: int, lines: int) -> list[str]:
    """The text wrapped; its last clauses are left out where it has more than `lines` lines."""
    while len(wrapped := textwrap.wrap(text, width)) > lines:
        end = max(text.rfind(sign) for sign in ",;:·")
        if end <= 0:
            break
        text = text[:end].rstrip()
    return wrapped[:lines]


def _cell(frame: Frame, knob: Knob, selected: bool) -> Row:
    row: Row = [
        (f"{'▸' if selected else ' '} {knob.label:<14} ", "accent" if selected else "label")
    ]
    facts, asked = frame.status.facts, frame.asked
    if facts is None or asked is None or not frame.serving:
        return [*row, ("–", "muted")]
    value, booted = asked.get(knob.name), facts.booted.get(knob.name)
    if value >= UNTOLD:
        return [*row, ("–", "muted")]
    look = "value" if value != booted else "text"
    if knob.choices:
        return [*row, (spoken(knob.name, value), look)]
    row.append((_value(knob, value), look))
    row.append((f" / {_number(facts.ceilings.get(knob.name))}" if knob.boots else "", "label"))
    # Behind a ceiling, the unit is the ceiling's.
    last = facts.ceilings.get(knob.name) if knob.boots and value else value
    row.append((f" {knob.unit_of(last)}", "muted"))
    sign, sign_look = _state(frame, knob, frame.status.knobs, asked)
    return row if sign == "in force" else [*row, (" …", sign_look)]


def _row(frame: Frame, knob: Knob, selected: bool, width: int) -> Row:
    look = "accent" if selected else "label"
    name = min(_NAME, max(23, width - 50))
    row: Row = [(f"{'▸' if selected else ' '} {knob.name:<{name}}", look)]
    facts, knobs, asked = frame.status.facts, frame.status.knobs, frame.asked
    if facts is None or knobs is None or asked is None or not frame.serving:
        return [*row, ("      – / –", "muted")]
    value, ceiling = asked.get(knob.name), facts.ceilings.get(knob.name)
    if value >= UNTOLD:
        return [*row, (f"{'–':>7} / {'–':<7}{knob.unit:<5}", "muted"), _UNTOLD]
    if knob.choices:
        words = f" / {', '.join(knob.choices[: ceiling + 1])}"
        row += [(f"{spoken(knob.name, value):>8}", "value"), (f"{words:<15}  ", "label")]
    else:
        row += [
            (f"{_value(knob, value):>7}", "value"),
            (f"{_of(ceiling):<{_ceiling_width(facts.ceilings) + 3}}", "label"),
            (f"{knob.unit_of(ceiling if ceiling < UNTOLD else value):<5}", "muted"),
        ]
    state = _state(frame, knob, knobs, asked)
    cells = min(24, width - width_of(row) - 28)
    if cells >= 8 and not knob.choices and ceiling < UNTOLD:
        filled, empty = bar(value / ceiling if ceiling else 0.0, cells)
        row += [(filled, "accent" if selected else "label"), (empty, "muted"), ("  ", "text")]
    return [*row, state]


def _ceiling_width(ceilings: Knobs) -> int:
    """Cells for the widest ceiling, with an empty one after it."""
    numbers = (ceilings.get(knob.name) for knob in KNOBS if not knob.choices)
    return max(7, *(len(_number(number)) + 1 for number in numbers))


def _of(ceiling: int) -> str:
    return f" / {ceiling:,}" if ceiling < UNTOLD else ""


def _value(knob: Knob, value: int) -> str:
    return f"{value:,}" if value or not knob.absent else spoken(knob.name, value)


def _number(value: int) -> str:
    return f"{value:,}" if value < UNTOLD else "–"


def _still_usable(frame: Frame) -> int:
    """Blocks that an engine has above a lowered limit, until they are free; 0 where none has."""
    facts, knobs = frame.status.facts, frame.status.knobs
    if not frame.engines:
        return frame.kv_blocks + 1
    # At the ceiling, the smallest engine's, every engine has all of its own.
    if facts is None or knobs is None or knobs.num_gpu_blocks == facts.ceilings.num_gpu_blocks:
        return 0
    return max(each.kv_blocks for each in frame.engines) + 1


def _state(frame: Frame, knob: Knob, knobs: Knobs | None, asked: Knobs) -> tuple[str, str]:
    """Whether the value asked for is in force, or what it waits for; and the style."""
    value = asked.get(knob.name)
    in_force = knobs.get(knob.name) if knobs else value
    running = frame.accounting.running
    if in_force != value:
        return f"asked, {spoken(knob.name, in_force)} in force", "warn"
    if knob.name == "max_num_seqs" and frame.draining_seqs:
        return f"draining {running:,} → {value:,}, n: now", "warn"
    if knob.name == "max_num_batched_tokens":
        each = 1 + asked.num_speculative_tokens if known(asked.num_speculative_tokens) > 0 else 1
        if value < running * each:
            most = f"{running:,} × {each}" if each > 1 else f"{running:,} running"
            return f"below {most}: starves", "warn"
    if knob.name == "num_gpu_blocks" and (left := _still_usable(frame)) > value:
        return f"holding, {left:,} left", "warn"
    return "in force", "good"

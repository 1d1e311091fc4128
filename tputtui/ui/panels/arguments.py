"""The engine's arguments as rows: the list, the help of one, what a boot changes. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from tputtui.engine.protocol import Argument
from tputtui.engine.resolved import LEFT, Resolved
from tputtui.ui.draft import ELSEWHERE, ArgumentDraft, Entry
from tputtui.ui.rows import Row, fitted, spread, width_of

__all__ = ["about_rows", "list_rows", "name_width", "review_rows", "views_row"]

_KINDS = {"switch": "on or off", "whole": "whole number", "number": "number", "choice": "choice"}
NONE = "—"
_LEFT = "left"


def name_width(draft: ArgumentDraft, width: int) -> int:
    """Cells that names take in a list of `width`, at most the greater half."""
    longest = max((len(name) for name in draft.arguments), default=0)
    return min(longest + 2, max(8, width * 6 // 10))


def list_rows(
    draft: ArgumentDraft,
    entries: Sequence[Entry],
    top: int,
    here: int,
    width: int,
    height: int,
    *,
    got: bool = False,
) -> list[Row]:
    """The rows of the list from `top` on, with a scroll bar.

    here: index of the chosen row. got: with what the last boot came to, not the draft's values.
    """
    names = name_width(draft, width)
    rows: list[Row] = []
    for place, entry in enumerate(entries[top : top + height], top):
        if isinstance(entry, str):
            rows.append(fitted([(entry, "label")], width - 2))
            continue
        row: Row = [
            ("▸ " if place == here else "  ", "accent"),
            *fitted([(entry.name, "text")], names),
        ]
        value = _got if got else _value
        row = fitted([*row, *value(draft, entry, width - names - 4)], width - 2)
        rows.append([(text, f"{look}-here") for text, look in row] if place == here else row)
    if not entries:
        rows.append([("  Nothing here has that in its name or help.", "muted")])
    bar = _bar(len(entries), top, height)
    return [[*fitted(row, width - 1), bar[y]] for y, row in enumerate(rows)]


def _bar(total: int, top: int, height: int) -> list[tuple[str, str]]:
    """The right edge: a thumb where there is more than fits."""
    if total <= height:
        return [(" ", "text")] * height
    size = max(1, height * height // total)
    first = round((height - size) * top / (total - height))
    return [("┃" if first <= y < first + size else "│", "muted") for y in range(height)]


def _value(draft: ArgumentDraft, argument: Argument, width: int) -> Row:
    old, new = draft.old(argument), draft.new(argument)
    if old == new:
        return [(new, "accent")] if new else [(argument.default or NONE, "muted")]
    was, now = old or argument.default or NONE, new or draft.default_text(argument)
    if len(was) + len(now) + 3 > width:
        was = "…"
    return [(was, "muted"), (" → ", "muted"), (now, "good")]


def _got(draft: ArgumentDraft, argument: Argument, width: int) -> Row:
    """What was asked for → what came of it."""
    row = draft.resolved[argument.name]
    look = "warn" if row.warns else "accent"
    if row.asked is None or row.asked == row.got:
        return [(row.got, look)]
    asked = row.asked or _LEFT
    if len(asked) + len(row.got) + 3 > width:
        asked = "…"
    return [(asked, "muted"), (" → ", "muted"), (row.got, look)]


def got_rows(row: Resolved, width: int) -> list[Row]:
    """What was asked for, what came of it, and what vLLM's log says of that."""
    asked = f", asked {row.asked}" if row.asked else "" if row.asked is None else f", {LEFT}"
    said = f"This boot: {row.got}{asked}." + (f" vLLM: {row.why}." if row.why else "")
    return [[(line, "warn" if row.warns else "good")] for line in textwrap.wrap(said, width)]


def about_rows(
    draft: ArgumentDraft, argument: Argument, typed: str | None, width: int, height: int
) -> list[Row]:
    """The help of one argument with its flag, default and choices, in `height` rows.

    typed: the text in the editor, which marks the choice it equals; None without an editor.
    """
    flag = argument.name if argument.name.startswith("-") else f"--{argument.name}"
    given = draft.new(argument) or argument.default
    kind = _KINDS.get(argument.kind, "")
    default = f"default {argument.default}" if argument.default else "no default"
    facts = [kind, default if argument.group != ELSEWHERE else "", argument.group]
    facts = [fact for fact in facts if fact]
    meta = " · ".join(facts)
    title: Row = [(flag.replace("_", "-") if flag.startswith("--") else flag, "value")]
    if width_of(title) + len(meta) < width:
        rows = [spread(title, [(meta, "muted")], width)]
    elif len(meta) <= width:
        rows = [title, [(meta, "muted")]]
    else:
        rows = [title, *([(fact, "muted")] for fact in facts)]
    if resolved := draft.resolved.get(argument.name):
        rows += got_rows(resolved, width)[: max(0, height - len(rows) - 2)]
    if height > 12:
        rows.append([])
    choices = _choices(argument, given if typed is None else typed, width)
    room = height - len(rows) - min(len(choices), max(1, height // 3))
    help = textwrap.wrap(argument.help, width) or ["vLLM's help says nothing about it."]
    if len(help) > room:
        help = [*help[: max(0, room - 1)], _cut(help[max(0, room - 1)], width)]
    rows += [[(line, "text")] for line in help]
    if height > 12 and choices:
        rows.append([])
    left = height - len(rows)
    return [*rows, *_around(choices, left)][:height]


def review_rows(draft: ArgumentDraft, cost: str, width: int) -> list[Row]:
    """What a boot changes and what it costs, before it is done."""
    count = len(draft.changes())
    rows: list[Row] = [[(f"Boot with {count} change{'s' * (count != 1)}?", "value")], []]
    rows += [[(line, "good")] for line in textwrap.wrap(draft.summary(), width)]
    rows += [[], *([(line, "text")] for line in textwrap.wrap(cost, width))]
    return rows


def views_row(draft: ArgumentDraft, view: str) -> Row:
    """The views with how many arguments each has; the present one stands out."""
    row: Row = []
    for name in draft.views:
        label = f"{name} {len(draft.shown(name))}"
        row.append((f"[{label}]", "value") if name == view else (f" {label} ", "muted"))
    return row


def _choices(argument: Argument, typed: str, width: int) -> list[Row]:
    """All choices in lines; the one that equals `typed` stands out."""
    if not argument.choices or argument.kind == "whole":
        return []
    lines: list[Row] = [[("known: " if argument.kind == "text" else "one of: ", "label")]]
    for choice in argument.choices:
        fits = bool(typed) and choice.lower() == typed.lower()
        piece = f"▸{choice}" if fits else choice
        if width_of(lines[-1]) + len(piece) + 2 > width:
            lines.append([])
        if lines[-1] and lines[-1][-1][1] != "label":
            lines[-1].append(("  ", "text"))
        lines[-1].append((piece, "accent" if fits else "muted"))
    return lines


def _around(lines: list[Row], room: int) -> list[Row]:
    """As many lines as there is room for, among them the one that stands out."""
    if len(lines) <= room or room < 1:
        return lines[: max(0, room)]
    marked = next((n for n, row in enumerate(lines) if any(s == "accent" for _, s in row)), 0)
    first = min(max(0, marked - room + 1), len(lines) - room)
    kept = lines[first : first + room]
    if first + room < len(lines):
        kept[-1] = [*kept[-1], ("  …", "muted")]
    return kept


def _cut(line: str, width: int) -> str:
    """The line cut between words, with an ellipsis, to fit `width`."""
    while len(line) > width - 2 and " " in line:
        line = line.rpartition(" ")[0]
    return f"{line} …"

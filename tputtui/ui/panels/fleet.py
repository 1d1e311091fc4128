"""The table of servers: its columns, its cells, and the line above it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from tputtui.attach.fleet import Looked
from tputtui.attach.track import Server, Standing
from tputtui.text.format import MISSING, clock, compact, counted, percent, rate, seconds
from tputtui.ui.panels.tried import Column, Entry, widened
from tputtui.ui.rows import Row, fitted, spread

__all__ = ["about", "badge", "columns", "entries", "matches", "title"]

_SIGNS = {
    Standing.CONNECTING: ("…", "muted"),
    Standing.LIVE: ("●", "good"),
    Standing.ASLEEP: ("◌", "muted"),
    Standing.MIXED: ("⇄", "warn"),
    Standing.STALE: ("‖", "warn"),
    Standing.DOWN: ("✖", "bad"),
}
_NUMBER = Column("number", "#", 3)
_STATE = Column("state", "state", 14, gap=1)
_NAME = Column("name", "server", 19, gap=1)
_MODEL = Column("model", "model", 18, gap=2)
_TOKENS = Column("generated_per_s", "tok/s", 8)
_PROMPT = Column("prompt_per_s", "prompt\ntok/s", 8)
_ENDED = Column("ended_per_s", "req/s", 7)
_RUNNING = Column("running", "run", 6)
_WAITING = Column("waiting", "wait", 6)
_KV = Column("kv_frac", "KV", 5)
_HIT = Column("hit_frac", "hit", 5)
_TTFT = Column("ttft_p90", "TTFT p90\nbucketed", 10)
_TPOT = Column("tpot_p90", "TPOT p90\nbucketed", 10)
_WHY = Column("why", "why", 30, gap=2)
_ORDER = (_NUMBER, _STATE, _NAME, _MODEL, _TOKENS, _PROMPT, _ENDED, _RUNNING, _WAITING, _KV, _HIT,
          _TTFT, _TPOT, _WHY)  # fmt: skip
_FIRST = (_NUMBER, _STATE, _NAME, _TOKENS, _RUNNING, _WAITING, _KV, _TTFT)
_THEN = (_TPOT, _MODEL, _ENDED, _PROMPT, _HIT, _WHY)
"""Columns that are added where there is room, the most telling first."""
_MOST = {"name": 40, "model": 40}


def columns(width: int) -> tuple[Column, ...]:
    """The columns that fit in `width` cells: most from 120 on."""
    kept = set(_FIRST)
    for more in _THEN:
        if sum(column.width for column in (*kept, more)) <= width:
            kept.add(more)
    chosen = [column for column in _ORDER if column in kept]
    chosen, slack = widened(chosen, width, _MOST)
    if chosen[-1].key == "why":
        chosen[-1] = replace(chosen[-1], width=chosen[-1].width + slack)
    return tuple(chosen)


def entries(number: int, server: Server, shown: Sequence[Column]) -> dict[str, Entry]:
    """The cell of every column that is shown, by the column's key."""
    made = {}
    for column in shown:
        text, look, rank = _entry(number, server, column)
        if len(text) > column.room:
            # Of a path, its end tells more.
            text = text.rpartition("/")[2]
            text = text if len(text) <= column.room else f"{text[: column.room - 1]}…"
        made[column.key] = Entry(column.padded(text), look, rank)
    return made


def badge(server: Server) -> tuple[str, str, str]:
    """Sign, word and style for the state of a server."""
    sign, look = _SIGNS[server.standing]
    word = server.standing.value
    if server.standing is Standing.STALE:
        # In steps of 5 s, so that the table does not change each second.
        steps_s = server.age_s // 5 * 5
        word += f" {steps_s:.0f}s" if steps_s < 60 else f" {seconds(steps_s, 0)}"
    elif server.counts and not math.isnan(server.restarted_s):
        return "↻", "restarted", "warn"
    return sign, word, look


def title(looked: Looked, shown: int, text: str, width: int) -> Row:
    """The line above the table: how many servers there are, and their sums."""
    total, servers = looked.total, looked.servers
    left: Row = [(" servers ", "accent"), (str(len(servers)), "value")]
    if text:
        left.append((f"  {shown} match {text!r}", "accent"))
    silent = len(servers) - looked.counted
    if silent:
        left.append((f"  {silent} not counted", "warn"))
    right: Row = [
        (compact(total.generated_per_s), "value"),
        (" tok/s ", "label"),
        (compact(total.running, 5), "value"),
        (" running ", "label"),
        (compact(total.waiting, 5), "value"),
        (" waiting  KV", "label"),
        (percent(total.kv_frac, 5), "value"),
        (" ", "label"),
    ]
    return spread(left, right, width)


def about(server: Server, width: int) -> list[Row]:
    """Two lines on a server: address and trouble, then its kind, model and limits."""
    sign, word, look = badge(server)
    where = server.address.socket or server.address.url
    first: Row = [(f"{sign} {word}  ", look), (where, "text")]
    trouble = server.why or _restarts(server)
    if trouble:
        first.append((f"  {trouble}", "muted" if server.counts else "warn"))
    limits = [f"{name} {value:,}" for name, value in server.about.limits.items()]
    parts = [f"{server.kind} {server.about.version}".strip(), server.model, *limits]
    return [fitted(first, width), fitted([(" · ".join(filter(None, parts)), "muted")], width)]


def matches(server: Server, text: str) -> bool:
    """Whether every word of `text` is in the server's name, model, state or trouble."""
    searched = " ".join((server.address.name, server.model, badge(server)[1], server.why)).lower()
    return all(word in searched for word in text.lower().split())


# -- inside ------------------------------------------------------------------------------------


def _entry(
    number: int, server: Server, column: Column
) -> tuple[str, str, tuple[float, ...] | None]:
    """Text, style and rank of one cell."""
    now, sure = server.now, "text" if server.counts else "muted"
    match column.key:
        case "number":
            return str(number), "label", (number,)
        case "state":
            sign, word, look = badge(server)
            return f"{sign} {word}", look, (list(Standing).index(server.standing),)
        case "name":
            return server.address.name, "value", (-number,)
        case "model":
            return server.model or MISSING, "text", _alphabetical(server.model)
        case "why":
            look = "muted" if server.counts else "warn"
            return server.why or _restarts(server), look, (len(server.why),)
        case "ttft_p90" | "tpot_p90":
            latency = server.latencies.get(column.key.partition("_")[0])
            if latency is None or not latency.n:
                return MISSING, "muted", None
            return latency.p90.as_text(column.width - 1), sure, (latency.p90.high, latency.p90.low)
    value: float = getattr(now, column.key)
    rank = None if math.isnan(value) else (value,)
    match column.key:
        case "ended_per_s":
            return rate(value, 0), sure, rank
        case "kv_frac" | "hit_frac":
            return percent(value, 0), sure, rank
    return compact(value, 0), sure, rank


def _alphabetical(text: str) -> tuple[float, ...] | None:
    """A rank that, with the highest first, puts the texts in alphabetical order."""
    return tuple(-float(ord(char)) for char in text) or None


def _restarts(server: Server) -> str:
    if not server.restarts:
        return ""
    since = "" if math.isnan(server.restarted_s) else f", {clock(server.restarted_s)} ago"
    return f"{counted(server.restarts, 'restart')} seen{since}"

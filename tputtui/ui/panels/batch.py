"""How full the engine is: batch, step and KV cache. Pure."""

from __future__ import annotations

from operator import attrgetter

from tputtui.frame import Frame
from tputtui.knobs import known
from tputtui.measure.history import History
from tputtui.measure.tiers import beyond_the_gpu, tier_text
from tputtui.text.format import bar, compact, percent, seconds
from tputtui.ui.chart import chart
from tputtui.ui.panels.drafts import draft_rows, drafts_in_short
from tputtui.ui.panels.severity import preempted_look, queue_look, share_look
from tputtui.ui.rows import Row, width_of

__all__ = ["batch"]

_FIGURES = 6
_CHARTS = 9
"""Rows that charts should have beside a table of engines."""
_LEAST_CHART = 3
"""Rows that a line which is not always there leaves for a chart."""
_PADDED = 0.1
"""From this share of padding on it is a warning."""
_UNEVEN = 0.2
"""Engines are uneven where the one with fewest sequences has so much less than the fullest."""


def batch(
    frame: Frame, history: History, width: int, height: int, *, cursor: int | None = None
) -> list[Row]:
    """Six rows of figures, those of draft tokens, then charts in what is left, read at `cursor`."""
    knobs, facts, now = frame.status.knobs, frame.status.facts, frame.now
    account = frame.accounting
    count = facts.engines if facts else 1
    # Limits are each engine's, and so are its steps; sequences and KV cache are totals.
    seqs = known(knobs.max_num_seqs) * count if knobs else 0
    tokens = known(knobs.max_num_batched_tokens) if knobs else 0
    # Blocks that are held back are no part of the cache.
    kv_tokens = facts.kv_tokens_in(frame.kv_blocks) if facts else 0
    step_tokens = now.tokens_frac * tokens
    drafts = draft_rows(frame, width)
    split: Row = [
        ("prefill", "label"),
        (percent(now.prefill_frac), "text"),
        (" decode", "label"),
        (percent(now.decode_frac), "text"),
        ("  prefix hit", "label"),
        (percent(frame.figures.cached_frac), "text"),
    ]
    if drafts and height < _FIGURES + len(drafts):
        split, drafts = drafts_in_short(frame), []
    rows: list[Row] = [
        _gauge("sequences", frame.running, seqs, frame.running / max(seqs, 1), width),
        _gauge("step tokens", step_tokens, tokens, now.tokens_frac, width),
        split,
        _gauge(
            "KV cache",
            frame.kv_frac * kv_tokens,
            kv_tokens,
            frame.kv_frac,
            width,
            share_look(frame.kv_frac),
        ),
        [
            ("waiting", "label"),
            (compact(account.waiting, 6), queue_look(account.waiting, seqs)),
            ("  preempted", "label"),
            (compact(now.preemptions, 4), preempted_look(now.preemptions, account.running)),
            (" /s", "label"),
            # Of other people, in the same batch.
            *([("  others ", "label"), (compact(frame.others), "warn")] if frame.others else []),
        ],
        _step(frame, width),
    ]
    rows += drafts
    rows += _graphs(frame, width, height - len(rows))
    rows += _tiers(frame, width, height - len(rows))
    rows += _engines(frame, width, height - len(rows))
    left = height - len(rows)
    if left < 3:
        return rows
    kv = left // 3 if left >= 9 else 0
    steps = left // 4 if left >= 16 and (facts is None or facts.stepped) else 0
    rows += chart(
        "running  ▔ limit",
        history,
        attrgetter("running"),
        frame.marks,
        width,
        left - kv - steps,
        limit=attrgetter("max_num_seqs"),
        cursor=cursor,
    )
    if kv:
        rows += chart(
            "KV cache",
            history,
            attrgetter("kv_frac"),
            frame.marks,
            width,
            kv,
            top=1.0,
            label=lambda value: percent(value, 0),
            cursor=cursor,
            look="calm",
            heat=share_look,
        )
    if steps:
        rows += chart(
            "step time",
            history,
            attrgetter("step_s"),
            frame.marks,
            width,
            steps,
            label=lambda value: seconds(value, 0),
            cursor=cursor,
        )
    return rows


def _engines(frame: Frame, width: int, room: int) -> list[Row]:
    """Several engines apart: a row each where that leaves room for charts, else in one line."""
    engines, knobs = frame.engines, frame.status.knobs
    if len(engines) < 2 or room < 1 or knobs is None:
        return []
    running = [each.running for each in engines]
    uneven = max(running) - min(running) > max(2.0, _UNEVEN * max(running))
    kv = [percent(each.kv_frac, 0) for each in sorted(engines, key=lambda each: each.kv_frac)]
    line: Row = [
        (f"{len(engines)} engines  ", "label"),
        (f"{_span(min(running), max(running))} run each", "text"),
        ("  uneven" if uneven else "", "warn"),
    ]
    more = f"  KV {_span(kv[0], kv[-1])}"
    if width_of(line) + len(more) <= width:
        line.append((more, "text"))
    # Caches of several engines can differ in size.
    sized = len({each.kv_blocks for each in engines}) > 1
    blocks = f"{'blocks':>12}" if sized else ""
    head = f"{'engine':<8}{'running':>9}{'':8}{'waiting':>8}{'KV cache':>10}{blocks}{'step':>10}"
    if room < len(engines) + 2 + _CHARTS or width < len(head):
        return [line]
    rows = [line, [(head, "label")]]
    for number, each in enumerate(engines):
        rows.append(
            [
                (f"{number:<8}", "label"),
                (f"{each.running:>9,}", "value"),
                (f" / {knobs.max_num_seqs:<5,}", "label"),
                (f"{each.waiting:>8,}", "warn" if each.waiting else "text"),
                (f"{percent(each.kv_frac):>10}", "text"),
                *([(f"{each.kv_blocks:>12,}", "text")] if sized else []),
                (f"{seconds(each.step_s):>10}", "text"),
            ]
        )
    return rows


def _span(low: object, high: object) -> str:
    return f"{low}" if low == high else f"{low}–{high}"


def _step(frame: Frame, width: int) -> Row:
    facts, now = frame.status.facts, frame.now
    if facts is not None and not facts.stepped and not frame.engines:
        return [("step", "label"), ("  a server's are not seen from here", "muted")]
    row: Row = [
        ("step", "label"),
        (seconds(now.step.p50, 9), "text"),
        (f"  {compact(now.steps_per_s, 4)}/s", "text"),
        ("  busy", "label"),
        (percent(now.busy_frac, 5), "text"),
    ]
    if width >= 68:
        row += [
            ("   window p50 ", "muted"),
            (seconds(frame.figures.step.p50), "muted"),
            ("  p99 ", "muted"),
            (seconds(frame.figures.step.p99), "muted"),
        ]
    return row


def _graphs(frame: Frame, width: int, room: int) -> list[Row]:
    """How much of the decode steps is padding; nothing without CUDA graphs."""
    padded = frame.padding
    if padded is None or room < 1 + _LEAST_CHART + (not padded.frac >= _PADDED):
        return []
    advice = f": capture {' and '.join(map(str, padded.capture))}" if padded.capture else ""
    share, look = percent(padded.frac, 0), "warn" if padded.frac >= _PADDED else "text"
    texts = [f"{share} of decode slots are padding{advice}", f"{share} padding{advice}"]
    if padded.beyond_frac > 0:
        texts.insert(0, f"{texts[0]} · {percent(padded.beyond_frac, 0)} of steps above them all")
    shown = next((text for text in texts if len(text) + 8 <= width), texts[-1])
    return [[("graphs  ", "label"), (shown, look)]]


def _tiers(frame: Frame, width: int, room: int) -> list[Row]:
    """From which tier of the KV cache hits came; nothing where that is the GPU's alone."""
    if not beyond_the_gpu(frame.tiers) or room < 1 + _LEAST_CHART:
        return []
    row: Row = [("hits by  ", "label"), (tier_text(frame.tiers), "text")]
    since = " since the boot"
    return [[*row, (since, "muted")] if width_of(row) + len(since) <= width else row]


def _gauge(
    name: str, value: float, limit: float, fraction: float, width: int, look: str = "chart"
) -> Row:
    cells = max(0, min(40, width - 12 - 15 - 6))
    filled, empty = bar(fraction, cells)
    return [
        (f"{name:<12}", "label"),
        (f"{compact(value)}", "value"),
        (f" / {compact(limit, 6)}", "label"),
        (f" {percent(fraction)} ", look if look in ("warn", "bad") else "text"),
        (filled, look),
        (empty, "muted"),
    ]

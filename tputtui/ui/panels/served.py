"""One server in four panels: throughput, batch, latencies as bucketed, and its own report. Pure."""

from __future__ import annotations

import math
from operator import attrgetter

from tputtui.attach.track import LATENCIES, Server
from tputtui.measure.tiers import beyond_the_gpu, tier_text
from tputtui.text.format import MISSING, bar, compact, percent, rate, seconds
from tputtui.ui.chart import chart
from tputtui.ui.panels.fleet import badge
from tputtui.ui.panels.severity import queue_look, share_look
from tputtui.ui.rows import Row, fitted, spread, width_of

__all__ = ["served_about", "served_batch", "served_header", "served_latency", "served_throughput"]

_LABELS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "e2e": "E2E", "queue": "queue"}
_FEW = 3


def served_header(server: Server, width: int) -> Row:
    """One row: which server it is, and how it stands."""
    sign, word, look = badge(server)
    left: Row = [("tputtui ", "accent"), (server.address.name, "value")]
    if server.model and server.model != server.address.name:
        left.append((f"  {server.model}", "text"))
    if server.kind:
        left.append((f"  {server.kind} {server.about.version}".rstrip(), "muted"))
    return spread(left, [(f"{sign} {word}", look)], width)


def served_throughput(server: Server, width: int, height: int) -> list[Row]:
    """Four rows of figures, then a chart."""
    now, window = server.now, server.window
    sure = "value" if server.counts else "muted"
    rows: list[Row] = [
        _rate_row("generated", now.generated_per_s, window.generated_per_s, "tok/s", sure),
        _rate_row("prompt", now.prompt_per_s, window.prompt_per_s, "tok/s", sure),
        _rate_row("requests", now.ended_per_s, window.ended_per_s, "/s", sure),
    ]
    left = height - len(rows)
    if left < 2:
        return rows
    prompt = left // 3 if left >= 9 else 0
    rows += chart("generated tok/s", server.history, attrgetter("generated"), server.marks,
                  width, left - prompt)  # fmt: skip
    if prompt:
        rows += chart("prompt tok/s", server.history, attrgetter("prefill"), server.marks,
                      width, prompt)  # fmt: skip
    return rows


def served_batch(server: Server, width: int, height: int) -> list[Row]:
    """Running, waiting and the KV cache, then a chart of each that fits."""
    now = server.now
    sure = "value" if server.counts else "muted"
    seqs = server.about.limits.get("max_num_seqs")
    gauge = max(6, min(24, width - 46))
    filled, empty = bar(now.kv_frac, gauge)
    rows: list[Row] = [
        [
            ("running   ", "label"),
            (compact(now.running), sure),
            (f" / {seqs:,}" if seqs else "", "text"),
            ("   waiting ", "label"),
            (
                compact(now.waiting),
                queue_look(now.waiting, seqs or now.running) if server.counts else sure,
            ),
        ],
        [
            ("KV cache  ", "label"),
            (percent(now.kv_frac, 6), sure),
            (" ", "label"),
            (filled, share_look(now.kv_frac)),
            (empty, "muted"),
            *_fullest(server),
        ],
        [
            ("prefix    ", "label"),
            (percent(server.window.hit_frac, 6), sure),
            (" hit", "label"),
            ("   preempted ", "label"),
            (rate(server.window.preemptions_per_s), sure),
            (" /s", "label"),
        ],
    ]
    _reject(server, rows, width)
    rows += _drafts(server, width)
    rows += _caches(server, width)
    deferred = f" ({compact(now.deferred, 0)} deferred)"
    if now.deferred > 0 and width_of(rows[0]) + len(deferred) <= width:
        rows[0].append((deferred, "text"))
    left = height - len(rows)
    if left < 2:
        return rows
    waiting = left // 3 if left >= 9 else 0
    kv = left // 3 if left >= 9 else 0
    rows += chart("running", server.history, attrgetter("running"), server.marks, width,
                  left - waiting - kv)  # fmt: skip
    if waiting:
        rows += chart("waiting", server.history, attrgetter("waiting"), server.marks, width,
                      waiting)  # fmt: skip
        rows += chart("KV cache", server.history, attrgetter("kv_frac"), server.marks, width, kv,
                      top=1.0, label=lambda value: percent(value, 0), look="calm",
                      heat=share_look)  # fmt: skip
    return rows


def served_latency(server: Server, width: int, height: int) -> list[Row]:
    """Means, and the bounds that the buckets give for percentiles."""
    cell = max(9, min(15, (min(width, 76) - 24) // 3))
    head = f"{'':6}{'mean':>8} " + "".join(f"{name:>{cell}}" for name in ("p50", "p90", "p99"))
    rows: list[Row] = [spread([(head, "label")], [("n", "label")], min(width, 76))]
    sure = "text" if server.counts else "muted"
    for key in LATENCIES:
        latency = server.latencies.get(key)
        if latency is None:
            continue
        shown = [each.as_text(cell - 1) for each in (latency.p50, latency.p90, latency.p99)]
        row: Row = [
            (f"{_LABELS[key]:<6}", "label"),
            (seconds(latency.mean, 8) + " ", "value" if server.counts else "muted"),
            *((f"{text:>{cell}}", sure) for text in shown),
        ]
        rows.append(spread(row, [(compact(latency.n), "muted")], min(width, 76)))
    if len(rows) == 1:
        rows.append([("it tells no latencies" if server.reading else "–", "muted")])
    rows.append([("bucketed: p lies between these bounds (95 %) · mean exact", "muted")])
    rows.append([("from when the server took the request; ITL pooled", "muted")])
    return rows[:height]


def served_about(server: Server, width: int, height: int) -> list[Row]:
    """Why its figures do not count, its limits, its engines."""
    rows: list[Row] = []
    if server.why:
        rows.append([(server.why, "muted" if server.counts else "warn")])
    limits = {**server.about.limits, **_cache_limits(server)}
    known = [f"{name} {value:,}" for name, value in limits.items()]
    rows += _wrapped("limits", known or ["it tells none"], width)
    live = [f"{name} {value:,}" for name, value in server.about.live.items()]
    if live:
        rows += _wrapped("live", live, width)
    rows += _adapters(server, width)
    fixed = "read-only here: set where it was started"
    rows.append([("       ", "label"), (fixed, "muted")])
    if len(server.engines) > 1:
        rows.append([(f"{'engine':<8}{'tok/s':>8}{'run':>6}{'wait':>6}{'KV':>6}", "label")])
        for name, engine in server.engines.items():
            line = (
                f"{name:<8}{compact(engine.generated_per_s, 8)}{compact(engine.running, 6)}"
                f"{compact(engine.waiting, 6)}{percent(engine.kv_frac, 6)}"
            )
            rows.append([(line, "text")])
    seen = f"scraped every {server.interval_s:.1f} s · window {server.window_s // 5 * 5:.0f} s"
    if server.restarts:
        seen += f" · restarts seen {server.restarts}"
    rows.append([(seen if server.reading else MISSING, "muted")])
    if len(rows) > height > 1:
        rows = [*rows[: height - 1], [(f"… {len(rows) - height + 1} more lines", "muted")]]
    return [fitted(row, width) for row in rows]


# -- inside ------------------------------------------------------------------------------------


def _reject(server: Server, rows: list[Row], width: int) -> None:
    """Add what the queue's limits turn away, where there is any: to the last row where it fits."""
    if not server.window.rejections_per_s > 0:
        return
    told: Row = [("rejected  ", "label"), (rate(server.window.rejections_per_s), "bad"),
                 (" /s", "label")]  # fmt: skip
    if width_of(rows[-1]) + width_of(told) + 3 <= width:
        rows[-1] += [("   ", "label"), *told]
    else:
        rows.append(told)


def _caches(server: Server, width: int) -> list[Row]:
    """The caches beside that of the GPU, where there are any."""
    window, rows = server.window, list[Row]()
    if window.external_hit_frac >= 0:
        rows.append([("external  ", "label"), (percent(window.external_hit_frac, 6), "value"),
                     (" hit, beyond the GPU", "label")])  # fmt: skip
    if beyond_the_gpu(window.tiers):
        rows.append([("hits by   ", "label"), (tier_text(window.tiers), "text")])
    if window.mm_hit_frac >= 0:
        rows.append([("images    ", "label"), (percent(window.mm_hit_frac, 6), "value"),
                     (" hit (cache of inputs)", "label")])  # fmt: skip
    return [fitted(row, width) for row in rows]


def _adapters(server: Server, width: int) -> list[Row]:
    told = server.reading.adapters if server.reading else None
    if told is None:
        return []
    parts = [f"{len(told.running)} of {told.most} run", *told.running]
    if told.waiting:
        parts += [f"{len(told.waiting)} wait", *told.waiting]
    return _wrapped("LoRA", parts, width)


def _rate_row(label: str, now: float, window: float, unit: str, sure: str) -> Row:
    shown = compact if unit == "tok/s" else rate
    return [
        (f"{label:<10}", "label"),
        (shown(now), sure),
        (f" {unit:<5}", "label"),
        (f"   window{shown(window, 7)}", "text" if sure == "value" else "muted"),
    ]


def _drafts(server: Server, width: int) -> list[Row]:
    """What became of draft tokens, over the window; nothing for a server that drafts none."""
    window = server.window
    if math.isnan(window.accepted_frac):
        return []
    row: Row = [
        ("drafts    ", "label"),
        (percent(window.accepted_frac, 6), "text"),
        (" accepted", "label"),
        (f"   length {window.accepted_length:.2f}", "text"),
    ]
    places = "".join(f" {percent(share, 0)}" for share in window.accepted_at)
    if width_of(row) + 3 + len(places) <= width:
        row.append((f"  {places}", "muted"))
    return [row]


def _fullest(server: Server) -> Row:
    if len(server.engines) < 2 or math.isnan(server.now.kv_most):
        return []
    return [(f" fullest {percent(server.now.kv_most, 0)}", "muted")]


def _cache_limits(server: Server) -> dict[str, int]:
    """Limits of the KV cache that vLLM reports in /metrics."""
    if server.reading is None:
        return {}
    reported = {name: server.reading.configured(name) for name in ("num_gpu_blocks", "block_size")}
    return {name: value for name, value in reported.items() if value is not None}


def _wrapped(label: str, parts: list[str], width: int) -> list[Row]:
    """Parts behind a label, as many to a line as fit, on at most a few lines."""
    lines: list[str] = [""]
    for part in parts:
        joined = f"{lines[-1]} · {part}" if lines[-1] else part
        if len(joined) + 7 > width and lines[-1]:
            lines.append(part)
        else:
            lines[-1] = joined
    heads = [f"{label:<7}", *([" " * 7] * _FEW)]
    return [[(head, "label"), (line, "text")] for head, line in zip(heads, lines, strict=False)]

"""What a headless run prints: a table for people, JSON, JSON Lines and CSV for programs. Pure.

Every format holds the same figures, those that a profile's evidence holds.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from textwrap import wrap
from typing import Any, NamedTuple

import msgspec

from tputtui.frame import Frame
from tputtui.knobs import MAIN
from tputtui.knobs import spoken as spoken_limit
from tputtui.load.requests.counts import RequestCounts
from tputtui.load.requests.spoken import spoken
from tputtui.measure.series import METRICS, MORE
from tputtui.measure.verdict import Verdict
from tputtui.profile.evidence import Change, Evidence, Figure, Measured
from tputtui.text.format import MISSING, compact, rate, seconds

__all__ = ["FORMATS", "Result", "goals_met", "result_text", "sample_line", "verified_text"]

FORMATS = ("table", "json", "jsonl", "csv")
VERSION = 1
_OPEN = Verdict.OPEN.value
_WIDE = 86
_LABELS = {metric.name: metric.label for metric in (*METRICS, *MORE)} | {
    "offered_per_s": "offered req/s",
    "sequences_frac": "sequences",
    "batched_tokens_frac": "step tokens",
    "kv_frac": "KV cache",
    "prefix_hit_frac": "prefix hits",
    "draft_accepted_frac": "drafts accepted",
    "draft_accepted_length": "accepted length",
    "tokens_per_joule": "tokens/J",
    "cost_per_million_tokens": "cost/Mtok",
}


class Result(NamedTuple):
    """A measurement that is over."""

    outcome: str
    """"complete", "interrupted" or "failed"."""
    measured: Measured | None
    """The figures; None where nothing was measured."""
    goals_met: bool | None
    """Whether every goal is met beyond chance; None without goals."""
    note: str
    """What was unusual, or why it failed; empty for nothing."""
    accounting: Mapping[str, int]
    """Number of requests by their outcome."""
    files: Mapping[str, str]
    """Paths of the files written, by kind ("log", "session", "profile")."""
    stops: Mapping[str, int] = {}
    """Number of finished requests by the reason for which they stopped."""
    requests: RequestCounts | None = None
    """What became of the lines of a file of real requests; None without one."""
    tokenizes: bool = True
    """Whether the engine has a tokenizer."""
    kept: Mapping[str, int] = {}
    """The limits worth keeping (`kept_limits`), by name."""


def goals_met(measured: Measured | None, goals: int) -> bool | None:
    """Whether every goal is met beyond chance; None without goals."""
    if not goals:
        return None
    if measured is None or len(measured.goals) < goals:
        return False
    return all(each.verdict == "met" for each in measured.goals.values())


def result_text(result: Result, format: str) -> str:
    """The result in one of `FORMATS`, ending in a line break."""
    match format:
        case "json":
            return json.dumps(_document(result), indent=2, ensure_ascii=False) + "\n"
        case "jsonl":
            return json.dumps({"result": _document(result)}, ensure_ascii=False) + "\n"
        case "csv":
            return _csv(result)
        case _:
            return _table(result)


def sample_line(frame: Frame) -> str:
    """One second of the run as a line of JSON Lines; an unknown figure is null."""
    now, accounting = frame.now, frame.accounting
    sample = {
        "t_s": round(frame.elapsed_s, 3),
        "state": frame.status.state.value,
        "window": frame.window.phase.value,
        "tokens_per_s": now.generated_per_s,
        "prompt_tokens_per_s": now.prompt_computed_per_s,
        "requests_per_s": now.achieved_per_s,
        "offered_per_s": now.offered_per_s,
        "running": accounting.running,
        "waiting": accounting.waiting,
        "kv_frac": frame.kv_frac,
        "ttft_p50_s": frame.latencies.ttft.p50,
        "tpot_p50_s": frame.latencies.tpot.p50,
        "finished": accounting.finished,
    }
    plain = {name: None if _is_nan(value) else value for name, value in sample.items()}
    return json.dumps({"sample": plain}) + "\n"


def verified_text(evidence: Evidence) -> str:
    """A verify boot as a table: each figure as tuned, as booted, and its change."""
    tuned, verified = evidence.tuned, evidence.verified
    if tuned is None or verified is None:
        return f"{evidence.state}\n"
    head = f"{evidence.state}: booted with exactly the tuned values"
    text = _compared(head, ("tuned", tuned), ("booted", verified), evidence.difference)
    quality, note = evidence.quality, evidence.note
    for name, sentence in (("quality", quality.sentence if quality else ""), ("note", note)):
        lines = wrap(sentence, _WIDE)
        text += "".join(
            f"{name if not place else '':<9} {line}\n" for place, line in enumerate(lines)
        )
    return text


def served_text(evidence: Evidence) -> str:
    """What vLLM's own server gave as a table, beside the engine in process."""
    before, served = evidence.in_process, evidence.served
    assert before is not None
    assert served is not None
    head = "the same values and load on vLLM's own server, over HTTP"
    return _compared(head, ("engine", before), ("served", served), evidence.served_difference)


def _compared(
    head: str,
    old: tuple[str, Measured],
    new: tuple[str, Measured],
    difference: Mapping[str, Change],
) -> str:
    """Two sets of figures, each with its name, and how they differ."""
    (old_name, before), (new_name, after) = old, new
    lines = [
        f"{after.model.name}   {head}",
        f"load      {after.load}  (seed {after.seed})",
        f"{old_name:<9} {_where(before)}, {before.window.length_s:.0f} s, {before.window.phase}",
        f"{new_name:<9} {_where(after)}, {after.window.length_s:.0f} s, {after.window.phase}",
        "",
        f"{'':<14}{old_name:>10}{new_name:>10}{'change':>9}   {'95 % interval':<20} verdict",
    ]
    for name, change in difference.items():
        interval = ""
        if change.low is not None and change.high is not None:
            interval = f"[{change.low:+.1%}, {change.high:+.1%}]"
        figures = (_number(name, each.figures[name].value) for each in (before, after))
        lines.append(
            f"{_LABELS[name]:<14}{next(figures):>10}{next(figures):>10}{change.change:>+9.1%}   "
            f"{interval:<20} {'undecided' if change.verdict == _OPEN else change.verdict}"
        )
    for name, goal in after.goals.items():
        lines.append(f"goal      {name} {goal.verdict}: {goal.met_frac:.1%} of {goal.n:,}")
    if before.machine != after.machine and new_name != "served":
        lines.append("note      the two were not measured with the same machine and versions")
    return "\n".join(lines) + "\n"


def _where(measured: Measured) -> str:
    machine = measured.machine
    where = ", ".join(machine.gpus) or machine.device
    return f"{measured.date[:10]}, vLLM {machine.versions.get('vllm', '?')} on {where}"


def _document(result: Result) -> dict[str, Any]:
    return {
        "tputtui_bench": VERSION,
        "outcome": result.outcome,
        "goals_met": result.goals_met,
        "note": result.note,
        "accounting": dict(result.accounting),
        "stops": dict(result.stops),
        "requests": asdict(result.requests) if result.requests else None,
        "measured": msgspec.to_builtins(result.measured),
        "files": dict(result.files),
    }


def _csv(result: Result) -> str:
    """A head and a row: every figure with its interval."""
    row: dict[str, Any] = {"outcome": result.outcome, "goals_met": result.goals_met}
    if (measured := result.measured) is not None:
        row |= {
            "date": measured.date,
            "model": measured.model.name,
            "vllm": measured.machine.versions.get("vllm", ""),
            "device": ", ".join(measured.machine.gpus) or measured.machine.device,
            "simulated": measured.machine.simulated,
            "load": measured.load,
            "seed": measured.seed,
            **{f"limits.{name}": value for name, value in measured.knobs.items()},
            "window": measured.window.phase,
            "window_s": measured.window.length_s,
            "requests": measured.window.requests,
            "saturated": measured.window.saturated,
        }
        for name in _LABELS:
            figure = measured.figures.get(name)
            row[name] = figure.value if figure else None
            if not name.endswith("_frac"):
                row[f"{name}.low"] = figure.low if figure else None
                row[f"{name}.high"] = figure.high if figure else None
        for name, goal in measured.goals.items():
            row[f"goal.{name}"] = goal.verdict
    text = io.StringIO()
    writer = csv.DictWriter(text, row.keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerow(row)
    return text.getvalue()


def _table(result: Result) -> str:
    measured = result.measured
    account = ", ".join(f"{n:,} {name}" for name, n in result.accounting.items() if n)
    if measured is None:
        served = f"requests  {account}\n" if account else ""
        return f"no figures: {result.note or result.outcome}\n{served}"
    window = measured.window
    each = [f"{name} {measured.knobs.get(name, MISSING)}" for name in MAIN]
    each += [f"{k} {spoken_limit(k, v)}" for k, v in result.kept.items() if k not in MAIN]
    limits = "\n          ".join("  ".join(each[at : at + 3]) for at in range(0, len(each), 3))
    saturated = ", saturated" if window.saturated else ""
    lines = [
        f"{measured.model.name}   {_where(measured)}",
        *([measured.machine.simulated] if measured.machine.simulated else []),
        f"load      {measured.load}  (seed {measured.seed})",
        f"limits    {limits}",
        f"window    {window.length_s:.0f} s, {window.phase}{saturated}; "
        f"{window.requests:,} requests, {window.preemptions:,} preemptions",
        "",
        f"{'':<14}{'value':>10}   {'95 % interval':<22}{'n':>9}",
    ]
    lines += [
        _row(_LABELS[name], name, figure)
        for name in _LABELS
        if (figure := measured.figures.get(name)) is not None
    ]
    if measured.goals:
        lines += ["", f"{'goal':<14}{'':>10}   {'share that kept it':<22}{'n':>9}"]
        lines += [
            f"{name:<14}{each.verdict:>10}   "
            f"{f'{each.met_frac:.1%} [{each.low:.1%}, {each.high:.1%}]':<22}{each.n:>9,}"
            for name, each in measured.goals.items()
        ]
    if measured.traffic:
        heads = "".join(f"{head:>{width}}" for head, width in _OF_TRAFFIC.values())
        lines += ["", f"{'':<14}{heads}{'n':>9}"]
        lines += [_traffic(name, figures) for name, figures in measured.traffic.items()]
    real: list[str] = []
    if (counts := result.requests) is not None:
        told = spoken(counts, result.stops.items(), tokenizes=result.tokenizes)
        real = [f"{name:<9} {text}" for name, text in told]
    lines += ["", f"requests  {account}", *real]
    lines += [f"{name:<9} {path}" for name, path in result.files.items()]
    if result.note:
        lines.append(f"note      {result.note}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


_OF_TRAFFIC = {
    "offered_per_s": ("offered/s", 10),
    "served_per_s": ("served/s", 10),
    "ttft_p50_s": ("TTFT p50", 10),
    "ttft_p99_s": ("p99", 10),
    "tpot_p50_s": ("TPOT p50", 10),
    "e2e_p50_s": ("E2E p50", 10),
    "goodput_per_s": ("goodput/s", 11),
    "kept_frac": ("kept", 8),
}
"""Columns of a class of traffic: the figure, its head, its width."""


def _traffic(name: str, figures: Mapping[str, Figure]) -> str:
    """The row of one class of traffic, or of one adapter."""
    row = "".join(
        f"{_number(key, figures[key].value) if key in figures else MISSING:>{width}}"
        for key, (_, width) in _OF_TRAFFIC.items()
    )
    n = max((figure.n or 0 for figure in figures.values()), default=0)
    return f"{name:<14}{row}{n:>9,}"


def _row(label: str, name: str, figure: Figure) -> str:
    interval = ""
    if figure.low is not None or figure.high is not None:
        ends = [_number(name, end) if end is not None else "…" for end in (figure.low, figure.high)]
        interval = f"[{ends[0]}, {ends[1]}]"
    n = f"{figure.n:,}" if figure.n else ""
    return f"{label:<14}{_number(name, figure.value):>10}   {interval:<22}{n:>9}"


def _number(name: str, value: float) -> str:
    if name.endswith("_frac"):
        return f"{value:.1%}"
    if name.endswith("_s") and not name.endswith("_per_s"):
        return seconds(value, 0)
    return rate(value, 0) if abs(value) < 1000 else compact(value, 0)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)

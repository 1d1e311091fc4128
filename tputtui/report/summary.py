"""The few lines that remain on the terminal after a run. Pure."""

from __future__ import annotations

import math
from pathlib import Path

from tputtui.frame import Frame
from tputtui.knobs import kept_limits, shorthand, spoken
from tputtui.measure.samples import Accounting
from tputtui.text.format import clock, compact, rate, seconds

__all__ = ["summary"]


def summary(
    frame: Frame, saved: list[Path], log_path: Path, recorded: Path | None = None
) -> list[str]:
    """Lines with model, figures and limits, then the paths of profile, session log and log."""
    facts, account = frame.status.facts, frame.accounting
    vllm = f" · vLLM {facts.versions.get('vllm', '?')} on {facts.device}" if facts else ""
    took = clock(frame.elapsed_s)
    lines = [
        f"tputtui ran {frame.profile.engine.model}{vllm} for {took}",
        *([f"  {facts.simulated}"] if facts and facts.simulated else []),
        *([f"  {facts.notice}"] if facts and facts.notice else []),
        f"  requests  {_books(account)}",
    ]
    if facts is None or frame.asked is None:
        lines.append("  figures   none: no engine was up")
    else:
        kept = kept_limits(frame.asked, facts.booted)
        limits = "  ".join(f"{name} {spoken(name, value)}" for name, value in kept.items())
        lines += [*_figures(frame), f"  limits    {limits}"]
    where = saved[-1] if saved else "not saved (s saves one)"
    lines.append(f"  profile   {where}")
    if recorded is not None:
        lines.append(f"  session   {recorded} (tputtui replay, report)")
    return [*lines, f"  log       {log_path}"]


def _books(account: Accounting) -> str:
    """What became of the requests, by the board's words; what there was none of is left out."""
    lost = {
        "in flight at the end": account.in_flight,
        "cut": account.cut,
        "aborted": account.aborted,
        "rejected": account.rejected,
        "failed": account.failed,
        "cancelled": account.cancelled,
    }
    told = [f"{n:,} {what}" for what, n in lost.items() if n]
    return ", ".join([f"{account.issued:,} issued", f"{account.finished:,} finished", *told])


def _figures(frame: Frame) -> list[str]:
    """Lines on the window if it may be quoted, else on the setting measured last."""
    figures, latencies, phase = frame.figures, frame.latencies, frame.window.phase
    begun = not math.isnan(figures.generated_per_s)
    if phase.quotable and begun:
        lines = [
            f"  figures   {compact(figures.generated_per_s, 0)} tok/s generated, "
            f"{compact(figures.prompt_computed_per_s, 0)} tok/s prompt, "
            f"over the last {frame.window.length_s:.0f} s ({phase.value})",
            f"  latency   TTFT p50 {seconds(latencies.ttft.p50, 0)}, "
            f"TPOT p50 {seconds(latencies.tpot.p50, 0)}, E2E p50 {seconds(latencies.e2e.p50, 0)}",
        ]
        verdicts = ", ".join(f"{e.goal.name} {e.verdict.value}" for e in frame.goodput.each)
        goals = f"  goals     {verdicts}; goodput {rate(frame.goodput.per_s, 0)} requests/s"
        return [*lines, goals] if verdicts else lines
    why = "the window had only begun" if phase.quotable else f"the load was {phase.value}"
    none = f"  figures   none of now: {why}"
    if not frame.points:
        return [none]
    last = frame.points[-1]
    return [
        none,
        f"            before, at {shorthand(last.knobs)}, {last.load}: "
        f"{compact(last.tokens_per_s, 0)} tok/s, "
        f"E2E p50 {seconds(last.latency['e2e'].p50, 0)}",
    ]

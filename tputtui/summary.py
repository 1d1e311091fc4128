"""The few lines that remain on the terminal after a run. Pure."""

from __future__ import annotations

from pathlib import Path

from tputtui.format import clock, compact, seconds
from tputtui.frame import Frame

__all__ = ["summary"]


def summary(frame: Frame, saved: list[Path], log_path: Path) -> list[str]:
    """What ran, what it gave, which limits stood; then where profile and log are."""
    facts, account, found = frame.status.facts, frame.accounting, frame.figures
    vllm = f" · vLLM {facts.versions.get('vllm', '?')} on {facts.device}" if facts else ""
    bad = account.cut + account.rejected + account.failed
    unfinished = account.in_flight + account.aborted
    took = clock(frame.elapsed_s)
    lines = [
        f"tputtui ran {frame.profile.engine.model}{vllm} for {took}",
        f"  requests  {account.issued:,} issued, {account.finished:,} finished, "
        f"{unfinished:,} left unfinished, {bad:,} cut or failed",
    ]
    if facts is None or frame.asked is None:
        lines.append("  figures   none: no engine was up")
    else:
        latencies = frame.latencies
        over = f"over the last {frame.window.length_s:.0f} s"
        limits = "  ".join(f"{name} {value}" for name, value in frame.asked.as_dict().items())
        lines += [
            f"  figures   {compact(found.generated_per_s, 0)} tok/s generated, "
            f"{compact(found.prompt_computed_per_s, 0)} tok/s prompt, {over}",
            f"  latency   TTFT p50 {seconds(latencies.ttft.p50, 0)}, "
            f"TPOT p50 {seconds(latencies.tpot.p50, 0)}, E2E p50 {seconds(latencies.e2e.p50, 0)}",
            f"  limits    {limits}",
        ]
    where = saved[-1] if saved else "not saved (s saves one)"
    return [*lines, f"  profile   {where}", f"  log       {log_path}"]

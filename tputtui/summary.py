"""The five lines that remain on the terminal after a run. Pure."""

from __future__ import annotations

from pathlib import Path

from tputtui.frame import Frame

__all__ = ["summary"]


def summary(frame: Frame, saved: list[Path], log_path: Path) -> list[str]:
    """What ran, what it gave, which limits stood, and where log and profile are."""
    facts, account, found = frame.status.facts, frame.accounting, frame.figures
    minutes, seconds = divmod(int(frame.elapsed_s), 60)
    vllm = f" · vLLM {facts.versions.get('vllm', '?')} on {facts.device}" if facts else ""
    bad = account.cut + account.rejected + account.failed
    ttft, tpot = frame.latencies.ttft, frame.latencies.tpot
    lines = [
        f"tputtui ran {frame.profile.engine.model}{vllm} for {minutes}m{seconds:02d}s",
        f"  requests  {account.issued:,} issued, {account.finished:,} finished, "
        f"{account.in_flight + account.aborted:,} left unfinished, {bad:,} cut or failed",
    ]
    if facts is None or frame.asked is None or not found.generated_per_s >= 0:
        lines.append("  figures   none: no engine was up")
    else:
        knobs = " ".join(f"{name}={value}" for name, value in frame.asked.as_dict().items())
        lines.append(
            f"  last {frame.window.length_s:.0f} s  {found.generated_per_s:,.0f} tok/s generated, "
            f"TTFT p50 {ttft.p50 * 1e3:,.0f} ms, TPOT p50 {tpot.p50 * 1e3:,.1f} ms  at {knobs}"
        )
    lines.append(
        f"  profile   {saved[-1]}" if saved else "  profile   not saved (press s before leaving)"
    )
    lines.append(f"  log       {log_path}")
    return lines

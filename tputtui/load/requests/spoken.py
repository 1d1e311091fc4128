"""What became of a file of real requests, in words for tables and reports. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from tputtui.load.requests.counts import RequestCounts
from tputtui.text.format import MISSING, rate, seconds

__all__ = ["spoken"]


def spoken(
    counts: RequestCounts, stops: Iterable[tuple[str, int]], *, tokenizes: bool = True
) -> list[tuple[str, str]]:
    """(name, text) of each line: why answers stopped, what was read, dropped, and rendered.

    tokenizes: whether the engine has a tokenizer.
    """
    formats = ", ".join(name for name, _ in counts.formats) or "no format"
    lost = ((counts.skipped, "not usable"), (counts.too_long, "too long"),
            (counts.shortened, "shortened"), (counts.late, "late"))  # fmt: skip
    about = "about " if counts.estimated else ""
    where = f"rendered in {seconds(counts.render_mean_s, 0)} each"
    if counts.by_server:
        where = "rendered by the server"
    lines = [
        ("stopped", ", ".join(f"{n:,} {reason}" for reason, n in stops) or "none"),
        ("file", f"{formats}, {counts.lines:,} lines, sha256 {counts.sha256[:16] or MISSING}"),
        ("dropped", ", ".join(f"{n:,} {name}" for n, name in lost)),
        ("prompts", f"{counts.rendered:,} of {about}{rate(counts.mean_tokens, 0)} tokens "
         f"({'about ' if counts.by_server else ''}{counts.longest:,} at most), {where}"),
    ]  # fmt: skip
    if counts.reasoned:
        first = f"{counts.reasoned:,} began after reasoning, {seconds(counts.answer_mean_s, 0)}"
        lines.append(("answers", f"{first} after they were due (mean)"))
    if not tokenizes:
        lines.append(("engine", "has no tokenizer: no text, no stop strings"))
    if counts.ignores_tools:
        lines.append(("template", "leaves tools out"))
    if counts.undone:
        lines.append(("without", ", ".join(f"{name} {n:,}" for name, n in counts.undone)))
    if counts.first_bad:
        lines.append(("bad line", counts.first_bad))
    return lines

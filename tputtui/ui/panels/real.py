"""What became of a file of real requests: stop reasons, what was dropped, cost to render. Pure."""

from __future__ import annotations

from tputtui.frame import Frame
from tputtui.text.format import compact, seconds
from tputtui.ui.rows import Row

__all__ = ["real_rows"]


def real_rows(frame: Frame) -> list[Row]:
    """The rows under the latencies; none for a synthetic load."""
    counts = frame.requests
    if counts is None:
        return []
    stops: Row = [("stopped  ", "label")]
    for reason, number in frame.stops or (("nothing yet", 0),):
        stops.append((f"{reason} {compact(number, 0)}  " if number else reason, "text"))
    if gone := counts.skipped + counts.too_long:
        stops.append((f"{compact(gone, 0)} dropped", "warn"))
    lost = (("not usable", counts.skipped), ("too long", counts.too_long))
    dropped: Row = [("file     ", "label"), (f"{compact(counts.lines, 0)} lines", "text")]
    dropped += [
        (f"  {compact(number, 0)} {name}", "warn" if number else "muted") for name, number in lost
    ]
    dropped.append((f"  {compact(counts.shortened, 0)} shortened", "muted"))
    where = f"rendered in {seconds(counts.render_mean_s, 0)}"
    if counts.by_server:
        where = "rendered by the server"
    render: Row = [
        ("prompts  ", "label"),
        (f"{'~' * counts.estimated}{compact(counts.mean_tokens, 0)} tokens", "text"),
        (f"  {where}", "text"),
        (f"  {compact(counts.late, 0)} late", "warn" if counts.late else "muted"),
    ]
    rows = [stops, dropped, render]
    if counts.reasoned:
        reasoned: Row = [("answers  ", "label")]
        reasoned.append((f"begin after {seconds(counts.answer_mean_s, 0)} (mean)", "text"))
        reasoned.append((f"  {compact(counts.reasoned, 0)} reasoned first", "muted"))
        rows.append(reasoned)
    facts = frame.status.facts
    if facts is not None and not facts.tokenizes:
        rows.append([("the engine has no tokenizer: no text, no stop strings", "warn")])
    if counts.ignores_tools:
        rows.append([("the chat template leaves tools out", "warn")])
    if counts.undone:
        names = ", ".join(f"{name} {compact(number, 0)}" for name, number in counts.undone)
        rows.append([("served without: ", "label"), (names, "warn")])
    if counts.first_bad:
        rows.append([(counts.first_bad, "muted")])
    return rows

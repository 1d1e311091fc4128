"""What `y` copies, as text that is pasted elsewhere. Main thread."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tputtui.frame import Frame, Tried
from tputtui.knobs import spoken
from tputtui.load.notation import describe_all_arrivals
from tputtui.measure.verdict import Difference
from tputtui.session.session import Session
from tputtui.ui.panels.verdicts import figure, verdict_words

__all__ = ["changes_text", "copies", "limit_text", "row_text"]

Copy = tuple[str, str, Callable[[], str]]
"""A key, what it copies, and what makes the text; an empty text where there is none yet."""

_FIGURES = ("tokens_per_s", "goodput_per_s", "ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90")


def copies(session: Session, name: str) -> list[Copy]:
    """What can be copied from the board, where the limit `name` is selected."""
    frame = session.latest
    trial = frame.trials[-1] if frame.trials else None

    def command() -> str:
        # It knows vLLM's flags: only then.
        from tputtui.export.formats import export

        return export(session.snapshot(), "command")

    return [
        ("v", f"value of {name}", lambda: limit_text(frame, name)),
        ("s", "vllm serve command", command),
        ("c", "changes as Markdown", lambda: changes_text(trial.differences) if trial else ""),
        ("r", "present row as Markdown", lambda: row_text(trial) if trial else ""),
    ]


def limit_text(frame: Frame, name: str) -> str:
    """The value of a limit as `:` takes it; empty before the engine is up."""
    return f"{name} {spoken(name, frame.asked.get(name))}" if frame.asked is not None else ""


def row_text(trial: Tried) -> str:
    """One setting tried, as a table in Markdown: limits, load, figures."""
    knobs = trial.knobs
    cells = {
        "#": str(trial.number),
        "max_num_seqs": f"{knobs.max_num_seqs:,}",
        "max_num_batched_tokens": f"{knobs.max_num_batched_tokens:,}",
        "max_model_len": f"{knobs.max_model_len:,}",
        "load": describe_all_arrivals(trial.load),
    }
    values = trial.series.values if trial.series else {}
    metrics = {row.metric.key: row.metric for row in trial.differences}
    for key in _FIGURES:
        if key in values:
            label = metrics[key].label if key in metrics else key.replace("_", " ")
            seconds = not key.endswith("_per_s")
            cells[label] = _value(values[key].value, seconds)
    if trial.differences and not math.isnan(trial.differences[0].change):
        cells[f"against {trial.against}"] = verdict_words(trial.differences[0])
    return _table([list(cells), list(cells.values())])


def changes_text(differences: Sequence[Difference]) -> str:
    """The differences between two settings, as a table in Markdown; empty without any."""
    if not differences:
        return ""
    rows = [["", "before", "after", "change", "verdict"]]
    for row in differences:
        old, new = figure(row.metric, row.old, 0), figure(row.metric, row.new, 0)
        change = "–" if math.isnan(row.change) else f"{row.change:+.1%}"
        rows.append([row.metric.label, old, new, change, verdict_words(row)])
    return _table(rows)


def _value(value: float, seconds: bool) -> str:
    return f"{value * 1e3:.1f} ms" if seconds else f"{value:,.1f}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    rule = f"|{'---|' * len(rows[0])}"
    return "\n".join([head, rule, *body]) + "\n"

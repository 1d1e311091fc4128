"""`tputtui compare`: two recorded runs side by side, with intervals."""

from __future__ import annotations

import argparse
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from tputtui.cli.page import Page
from tputtui.cli.replay import recorded_run

if TYPE_CHECKING:
    from tputtui.measure.verdict import Difference
    from tputtui.report.sides import RunSide, Sides

__all__ = ["parser", "run"]


def run(words: list[str]) -> int:
    """Print the comparison; returns the exit code."""
    options = parser().parse_args(words)
    from tputtui.report.sides import compared_runs

    left, note = recorded_run(options.a)
    right, other = (left, "") if options.a == options.b else recorded_run(options.b)
    for each in {note, other} - {""}:
        print(f"tputtui: {each}", file=sys.stderr)
    sides = compared_runs(left, right, options.setting_a, options.setting_b)
    print(_as_json(sides) if options.format == "json" else _as_table(sides, options.format))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags of `compare`."""
    made = Page(
        example="tputtui compare before.jsonl.zst after.jsonl.zst",
        prog="tputtui compare",
        description="B against A: the last setting measured in each run, or the ones given. "
        "All intervals together hold with 95 %. Two runs are two times of day: what drifts "
        "between them is in the difference.",
    )
    made.add_argument("a", metavar="A", help="a session log, or `last`")
    made.add_argument("b", metavar="B", help="likewise; may be the same, with another setting")
    made.add_argument("--setting-a", type=int, metavar="N", help="its row in the table (h)")
    made.add_argument("--setting-b", type=int, metavar="N")
    made.add_argument("--format", choices=("table", "json", "md"), default="table")
    return made


def _rows(sides: Sides) -> list[list[str]]:
    from tputtui.report.content import interval_text, value_text, verdict_text

    return [
        [
            row.metric.label,
            "–" if math.isnan(row.old) else value_text(row.metric, row.old),
            "–" if math.isnan(row.new) else value_text(row.metric, row.new),
            interval_text(row),
            "" if _unmeasured(row) else verdict_text(row),
        ]
        for row in sides.rows
    ]


def _unmeasured(row: Difference) -> bool:
    return math.isnan(row.old) or math.isnan(row.new)


def _about(side: RunSide) -> str:
    from tputtui.knobs import kept_limits, shorthand
    from tputtui.load.notation import describe_all_arrivals

    trial = side.trial
    assert trial.series is not None
    setting = shorthand(kept_limits(trial.knobs, trial.booted))
    return (
        f"{side.name}: {setting}, {describe_all_arrivals(trial.load)}, "
        f"{trial.series.length_s:.0f} s, {trial.series.n:,} requests, {trial.phase.value}"
    )


def _as_table(sides: Sides, format: str) -> str:
    head = ["", "A", "B", "change [interval]", "verdict"]
    rows = [head, *_rows(sides)]
    differs = sides.changed or "no limit"
    lines = [f"A  {_about(sides.a)}", f"B  {_about(sides.b)}", f"   changed: {differs}"]
    lines += [f"   also differs: {each}" for each in sides.apart]
    if format == "md":
        table = [f"| {' | '.join(row)} |" for row in rows]
        table.insert(1, "|---|---:|---:|---|---|")
        return "\n".join([*(f"- {line.strip()}" for line in lines), "", *table])
    widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
    aligned = [
        f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}   "
        f"{row[3]:<{widths[3]}}  {row[4]}".rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", *aligned])


def _as_json(sides: Sides) -> str:
    def number(value: float) -> float | None:
        return value if math.isfinite(value) else None

    def side(of: RunSide) -> dict[str, Any]:
        assert of.trial.series is not None
        return {
            "run": of.name,
            "limits": of.trial.knobs.as_dict(),
            "window_s": of.trial.series.length_s,
            "requests": of.trial.series.n,
            "phase": of.trial.phase.value,
        }

    return json.dumps(
        {
            "a": side(sides.a),
            "b": side(sides.b),
            "turned": sides.changed,
            "also_differs": sides.apart,
            "figures": {
                row.metric.name: {
                    "a": number(row.old),
                    "b": number(row.new),
                    "change": number(row.change),
                    "low": number(row.low),
                    "high": number(row.high),
                    "verdict": row.judgement.value,
                }
                for row in sides.rows
            },
        },
        indent=2,
        ensure_ascii=False,
    )

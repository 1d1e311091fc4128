"""A report as one self-contained file: HTML with its charts inside, or Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tputtui.record.reading import Recording
from tputtui.report.content import Content, gather
from tputtui.report.plain import text_charts
from tputtui.text.format import clock

__all__ = ["html", "markdown"]

_CLASSES = {"better": "better", "worse": "worse", "the same": "same", "undecided": "open",
            "nothing to compare": "open", "not judged": "open"}  # fmt: skip


def html(recording: Recording) -> str:
    """The run as an HTML page that loads nothing from anywhere."""
    from jinja2 import Environment, FileSystemLoader

    from tputtui.report.charts import frontier_svg, time_svgs

    content = gather(recording)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True
    )
    return environment.get_template("page.html.j2").render(
        content=content,
        verdicts=[row for row in content.rows if row.verdicts],
        classes=_CLASSES,
        frontier=frontier_svg(content.frame.points),
        charts=time_svgs(content.curves, content.marks, content.origin_s, recording.length_s),
        marks=_marks(content),
    )


def markdown(recording: Recording) -> str:
    """The run as Markdown; charts are text, so that the file needs no other."""
    content = gather(recording)
    lines = [f"# {_cell(content.title)}", ""]
    lines += [f"- **{name}**: {_cell(value)}" for name, value in content.facts]
    lines += ["", "## Settings tried", ""]
    head = ["#", "at", "seqs/tokens/length", "load", "window", "n"]
    head += [label for _, label in content.columns]
    lines += _table(head, [_cells(content, row.number) for row in content.rows])
    lines += ["", "Brackets: 95 % interval. Latencies count from when a request was due."]
    verdicts = [row for row in content.rows if row.verdicts]
    if verdicts:
        lines += ["", "## What each change did", ""]
        lines += _table(
            ["#", "changed", "against", "figure", "change", "verdict"],
            [
                [str(row.number), row.change, str(row.against), metric, change, verdict]
                for row in verdicts
                for metric, change, verdict in row.verdicts
            ],
        )
    if content.experiments:
        lines += ["", "## Experiments", "", *(f"- {_cell(each)}" for each in content.experiments)]
    if len(content.frame.points) > 1:
        lines += ["", "## Throughput against latency", ""]
        lines += _table(*_frontier(content))
    charts = text_charts(content.curves, content.marks, content.origin_s, recording.length_s)
    lines += ["", "## Over time", "", "```", *charts, "```"]
    if content.marks:
        lines += ["", *_table(["mark", "at", "what"], [list(map(str, m)) for m in _marks(content)])]
    fence = "````" if "```" in content.profile else "```"
    lines += ["", "## The profile at the end", "", f"{fence}yaml", content.profile.rstrip(), fence]
    return "\n".join(lines) + "\n"


def _marks(content: Content) -> list[tuple[int, str, str]]:
    return [
        (number, clock(mark.t_s - content.origin_s), mark.text)
        for number, mark in enumerate(content.marks, 1)
    ]


def _cells(content: Content, number: int) -> list[str]:
    row = next(row for row in content.rows if row.number == number)
    figures = [
        f"{value} [{interval}]" if interval else value
        for value, interval in (row.cells[key] for key, _ in content.columns)
    ]
    setting = f"{row.setting} ({row.note})" if row.note else row.setting
    return [str(row.number), row.at, setting, row.load, row.window, f"{row.n:,}", *figures]


def _frontier(content: Content) -> tuple[list[str], list[list[str]]]:
    from tputtui.knobs import shorthand
    from tputtui.measure.frontier import AXES_X, AXES_Y, knee, pareto
    from tputtui.text.format import compact, seconds

    points = content.frame.points
    x = next(axis for axis in AXES_X if axis.key == "e2e_p90")
    best, at_knee = pareto(points, AXES_Y[0], x, 0.01), knee(points)
    rows = [
        [
            point.label,
            shorthand(point.knobs),
            point.load,
            compact(point.tokens_per_s, 0),
            seconds(x.value(point), 0),
            f"{point.n:,}",
            " ".join(["best"] * (point in best) + ["knee"] * (point is at_knee)),
        ]
        for point in points
    ]
    return ["", "setting", "load", "tok/s", "E2E p90", "n", ""], rows


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(map(_cell, head))} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(_cell, row))} |" for row in rows),
    ]


def _cell(text: str) -> str:
    """`text` with everything escaped that Markdown or HTML would interpret."""
    plain = " ".join(text.split())
    for char in "\\|`*_<>[]":
        plain = plain.replace(char, f"\\{char}" if char not in "<>" else f"&#{ord(char)};")
    return plain

"""Latencies over the window: quantiles, how they went, how they are spread. Pure."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter

from tputtui.frame import Frame
from tputtui.measure.attainment import Attainment, GoalVerdict
from tputtui.measure.history import Bucket, History
from tputtui.measure.stats import Quantiles
from tputtui.measure.window import Phase
from tputtui.text.format import clock, compact, percent, rate, seconds
from tputtui.ui.chart import chart
from tputtui.ui.panels.real import real_rows
from tputtui.ui.panels.spread import histogram_rows
from tputtui.ui.panels.standing import goal_named
from tputtui.ui.rows import Row, fitted, spread

__all__ = ["latency", "window_caption"]

_SIGNS = {
    GoalVerdict.MET: ("✓", "good"),
    GoalVerdict.MISSED: ("✗", "bad"),
    GoalVerdict.UNRESOLVED: ("?", "warn"),
}
_NAMES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("E2E", "e2e"))
_PARTS = (("late", "lag"), ("wait", "queue"), ("fill", "prefill"), ("gen.", "decode"))
"""What a request's time is made of; shown where the panel is tall."""
_COUNTED = 13
_CAPTION_S = 5
_EACH_SECOND_S = 30
"""The caption of a shorter window counts each second."""
_ROOMY = 30
_STACKED = 9
_WITH_RATES = 76
"""So many columns also show how much of each class is offered and served."""
_WIDE_GOAL = 84
_WHOLE = 70
"""Cells from which on there is room for histograms: the panel has the whole screen."""


def latency(
    frame: Frame,
    width: int,
    height: int,
    history: History | None = None,
    *,
    cursor: int | None = None,
) -> list[Row]:
    """A head, four or five rows of latencies; where there is room, charts, counts, notes and goals.

    On a whole screen histograms as well. history: what the charts show, read at second `cursor`.
    """
    wide = width >= 46
    head = "          p50      p90            p99" if wide else "          p50     p90       p99"
    rows: list[Row] = [spread([(head, "label")], [("n", "label")], min(width, 46))]
    roomy = height >= _ROOMY
    names = _names(frame, height)
    for label, name in (*names, *_PARTS) if roomy else names:
        rows.append(_row(frame, label, name, width))
    rows += _within(_traffic(frame, width), height - len(rows))
    goals = frame.goodput.each if frame.window.phase.quotable else ()
    # Of an engine that failed, what became of the requests is worth more than a chart.
    if height >= _COUNTED or frame.status.failure is not None:
        rows += _counts(frame)
    if roomy:
        rows += [
            [("TTFT, E2E from due · ITL pooled · p99 with 95 % interval", "muted")],
            [("late: sent · wait: scheduled · fill: 1st token · gen.: end", "muted")],
        ]
    if goals and height >= _COUNTED + len(goals) and width >= 76:
        longest = max(len(goal_named(each.goal)) for each in goals)
        rows += [[], *(_goal(each, width, longest + 1) for each in goals)]
    left = height - len(rows)
    spread_rows = left // 2 if width >= _WHOLE and left >= 8 and frame.spread else 0
    if history is not None and left >= 3:
        rows += _charts(frame, history, width, left - spread_rows, cursor)
    if spread_rows:
        rows += _histograms(frame, width, spread_rows)
    return rows[:height]


def _names(frame: Frame, height: int) -> tuple[tuple[str, str], ...]:
    """The latencies shown. Of jobs too where there are any; in place of ITL where room is short."""
    asked = any(goal.metric == "job" for goal in frame.profile.judged)
    if not (frame.latencies.job.n or asked):
        return _NAMES
    names = _NAMES if height > len(_NAMES) + 1 else tuple(n for n in _NAMES if n[1] != "itl")
    return (*names, ("JOB", "job"))


def _counts(frame: Frame) -> list[Row]:
    """How many requests there were, and what became of them."""
    account = frame.accounting
    return [
        [
            ("requests ", "label"),
            (f"{compact(account.issued, 0)} issued", "text"),
            (f"  {compact(account.finished, 0)} finished", "text"),
            (f"  {compact(account.clamped, 0)} clamped", "muted"),
        ],
        *_ends(frame),
        *_cancelled(frame),
    ]


def _charts(
    frame: Frame, history: History, width: int, height: int, cursor: int | None
) -> list[Row]:
    """TTFT and TPOT over time: one above the other where there is height, else side by side."""
    stacked = height >= _STACKED and width < _WHOLE
    cells = width if stacked else (width - 2) // 2
    heights = (height - height // 2, height // 2) if stacked else (height, height)
    ttft, tpot = (
        chart(
            f"{name.upper()} p50, p90 ⠒{'  ▔ goal' if _limit(frame, name) else ''}",
            history,
            attrgetter(f"{name}_p50"),
            frame.marks,
            cells,
            rows,
            line=attrgetter(f"{name}_p90"),
            limit=_limit(frame, name),
            label=lambda value: seconds(value, 0),
            cursor=cursor,
            look="wave",
        )
        for name, rows in zip(("ttft", "tpot"), heights, strict=True)
    )
    if stacked:
        return [*ttft, *tpot]
    return [
        [*fitted(one, cells), ("  ", "text"), *two] for one, two in zip(ttft, tpot, strict=True)
    ]


def _limit(frame: Frame, name: str) -> Callable[[Bucket], float] | None:
    """The tightest goal of a latency; None without one."""
    limits = [goal.limit_s for goal in frame.profile.goals if goal.metric == name]
    return (lambda bucket: min(limits)) if limits else None


def _histograms(frame: Frame, width: int, height: int) -> list[Row]:
    """As many as there is room for, side by side."""
    shown = frame.spread[: max(1, (width + 2) // 38)]
    cells = (width - 2 * (len(shown) - 1)) // len(shown)
    drawn = [
        histogram_rows(
            shape,
            [goal for goal in frame.profile.goals if goal.metric == shape.name],
            cells,
            height,
            "wave",
        )
        for shape in shown
    ]
    rows: list[Row] = []
    for pieces in zip(*drawn, strict=True):
        row: Row = []
        for piece in pieces:
            row += [*(("  ", "text"),) * bool(row), *fitted(piece, cells)]
        rows.append(row)
    return rows


def _cancelled(frame: Frame) -> list[Row]:
    """How many requests their client gave up, under a load that has such."""
    cancelled = frame.accounting.cancelled
    if not cancelled and frame.profile.load.cancel is None:
        return []
    return [[("         ", "label"), (f"{compact(cancelled, 0)} cancelled by the client", "muted")]]


def _ends(frame: Frame) -> list[Row]:
    """How requests ended that did not finish, and what became of real ones; the graver first."""
    account = frame.accounting
    lost: Row = [
        ("         ", "label"),
        (f"{compact(account.cut, 0)} cut", "warn" if account.cut else "muted"),
        (f"  {compact(account.aborted, 0)} aborted", "muted"),
        (f"  {compact(account.rejected, 0)} rejected", "muted"),
        (f"  {compact(account.failed, 0)} failed", "bad" if account.failed else "muted"),
    ]
    stops, *more = real_rows(frame) or [[]]
    if not stops:
        return [lost]
    grave = account.cut or account.rejected or account.failed
    return [lost, stops, *more] if grave else [stops, lost, *more]


def _traffic(frame: Frame, width: int) -> list[Row]:
    """A row for each class of traffic, or adapter, under a head; none where all are of one kind."""
    if not frame.traffic:
        return []
    wide, room = width >= 57, 11 if width >= 46 else 9
    rates = width >= _WITH_RATES
    head = f"{'':<{room}}TTFT p50     p90  TPOT p50" + ("   E2E p50" if wide else "")
    head += "  served /s of offered" if rates else ""
    across = min(width, _WITH_RATES if rates else 57)
    rows: list[Row] = [spread([(head, "label")], [("kept", "label")], across)]
    sure = "text" if frame.window.phase.quotable else "muted"
    for each in frame.traffic:
        cells = (
            f"{seconds(each.ttft.p50, 8)}{seconds(each.ttft.p90, 8)}{seconds(each.tpot.p50, 10)}"
        )
        if wide:
            cells += seconds(each.e2e.p50, 10)
        if rates:
            cells += f"{rate(each.served_per_s, 11)} of {rate(each.offered_per_s, 7)}"
        name = f"{each.name[: room - 2]:<{room - 1}}"
        verdict = _verdict(frame, traffic=each.name)
        sign = _SIGNS[verdict] if verdict else (" ", "label")
        kept = percent(each.kept_frac)
        row: Row = [(name, "label"), sign, (cells, sure)]
        rows.append(spread(row, [(kept, sure)], across))
    return rows


def _within(classes: list[Row], height: int) -> list[Row]:
    """As many rows of classes as there is room for, and how many more there are."""
    if len(classes) <= height:
        return classes
    shown = height - 1
    if shown < 2:
        return []
    return [*classes[:shown], [(f"… {len(classes) - shown} more", "muted")]]


def _goal(each: Attainment, width: int, longest: int) -> Row:
    """One goal, how many requests kept within it, and the verdict with its reason.

    longest: cells that the longest name of a goal takes.
    """
    named, shared, bounded = (22, 26, 24) if width >= _WIDE_GOAL else (20, 24, 21)
    sign, look = _SIGNS[each.verdict]
    named = max(named, longest)
    share = f"{each.frac * 100:.1f} % of {each.n:,} within" if each.n else "nothing has ended"
    return [
        (f"{sign} ", look),
        (f"{goal_named(each.goal):<{named}}", "label"),
        (f"{share:<{shared}}", "text"),
        (f"{f'{each.low * 100:.1f}–{each.high * 100:.1f} % at 95 %':<{bounded}}", "muted"),
        (each.verdict.value, look),
    ]


def _row(frame: Frame, label: str, name: str, width: int) -> Row:
    values: Quantiles = getattr(frame.latencies, name)
    gap, last = ("  ", 13) if width >= 46 else (" ", 9)
    p99, look = _p99(values, last)
    # Figures that are not yet this setting's own are muted: to be watched, not quoted.
    sure = frame.window.phase.quotable
    verdict = _verdict(frame, metric=name)
    sign, sign_look = _SIGNS[verdict] if verdict else (" ", "label")
    row: Row = [
        (f"{label:<4}", "label"),
        (sign, sign_look),
        (seconds(values.p50, 8), "value" if sure else "muted"),
        (gap + seconds(values.p90) + gap, "text" if sure else "muted"),
        (p99.rjust(last), look if sure else "muted"),
    ]
    full = spread(row, [(compact(values.n), "muted")], min(width, 46))
    if width >= 57 and verdict:
        return [*full, (f" {verdict.value}", sign_look)]
    return full


def _verdict(frame: Frame, metric: str = "", traffic: str = "") -> GoalVerdict | None:
    """The worst verdict on a latency's goals for all, or on those of a class.

    None without goals, or while nothing is sure.
    """
    if not frame.window.phase.quotable:
        return None
    verdicts = {
        each.verdict
        for each in frame.goodput.each
        if each.goal.traffic == traffic and (each.goal.metric == metric or not metric)
    }
    order = (GoalVerdict.MISSED, GoalVerdict.UNRESOLVED, GoalVerdict.MET)
    return next((verdict for verdict in order if verdict in verdicts), None)


def _p99(values: Quantiles, room: int) -> tuple[str, str]:
    """One number from 1,000 samples on; before that the interval it lies in, at 95 %.

    Where the interval does not fit, only its upper end is shown.
    """
    if values.p99_resolved or not values.n:
        return seconds(values.p99), "text"
    low, high = seconds(values.p99_low, 0), seconds(values.p99_high, 0)
    if high == "∞":
        return f"≥{low}", "muted"
    # The unit once, if both have it.
    shared = low.rpartition(" ")[2] == high.rpartition(" ")[2]
    both = f"{low.rpartition(' ')[0] if shared else low}–{high}"
    return (both if len(both) <= room else f"≤{high}"), "muted"


def window_caption(frame: Frame, width: int) -> str:
    """What the window covers, for the panel's title, in words that fit."""
    window = frame.window
    if frame.status.failure is not None:
        return "until the engine failed"
    if window.phase.quotable:
        # In steps later on: a title that counts repaints the whole border.
        step_s = 1 if window.length_s < _EACH_SECOND_S else _CAPTION_S
        whole_s = window.length_s - window.length_s % step_s
        length = f"{whole_s:.0f} s" if whole_s >= _CAPTION_S else f"< {_CAPTION_S} s"
        return f"window {length} · {window.phase.value}"
    if window.phase is not Phase.SETTLING:
        return window.phase.value
    if window.to_turn_over:
        whole = f"settling: {window.turnover}"
        short = f"settling: {window.turned_over} of {window.to_turn_over}"
        return whole if len(whole) <= width else short
    return f"settling {clock(window.length_s)}"

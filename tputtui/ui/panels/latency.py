"""Latencies over the window: p50, p90, p99 and how many samples. Pure."""

from __future__ import annotations

from tputtui.frame import Frame
from tputtui.measure.attainment import Attainment, GoalVerdict
from tputtui.measure.stats import Quantiles
from tputtui.measure.window import Phase
from tputtui.text.format import clock, compact, percent, seconds
from tputtui.ui.rows import Row, spread

__all__ = ["latency", "window_caption"]

_SIGNS = {
    GoalVerdict.MET: ("✓", "good"),
    GoalVerdict.MISSED: ("✗", "bad"),
    GoalVerdict.UNRESOLVED: ("?", "warn"),
}
_NAMES = (("TTFT", "ttft"), ("TPOT", "tpot"), ("ITL", "itl"), ("E2E", "e2e"))
_PARTS = (("late", "lag"), ("wait", "queue"), ("fill", "prefill"), ("gen.", "decode"))
"""What a request's time is made of; shown where the panel is tall."""


def latency(frame: Frame, width: int, height: int) -> list[Row]:
    """A head, four rows of latencies; where there is room, counts, notes and goals as well."""
    wide = width >= 46
    head = "          p50      p90            p99" if wide else "          p50     p90       p99"
    rows: list[Row] = [spread([(head, "label")], [("n", "label")], min(width, 46))]
    for label, name in (*_NAMES, *_PARTS) if height >= len(rows) + 11 else _NAMES:
        rows.append(_row(frame, label, name, width))
    if len(rows) + len(frame.traffic) < height:
        rows += _traffic(frame, width)
    account = frame.accounting
    rows += [
        [
            ("requests ", "label"),
            (f"{compact(account.issued, 0)} issued", "text"),
            (f"  {compact(account.finished, 0)} finished", "text"),
            (f"  {compact(account.clamped, 0)} clamped", "muted"),
        ],
        [
            ("         ", "label"),
            (f"{compact(account.cut, 0)} cut", "warn" if account.cut else "muted"),
            (f"  {compact(account.aborted, 0)} aborted", "muted"),
            (f"  {compact(account.rejected, 0)} rejected", "muted"),
            (f"  {compact(account.failed, 0)} failed", "bad" if account.failed else "muted"),
        ],
        *_cancelled(frame),
        [("TTFT, E2E from due · ITL pooled · p99 with 95 % interval", "muted")],
        [("late: sent · wait: scheduled · fill: 1st token · gen.: end", "muted")],
    ]
    goals = frame.goodput.each if frame.window.phase.quotable else ()
    if height > len(rows) + len(goals):
        rows += [[], *(_goal(each) for each in goals)]
    return rows[:height]


def _cancelled(frame: Frame) -> list[Row]:
    """How many requests their client gave up, under a load that has such."""
    cancelled = frame.accounting.cancelled
    if not cancelled and frame.profile.load.cancel is None:
        return []
    return [[("         ", "label"), (f"{compact(cancelled, 0)} cancelled by the client", "muted")]]


def _traffic(frame: Frame, width: int) -> list[Row]:
    """A row for each class of traffic, or adapter, under a head; none where all are of one kind."""
    if not frame.traffic:
        return []
    wide, room = width >= 57, 11 if width >= 46 else 9
    head = f"{'':<{room}}TTFT p50     p90  TPOT p50" + ("   E2E p50" if wide else "")
    rows: list[Row] = [spread([(head, "label")], [("kept", "label")], min(width, 57))]
    sure = "text" if frame.window.phase.quotable else "muted"
    for each in frame.traffic:
        cells = (
            f"{seconds(each.ttft.p50, 8)}{seconds(each.ttft.p90, 8)}{seconds(each.tpot.p50, 10)}"
        )
        if wide:
            cells += seconds(each.e2e.p50, 10)
        name = f"{each.name[: room - 2]:<{room - 1}}"
        verdict = _verdict(frame, traffic=each.name)
        sign = _SIGNS[verdict] if verdict else (" ", "label")
        kept = percent(each.kept_frac)
        row: Row = [(name, "label"), sign, (cells, sure)]
        rows.append(spread(row, [(kept, sure)], min(width, 57)))
    return rows


def _goal(each: Attainment) -> Row:
    """One goal, how many requests kept within it, and the verdict with its reason."""
    sign, look = _SIGNS[each.verdict]
    goal = each.goal
    of = f"{goal.traffic} " if goal.traffic else ""
    name = f"{of}{goal.metric.upper()} p{goal.percentile:g} ≤ {seconds(goal.limit_s, 0)}"
    share = f"{each.frac * 100:.1f} % of {each.n:,} within" if each.n else "nothing has ended"
    return [
        (f"{sign} ", look),
        (f"{name:<22} " if of else f"{name:<22}", "label"),
        (f"{share:<26}", "text"),
        (f"{f'{each.low * 100:.1f}–{each.high * 100:.1f} % at 95 %':<24}", "muted"),
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


def window_caption(frame: Frame) -> str:
    """What the window covers, for the panel's title."""
    window = frame.window
    if frame.status.failure is not None:
        return "until the engine failed"
    if window.phase.quotable:
        # In steps: a title that counts would repaint the whole border.
        return f"window {window.length_s - window.length_s % 5:.0f} s · {window.phase.value}"
    if window.phase is not Phase.SETTLING:
        return window.phase.value
    since = clock(window.length_s)
    if window.to_turn_over:
        return f"settling {since} · {window.turned_over} of {window.to_turn_over} old"
    return f"settling {since}"

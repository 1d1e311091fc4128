"""GPUs and host; a machine without a GPU is no error. Pure."""

from __future__ import annotations

from operator import attrgetter
from textwrap import wrap

from tputtui.frame import Frame
from tputtui.hardware import HardwareSample, HostSample
from tputtui.measure.history import History
from tputtui.text.format import bar, percent, seconds, size
from tputtui.ui.chart import chart
from tputtui.ui.panels.gpus import gpu_rows
from tputtui.ui.panels.severity import share_look
from tputtui.ui.rows import Row, fitted

__all__ = ["READING", "machine"]

READING = "reading the machine …"
"""Stands there until the first figures of the machine come."""

_CHARTED = 2
"""Fewest rows of a chart."""


def machine(
    frame: Frame,
    width: int,
    height: int,
    history: History | None = None,
    *,
    cursor: int | None = None,
    unread: str = READING,
) -> list[Row]:
    """The GPUs in as much detail as there is room for, then the host; each row `width` cells.

    history: charted in the rows left, read at second `cursor`. unread: says why there are no
    figures.
    """
    rows = _figures(frame, width, height, unread)
    left = height - len(rows)
    if history is None or left < _CHARTED:
        return rows
    sample, facts = frame.hardware, frame.status.facts
    if facts is not None and facts.simulated:
        return rows + chart(
            "step time, simulated", history, attrgetter("step_s"), frame.marks, width, left,
            cursor=cursor, label=lambda value: seconds(value, 0), look="fill",
        )  # fmt: skip
    if sample is None:
        return rows
    charts = [("CPU", "cpu_frac")]
    if sample.gpus:
        charts = [("GPU", "gpu_frac"), *charts] if left >= 2 * _CHARTED else [("GPU", "gpu_frac")]
    for place, (title, name) in enumerate(charts):
        share = (left + place) // len(charts)
        rows += chart(
            title, history, attrgetter(name), frame.marks, width, share, top=1.0, cursor=cursor,
            label=lambda value: percent(value, 0), look="fill",
        )  # fmt: skip
    return rows


def _figures(frame: Frame, width: int, height: int, unread: str) -> list[Row]:
    """Every row but the charts."""
    sample = frame.hardware
    facts = frame.status.facts
    if facts is not None and facts.simulated:
        rows = _simulated(facts.device, facts.simulated, width)
        return [fitted(row, width) for row in rows[:height]]
    if sample is None:
        return [[(line, "muted")] for line in wrap(unread, width)[:height]]
    host = _host(sample.host, width) if sample.host else []
    stale = _stale(sample, frame.t_s, width)
    room = max(1, height - len(host) - len(stale))
    if sample.gpus:
        gpus = gpu_rows(sample.gpus, width, room)
    else:
        gpus = [[("GPU       ", "label"), (sample.gpu_status, "muted")]]
    if stale:
        gpus = [[(text, "muted") for text, _ in row] for row in gpus]
    return [fitted(row, width) for row in (*gpus, *stale, *host)]


def _simulated(device: str, badge: str, width: int) -> list[Row]:
    """A simulated device, which has no figures of its own."""
    note = "Power and clocks are not simulated, and this machine's do not count."
    return [
        [(device, "value")],
        *([(line, "warn")] for line in wrap(badge, width)),
        *([(line, "muted")] for line in wrap(note, width)),
    ]


def _stale(sample: HardwareSample, now_s: float, width: int) -> list[Row]:
    """A row that says that GPU figures are stale; empty while they are not."""
    if not sample.gpus_stale(now_s):
        return []
    age = f"{sample.gpu_age_s(now_s) or 0.0:.0f} s"
    warning = f"GPU figures are stale: no answer from the driver for {age}"
    return [[(warning if len(warning) <= width else f"GPUs stale: no answer for {age}", "warn")]]


def _host(host: HostSample, width: int) -> list[Row]:
    cpu = float("nan") if host.cpu_frac is None else host.cpu_frac
    memory = host.mem_used_bytes / max(host.mem_total_bytes, 1)
    cells = max(0, min(24, width - 38))

    def gauge(fraction: float, look: str) -> Row:
        filled, empty = bar(fraction, cells)
        return [(" ", "text"), (filled, look), (empty, "muted")]

    process = host.process_cpu_cores
    used = "–" if process is None else f"{process:.1f}"
    shared: Row = []
    if host.crowded:
        shared = [(f" others {host.others_cpu_cores:.1f}", "warn")]
    return [
        [
            ("CPU   ", "label"),
            (percent(cpu), "value"),
            (f"  ours {used}", "text"),
            *shared,
            # The load of other processes leaves no room for everything.
            *([] if shared and width < 48 else [(f" of {host.cores} cores", "text")]),
            *([] if shared and width < 60 else gauge(cpu, "fill")),
        ],
        [
            ("memory", "label"),
            (percent(memory), "value"),
            (f"  {size(host.mem_used_bytes, 0)}/{size(host.mem_total_bytes, 0)}", "text"),
            (f"  ours {size(host.process_rss_bytes, 0)}", "text"),
            *gauge(memory, share_look(memory)),
        ],
    ]

"""GPUs and host. No GPU is a calm state. Pure."""

from __future__ import annotations

from tputtui.format import bar, percent, size
from tputtui.frame import Frame
from tputtui.hardware import GpuSample, HardwareSample, HostSample
from tputtui.ui.rows import Row, fitted

__all__ = ["machine"]

_STALE_S = 3.0


def machine(frame: Frame, width: int, height: int) -> list[Row]:
    """Two rows a GPU while they fit, else one; then the host."""
    sample = frame.hardware
    if sample is None:
        return [[("reading the machine …", "muted")]]
    host = _host(sample.host, width) if sample.host else []
    room = height - len(host)
    rows: list[Row] = []
    if not sample.gpus:
        rows.append([("GPU       ", "label"), (sample.gpu_status, "muted")])
    lines = 2 if len(sample.gpus) * 2 <= room else 1
    for gpu in sample.gpus[: max(1, room // lines)]:
        rows += _gpu(gpu) if lines == 2 else [_gpu_line(gpu)]
    hidden = len(sample.gpus) - max(1, room // lines)
    if hidden > 0 and rows:
        rows[-1] = fitted([(f"… and {hidden + 1} more: press 4", "muted")], width)
    if _stale(sample, frame.t_s):
        rows.append([("GPU figures are stale: the driver does not answer", "warn")])
    return [*rows, *host]


def _stale(sample: HardwareSample, now_s: float) -> bool:
    age_s = sample.gpu_age_s(now_s)
    return bool(sample.gpus) and age_s is not None and age_s > _STALE_S


def _gpu(gpu: GpuSample) -> list[Row]:
    memory_frac = (
        gpu.mem_used_bytes / gpu.mem_total_bytes
        if gpu.mem_used_bytes is not None and gpu.mem_total_bytes
        else float("nan")
    )
    first: Row = [
        (f"GPU {gpu.index:<2}", "label"),
        (percent(_or_nan(gpu.util_frac)), "value"),
        ("  mem ", "label"),
        (f"{_size(gpu.mem_used_bytes)}/{_size(gpu.mem_total_bytes)}", "text"),
        (f" {percent(memory_frac)}", "text"),
    ]
    second: Row = [
        ("      ", "label"),
        (f"{_whole(gpu.power_w)}/{_whole(gpu.power_limit_w)} W", "text"),
        (f"  {_whole(gpu.temp_c)} °C", "text"),
        (f"  {_whole(gpu.sm_clock_mhz, 4)} MHz", "text"),
    ]
    if gpu.throttle:
        second.append((f"  {', '.join(gpu.throttle)}", "warn"))
    return [[*first, (f"  {gpu.name}", "muted")], second]


def _gpu_line(gpu: GpuSample) -> Row:
    """One GPU in 38 cells; a throttled one says why in place of its clock."""
    row: Row = [
        (f"{gpu.index:<2}", "label"),
        (percent(_or_nan(gpu.util_frac)), "value"),
        (f" {_size(gpu.mem_used_bytes)}/{_size(gpu.mem_total_bytes)}", "text"),
        (f" {_whole(gpu.power_w, 0)}W {_whole(gpu.temp_c, 0)}°C", "text"),
    ]
    if gpu.throttle:
        return [*row, (f" {gpu.throttle[0][:9]}", "warn")]
    return [*row, (f" {_whole(gpu.sm_clock_mhz, 0)}MHz", "text")]


def _host(host: HostSample, width: int) -> list[Row]:
    cpu = _or_nan(host.cpu_frac)
    memory = host.mem_used_bytes / max(host.mem_total_bytes, 1)
    cells = max(0, min(24, width - 38))

    def gauge(fraction: float) -> Row:
        filled, empty = bar(fraction, cells)
        return [(" ", "text"), (filled, "accent"), (empty, "muted")]

    process = host.process_cpu_cores
    used = "–" if process is None else f"{process:.1f}"
    return [
        [
            ("CPU   ", "label"),
            (percent(cpu), "value"),
            (f"  ours {used} of {host.cores} cores", "text"),
            *gauge(cpu),
        ],
        [
            ("memory", "label"),
            (percent(memory), "value"),
            (f"  {size(host.mem_used_bytes, 0)}/{size(host.mem_total_bytes, 0)}", "text"),
            (f"  ours {size(host.process_rss_bytes, 0)}", "text"),
            *gauge(memory),
        ],
    ]


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value


def _whole(value: float | None, width: int = 3) -> str:
    return "–".rjust(width) if value is None else f"{value:.0f}".rjust(width)


def _size(value: float | None) -> str:
    return "–" if value is None else size(value, 0)

"""One GPU in as many rows as it has values for, and what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from tputtui.hardware import GpuProcess, GpuSample, MigInstance
from tputtui.hardware.xid import xid_words
from tputtui.text.format import compact, percent, rate, size
from tputtui.ui.rows import Row, shortened, width_of

__all__ = ["Trouble", "block", "figure", "troubles"]

_INDENT = " " * 6
_NAME = 6
"""Fewest cells in which a GPU's name can be recognised."""

# NVML's or AMD's word for a cause, to its name in 7 cells and in 4.
_THROTTLES = {
    "power cap": ("pwr cap", "cap"),
    "power brake": ("pwr brk", "brk"),
    "thermal": ("thermal", "heat"),
    "hw thermal": ("hw heat", "heat"),
    "vr thermal": ("vr heat", "heat"),
    "memory thermal": ("mem hot", "heat"),
    "hw slowdown": ("hw slow", "slow"),
}

Parts = list[tuple[int, Row]]
"""Pieces of a row, each with its rank: of those that do not fit, the greatest goes first."""


class Trouble(NamedTuple):
    """Something wrong with a GPU: in words, in 7 cells, in 4."""

    words: str
    short: str
    word: str
    style: str


def troubles(gpu: GpuSample) -> list[Trouble]:
    """What is wrong, the gravest first; heat and power, which only slow the GPU down, come last."""
    wrong = []
    if gpu.lost:
        wrong.append(Trouble("lost: it does not answer", "lost", "lost", "bad"))
    if gpu.xid:
        wrong.append(Trouble(f"XID {gpu.xid}", f"XID {gpu.xid}"[:7], "XID", "bad"))
    if gpu.ecc_uncorrected:
        errors = compact(gpu.ecc_uncorrected, 0)
        short = f"ECC {errors}" if len(errors) <= 3 else "ECC"
        wrong.append(Trouble(f"{errors} uncorrected ECC", short, "ECC", "bad"))
    for reason in gpu.throttle:
        short, word = _THROTTLES.get(reason, (reason[:7], reason[:4]))
        look = "bad" if "thermal" in reason or reason == "hw slowdown" else "warn"
        wrong.append(Trouble(reason, short, word, look))
    return wrong


def block(gpu: GpuSample, width: int) -> list[Row]:
    """Two rows, then one for each further group of values that the driver reports."""
    rows = [_first(gpu, width), _second(gpu, width)]
    rows += [
        _kept([(0, [(_INDENT, "label")]), *parts], width)
        for parts in (_memory(gpu), _errors(gpu), _links(gpu))
        if parts
    ]
    rows += _flowing(_instances(gpu), width)
    rows += [_process(process, width) for process in gpu.processes]
    return rows


def figure(value: float | None, shown: Callable[[float, int], str], width: int) -> str:
    """A number in `width` cells, a dash where there is none."""
    return "–".rjust(width) if value is None else shown(value, width)


def _first(gpu: GpuSample, width: int) -> Row:
    used, total = gpu.mem_used_bytes, gpu.mem_total_bytes
    used_frac = used / total if used is not None and total else None
    row = _kept(
        [
            (0, [(f"GPU {gpu.index} ".ljust(6), "label")]),
            (1, [(figure(gpu.util_frac, percent, 4), "value")]),
            (2, [("  mem ", "label"),
                 (f"{figure(used, size, 5)}/{figure(total, size, 0)}", "text")]),
            (3, [(figure(used_frac, percent, 5), "text")]),
        ],
        width,
    )  # fmt: skip
    left = width - width_of(row) - 2
    if left < _NAME or gpu.name == f"GPU {gpu.index}":
        return row
    return [*row, (f"  {shortened(gpu.name, left)}"[: left + 2], "muted")]


def _second(gpu: GpuSample, width: int) -> Row:
    limit, mem_clock = figure(gpu.power_limit_w, _whole, 0), gpu.mem_clock_mhz
    parts: Parts = [
        (0, [(_INDENT[1:], "label")]),
        (2, [(f"{figure(gpu.power_w, _whole, 4)}/{limit} W", "text")]),
        (3, [(f"  {figure(gpu.temp_c, _whole, 3)} °C", "text")]),
    ]
    wrong = troubles(gpu)
    words = sum(len(trouble.words) + 2 for trouble in wrong)
    # Troubles have their full words only where power and temperature have room beside them.
    full = words + sum(width_of(row) for _, row in parts) <= width
    parts.append((5, [(f"  {figure(gpu.sm_clock_mhz, _whole, 4)} MHz", "text")]))
    if mem_clock is not None:
        parts.append((6, [("  mem", "label"), (f"{_whole(mem_clock, 5)} MHz", "text")]))
    for number, trouble in enumerate(wrong):
        text = trouble.words if full else trouble.short
        parts.append((4 if number else 1, [(f"  {text}", trouble.style)]))
    return _kept(parts, width)


def _memory(gpu: GpuSample) -> Parts:
    ours, others, count = gpu.mem_ours_bytes, gpu.mem_others_bytes, gpu.process_count
    if count is None:
        return []
    return [
        (0, [("ours", "label"), (figure(ours, size, 7), "text")]),
        (1, [("  others", "label"), (figure(others, size, 7), "text")]),
        (2, [(f"  {count} process{'' if count == 1 else 'es'}", "text")]),
    ]


def _errors(gpu: GpuSample) -> Parts:
    parts: Parts = []
    corrected, uncorrected = gpu.ecc_corrected, gpu.ecc_uncorrected
    if corrected is not None or uncorrected is not None:
        parts.append((1, [("ECC", "label")]))
    if uncorrected is not None:
        style = "bad" if uncorrected else "text"
        parts.append((1, [(f" {compact(uncorrected, 0)} uncorrected", style)]))
    if corrected is not None:
        parts.append((3, [(f"  {compact(corrected, 0)} corrected", "text")]))
    if gpu.xid:
        parts.append((0, [(f"  XID {gpu.xid}", "bad")]))
        if words := xid_words(gpu.xid):
            parts.append((2, [(f" {words}", "bad")]))
    elif gpu.xid == 0:
        parts.append((2, [("  no XID", "text")]))
    return parts


def _links(gpu: GpuSample) -> Parts:
    parts: Parts = []
    for rank, name, rx, tx in (
        (0, "PCIe", gpu.pcie_rx_bytes_per_s, gpu.pcie_tx_bytes_per_s),
        (1, "NVLink", gpu.nvlink_rx_bytes_per_s, gpu.nvlink_tx_bytes_per_s),
    ):
        if rx is None and tx is None:
            continue
        text = f"{figure(rx, _giga, 5)} in {figure(tx, _giga, 5)} out"
        parts.append((rank, [(f" {name}", "label"), (text, "text")]))
    return [(0, [("GB/s", "label")]), *parts] if parts else []


def _instances(gpu: GpuSample) -> list[Row]:
    if not gpu.mig:
        return []
    head: Row = [("MIG", "label")]
    if not gpu.mig_instances:
        return [[*head, (" on, no instances", "text")]]
    return [head, *(_instance(each) for each in gpu.mig_instances)]


def _instance(instance: MigInstance) -> Row:
    used, total = instance.mem_used_bytes, instance.mem_total_bytes
    text = f" {figure(used, size, 5)}/{figure(total, size, 0)}"
    return [(f" {instance.name}", "label"), (text, "text")]


def _process(process: GpuProcess, width: int) -> Row:
    whose = {True: "ours", False: "others'", None: ""}[process.ours]
    return _kept(
        [
            (0, [(f"{process.pid:>13}", "text")]),
            (1, [(figure(process.mem_bytes, size, 7), "text")]),
            (2, [(f"  {whose:<7}", "label")]),
            (3, [(f" {process.name}", "muted")]),
        ],
        width,
    )


def _kept(parts: Parts, width: int) -> Row:
    """As many of the parts as fit, in their order."""
    kept: set[int] = set()
    for place in sorted(range(len(parts)), key=lambda place: parts[place][0]):
        taken = sum(width_of(parts[each][1]) for each in kept)
        if taken + width_of(parts[place][1]) <= width:
            kept.add(place)
    return [piece for place in sorted(kept) for piece in parts[place][1]]


def _flowing(pieces: Iterable[Row], width: int) -> list[Row]:
    """Pieces one after another, over as many rows as they take."""
    rows: list[Row] = []
    for piece in pieces:
        if not rows or width_of(rows[-1]) + width_of(piece) > width:
            rows.append([(_INDENT if not rows else f"{_INDENT}   ", "label")])
        rows[-1] += piece
    return rows


def _whole(value: float, width: int) -> str:
    return f"{value:.0f}".rjust(width)


def _giga(bytes_per_s: float, width: int) -> str:
    return rate(bytes_per_s / 1e9, width)

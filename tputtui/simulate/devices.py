"""Accelerators by their datasheets: arithmetic, bandwidth, memory. Values only.

The figures are for one device and dense arithmetic; a rate that a maker gives with sparsity is
halved. `seen` names the source of the figures, often a page that quotes the datasheet. A figure
marked `unseen` there has no source, and is a commonly used value.
"""

from __future__ import annotations

from dataclasses import dataclass

from tputtui.errors import UsageError, nearest

__all__ = ["DEVICES", "Device", "device_named"]


@dataclass(frozen=True, slots=True)
class Device:
    """One accelerator."""

    name: str
    """As a person types it."""
    title: str
    """As the screen shows it."""
    bf16_tflops: float
    """Peak dense tensor rate with sums in float32, in 10¹² operations/s."""
    fp8_tflops: float
    """The same for fp8; 0 if the device has none."""
    bandwidth_gbs: float
    """Memory bandwidth in 10⁹ bytes/s."""
    memory_gib: float
    """Memory in GiB, as its driver reports it."""
    link_gbs: float
    """Bandwidth to its peers, one direction, in 10⁹ bytes/s."""
    tdp_w: float
    """Thermal design power in W."""
    seen: str
    """Sources of the figures."""


_A100 = "glennklockwood.com/garden/processors/A100, which cites NVIDIA's datasheet 1758950"
_H100 = "glennklockwood.com/garden/processors/h100; stas00/ml-engineering, compute/accelerator"
_LOGS = "nvidia-smi in public logs"
_STAS = "stas00/ml-engineering, compute/accelerator/README.md, which links the makers' sheets"

DEVICES = (
    Device("a100-40gb", "A100 SXM 40GB", 312, 0, 1555, 39.5, 300, 400,
           f"{_A100}; memory: deviceQuery in the PC2 wiki of Paderborn"),
    Device("a100", "A100 SXM 80GB", 312, 0, 2039, 79.2, 300, 400, f"{_A100}; unseen: memory"),
    Device("h100", "H100 SXM 80GB", 989.4, 1978.9, 3350, 79.1, 450, 700,
           f"{_H100}; unseen: memory"),
    Device("h100-pcie", "H100 PCIe 80GB", 756, 1513, 2000, 79.1, 64, 350,
           f"{_STAS}; NVIDIA product brief PB-11133-001; link: PCIe 5 x16; unseen: memory"),
    Device("h200", "H200 SXM 141GB", 989, 1979, 4800, 139.8, 450, 700, f"{_STAS}; unseen: memory"),
    Device("b200", "B200 180GB", 2250, 4500, 8000, 178.0, 900, 1000,
           "glennklockwood.com/garden/processors/B200; docs.vultr.com (memory)"),
    Device("b300", "B300 SXM 288GB", 2250, 4500, 8000, 268.6, 900, 1100,
           f"{_STAS}; glennklockwood.com/garden/processors/B300; {_LOGS}: B300 SXM6 AC, "
           "275040 MiB, 1100 W"),
    Device("gb200", "GB200 186GB", 2500, 5000, 8000, 185.0, 900, 1200,
           f"{_STAS} (one of its two GPUs); glennklockwood.com/garden/processors/B200; "
           f"{_LOGS}: 189471 MiB, 1200 W"),
    Device("l4", "L4 24GB", 121, 242, 300, 22.0, 32, 72,
           "grokipedia.com, NVIDIA L4 vs L40S; link: PCIe 4 x16; unseen: memory"),
    Device("l40s", "L40S 48GB", 362, 733, 864, 44.4, 32, 350,
           f"{_STAS}; mullet.se 355414; link: PCIe 4 x16; unseen: memory"),
    Device("a10g", "A10G 24GB", 70, 0, 600, 22.0, 32, 300,
           "baseten.co, A10 vs A10G; unseen: arithmetic, memory, link, power"),
    Device("rtx4090", "RTX 4090 24GB", 165.2, 330.3, 1008, 23.5, 32, 450,
           "hmc-tech.com (sums in float32); unseen: memory, link"),
    Device("rtx5090", "RTX 5090 32GB", 209.5, 419, 1792, 31.4, 64, 575,
           "spheron.network, RTX 5090; dnakov/consumer-mamf (memory); unseen: arithmetic"),
    Device("rtxpro6000", "RTX PRO 6000 96GB", 503.8, 1007.6, 1792, 95.6, 64, 600,
           "hmc-tech.com (sums in float32; fp8 as 1010); gpu.name, which cites VideoCardz; "
           f"{_LOGS}: 97887 MiB, 600 W; link: PCIe 5 x16"),
    Device("mi300x", "MI300X 192GB", 1307.4, 2614.9, 5300, 191.7, 448, 750,
           f"{_STAS} (as 1300 and 2600; 448 to all seven peers, 64 to one); unseen: memory"),
    Device("mi355x", "MI355X 288GB", 2500, 5000, 8000, 287.98, 537.5, 1400,
           f"{_STAS} (dense); tomshardware.com, MI355X (bandwidth, power); vLLM in public logs: "
           "287.98 GiB; link: 1075 both ways to all seven peers, in several repositories' tables"),
)  # fmt: skip
_BY_NAME = {device.name: device for device in DEVICES}
_ALSO = {"a100-80gb": "a100", "h100-sxm": "h100", "4090": "rtx4090", "5090": "rtx5090",
         "rtxpro-6000": "rtxpro6000"}  # fmt: skip


def device_named(text: str) -> Device:
    """The device with the name `text`, such as h100. Raises UsageError for an unknown one."""
    name = text.strip().lower().replace("_", "-").replace(" ", "-")
    name = name.removeprefix("nvidia-").removeprefix("amd-").replace("rtx-", "rtx")
    device = _BY_NAME.get(_ALSO.get(name, name))
    if device is None:
        raise UsageError(
            f"There is no device called {text!r} to simulate.",
            nearest(name, _BY_NAME) or f"Known: {', '.join(_BY_NAME)}; or a calibration's file.",
        )
    return device

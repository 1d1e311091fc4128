"""Reads GPUs through NVML or AMD SMI and the host through psutil, on threads of their own.

Importing this package loads none of the three: the first read imports them.
"""

from tputtui.hardware.gpu import GpuProcess, GpuSample, MigInstance
from tputtui.hardware.sampler import HardwareSample, HardwareSampler
from tputtui.hardware.system import HostSample

__all__ = [
    "GpuProcess",
    "GpuSample",
    "HardwareSample",
    "HardwareSampler",
    "HostSample",
    "MigInstance",
]

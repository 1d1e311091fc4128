"""The hardware room: GPUs through NVML, the host through psutil, sampled on threads of their own.

Importing it loads neither pynvml nor psutil: both are imported by the first read.
"""

from tputtui.hardware.gpu import GpuSample
from tputtui.hardware.sampler import HardwareSample, HardwareSampler
from tputtui.hardware.system import HostSample

__all__ = ["GpuSample", "HardwareSample", "HardwareSampler", "HostSample"]

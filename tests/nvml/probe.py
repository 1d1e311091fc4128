"""Reads the GPUs as tputtui does, and prints what it saw as JSON. Under LD_LIBRARY_PATH.

probe.py FILE          FILE: while it is there, the library hangs (STUB_NVML_HANG)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from tputtui.hardware import HardwareSampler
from tputtui.hardware.nvml import NvmlReader

PATIENCE_S = 500.0


def until(true: Callable[[], object]) -> None:
    """Looks until it is so."""
    end_s = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.001)


def readings() -> dict[str, Any]:
    """Two readings, 2 s apart by the reader's clock; then eight more, for those asked in turn."""
    now_s = 100.0
    reader = NvmlReader(environ={"CUDA_VISIBLE_DEVICES": "0,1,2"}, clock=lambda: now_s)
    first = reader.read()
    now_s = 102.0
    second = reader.read()
    for _ in range(8):
        last = reader.read()
    reader.close()
    return {
        "status": reader.status,
        "driver": reader.driver_version,
        "first": msgspec.to_builtins(first),
        "second": msgspec.to_builtins(second),
        "last": msgspec.to_builtins(last),
    }


def hang(file: Path) -> dict[str, Any]:
    """A call that does not return, and then does."""
    now_s = 100.0
    sampler = HardwareSampler(lambda: now_s, period_s=0.001)
    sampler.start()
    until(lambda: (seen := sampler.latest()) is not None and seen.gpus and seen.host)
    file.touch()
    until(file.with_name(f"{file.name}.hung").exists)
    now_s = 110.0
    # The host's figures go on.
    until(lambda: sampler.latest().host_t_s == now_s)
    hung = sampler.latest()
    told = {
        "gpus": len(hung.gpus),
        "age_s": hung.gpu_age_s(now_s),
        "stale": hung.gpus_stale(now_s),
    }
    file.unlink()
    until(lambda: sampler.latest().gpu_t_s == now_s)
    told["stale_afterwards"] = sampler.latest().gpus_stale(now_s)
    mark = file.with_name(f"{file.name}.hung")
    mark.unlink()
    file.touch()
    until(mark.exists)
    # The library hangs until the file is gone: this returns before, or never.
    told["stopped"] = sampler.stop(0.05)
    file.unlink()
    return told


if __name__ == "__main__":
    sys.stdout.write(json.dumps(readings() | {"hang": hang(Path(sys.argv[1]))}))

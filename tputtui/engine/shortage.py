"""Who holds the memory of the GPUs that an engine did not find room in."""

from __future__ import annotations

from tputtui.hardware import GpuSample, HardwareSample, HardwareSampler
from tputtui.text.format import size

__all__ = ["holders", "memory_held"]

_ANSWER_S = 1.5
_MUCH = 0.05
"""Others that hold less of a GPU's memory are not what keeps an engine out."""


def memory_held() -> str:
    """What others hold, in sentences, by a fresh look at the GPUs; empty where that is not it."""
    sample = HardwareSampler().look_once(_ANSWER_S)
    return holders(sample) if sample else ""


def holders(sample: HardwareSample) -> str:
    """Each GPU of ours with what others hold of it and who they are; empty for none."""
    told = [_held(gpu) for gpu in sample.gpus if gpu.visible]
    held = [sentence for sentence in told if sentence]
    if not held:
        return ""
    advice = "`tputtui attach` lists what serves here: its limits may be tuned where it runs."
    return " ".join([*held, advice])


def _held(gpu: GpuSample) -> str:
    total, others = gpu.mem_total_bytes, gpu.mem_others_bytes
    if others is None:  # A driver that does not tell whose memory it is: ours is little by then.
        others = gpu.mem_used_bytes
    if not total or not others or others < _MUCH * total:
        return ""
    theirs = [each for each in gpu.processes if not each.ours]
    names = ", ".join(f"{each.name or 'a process'} (pid {each.pid})" for each in theirs)
    by = f" by {names}" if names else ""
    return f"GPU {gpu.index}: {size(others, 0)} of {size(total, 0)} are held{by}."

"""The GPUs that the engine may use, by CUDA's variable and rules. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def visible_indices(
    setting: str | None,
    uuids: Sequence[str],
    mig_parent: Callable[[str], int | None] = lambda uuid: None,
) -> frozenset[int]:
    """The GPUs that CUDA shows under CUDA_VISIBLE_DEVICES: all when unset, none when empty.

    Entries are indices (in PCI order, which vLLM sets), GPU UUIDs or beginnings of UUIDs, or MIG
    instances; as in CUDA, the first entry that names nothing ends the list.
    """
    if setting is None:
        return frozenset(range(len(uuids)))
    shown: set[int] = set()
    for entry in (part.strip() for part in setting.split(",")):
        index: int | None = None
        if entry.isdecimal():
            index = int(entry) if int(entry) < len(uuids) else None
        elif entry.startswith("MIG-"):
            index = mig_parent(entry)
        elif entry.startswith("GPU-"):
            index = next((i for i, uuid in enumerate(uuids) if uuid.startswith(entry)), None)
        if index is None:
            break
        shown.add(index)
    return frozenset(shown)

"""A profile's tuned values as arguments of a boot, for the export and for a verify boot.

start_up(profile)  →  arguments, each limit as its flag
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from tputtui.engine.models import is_shape
from tputtui.engine.target import is_server
from tputtui.errors import UsageError
from tputtui.knobs import knob, spoken
from tputtui.profile import EngineSpec, EngineValue, Profile

__all__ = ["StartUp", "start_up"]


class StartUp(NamedTuple):
    """What to boot, and what a person should know about it.

    notes: in sentences. refused: why vLLM does not boot with these arguments; empty where no
    reason is known.
    """

    spec: EngineSpec
    notes: tuple[str, ...]
    refused: str = ""


def start_up(profile: Profile) -> StartUp:
    """The engine's arguments with every limit of the profile as its own flag.

    A watermark in blocks becomes the fraction of the KV cache that the flag takes. Without the size
    of the cache (the evidence has it) the watermark is left out, with a note.
    Raises UsageError for a profile of a server.
    """
    if is_server(profile.engine.model):
        raise UsageError(
            f"{profile.engine.model} is a server: it is booted where it runs, not from here.",
            "A profile with a MODEL of its own can be verified and exported.",
        )
    args: dict[str, EngineValue] = dict(profile.engine.args)
    notes: list[str] = []
    for name, value in profile.knobs.items():
        limit = knob(name)
        if name == "watermark_blocks":
            _put_watermark(args, value, profile, notes)
        elif limit.choices:
            word = spoken(name, value)
            args[limit.argument] = {"on": True, "off": False}.get(word, word)
        elif limit.absent and not value:
            args.pop(limit.argument, None)
        else:
            args[limit.argument] = value
    longest, part = args.get("max_model_len"), args.get("long_prefill_token_threshold")
    if isinstance(longest, int) and isinstance(part, int) and 0 < longest < part:
        # Every admitted request is treated the same; vLLM does not boot with a higher threshold.
        args["long_prefill_token_threshold"] = longest
    active, most = args.get("max_num_active_seqs"), args.get("max_num_seqs")
    if isinstance(active, int) and isinstance(most, int) and active > most:
        # A higher value has no effect; vLLM does not boot with it either.
        args["max_num_active_seqs"] = most
    seqs, tokens, refused = args.get("max_num_seqs"), args.get("max_num_batched_tokens"), ""
    if isinstance(seqs, int) and isinstance(tokens, int) and tokens < seqs:
        refused = (
            f"vLLM does not boot with fewer batched tokens ({tokens}) than sequences ({seqs}): "
            "lower max_num_seqs."
        )
        notes.append(refused)
    if profile.knobs.get("scheduling_policy"):
        notes.append(
            "Policy priority orders by the priority that clients send; the load measured here sent "
            "each prompt's length."
        )
    if is_shape(profile.engine.model):
        notes.append("A built-in shape has random weights: put your model in its place.")
    return StartUp(EngineSpec(profile.engine.model, args), tuple(notes), refused)


def _put_watermark(
    args: dict[str, EngineValue], blocks: int, profile: Profile, notes: list[str]
) -> None:
    given = profile.knobs.get("num_gpu_blocks") or args.get("num_gpu_blocks_override")
    total = given if isinstance(given, int) and given > 0 else _booted_blocks(profile)
    if blocks == 0:
        args["watermark"] = 0.0
    elif total:
        # vLLM rounds down to whole blocks; half a block more gives the same number again.
        args["watermark"] = float(f"{(blocks + 0.5) / total:.9g}")
    else:
        notes.append(
            f"watermark_blocks {blocks} is left out: the flag takes a fraction, and this profile "
            "does not say how many blocks there are (save it from a run)."
        )


def _booted_blocks(profile: Profile) -> int:
    measured = profile.evidence.tuned if profile.evidence else None
    ceilings: Mapping[str, object] = measured.ceilings if measured else {}
    blocks = ceilings.get("num_gpu_blocks")
    return blocks if isinstance(blocks, int) else 0

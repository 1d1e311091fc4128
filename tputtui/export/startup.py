"""A profile's tuned values as arguments of a boot, for the export and for a verify boot.

start_up(profile)  →  arguments, each limit as its flag
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from tputtui.engine.arguments import text_of
from tputtui.engine.models import is_shape
from tputtui.engine.resolved import AS_FITS
from tputtui.engine.schedule import SCHEDULE, constant
from tputtui.engine.target import is_server
from tputtui.errors import UsageError
from tputtui.knobs import knob, spoken
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.profile.spelling import canonical, named

__all__ = ["StartUp", "start_up"]


class StartUp(NamedTuple):
    """What to boot, and what a person should know about it.

    notes: in sentences. refused: why vLLM does not boot with these arguments; empty where no
    reason is known.
    """

    spec: EngineSpec
    notes: tuple[str, ...]
    refused: str = ""


def start_up(profile: Profile, *, active_seqs: bool = False) -> StartUp:
    """The engine's arguments with every limit of the profile as its own flag.

    active_seqs: the sequences tuned as vLLM's `max_num_active_seqs`, beside the ceiling they were
    tuned below, in place of a lower `max_num_seqs`: buffers, CUDA graphs and KV cache stay those
    that were measured.
    A watermark in blocks becomes the fraction of the KV cache that the flag takes. Without the size
    of the cache (the evidence has it) the watermark is left out, with a note. An argument that vLLM
    resolved to something else than was asked for, as the evidence says, becomes what it came to.
    Raises UsageError for a profile of a server, and where `active_seqs` cannot be had.
    """
    if is_server(profile.engine.model):
        raise UsageError(
            f"{profile.engine.model} is a server: it is booted where it runs, not from here.",
            "A profile with a MODEL of its own can be verified and exported.",
        )
    args: dict[str, EngineValue] = dict(profile.engine.args)
    notes: list[str] = []
    ceiling = _seqs_ceiling(profile) if active_seqs else None
    _put_resolved(args, profile, notes)
    for name, value in profile.knobs.items():
        limit = knob(name)
        if name == "watermark_blocks":
            _put_watermark(args, value, profile, notes)
        elif name == "num_speculative_tokens":
            _put_schedule(args, value)
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
    if active_seqs:
        _put_active(args, ceiling, notes)
    active, most = args.get("max_num_active_seqs"), args.get("max_num_seqs")
    if isinstance(active, int) and isinstance(most, int) and active > most:
        # A higher value has no effect; vLLM does not boot with it either.
        args["max_num_active_seqs"] = most
    seqs, tokens, refused = args.get("max_num_seqs"), args.get("max_num_batched_tokens"), ""
    if isinstance(seqs, int) and isinstance(tokens, int) and tokens < seqs:
        refused = (
            f"vLLM does not boot with fewer batched tokens ({tokens}) than sequences ({seqs}): "
            + ("leave out --active-seqs." if active_seqs else "lower max_num_seqs.")
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


def _put_resolved(args: dict[str, EngineValue], profile: Profile, notes: list[str]) -> None:
    measured = profile.evidence.in_process if profile.evidence else None
    for name, came in (measured.resolved if measured else {}).items():
        section, dot, key = name.partition(".")
        group = args.get(section)
        place: dict[str, EngineValue] | None = args
        if dot:
            place = group = dict(group) if isinstance(group, dict) else None
        wanted = place.get(key or name) if place else None
        # Whoever has edited the profile since asks for something else than was resolved.
        as_asked = AS_FITS if wanted in (-1, "-1", "auto") else text_of(wanted)
        if place is None or not came.asked or came.asked != as_asked:
            continue
        place[key or name] = _value(came.got)
        if dot:
            args[section] = place
        why = f": {came.why}" if came.why else ""
        notes.append(f"{key or name}: asked {came.asked}, and vLLM made it {came.got}{why}.")


def _value(text: str) -> EngineValue:
    """The value of a text that `text_of` made."""
    if text in ("on", "off"):
        return text == "on"
    return int(text) if text.isdecimal() else text


def _put_schedule(args: dict[str, EngineValue], most: int) -> None:
    """Let speculation draft at most so many tokens, for which vLLM takes a schedule by batch size.

    vLLM configures no number below 1 without one. A schedule of a person's own is lowered to it.
    """
    given = canonical(args).get("speculative_config")
    config: dict[str, Any] = dict(given) if isinstance(given, dict) else {}
    batch = args.get("max_num_seqs")
    whole = constant(most, batch) if isinstance(batch, int) and batch else constant(most)
    ranges = config.get(SCHEDULE) or whole
    config[SCHEDULE] = [[low, high, min(drafts, most)] for low, high, drafts in ranges]
    for name in [name for name in args if named(name.partition(".")[0]) == "speculative_config"]:
        del args[name]
    args["speculative_config"] = config


def _put_watermark(
    args: dict[str, EngineValue], blocks: int, profile: Profile, notes: list[str]
) -> None:
    given = profile.knobs.get("num_gpu_blocks") or args.get("num_gpu_blocks_override")
    total = given if isinstance(given, int) and given > 0 else _booted(profile, "num_gpu_blocks")
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


def _put_active(args: dict[str, EngineValue], ceiling: int | None, notes: list[str]) -> None:
    """Put the sequences tuned beside their ceiling; None where vLLM's default is the ceiling."""
    tuned = args.get("max_num_seqs")
    if not isinstance(tuned, int) or tuned == ceiling:
        return
    args["max_num_active_seqs"] = tuned
    if ceiling is None:
        del args["max_num_seqs"]
        notes.append(
            "--max-num-seqs is left to vLLM's default: this profile does not say what was booted."
        )
    else:
        args["max_num_seqs"] = ceiling


def _seqs_ceiling(profile: Profile) -> int | None:
    """The sequences booted, of which fewer were tuned; None where the profile does not say.

    Raises UsageError where the vLLM that was measured has no limit of active sequences.
    """
    measured = profile.evidence.tuned if profile.evidence else None
    version = measured.machine.versions.get("vllm", "") if measured else ""
    if re.match(r"0\.([0-9]|[12][0-9]|30)\.", version):
        raise UsageError(
            f"vLLM {version} has no --max-num-active-seqs.",
            "0.31 and newer have it; without --active-seqs it is exported as --max-num-seqs.",
        )
    booted = profile.engine.args.get("max_num_seqs")
    return booted if isinstance(booted, int) else _booted(profile, "max_num_seqs") or None


def _booted(profile: Profile, name: str) -> int:
    """The ceiling of a limit by the evidence; 0 where it does not say."""
    measured = profile.evidence.tuned if profile.evidence else None
    ceilings: Mapping[str, object] = measured.ceilings if measured else {}
    booted = ceilings.get(name)
    return booted if isinstance(booted, int) else 0

"""Which parts of a profile may change what the model answers, and the profile without them. Pure.

Ceilings and limits change how requests are batched; these change what is computed.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from tputtui.profile.spec import EngineSpec, EngineValue, Profile
from tputtui.profile.spelling import canonical

__all__ = ["changes_answers", "plain"]

_USUAL: Mapping[str, tuple[EngineValue, ...]] = {
    "dtype": (None, "auto"),
    "quantization": (None,),
    "kv_cache_dtype": (None, "auto"),
    "speculative_config": (None, {}),
    "enable_prefix_caching": (None, True),
}
"""The arguments, and their values with which the model answers as it is."""
_CACHING = "enable_prefix_caching"


def changes_answers(profile: Profile) -> list[str]:
    """What in the profile may change answers, each with its value: "kv_cache_dtype fp8"."""
    args = canonical(profile.engine.args)
    if _CACHING in profile.knobs:
        args[_CACHING] = bool(profile.knobs[_CACHING])
    return [
        f"{name} {_spoken(args[name])}"
        for name, usual in _USUAL.items()
        if name in args and args[name] not in usual
    ]


def plain(profile: Profile) -> Profile:
    """The profile without what may change answers, whose own answers are the reference."""
    args = {name: value for name, value in canonical(profile.engine.args).items()
            if name not in _USUAL}  # fmt: skip
    knobs = {name: value for name, value in profile.knobs.items() if name != _CACHING}
    engine = EngineSpec(profile.engine.model, args)
    return msgspec.structs.replace(profile, engine=engine, knobs=knobs)


def _spoken(value: EngineValue) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, dict):
        method = value.get("method") or value.get("model")
        return method if isinstance(method, str) else "given"
    return str(value)

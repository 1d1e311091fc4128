"""A profile as a document: `parse` reads the YAML, `dump` writes it. Pure.

For a mistake in a file, the error names the file, the place, the expected value and the nearest
valid key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
import yaml

from tputtui.errors import ProfileError, UsageError
from tputtui.goals import goals_from, goals_to
from tputtui.knobs import knob, spoken
from tputtui.load.workload import Workload
from tputtui.profile.evidence import Evidence
from tputtui.profile.explain import explain, keys_of, where
from tputtui.profile.migrate import VERSION, migrated, version_of
from tputtui.profile.spec import DEFAULT_WORKLOAD, EngineSpec, EngineValue, Profile, class_goals
from tputtui.profile.spelling import canonical, ceiling_of, dropped, repeated
from tputtui.profile.yamltext import Inline, read_yaml, write_yaml

__all__ = ["Document", "document_of", "dump", "parse"]

SHAPE_HINT = "A profile starts with `tputtui: 1`, then `engine:`, `limits:` and `load:`."


class LimitValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The live limits, at or below their ceilings; other limits keep their value from the boot."""

    max_num_seqs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_num_batched_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_model_len: Annotated[int, msgspec.Meta(ge=2)] | None = None
    long_prefill_token_threshold: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_gpu_blocks: Annotated[int, msgspec.Meta(ge=2)] | None = None
    watermark_blocks: Annotated[int, msgspec.Meta(ge=0)] | None = None
    enable_prefix_caching: bool | None = None
    scheduling_policy: Literal["fcfs", "priority"] | None = None
    scheduler_reserve_full_isl: bool | None = None
    num_speculative_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_num_queued_reqs: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_num_queued_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
    prefill_schedule_interval: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def numbers(self) -> dict[str, int]:
        """Name to value, as in `Knobs`, of the limits that are given."""
        given = {k: v for k, v in msgspec.structs.asdict(self).items() if v is not None}
        return {
            name: knob(name).choices.index(value) if isinstance(value, str) else int(value)
            for name, value in given.items()
        }


class Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"knobs": "limits"}):
    """A tputtui profile: what to boot, the load, and the limits.

    tputtui: the version of this format. about: its purpose, in a line.
    engine: the model, and any vLLM engine argument by its long name; vLLM checks these at boot.
    serve: flags of vLLM's HTTP server, for exports. limits: the live ones. load: the requests to
    send.
    goal: the times to serve requests within, such as `ttft_p99: 500ms`.
    price_per_hour: of the machine, in any currency. evidence: measured results; written by tputtui.
    """

    tputtui: int
    about: str = ""
    engine: dict[str, EngineValue] = {}
    serve: dict[str, EngineValue] = {}
    knobs: LimitValues = LimitValues()
    load: Workload | None = None
    goal: dict[str, str | float] = {}
    price_per_hour: Annotated[float, msgspec.Meta(gt=0)] | None = None
    evidence: Evidence | None = None


_SECTIONS = keys_of(Document)
_SECTIONS |= {"knobs": _SECTIONS["limits"]}


def parse(text: str, source: str) -> Profile:
    """Read a profile from YAML `text`; `source` names the file in errors. Raises ProfileError."""
    try:
        raw = read_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError(f"{source}: not readable as YAML: {where(error)}.", SHAPE_HINT) from None
    if not isinstance(raw, dict):
        raise ProfileError(f"{source}: expected keys and values at the top.", SHAPE_HINT)
    version = version_of(raw)
    if version is None:
        problem = f"found {raw['tputtui']!r}" if "tputtui" in raw else "the key is missing"
        raise ProfileError(
            f"{source}: tputtui: expected the profile version {VERSION}, {problem}.", SHAPE_HINT
        )
    if version > VERSION:
        raise ProfileError(
            f"{source}: tputtui: this reads up to version {VERSION}, and found {version}.",
            "Upgrade tputtui, or use the one that wrote it.",
        )
    if "knobs" in raw and "limits" in raw:
        raise ProfileError(
            f"{source}: limits: it stands twice, as knobs as well.", "Keep one of them."
        )
    section = "knobs" if "knobs" in raw else "limits"
    try:
        return _profile(migrated(raw, version), source, section)
    except (msgspec.ValidationError, RecursionError) as error:
        # The place as it is called in the file.
        text = str(error).replace("$.limits", f"$.{section}")
        raise ProfileError(*explain(text, raw, source, _SECTIONS)) from None


def _profile(raw: dict[Any, Any], source: str, section: str) -> Profile:
    """section: what the file calls its limits."""
    document = msgspec.convert(raw, Document)
    model = document.engine.get("model", "shape:demo")
    if not isinstance(model, str) or not model:
        raise msgspec.ValidationError(f"Expected `str`, got `{model!r}` - at `$.engine.model`")
    args = _arguments("engine", {k: v for k, v in document.engine.items() if k != "model"})
    knobs = document.knobs.numbers()
    _check_ceilings(knobs, args, f"{source}: {section}")
    try:
        goals = goals_from(document.goal)
    except UsageError as error:
        raise ProfileError(f"{source}: goal: {error.message}", error.hint) from None
    try:
        class_goals(document.load or DEFAULT_WORKLOAD)
    except UsageError as error:
        raise ProfileError(f"{source}: load.classes: {error.message}", error.hint) from None
    return Profile(
        engine=EngineSpec(model, args),
        load=document.load or DEFAULT_WORKLOAD,
        knobs=knobs,
        about=document.about.strip(),
        evidence=document.evidence,
        goals=goals,
        price_per_hour=document.price_per_hour,
        serve=_arguments("serve", document.serve),
    )


def _arguments(section: str, written: Mapping[str, EngineValue]) -> dict[str, EngineValue]:
    """Arguments in one spelling. Raises ValidationError for one given twice, in two spellings."""
    if twice := repeated(written):
        key, other = twice
        raise msgspec.ValidationError(
            f"It stands twice, as {other} as well - at `$.{section}.{key}`"
        )
    if lost := dropped(written):
        raise msgspec.ValidationError(
            f"It stands beside keys of the same argument in another spelling, which vLLM takes in "
            f"its place - at `$.{section}.{lost[0]}`"
        )
    return canonical(written)


def _check_ceilings(knobs: dict[str, int], args: dict[str, EngineValue], section: str) -> None:
    for name, value in knobs.items():
        limit = knob(name)
        ceiling = ceiling_of(args, limit.argument)
        if limit.boots and ceiling is not None and value > ceiling:
            shown, above = (spoken(name, value), spoken(name, ceiling))
            raise ProfileError(
                f"{section}.{name}: {shown} is above its ceiling, engine.{limit.argument} {above}.",
                "Raise the one or lower the other.",
            )


def dump(profile: Profile) -> str:
    """The YAML text that `parse` turns back into the same profile."""
    return write_yaml(laid_out(document_of(profile)))


def document_of(profile: Profile) -> dict[str, Any]:
    """The document that `dump` writes, as plain values."""
    document: dict[str, Any] = {"tputtui": VERSION}
    if profile.about:
        document["about"] = profile.about
    document["engine"] = {"model": profile.engine.model, **profile.engine.args}
    if profile.serve:
        document["serve"] = dict(profile.serve)
    if profile.knobs:
        document["limits"] = {name: written(name, v) for name, v in profile.knobs.items()}
    # The seed is written even if it is 0, since it makes the load repeatable.
    document["load"] = msgspec.to_builtins(profile.load) | {"seed": profile.load.seed}
    if profile.goals:
        document["goal"] = goals_to(profile.goals)
    if profile.price_per_hour is not None:
        document["price_per_hour"] = profile.price_per_hour
    if profile.evidence is not None:
        document["evidence"] = msgspec.to_builtins(profile.evidence)
    return document


def written(name: str, value: int) -> int | bool | str:
    """A limit as the file contains it: switches as true and false, other choices as words."""
    word = spoken(name, value)
    return {"off": False, "on": True}.get(word, word) if knob(name).choices else value


def laid_out(document: dict[str, Any]) -> dict[str, Any]:
    """The same document, in which small mappings two levels down take one line each."""
    return {
        key: {inner: _inline(part) for inner, part in value.items()}
        if isinstance(value, dict)
        else value
        for key, value in document.items()
    }


def _inline(value: Any) -> Any:
    if not isinstance(value, dict) or not value:
        return value
    small = len(repr(value)) <= 90 and not any(isinstance(v, dict) and v for v in value.values())
    return Inline(value) if small else {key: _inline(part) for key, part in value.items()}

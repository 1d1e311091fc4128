"""Profiles: what to boot, what to load it with, how its limits stand. YAML in, YAML out. Pure.

A profile is a file a person can write by hand. Every mistake in one is told in a sentence with
the file, the place, what was expected and the nearest valid key.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
import yaml

from tputtui.errors import ProfileError, UsageError, nearest
from tputtui.goals import Goal, goals_from, goals_to
from tputtui.knobs import knob, spoken
from tputtui.load import lengths, levels, workload
from tputtui.load.lengths import LogNormal
from tputtui.load.workload import ClosedLoop, Workload

__all__ = ["EngineSpec", "Profile", "find", "load", "parse", "save", "shipped",
           "tokenizer_of"]  # fmt: skip

VERSION = 1

Scalar = bool | int | float | str
EngineValue = Scalar | None | list[Scalar] | dict[str, Any]


class EngineSpec(msgspec.Struct, frozen=True):
    """What needs a boot: the model and any of vLLM's engine arguments, named as vLLM names them."""

    model: str
    args: dict[str, EngineValue] = {}

    def overridden(self, model: str | None, args: dict[str, EngineValue]) -> EngineSpec:
        """A copy with another model and further arguments put on top."""
        return EngineSpec(model or self.model, {**self.args, **args})


def tokenizer_of(spec: EngineSpec) -> str:
    """Where the model's own tokenizer is: a path or a hub id; empty for a shape."""
    named = spec.args.get("tokenizer")
    if isinstance(named, str) and named:
        return named
    return "" if spec.model.startswith("shape:") else spec.model


class _KnobValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    max_num_seqs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_num_batched_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_model_len: Annotated[int, msgspec.Meta(ge=2)] | None = None
    long_prefill_token_threshold: Annotated[int, msgspec.Meta(ge=0)] | None = None
    num_gpu_blocks: Annotated[int, msgspec.Meta(ge=2)] | None = None
    watermark_blocks: Annotated[int, msgspec.Meta(ge=0)] | None = None
    enable_prefix_caching: bool | None = None
    scheduling_policy: Literal["fcfs", "priority"] | None = None
    scheduler_reserve_full_isl: bool | None = None

    def numbers(self) -> dict[str, int]:
        """Name to value as `Knobs` has it, of those that are given."""
        given = {k: v for k, v in msgspec.structs.asdict(self).items() if v is not None}
        return {
            name: knob(name).choices.index(value) if isinstance(value, str) else int(value)
            for name, value in given.items()
        }


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as written. `engine` takes any vLLM key; vLLM itself checks those at boot."""

    tputtui: int
    about: str = ""
    engine: dict[str, EngineValue] = {}
    knobs: _KnobValues = _KnobValues()
    load: Workload | None = None
    goal: dict[str, str | float] = {}
    price_per_hour: Annotated[float, msgspec.Meta(gt=0)] | None = None
    evidence: dict[str, Any] = {}


DEFAULT_WORKLOAD = Workload(
    arrivals=ClosedLoop(96),
    prompt=LogNormal(120, 0.5, 16, 512),
    output=LogNormal(80, 0.4, 16, 256),
)
"""The embedded default: short chats, half as many again in flight as 64 sequences can run."""


class Profile(msgspec.Struct, frozen=True):
    """One setting of everything.

    knobs: the live limits by name; one left out stands at its ceiling.
    goals: what the load should be served within.
    price_per_hour: what the machine costs, in any currency; for the cost of a million tokens.
    evidence: what was measured when the profile was saved, for a person to read.
    """

    engine: EngineSpec
    load: Workload = DEFAULT_WORKLOAD
    knobs: dict[str, int] = {}
    about: str = ""
    evidence: dict[str, Any] = {}
    goals: tuple[Goal, ...] = ()
    price_per_hour: float | None = None


def parse(text: str, source: str) -> Profile:
    """A profile from YAML `text`; `source` names the file in messages. Raises ProfileError."""
    try:
        raw = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProfileError(f"{source}: not readable as YAML: {_where(error)}.", _SHAPE) from None
    if not isinstance(raw, dict):
        raise ProfileError(f"{source}: expected keys and values at the top.", _SHAPE)
    if raw.get("tputtui") != VERSION or raw.get("tputtui") is True:
        found = f"found {raw['tputtui']!r}" if "tputtui" in raw else "the key is missing"
        raise ProfileError(
            f"{source}: tputtui: expected the profile version {VERSION}, {found}.", _SHAPE
        )
    try:
        document = msgspec.convert(raw, _Document)
        model = document.engine.get("model", "shape:demo")
        if not isinstance(model, str) or not model:
            raise msgspec.ValidationError(f"Expected `str`, got `{model!r}` - at `$.engine.model`")
    except (msgspec.ValidationError, RecursionError) as error:
        raise ProfileError(*_explain(error, raw, source)) from None
    try:
        goals = goals_from(document.goal)
    except UsageError as error:
        raise ProfileError(f"{source}: goal: {error.message}", error.hint) from None
    return Profile(
        engine=EngineSpec(model, {_key(k): v for k, v in document.engine.items() if k != "model"}),
        load=document.load or DEFAULT_WORKLOAD,
        knobs=document.knobs.numbers(),
        about=document.about.strip(),
        evidence=document.evidence,
        goals=goals,
        price_per_hour=document.price_per_hour,
    )


def _key(written: str) -> str:
    """vLLM's own spelling of a key; a short flag (-tp) stays as it is."""
    return written if written.startswith("-") else written.replace("-", "_")


def load(path: Path) -> Profile:
    """The profile in `path`. Raises ProfileError with the file and the place."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ProfileError(f"{path}: not a text file in UTF-8.", _SHAPE) from None
    except OSError as error:
        raise ProfileError(f"{path}: {error.strerror or error}.", _SHIPPED_HINT) from None
    return parse(text, str(path))


def dump(profile: Profile) -> str:
    """The YAML text `parse` reads back as the same profile."""
    document: dict[str, Any] = {"tputtui": VERSION}
    if profile.about:
        document["about"] = profile.about
    document["engine"] = {"model": profile.engine.model, **profile.engine.args}
    if profile.knobs:
        document["knobs"] = {name: _written(name, v) for name, v in profile.knobs.items()}
    # The seed is said even where it is 0: it is what makes the load repeatable.
    document["load"] = msgspec.to_builtins(profile.load) | {"seed": profile.load.seed}
    if profile.goals:
        document["goal"] = goals_to(profile.goals)
    if profile.price_per_hour is not None:
        document["price_per_hour"] = profile.price_per_hour
    if profile.evidence:
        document["evidence"] = profile.evidence
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _written(name: str, value: int) -> int | bool | str:
    """A limit as it stands in the file: switches as true and false, other choices as words."""
    word = spoken(name, value)
    return {"off": False, "on": True}.get(word, word) if knob(name).choices else value


def save(profile: Profile, path: Path, *, overwrite: bool = False) -> Path:
    """Write `profile` to `path` whole or not at all; an existing file is kept unless `overwrite`.

    Raises ProfileError when the file exists or cannot be written. Returns the absolute path.
    """
    path = path.expanduser().absolute()
    scratch: Path | None = None
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        scratch = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(dump(profile))
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), 0o644)
        if overwrite:
            os.replace(scratch, path)
        else:
            # A link fails if the name exists: two instances cannot both win.
            os.link(scratch, path)
    except OSError as error:
        if scratch is not None and isinstance(error, FileExistsError):
            raise ProfileError(f"{path} exists already.", "Choose another name.") from None
        raise ProfileError(
            f"{path} could not be written: {error.strerror or error}.", "Choose another place."
        ) from None
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    return path


class _Loader(yaml.SafeLoader):
    """Safe YAML without aliases: no cycles, and no few lines that expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "a profile takes no aliases (*name)", event.start_mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def shipped() -> dict[str, Path]:
    """Name to path of the profiles that come with tputtui."""
    return {path.stem: path for path in _listed(_shipped_dir())}


def find(name: str) -> Path:
    """The file that `--profile NAME` means: a path, else a user's profile, else a shipped one."""
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name).expanduser()
    known = shipped() | {path.stem: path for path in _listed(user_dir())}
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    raise ProfileError(
        f"There is no profile called {name!r}.",
        nearest(name, known) or f"Known: {', '.join(sorted(known))}. Or give a file's path.",
    )


def user_dir() -> Path:
    """Where a person keeps profiles that are found by name."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "tputtui" / "profiles"


def _shipped_dir() -> Path:
    installed = Path(str(resources.files("tputtui"))) / "_profiles"
    return installed if installed.is_dir() else Path(__file__).parent.parent / "profiles"


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.glob("*.yaml"))
    except OSError:
        return []


_SHAPE = "A profile starts with `tputtui: 1`, then `engine:`, `knobs:` and `load:`."
_SHIPPED_HINT = "`tputtui --profile demo` starts from a shipped one."


def _kinds(union: Any) -> dict[str, tuple[str, ...]]:
    """Tag → its keys, for every kind of a tagged union."""
    kinds = [part for part in get_args(union) if hasattr(part, "__struct_fields__")]
    return {str(k.__struct_config__.tag): ("kind", *k.__struct_fields__) for k in kinds}


_LENGTHS, _LEVELS = _kinds(lengths.Lengths), _kinds(levels.Level)
_KINDS = {
    "load.prompt": _LENGTHS,
    "load.output": _LENGTHS,
    "load.sessions.turns": _LENGTHS,
    "load.arrivals": _kinds(workload.Arrivals),
    "load.arrivals.rate": _LEVELS,
    "load.arrivals.in_flight": _LEVELS,
}
_SECTIONS = {
    "": _Document.__struct_fields__,
    "knobs": _KnobValues.__struct_fields__,
    "load": Workload.__struct_fields__,
    "load.prefix": workload.Prefix.__struct_fields__,
    "load.sessions": workload.Sessions.__struct_fields__,
    "load.trace": workload.TraceFile.__struct_fields__,
}


def _explain(error: Exception, raw: dict[Any, Any], source: str) -> tuple[str, str]:
    """A sentence with file, key path and what was expected, and a hint with the nearest key."""
    match = re.fullmatch(r"(.*?)(?: - at `(key in )?\$\.?(.*?)`)?", str(error), re.DOTALL)
    what, place = (match[1], match[3] or "") if match else (str(error), "")
    place = place.replace("[...]", ".…")
    hint = ""
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        place, parent = f"{place}.{unknown[1]}".lstrip("."), place
        kind = _value(raw, f"{parent}.kind")
        valid = _SECTIONS.get(parent) or _KINDS.get(parent, {}).get(str(kind), ())
        what = "there is no such key"
        hint = nearest(unknown[1], valid) or f"Valid here: {', '.join(valid)}."
    elif missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        place = f"{place}.{missing[1]}".lstrip(".")
        what = "the key is required"
    elif missing := re.fullmatch(r"(\w+) is required, (.*)", what):
        place = f"{place}.{missing[1]}".lstrip(".")
        what = f"the key is required, {missing[2]}"
    elif invalid := re.fullmatch(r"Invalid value '?(.*?)'?", what):
        kinds = tuple(_KINDS.get(place.removesuffix(".kind"), ()))
        what = f"{invalid[1]!r} is not one of {', '.join(kinds)}"
        hint = nearest(invalid[1], kinds)
    else:
        what = what[:1].lower() + what[1:] + _found(raw, place)
    return f"{source}: {place + ': ' if place else ''}{what.rstrip('.')}.", hint


def _value(raw: Any, place: str) -> Any:
    for key in place.split("."):
        if not isinstance(raw, dict) or key not in raw:
            return None
        raw = raw[key]
    return raw


def _found(raw: Any, place: str) -> str:
    value = _value(raw, place)
    return f" (found {str(value)[:40]!r})" if isinstance(value, Scalar) else ""


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{problem}".rstrip(".")

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
from typing import Annotated, Any

import msgspec
import yaml

from tputtui.errors import ProfileError, nearest
from tputtui.load.workload import ClosedLoop, LogNormal, Workload

__all__ = ["EngineSpec", "Profile", "find", "load", "parse", "save", "shipped"]

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


class _KnobValues(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    max_num_seqs: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_num_batched_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_model_len: Annotated[int, msgspec.Meta(ge=2)] | None = None


class _Goal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nothing can be asked for yet; the section is reserved."""


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file as written. `engine` takes any vLLM key; vLLM itself checks those at boot."""

    tputtui: int
    about: str = ""
    engine: dict[str, EngineValue] = {}
    knobs: _KnobValues = _KnobValues()
    load: Workload | None = None
    goal: _Goal = _Goal()
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
    evidence: what was measured when the profile was saved, for a person to read.
    """

    engine: EngineSpec
    load: Workload = DEFAULT_WORKLOAD
    knobs: dict[str, int] = {}
    about: str = ""
    evidence: dict[str, Any] = {}


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
    return Profile(
        engine=EngineSpec(model, {_key(k): v for k, v in document.engine.items() if k != "model"}),
        load=document.load or DEFAULT_WORKLOAD,
        knobs={k: v for k, v in msgspec.structs.asdict(document.knobs).items() if v is not None},
        about=document.about.strip(),
        evidence=document.evidence,
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
        document["knobs"] = dict(profile.knobs)
    document["load"] = msgspec.to_builtins(profile.load)
    if profile.evidence:
        document["evidence"] = profile.evidence
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


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
_SECTIONS = {
    "": _Document.__struct_fields__,
    "knobs": _KnobValues.__struct_fields__,
    "load": Workload.__struct_fields__,
    "load.prompt": ("kind", "tokens", "min", "max", "median", "sigma"),
    "load.output": ("kind", "tokens", "min", "max", "median", "sigma"),
    "load.arrivals": ("kind", "in_flight", "rate"),
}


def _explain(error: Exception, raw: dict[Any, Any], source: str) -> tuple[str, str]:
    """A sentence with file, key path and what was expected, and a hint with the nearest key."""
    match = re.fullmatch(r"(.*?)(?: - at `(key in )?\$\.?(.*?)`)?", str(error), re.DOTALL)
    what, place = (match[1], match[3] or "") if match else (str(error), "")
    place = place.replace("[...]", ".…")
    hint = ""
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what):
        place, parent = f"{place}.{unknown[1]}".lstrip("."), place
        valid = _SECTIONS.get(parent, ())
        what = "there is no such key"
        hint = nearest(unknown[1], valid) or f"Valid here: {', '.join(valid)}."
    elif missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        place = f"{place}.{missing[1]}".lstrip(".")
        what = "the key is required"
    elif invalid := re.fullmatch(r"Invalid value '?(.*?)'?", what):
        kinds = ("closed", "poisson") if "arrivals" in place else ("fixed", "uniform", "lognormal")
        what = f"{invalid[1]!r} is not one of {', '.join(kinds)}"
        hint = nearest(invalid[1], kinds)
    else:
        what = what[:1].lower() + what[1:] + _found(raw, place)
    return f"{source}: {place + ': ' if place else ''}{what.rstrip('.')}.", hint


def _found(raw: Any, place: str) -> str:
    value = raw
    for key in place.split("."):
        if not isinstance(value, dict) or key not in value:
            return ""
        value = value[key]
    return f" (found {str(value)[:40]!r})" if isinstance(value, Scalar) else ""


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{place}{problem}".rstrip(".")

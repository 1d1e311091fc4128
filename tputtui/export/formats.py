"""A profile as text in the forms that production uses. Pure.

vLLM's config file has traps, seen in 0.32 and 0.33: `key: false` is ignored silently (so the export
writes `no-key: true`), null becomes the text "None" (so it is left out), and short names are not
accepted.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence

from tputtui.engine import flags, models
from tputtui.engine.config_file import expanded
from tputtui.engine.serve_flags import SECRET, parted
from tputtui.errors import UsageError, nearest
from tputtui.export.containers import compose, dumped, kubernetes
from tputtui.export.startup import start_up
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.profile.flag_kinds import APPENDED, JSON_LISTS
from tputtui.profile.spelling import canonical, flag_of

__all__ = ["FORMATS", "export"]


def export(profile: Profile, name: str, *, active_seqs: bool = False) -> str:
    """`profile` as text in the format `name`, with its tuned values as start-up flags.

    active_seqs: as `start_up` has it.
    Raises UsageError for an unknown format, and for an argument that the format cannot hold.
    """
    if name not in FORMATS:
        hint = nearest(name, FORMATS) or f"Known: {', '.join(FORMATS)}."
        raise UsageError(f"There is no format called {name!r}.", hint)
    start = start_up(profile, active_seqs=active_seqs)
    notes = [*_about(profile), *start.notes]
    spec = models.resolve(start.spec)
    served = {**parted(expanded(start.spec.args))[1], **profile.serve}
    spec.args.update((name, served[name]) for name in served if name not in SECRET)
    return FORMATS[name](_long(spec), profile, notes)


def _vllm(spec: EngineSpec, profile: Profile, notes: Sequence[str]) -> str:
    document: dict[str, EngineValue] = {"model": spec.model}
    for key, value in spec.args.items():
        flag = flag_of(key).removeprefix("--")
        if value is False:
            document[f"no-{flag}"] = True
        elif isinstance(value, str) and len(flags.to_argv({key: value})) == 1:
            # A command joins such a value with an equals sign; the file has no equivalent.
            raise UsageError(
                f"engine: {key}: vLLM's config file cannot hold {value!r}, it looks like a flag.",
                "`--format command` can.",
            )
        elif isinstance(value, list) and key in JSON_LISTS:
            document[flag] = json.dumps(value)
        elif isinstance(value, list) and key in APPENDED:
            raise UsageError(
                f"serve: {key}: vLLM's config file cannot give --{flag} more than once.",
                "`--format command` can.",
            )
        elif value is not None:
            document[flag] = value
    return _comment(["vllm serve --config THIS_FILE.yaml", *notes]) + dumped(document)


def _command(spec: EngineSpec, profile: Profile, notes: Sequence[str]) -> str:
    lines = [f"vllm serve {shlex.quote(spec.model)}", *_by_flag(spec)]
    return _comment(notes) + " \\\n  ".join(lines) + "\n"


def _env(spec: EngineSpec, profile: Profile, notes: Sequence[str]) -> str:
    words = shlex.join(flags.to_argv(spec.args))
    use = r'''. ./THIS_FILE; eval "vllm serve \"\$MODEL\" $SERVE_ARGS"'''
    lines = [f"MODEL={shlex.quote(spec.model)}", f"SERVE_ARGS={shlex.quote(words)}"]
    for name, value in _single(spec.args):
        # The shell would run a line whose name is not a variable's.
        if re.fullmatch(r"[A-Z_][A-Z0-9_]*", name):
            word = str(value).lower() if isinstance(value, bool) else str(value)
            lines.append(f"{name}={shlex.quote(word)}")
    return _comment([use, *notes]) + "\n".join(lines) + "\n"


def _single(args: Mapping[str, object]) -> Iterator[tuple[str, bool | int | float | str]]:
    """(NAME, value) of each single value; NAME__KEY for a value inside a nested argument."""
    for key, value in args.items():
        name = key.upper().replace("-", "_")
        if isinstance(value, dict):
            for inner, each in _single(value):
                yield f"{name}__{inner}", each
        elif isinstance(value, bool | int | float | str):
            yield name, value


def _compose(spec: EngineSpec, profile: Profile, notes: Sequence[str]) -> str:
    return _comment(["docker compose -f THIS_FILE up", *notes]) + compose(spec, _version(profile))


def _k8s(spec: EngineSpec, profile: Profile, notes: Sequence[str]) -> str:
    return _comment(["kubectl apply -f THIS_FILE", *notes]) + kubernetes(spec, _version(profile))


FORMATS: Mapping[str, Callable[[EngineSpec, Profile, Sequence[str]], str]] = {
    "vllm": _vllm,
    "command": _command,
    "env": _env,
    "compose": _compose,
    "k8s": _k8s,
}


# -- inside ------------------------------------------------------------------------------------


def _long(spec: EngineSpec) -> EngineSpec:
    """The spec with long names only, and the model's path as an absolute one."""
    args: dict[str, EngineValue] = {}
    for key, value in canonical(spec.args).items():
        if key.startswith("-"):
            raise UsageError(
                f"engine: {key} is a short flag.", "Give it by its long name, without dashes."
            )
        args[key] = value
    # vLLM looks for a folder of that name first; elsewhere the name would mean a model of the hub.
    model = os.path.abspath(spec.model) if os.path.exists(spec.model) else spec.model
    return EngineSpec(model, args)


def _by_flag(spec: EngineSpec) -> list[str]:
    """Each flag with its value, one per line."""
    return [
        shlex.join(flags.to_argv({key: value}))
        for key, value in spec.args.items()
        if value is not None
    ]


def _about(profile: Profile) -> list[str]:
    """Lines on the profile and on what was measured of it."""
    evidence = profile.evidence
    lines = ["Exported by tputtui" + (f": {profile.about}" if profile.about else ".")]
    measured = evidence.in_process if evidence else None
    if evidence is None or measured is None:
        lines.append("Not measured yet.")
        return lines
    rate = measured.figures.get("tokens_per_s")
    figure = f", {rate.value:,.0f} tokens/s" if rate else ""
    versions = measured.machine.versions
    gpus = ", ".join(measured.machine.gpus) or measured.machine.device
    lines.append(
        f"{evidence.standing.capitalize()} on {measured.date[:10]}: "
        f"vLLM {versions.get('vllm', '?')}, {gpus}{figure} under {measured.load}."
    )
    if evidence.quality is not None:
        sentence = evidence.quality.sentence
        lines.append(f"{sentence[:1].upper()}{sentence[1:]}.")
    elif evidence.verified is not None and evidence.note:
        lines.append(f"{evidence.note[:1].upper()}{evidence.note[1:]}.")
    return lines


def _version(profile: Profile) -> str:
    evidence = profile.evidence
    measured = evidence.in_process if evidence else None
    return measured.machine.versions.get("vllm", "").partition("+")[0] if measured else ""


def _comment(lines: Sequence[str]) -> str:
    # A profile's text must not end the comment, and YAML allows no control characters in one.
    plain = ["".join(c if c.isprintable() else " " for c in line) for line in lines if line]
    return "".join(f"# {' '.join(line.split())}\n" for line in plain)

"""`tputtui profiles`: list, show, diff, validate, export, schema."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tputtui.cli.page import Page
from tputtui.redact import conceal, redacted, secrets_of

if TYPE_CHECKING:
    from tputtui.profile import Profile

__all__ = ["parser", "run"]


def run(words: list[str]) -> int:
    """Run one of the subcommands; returns the exit code."""
    options = parser().parse_args(words)
    code: int = _COMMANDS[options.command](options)
    return code


_EXAMPLES = {
    "list": "",
    "show": "chat",
    "diff": "chat tuned.yaml",
    "validate": "tuned.yaml",
    "export": "tuned.yaml --format command",
    "schema": "> profile.schema.json",
}


def parser() -> argparse.ArgumentParser:
    """The flags of `profiles`."""
    from tputtui.export import FORMATS

    made = Page(
        example="tputtui profiles show chat",
        prog="tputtui profiles",
        description="Profiles: by name (your own before those that come with it), or a file.",
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, summary: str) -> argparse.ArgumentParser:
        example = f"tputtui profiles {name} {_EXAMPLES[name]}".rstrip()
        return commands.add_parser(name, example=example, help=summary, description=summary)

    listed = add("list", "every profile that has a name")
    listed.add_argument("--format", choices=("table", "json"), default="table")
    show = add("show", "one profile, whole, with what it leaves to defaults")
    show.add_argument("profile", metavar="PROFILE")
    show.add_argument("--format", choices=("yaml", "json"), default="yaml")
    diff = add("diff", "what differs between two; exit code 1 when something does")
    diff.add_argument("a", metavar="A")
    diff.add_argument("b", metavar="B")
    diff.add_argument("--format", choices=("table", "json"), default="table")
    check = add("validate", "check files; vLLM's flags as well where it is installed")
    check.add_argument("profiles", metavar="PROFILE", nargs="+")
    out = add("export", "as production starts from it, tuned values as flags")
    out.add_argument("profile", metavar="PROFILE")
    out.add_argument("--format", choices=tuple(FORMATS), default="vllm")
    out.add_argument("--active-seqs", action="store_true", help="the max_num_seqs tuned as "
                     "--max-num-active-seqs (vLLM 0.31 and newer): the CUDA graphs and the KV "
                     "cache stay those measured. Without: as --max-num-seqs, which boots smaller "
                     "ones, as `verify` does")  # fmt: skip
    out.add_argument("-o", "--output", metavar="FILE", help="instead of stdout; an existing file "
                     "is kept")  # fmt: skip
    out.add_argument("--force", action="store_true", help="write over an existing file")
    add("schema", "the JSON Schema of a profile, for editors")
    return made


def _list(options: argparse.Namespace) -> int:
    from tputtui import profile
    from tputtui.errors import ProfileError

    rows: list[dict[str, Any]] = []
    named = {**dict.fromkeys(profile.shipped(), "shipped"), **dict.fromkeys(profile.users(), "own")}
    for name in sorted(named):
        path = profile.find(name)
        row: dict[str, Any] = {"name": name, "from": named[name], "path": str(path)}
        try:
            loaded = profile.load(path)
        except ProfileError as error:
            row["error"] = str(error)
        else:
            row |= {
                "model": loaded.engine.model,
                "state": loaded.evidence.standing if loaded.evidence else "",
                "about": loaded.about,
            }
        rows.append(row)
    if options.format == "json":
        print(json.dumps(rows, indent=2))
        return 0
    cells = [
        (r["name"], r["from"], r.get("state") or "–", r.get("model", ""),
         " ".join(r.get("about", r.get("error", "")).split()))
        for r in rows
    ]  # fmt: skip
    _print_table([("NAME", "FROM", "STATE", "MODEL", "ABOUT"), *cells])
    print(f"\nyours are in {profile.user_dir()}")
    return 0


def _show(options: argparse.Namespace) -> int:
    from tputtui import profile
    from tputtui.profile.document import document_of

    loaded = _without_secrets(_loaded(options.profile))
    if options.format == "json":
        print(redacted(json.dumps(document_of(loaded), indent=2, ensure_ascii=False)))
    else:
        print(f"# {profile.find(options.profile)}")
        print(redacted(profile.dump(loaded)), end="")
    return 0


def _without_secrets(profile: Profile) -> Profile:
    """The profile itself; from now on its secrets are hidden wherever text is shown."""
    from tputtui.engine.serve_flags import SECRET

    for secret in secrets_of({**profile.engine.args, **profile.serve}, SECRET):
        conceal(secret)
    return profile


def _diff(options: argparse.Namespace) -> int:
    both = [_without_secrets(_loaded(name)) for name in (options.a, options.b)]
    rows = [
        (key, redacted(a), redacted(b))
        for key, a, b in differing(_in_force(both[0]), _in_force(both[1]))
    ]
    if options.format == "json":
        print(
            json.dumps([dict(zip(("key", "a", "b"), row, strict=True)) for row in rows], indent=2)
        )
    elif rows:
        _print_table([("", options.a, options.b), *rows])
    else:
        print("the same")
    return 1 if rows else 0


def _in_force(profile: Profile) -> Profile:
    """The profile with vLLM's own config file expanded, and the server's flags in `serve`."""
    import msgspec

    from tputtui.engine.config_file import expanded
    from tputtui.engine.serve_flags import parted

    own, server = parted(expanded(profile.engine.args))
    args = {name: value for name, value in own.items() if value is not None and name != "model"}
    engine = msgspec.structs.replace(profile.engine, args=args)
    return msgspec.structs.replace(profile, engine=engine, serve={**server, **profile.serve})


def differing(a: Profile, b: Profile) -> list[tuple[str, str, str]]:
    """(key, value in `a`, value in `b`) of everything that differs; figures come last.

    Evidence differs where its figures differ, not where it was measured at another time.
    """
    from tputtui.profile.document import document_of

    def flat(of: Profile) -> dict[str, str]:
        document = document_of(of)
        evidence = document.pop("evidence", {})
        rows = {key: json.dumps(v, ensure_ascii=False) for key, v in _leaves(document, "")}
        best = evidence.get("verified") or evidence.get("tuned") or {}
        if evidence:
            rows["evidence.state"] = evidence["state"]
        for name, figure in best.get("figures", {}).items():
            bounds = ""
            if "low" in figure and "high" in figure:
                bounds = f" [{figure['low']:g}, {figure['high']:g}]"
            rows[f"figures.{name}"] = f"{figure['value']:g}{bounds}"
        return rows

    left, right = flat(a), flat(b)
    keys = [*left, *(key for key in right if key not in left)]
    return [
        (key, left.get(key, "–"), right.get(key, "–"))
        for key in keys
        if left.get(key) != right.get(key)
    ]


def _validate(options: argparse.Namespace) -> int:
    from tputtui import profile
    from tputtui.errors import ProfileError, TputError

    code = 0
    for name in options.profiles:
        try:
            path = profile.find(name)
            loaded = profile.parse(profile.read(path), str(path))
            _check_engine(loaded, str(path))
        except TputError as error:
            if not isinstance(error, ProfileError):
                error = ProfileError(f"{name}: {error.message}", error.hint)
            print(error, file=sys.stderr)
            code = 2
        else:
            print(f"{path}: a profile")
    return code


def _check_engine(profile: Profile, source: str) -> None:
    """Check the engine arguments against the installed vLLM. Raises ProfileError.

    Searching vLLM's source for its flags takes milliseconds; without vLLM they are not checked.
    """
    from tputtui.engine import flags, models
    from tputtui.engine.config_file import expanded
    from tputtui.engine.serve_flags import gone, parted, server_arguments
    from tputtui.errors import ProfileError, nearest
    from tputtui.load.source import check_files
    from tputtui.profile import may_render, tokenizer_of
    from tputtui.profile.spelling import flag_of

    models.resolve(profile.engine)
    by_server = may_render(profile.engine)
    check_files(profile.load, tokenizer_of(profile.engine), by_server=by_server)
    known = flags.known_flags()
    own, _ = parted(expanded(profile.engine.args))
    for key in flags.unknown(own):
        flag = flag_of(key).partition(".")[0]
        raise ProfileError(
            f"{source}: engine.{key}: the vLLM installed here has no flag {flag}.",
            nearest(flag, known),
        )
    for key in profile.serve:
        if gone([key]) and key in server_arguments():
            raise ProfileError(
                f"{source}: serve.{key}: the vLLM installed here has no such flag any more.",
                "Leave it out.",
            )
        if key not in server_arguments():
            hint = nearest(key, server_arguments())
            if key in own or flag_of(key) in known:
                hint = "It is the engine's: write it under `engine:`."
            raise ProfileError(f"{source}: serve.{key}: no flag of vLLM's HTTP server.", hint)


def _export(options: argparse.Namespace) -> int:
    from tputtui.export import export
    from tputtui.profile.files import write_whole

    text = export(_loaded(options.profile), options.format, active_seqs=options.active_seqs)
    if options.output is None:
        print(text, end="")
        return 0
    if options.format == "vllm" and not options.output.endswith((".yaml", ".yml")):
        from tputtui.errors import UsageError

        raise UsageError("vLLM takes a config file only if its name ends in .yaml or .yml.")
    print(write_whole(Path(options.output), text, overwrite=options.force))
    return 0


def _schema(options: argparse.Namespace) -> int:
    from tputtui.profile.schema import schema_text

    print(schema_text(), end="")
    return 0


_COMMANDS = {
    "list": _list,
    "show": _show,
    "diff": _diff,
    "validate": _validate,
    "export": _export,
    "schema": _schema,
}


# -- inside ------------------------------------------------------------------------------------


def _loaded(name: str) -> Profile:
    from tputtui import profile

    return profile.load(profile.find(name))


def _leaves(part: Any, place: str) -> list[tuple[str, Any]]:
    if not isinstance(part, dict) or not part:
        return [(place, part)]
    return [
        leaf for key, value in part.items() for leaf in _leaves(value, f"{place}.{key}".lstrip("."))
    ]


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip())

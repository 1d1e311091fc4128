"""`tputtui config`: the settings in force, where each comes from, and a file to start from."""

from __future__ import annotations

import argparse
import json

from tputtui.cli.asked import CommandLine, asked_of, profile_settings
from tputtui.cli.options import add_settings, parsed
from tputtui.cli.page import Page
from tputtui.cli.settings import OPTIONS

__all__ = ["parser", "run"]

_TEMPLATE = """\
# tputtui's settings. A flag wins over the environment (TPUTTUI_…), that over a profile, that over
# this file. `tputtui config show` lists what is in force and where it comes from.

# theme: dark                      # dark, light, nord, gruvbox, colour-blind, terminal
# goal: ttft_p99=500ms,tpot_p99=50ms
# guard: kv=0.97
# price_per_hour: 2.50
# save_dir: ~/profiles
# isolate: false
# record: true

# engine:                          # vLLM arguments, below what a profile says
#   gpu_memory_utilization: 0.9

# keys:                            # by name: `tputtui help keys`
#   undo: z
"""


def run(words: list[str]) -> int:
    """Show the settings, or write a file; returns the exit code."""
    options, rest = parsed(parser(), words, first=1)
    if options.command == "init":
        return _init(rest)
    if options.command == "path":
        from tputtui.cli.user_config import config_path

        print(config_path())
        return 0
    asked = asked_of(options, rest)
    if asked.config.keys:
        from tputtui.ui.keys import check_keys

        check_keys(asked.config.keys)
    print(_as_json(asked) if options.format == "json" else _as_table(asked))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags of `config`."""
    made = Page(prog="tputtui config", example="tputtui config show", description="Your settings.")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    show = commands.add_parser(
        "show",
        example="tputtui config show MODEL --load 8/s",
        usage="tputtui config show [MODEL] [any flag of a run] [--format table|json]",
        help="every setting in force with its source: flag > environment > profile > config",
    )
    add_settings(show)
    show.add_argument("--format", choices=("table", "json"), default="table")
    commands.add_parser("path", example="tputtui config path", help="where the file is")
    commands.add_parser(
        "init",
        example="tputtui config init",
        help="write a file to start from; an existing one is kept",
    )
    return made


def _init(rest: list[str]) -> int:
    from tputtui.cli.user_config import config_path
    from tputtui.errors import ProfileExists, UsageError
    from tputtui.profile.files import write_whole

    if rest:
        raise UsageError(f"{rest[0]!r} is not expected here.", "`tputtui config init` takes none.")
    try:
        print(write_whole(config_path(), _TEMPLATE))
    except ProfileExists as there:
        raise UsageError(there.message, "Edit that one.") from None
    return 0


def _rows(asked: CommandLine) -> list[tuple[str, str, str]]:
    """(name, value, source) of everything, vLLM's arguments last."""
    held = profile_settings(asked.profile)
    rows = [
        (s.name, held.get(s.name, asked.settings[s.name].text), asked.settings[s.name].source)
        for s in OPTIONS
    ]
    for name, value in sorted(asked.profile.engine.args.items()):
        rows.append((f"engine.{name}", json.dumps(value), asked.engine_sources[name]))
    rows += [
        (f"serve.{name}", json.dumps(value), asked.engine_sources[f"serve.{name}"])
        for name, value in sorted(asked.profile.serve.items())
    ]
    rows += [(f"keys.{name}", key, "config") for name, key in asked.config.keys.items()]
    return rows


def _as_table(asked: CommandLine) -> str:
    rows = _rows(asked)
    names = max(len(name) for name, _, _ in rows)
    sources = max(len(source) for _, _, source in rows)
    there = "" if asked.config.path.exists() else " (not there)"
    lines = [
        f"model    {asked.profile.engine.model}",
        f"config   {asked.config.path}{there}",
        "",
    ]
    lines += [f"{name:<{names}}  {source:<{sources}}  {value}" for name, value, source in rows]
    return "\n".join(line.rstrip() for line in lines)


def _as_json(asked: CommandLine) -> str:
    return json.dumps(
        {
            "model": asked.profile.engine.model,
            "config": str(asked.config.path),
            "settings": {
                name: {"value": value, "source": source} for name, value, source in _rows(asked)
            },
        },
        indent=2,
    )

"""The flags that commands share, and the words of a line that are left for vLLM."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tputtui.cli.misused import commands_with, flags_of
from tputtui.cli.pasted import pasted
from tputtui.cli.settings import OPTIONS

__all__ = ["add_settings", "new_file", "parsed"]


def add_settings(parser: argparse.ArgumentParser, *names: str, screen: bool = True) -> None:
    """Add the flags of the named settings; without names, of all settings.

    screen: whether those of the screen are among all.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in OPTIONS:
        if names and setting.name not in names:
            continue
        if setting.of_screen and not screen:
            continue
        if setting.group == "run":
            add = parser.add_argument
        else:
            group = groups.setdefault(setting.group, parser.add_argument_group(setting.group))
            add = group.add_argument
        if setting.switch:
            action = argparse.BooleanOptionalAction
            add(setting.flag, action=action, default=None, help=setting.help)
        elif setting.name == "limit":
            texts = {setting.flag: setting.help, f"--{setting.former}": argparse.SUPPRESS}
            for flag, text in texts.items():
                metavar = setting.metavar
                add(flag, dest=setting.name, metavar=metavar, action="append", help=text)
        else:
            default = f" (default {setting.default})" if setting.default else ""
            add(setting.flag, metavar=setting.metavar, help=setting.help + default)


def parsed(
    parser: argparse.ArgumentParser, words: list[str], first: int = 0
) -> tuple[argparse.Namespace, list[str]]:
    """The parser's own options, and the words left for `asked_of`: MODEL and vLLM's flags.

    first: number of words before the part that may be a whole pasted command line.
    Raises UsageError for a flag that vLLM does not have, if it looks like a misspelt one of the
    parser's or if another command has it.
    """
    line = pasted(words[first:])
    options, rest = parser.parse_known_args([*words[:first], *line.words])
    # As the shell would have set them for vLLM.
    os.environ.update(line.variables)
    options.variables = line.variables
    given = [word.partition("=")[0] for word in rest if word.startswith("--")]
    if not given:
        return options, rest
    from tputtui.engine import flags
    from tputtui.engine.target import FLAGS
    from tputtui.errors import UsageError, closest

    theirs = {*flags.known_flags(), *FLAGS}
    own = flags_of(parser)
    for flag in given:
        name = flag.partition(".")[0].replace("_", "-")
        if name in theirs or f"--{name[5:]}" in theirs:
            continue
        # Compared without dashes, which would make all short names alike.
        plain = {known.lstrip("-"): known for known in (*theirs, *own)}
        meant = plain.get(closest(name.lstrip("-"), plain), "")
        if meant in own:
            raise UsageError(f"There is no flag {flag}.", f"Did you mean `{meant}`?")
        if others := commands_with(name):
            raise UsageError(f"There is no flag {flag} here.", f"It is one of {others}.")
    return options, rest


def new_file(text: str | None) -> Path | None:
    """The path of a new file, None for None. Raises ProfileExists where the file exists."""
    from tputtui.errors import ProfileExists

    if text is None:
        return None
    path = Path(text).expanduser()
    if path.exists():
        raise ProfileExists(f"{text} exists already.", "Choose another name.")
    return path

"""`tputtui completion`: the script that a shell needs, and the completions themselves.

The shell calls this program at each Tab (argcomplete), so it offers the present profiles and runs,
and the flags of the installed vLLM. It imports neither vLLM nor torch.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from tputtui.cli.page import Page

__all__ = ["complete", "parser", "run"]

_SHELLS = ("bash", "zsh", "fish")
_HOW = {
    "bash": 'eval "$(tputtui completion bash)"      in ~/.bashrc',
    "zsh": 'eval "$(tputtui completion zsh)"        in ~/.zshrc, after compinit',
    "fish": "tputtui completion fish > ~/.config/fish/completions/tputtui.fish",
}


def run(words: list[str]) -> int:
    """Print a shell's script; returns the exit code."""
    options = parser().parse_args(words)
    from argcomplete.shell_integration import shellcode

    print(shellcode(["tputtui"], shell=options.shell))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags of `completion`."""
    made = Page(
        example="tputtui completion bash >> ~/.bashrc",
        prog="tputtui completion",
        description="Prints what a shell has to be told.",
        epilog="\n".join(_HOW.values()),
    )
    made.add_argument("shell", choices=_SHELLS)
    return made


def complete() -> None:
    """Answer a shell that asks for completions; does not return."""
    import argcomplete

    from tputtui.cli.words import COMMANDS

    words = _typed(os.environ.get("COMP_LINE", ""), int(os.environ.get("COMP_POINT", "0") or 0))
    command = words[1] if len(words) > 2 and words[1] in COMMANDS else ""
    made: argparse.ArgumentParser = import_module(f"tputtui.cli.{command or 'run'}").parser()
    if command:
        # The command stands before the words to complete.
        os.environ["_ARGCOMPLETE"] = "2"
    else:
        _add_model(made, COMMANDS)
    if command == "tune":
        made.add_argument("profile")  # found among vLLM's flags there
    if command in ("", "bench", "tune"):
        _add_vllm_flags(made)
    _attach(made)
    argcomplete.autocomplete(made, exclude=["-V", "-h"], always_complete_options=False)


def _typed(line: str, point: int) -> list[str]:
    """The words up to the cursor, including the one that is being typed."""
    before = line[:point] if point else line
    try:
        words = shlex.split(before)
    except ValueError:
        words = before.split()
    return [*words, ""] if before[-1:].isspace() else words


def _add_model(made: argparse.ArgumentParser, commands: Iterable[str]) -> None:
    from tputtui.engine.models import PREFIX, shapes

    known = [*commands, *(f"{PREFIX}{name}" for name in shapes())]
    action: Any = made.add_argument("model", nargs="?")
    action.completer = lambda prefix, **_: [word for word in known if word.startswith(prefix)]


def _add_vllm_flags(made: argparse.ArgumentParser) -> None:
    from tputtui.engine.flags import known_flags

    ours = {flag for action in made._actions for flag in action.option_strings}
    for flag in sorted(known_flags() - ours):
        if flag.startswith("--"):
            made.add_argument(flag, nargs="?", help=argparse.SUPPRESS)
            # A suppressed option is not offered; an empty text is.
            made._actions[-1].help = ""


def _attach(made: argparse.ArgumentParser) -> None:
    """Give every argument that takes a name the existing names as completions."""
    for action in _actions(made):
        if completer := _COMPLETERS.get(action.dest):
            action.completer = completer


def _actions(made: argparse.ArgumentParser) -> Iterable[Any]:
    for action in made._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from _actions(inner)
        else:
            yield action


def _profiles(prefix: str, **_: object) -> list[str]:
    from tputtui import profile

    named = sorted({*profile.shipped(), *profile.users()})
    return [name for name in named if name.startswith(prefix)] + _files(prefix, (".yaml", ".yml"))


def _runs(prefix: str, **_: object) -> list[str]:
    from tputtui.process.state import sessions_dir
    from tputtui.record.journal import SUFFIX

    kept = [str(path) for path in sorted(sessions_dir().glob(f"*{SUFFIX}"))]
    return [word for word in ("last", *kept) if word.startswith(prefix)] + _files(prefix, (SUFFIX,))


def _files(prefix: str, endings: tuple[str, ...]) -> list[str]:
    from argcomplete.completers import FilesCompleter

    names: list[str] = list(FilesCompleter(allowednames=endings)(prefix))
    return names


def _any_file(prefix: str, **_: object) -> list[str]:
    from argcomplete.completers import FilesCompleter

    return list(FilesCompleter()(prefix))


def _limits(prefix: str, **_: object) -> list[str]:
    from tputtui.knobs import KNOBS

    return [f"{knob.name}=" for knob in KNOBS if knob.name.startswith(prefix)]


def _searches(prefix: str, **_: object) -> list[str]:
    from tputtui.experiments.tuner.proposers import SEARCHES

    return [name for name in SEARCHES if name.startswith(prefix)]


def _devices(prefix: str, **_: object) -> list[str]:
    from tputtui.simulate.devices import DEVICES

    named = [device.name for device in DEVICES if device.name.startswith(prefix)]
    return named + _files(prefix, (".yaml", ".yml"))


def _themes(prefix: str, **_: object) -> list[str]:
    from tputtui.cli.settings import THEMES

    return [name for name in THEMES if name.startswith(prefix)]


def _topics(prefix: str, **_: object) -> list[str]:
    from tputtui.cli.help import TOPICS

    return [topic for topic in TOPICS if topic.startswith(prefix)]


_COMPLETERS = {
    "topic": _topics,
    "profile": _profiles,
    "profiles": _profiles,
    "a": lambda prefix, **_: [*_profiles(prefix), *_runs(prefix)],
    "b": lambda prefix, **_: [*_profiles(prefix), *_runs(prefix)],
    "file": _runs,
    "trace": _any_file,
    "output": _any_file,
    "save": _any_file,
    "token_file": _any_file,
    "control_token_file": _any_file,
    "ca": _any_file,
    "save_dir": _any_file,
    "limit": _limits,
    "vary": _limits,
    "search": _searches,
    "resume": _runs,
    "theme": _themes,
    "simulate": _devices,
}

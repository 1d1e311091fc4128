"""A command line that argparse does not take: one sentence, and what to do instead."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator

from tputtui.errors import UsageError, nearest

__all__ = ["commands_with", "flags_of", "misused"]

_LEFT_OVER = "unrecognized arguments: "
_MISSING = "the following arguments are required: "
_ONE = re.compile(r"argument (?P<name>.+?): (?P<what>.+)", re.DOTALL)
_CHOICE = re.compile(r"invalid choice: (?P<word>'[^']*'|\"[^\"]*\"|\S+) \(")
_KIND = re.compile(r"invalid (?P<kind>\w+) value: (?P<word>.+)", re.DOTALL)
_NOT_BOTH = "not allowed with argument "
_KINDS = {"int": "a whole number", "float": "a number"}


def misused(parser: argparse.ArgumentParser, message: str, example: str) -> UsageError:
    """What is wrong, from `message`, argparse's own words.

    example: a line of the command that works as it stands; empty without one.
    """
    command = parser.prog
    page = f"`{command} --help` lists what there is."
    if message.startswith(_LEFT_OVER):
        return _left_over(parser, message.removeprefix(_LEFT_OVER).split(" ")[0], page)
    if message.startswith(_MISSING):
        names = message.removeprefix(_MISSING)
        return UsageError(
            f"`{command}` needs {names}.", f"For example: {example}" if example else page
        )
    if (one := _ONE.fullmatch(message)) is None:
        return UsageError(f"{message[:1].upper()}{message[1:]}.", page)
    name, what = one["name"].split("/")[-1], one["what"]
    if choice := _CHOICE.match(what):
        return _no_choice(parser, name, choice["word"].strip("'\""), page)
    if kind := _KIND.match(what):
        wanted = _KINDS.get(kind["kind"], f"a {kind['kind']}")
        return UsageError(f"{name}: {kind['word']} is not {wanted}.", page)
    if what.startswith(_NOT_BOTH):
        other = what.removeprefix(_NOT_BOTH).split("/")[-1]
        return UsageError(f"{name} and {other} exclude each other.", "Keep one.")
    if what.startswith("expected"):
        taken = _value_of(parser, name)
        return UsageError(
            f"{name} needs {'a value' if 'one argument' in what else 'values'}.",
            f"It takes {taken}." if taken else page,
        )
    return UsageError(f"{name}: {what}.", page)


def flags_of(parser: argparse.ArgumentParser) -> set[str]:
    """The long flags of a parser and of its commands."""
    named = {option for action in _actions(parser) for option in action.option_strings}
    return {option for option in named if option.startswith("--")}


def commands_with(flag: str) -> str:
    """The commands that have a flag of that name, as a sentence names them; empty for none.

    The screen is first, which is no word.
    """
    from tputtui.cli.words import COMMANDS

    modules = [importlib.import_module(f"tputtui.cli.{word}") for word in ("run", *COMMANDS)]
    parsers = [module.parser() for module in modules]
    return ", ".join(f"`{parser.prog}`" for parser in parsers if flag in flags_of(parser))


def _left_over(parser: argparse.ArgumentParser, word: str, page: str) -> UsageError:
    if not word.startswith("-"):
        return UsageError(f"`{parser.prog}` has no use for {word!r}.", page)
    flag = word.partition("=")[0]
    others = commands_with(flag)
    hint = f"It is one of {others}." if others else nearest(flag, flags_of(parser)) or page
    return UsageError(f"`{parser.prog}` has no flag {flag}.", hint)


def _no_choice(parser: argparse.ArgumentParser, name: str, word: str, page: str) -> UsageError:
    action = _action(parser, name)
    choices = [str(each) for each in (action and action.choices) or ()]
    there = ", ".join(choices)
    if isinstance(action, argparse._SubParsersAction):
        said, hint = f"`{parser.prog}` has no command {word!r}.", f"It has {there}."
    else:
        said, hint = f"{name}: {word!r} is none of {there}.", page
    return UsageError(said, nearest(word, choices) or hint)


def _value_of(parser: argparse.ArgumentParser, name: str) -> str:
    """What an option takes, in the words of its page; empty where it says nothing."""
    if (action := _action(parser, name)) is None:
        return ""
    if action.choices:
        return " or ".join(str(each) for each in action.choices)
    return action.metavar if isinstance(action.metavar, str) else ""


def _action(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    for action in _actions(parser):
        if name in (*action.option_strings, action.metavar, action.dest):
            return action
    return None


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The parser's own, then those of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                yield from _actions(each)

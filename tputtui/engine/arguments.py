"""Reads an engine's boot arguments from its own parser, and turns typed texts into values.

Pure: the caller passes the parser, so this module imports no vLLM. Names, kinds, choices and help
come from the parser; only options that make no sense in this program are listed here.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import shlex
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

from tputtui.engine import flags
from tputtui.engine.protocol import Argument
from tputtui.errors import UsageError, nearest
from tputtui.knobs import whole_number
from tputtui.profile import EngineValue

__all__ = ["LEFT_OUT", "arguments", "text_of", "value_of"]

LEFT_OUT: Mapping[str, str] = {
    "help": "asks a parser, not an engine",
    "model": "stands apart from the arguments",
    "served_model_name": "is what clients call the model over HTTP; there are none here",
    "disable_log_stats": "the adapter keeps the engine's own counters on",
    "logging_config": "the log is this program's, so that it stays off the screen",
    "log_level": "the log is this program's, so that it stays off the screen",
    "log_config_file": "the log is this program's, so that it stays off the screen",
}
"""Options that are not offered, with the reason. If a person gives one anyway, it is kept."""

_ON, _OFF = "on", "off"
_TRUE = frozenset({_ON, "true", "yes"})
_FALSE = frozenset({_OFF, "false", "no"})
_MANY = 12
"""The most choices that a hint lists one by one."""


def arguments(
    parser: argparse.ArgumentParser, under: Mapping[str, EngineValue] | None = None
) -> tuple[Argument, ...]:
    """Every option of `parser` that a boot can be given, in the parser's order.

    under: arguments that the model sets; they replace the parser's defaults.
    """
    options: dict[str, Argument] = {}
    for group in parser._action_groups:
        for action in group._group_actions:
            name = _name(action)
            if name and name not in LEFT_OUT:
                brought = under is not None and under.get(name) is not None
                default = under[name] if under and brought else _plain(action.default)
                options[name] = Argument(
                    name=name,
                    kind=_kind(action),
                    default=text_of(default),
                    help=_paragraph(action),
                    group=group.title or "",
                    choices=tuple(_choices(action)),
                )
    return tuple(options.values())


def value_of(argument: Argument, text: str) -> EngineValue:
    """The typed text as the value that a profile's `engine:` holds; None leaves the key out.

    Empty and "default" mean the engine's own default. Text is read as on a command line: several
    words are a list, quotes keep one together. Raises UsageError for a text of the wrong kind.
    """
    text = text.strip()
    if not text or (text.lower() == "default" and text not in argument.choices):
        return None
    match argument.kind:
        case "switch":
            return _switch(argument, text)
        case "whole":
            return _whole(argument, text)
        case "number":
            return _number(argument, text)
        case "choice":
            return _choice(argument, text)
        case _:
            return _text(argument, text)


def text_of(value: object) -> str:
    """A value as a person would type it; `value_of` turns the text back into the value."""
    match value:
        case None:
            return ""
        case bool():
            return _ON if value else _OFF
        case dict():
            return json.dumps(value)
        case list():
            return " ".join(text_of(item) for item in value)
        case str():
            return value if _one_word(value) else shlex.quote(value)
        case _:
            return str(value)


# -- the parser ----------------------------------------------------------------------------------


def _name(action: argparse.Action) -> str:
    """The long option as a profile spells it; empty without a long option."""
    for option in action.option_strings:
        if option.startswith("--"):
            return option[2:].replace("-", "_")
    return ""


def _kind(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "switch"
    if action.nargs is not None:
        return "text"
    if action.choices is not None:
        return "choice"
    inner = _innermost(action.type)
    if inner is int or getattr(inner, "__name__", "").startswith("human_readable_int"):
        return "whole"
    return "number" if inner is float else "text"


def _innermost(read: Any) -> Any:
    """`int` of optional_type(int): vLLM's converters wrap one another as closures."""
    for _ in range(4):
        cells = [cell.cell_contents for cell in getattr(read, "__closure__", None) or ()]
        wrapped = [inner for inner in cells if callable(inner)]
        if len(wrapped) != 1:
            break
        read = wrapped[0]
    return read


def _choices(action: argparse.Action) -> Iterable[str]:
    """All possible values of a choice; for text and whole numbers the values that are known."""
    if action.nargs == 0:
        # An option that can only be switched on has no word for off.
        return (_ON, _OFF) if isinstance(action, argparse.BooleanOptionalAction) else (_ON,)
    if action.choices is not None:
        return [str(choice) for choice in action.choices if choice is not None]
    if isinstance(action.default, Enum):
        return [str(member.value) for member in type(action.default)]
    # For an option that takes any text, vLLM lists the values it knows in the metavar.
    if isinstance(action.metavar, list):
        return [str(value) for value in action.metavar]
    return ("auto",) if getattr(action.type, "__name__", "").endswith("_or_auto") else ()


def _plain(default: object) -> object:
    """A default as a value; "{}" for a section whose keys all have their defaults."""
    match default:
        case None | argparse.SUPPRESS:
            return None
        case Enum():
            return default.value
        case str() | int() | float():  # bool included
            return default
        case dict():
            return default if _is_json(default) else {}
        case list() | tuple() | set() | frozenset():
            return list(default)
        case _:
            return {}


_BOILERPLATE = re.compile(
    r"\n\nAPI docs: \S+|\n\nShould either be a valid JSON string or JSON keys passed individually\."
    r"|\n\nParse human-readable integers.*",
    re.DOTALL,
)


def _paragraph(action: argparse.Action) -> str:
    """The help as one paragraph of plain text, with the other spellings of the option."""
    help = _BOILERPLATE.sub("", (action.help or "").replace("%%", "%")).strip()
    help = re.sub(r"\n\s*[-*+] +", " • ", help)
    help = re.sub(r"\s+", " ", help.replace("``", "`"))
    first, *others = [word for word in action.option_strings if not word.startswith("--no-")]
    return f"{help} Also {', '.join(others)}.".strip() if others and first else help


# -- typed texts --------------------------------------------------------------------------------


def _switch(argument: Argument, text: str) -> bool | None:
    word = text.lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        # An option that can only be switched on is off when it is left out.
        return False if _OFF in argument.choices else None
    raise UsageError(
        f"{argument.name} is a switch, and {text!r} is neither on nor off.",
        "on, off, or empty for the default.",
    )


def _whole(argument: Argument, text: str) -> EngineValue:
    if text.lower() in argument.choices:
        return _from_words(argument, [text.lower()])
    if (value := whole_number(text)) is not None:
        return value
    words = "".join(f" or {word}" for word in argument.choices)
    raise UsageError(
        f"{argument.name}: {text!r} is not a whole number.",
        f"Such as 256, 4k (4,000) or 4K (4,096){words}.",
    )


def _number(argument: Argument, text: str) -> int | float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UsageError(f"{argument.name}: {text!r} is not a number.", "Such as 0.9.")
    return int(text) if re.fullmatch(r"-?\d+", text, re.ASCII) else number


def _choice(argument: Argument, text: str) -> EngineValue:
    for choice in argument.choices:
        if choice.lower() == text.lower():
            return _from_words(argument, [choice])
    few = len(argument.choices) <= _MANY
    listed = f"One of {', '.join(argument.choices)}." if few else "↑ and ↓ go through them all."
    raise UsageError(
        f"{argument.name} cannot be {text!r}.", nearest(text, argument.choices) or listed
    )


def _text(argument: Argument, text: str) -> EngineValue:
    if text[0] in "{[":
        return _json(argument, text)
    try:
        words = shlex.split(text)
    except ValueError:
        raise UsageError(
            f"{argument.name}: a quote is opened and not closed.", 'Such as "two words".'
        ) from None
    if len(words) > 1 and any(re.match(r"-[-A-Za-z]", word) for word in words):
        raise UsageError(f"{argument.name}: one argument at a time.", "Each has a row of its own.")
    return _from_words(argument, words or [""])


def _json(argument: Argument, text: str) -> EngineValue:
    """The value of a JSON text. Text in brackets that is no JSON stays text (a pattern, say)."""
    try:
        value = json.loads(text)
    except ValueError as error:
        if text[0] == "[" and not text.endswith("]"):
            return text
        where = f" (character {error.pos + 1})" if isinstance(error, json.JSONDecodeError) else ""
        raise UsageError(
            f"{argument.name}: not readable as JSON{where}.", 'Such as {"key": 1} or [1, 2].'
        ) from None
    if isinstance(value, list) and any(isinstance(item, dict | list | None) for item in value):
        raise UsageError(f"{argument.name} takes a list of plain values.", "Such as [1, 2].")
    return value  # type: ignore[no-any-return]


def _from_words(argument: Argument, words: list[str]) -> EngineValue:
    """The value of words as `flags.from_argv` reads them, so the same rules apply everywhere."""
    flag = argument.name if argument.name.startswith("-") else f"--{argument.name}"
    argv = [f"{flag}={words[0]}"] if len(words) == 1 else [flag, *words]
    (value,) = flags.from_argv(argv).values()
    return value


def _one_word(text: str) -> bool:
    """Whether a text without quotes reads back as itself."""
    try:
        return shlex.split(text) == [text]
    except ValueError:
        return False


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True

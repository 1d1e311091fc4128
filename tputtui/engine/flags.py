"""Converts vLLM's engine flags to a mapping and back, without importing vLLM. Pure.

The names are vLLM's own, and vLLM's parser decides about them. This module only changes their
spelling and reports a misspelt flag before vLLM is imported, which takes seconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from tputtui.errors import UsageError
from tputtui.profile import EngineValue, Scalar
from tputtui.profile.flag_kinds import (
    APPENDED,
    FRACTIONS,
    JSON_LISTS,
    ONE,
    SEVERAL,
    SWITCHES,
    WHOLE,
)
from tputtui.profile.spelling import OTHER_NAMES, canonical, dropped, flag_of, from_json, named

__all__ = [
    "dropped_keys",
    "from_argv",
    "grouped",
    "known_flags",
    "positional",
    "spoken",
    "to_argv",
    "unknown",
    "without",
]


_HINT = "MODEL comes first, once."


def from_argv(argv: Iterable[str]) -> dict[str, EngineValue]:
    """`--max-num-seqs 128 --enforce-eager` as {"max_num_seqs": 128, "enforce_eager": True}.

    A flag without a value is True, `--no-x` is x False, several values are a list. Of a repeated
    flag, in whatever spelling, the last counts; the values of flags in APPENDED add up. Raises
    UsageError for a word that belongs to no flag, and for a flag that lacks its value.
    """
    return canonical(_as_written(argv))


def dropped_keys(argv: Iterable[str]) -> list[str]:
    """The keys inside arguments that are in `argv`, and that `from_argv` leaves out as vLLM does:
    `["compilation_config.mode"]`. Raises UsageError as `from_argv`."""
    return dropped(_as_written(argv))


def _as_written(argv: Iterable[str]) -> dict[str, object]:
    """The values of flags in `argv`, by flag as it is spelt."""
    values: dict[str, list[Scalar | dict[str, object]]] = {}
    for flag, words in grouped(argv):
        head, dot, _ = flag.partition(".")
        if dot and named(head).startswith("-"):
            raise UsageError(f"vLLM has no flag {flag}.", "Flags begin with two dashes.")
        if not flag or len(words) > (most := _takes(flag)):
            _refuse_word(flag, words[-1] if flag else words[0])
        if not words and most == 1:
            raise UsageError(f"{flag} takes a value.", "`vllm serve --help=all` says which.")
        before = values.pop(flag, [])
        kept = before if named(flag) in APPENDED else []
        values[flag] = kept + [_value(word) for word in words]
    return {flag: _single_or_list(given) for flag, given in values.items()}


def without(argv: Iterable[str], names: Collection[str]) -> list[str]:
    """`argv` without the flags of these names and without their values."""
    kept: list[str] = []
    dropped = False
    for word in argv:
        if _is_flag(word):
            (name,) = canonical({word.partition("=")[0].partition(".")[0]: True})
            dropped = name in names
        if not dropped:
            kept.append(word)
    return kept


def positional(argv: Iterable[str]) -> tuple[str | None, list[str]]:
    """MODEL, which is the first word that belongs to no flag, and the other words."""
    argv = list(argv)
    room = 0.0
    for place, word in enumerate(argv):
        flag, equals, _ = word.partition("=")
        if _is_flag(flag):
            room = 0 if equals else _takes(flag)
        elif room:
            room -= 1
        elif word.lower() not in ("true", "false"):
            return word, argv[:place] + argv[place + 1 :]
    return None, argv


def to_argv(args: Mapping[str, EngineValue]) -> list[str]:
    """The mapping as words for vLLM's parser. A key with the value None is left out."""
    argv: list[str] = []
    for key, value in args.items():
        flag = flag_of(key)
        match value:
            case None:
                continue
            case True:
                argv.append(flag)
            case False:
                argv.append(f"--no-{flag.removeprefix('--')}")
            case list() if key in JSON_LISTS:
                argv += [flag, json.dumps(value)]
            case list() if key in APPENDED:
                argv += [word for item in value for word in (flag, _word(item))]
            case list():
                argv += [flag, *(_word(item) for item in value)]
            case _:
                word = _word(value)
                argv += [f"{flag}={word}"] if _is_flag(word) else [flag, word]
    return argv


@cache
def known_flags() -> frozenset[str]:
    """Flags in the source of the installed vLLM ("--max-num-seqs"); empty without a vLLM.

    The source is searched as text, so a flag may be missing or superfluous: good for hints only.
    """
    spec = find_spec("vllm")
    for folder in (spec.submodule_search_locations if spec else None) or ():
        source = Path(folder) / "engine" / "arg_utils.py"
        try:
            text = source.read_text(encoding="utf-8")
        except OSError:
            continue
        return frozenset(re.findall(r"[\"'](--?[A-Za-z][\w-]*)[\"']", text))
    return frozenset()


def grouped(argv: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Each flag with the words that follow it; "" as the flag of words before the first flag."""
    flag, words = "", list[str]()
    for word in argv:
        head, equals, rest = word.partition("=")
        if not _is_flag(head):
            words.append(word)
            continue
        if flag or words:
            yield flag, words
        flag, words = head, [rest] if equals else []
    if flag or words:
        yield flag, words


def _takes(flag: str) -> float:
    """How many values a flag takes at most; infinity for an unknown flag."""
    if "." in flag:
        return 1
    name = named(flag)
    if name in SWITCHES or name.removeprefix("no_") in SWITCHES:
        return 0
    if name in SEVERAL:
        return math.inf
    if name in WHOLE | FRACTIONS | ONE | JSON_LISTS | APPENDED:
        return 1
    glued = name.startswith("-") and flag[:2] in OTHER_NAMES
    return 0 if glued else math.inf


def _refuse_word(flag: str, word: str) -> NoReturn:
    if not flag:
        raise UsageError(f"{word!r} is not expected here.", _HINT)
    if not _takes(flag):
        hint = _HINT
        if word.lower() in ("true", "false"):
            plain = flag.removeprefix("--no-").removeprefix("--")
            hint = f"Off is --no-{plain}." if word.lower() == "false" else f"On is --{plain}."
        raise UsageError(f"{word!r} is not expected behind {flag}, a switch.", hint)
    raise UsageError(f"{flag} takes one value; {word!r} is one too many.", _HINT)


def unknown(args: Iterable[str]) -> list[str]:
    """Those of `args` (names as in a profile) that the installed vLLM's source does not contain."""
    known = known_flags()
    return [
        name for name in args
        if known and not name.startswith("-") and flag_of(name).partition(".")[0] not in known
    ]  # fmt: skip


def spoken(names: Iterable[str]) -> str:
    """The flags of the arguments, joined by commas."""
    return ", ".join(map(flag_of, names))


def _is_flag(word: str) -> bool:
    return word.startswith("--") or bool(re.match(r"-[A-Za-z]", word))


def _single_or_list(given: list[Scalar | dict[str, object]]) -> object:
    return given[0] if len(given) == 1 else list(given) or True


def _value(word: str) -> Scalar | dict[str, object]:
    """Numbers and JSON objects as values, any other word as text."""
    if not re.match(r"[-\d{.]", word):
        return word
    value = from_json(word)
    # A number that would be written back differently (1.50) stays text.
    if isinstance(value, dict) or (isinstance(value, int | float) and str(value) == word):
        return value
    return word


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)

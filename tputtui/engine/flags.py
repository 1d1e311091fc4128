"""vLLM's engine flags as a mapping and back, without importing vLLM. Pure.

The names are vLLM's own and vLLM's parser has the last word on them; what stands here only
changes the spelling and finds a misspelt flag before the seconds that importing vLLM takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Mapping
from importlib.util import find_spec
from pathlib import Path

from tputtui.errors import UsageError
from tputtui.profile import EngineValue, Scalar
from tputtui.profile.spelling import canonical

__all__ = ["from_argv", "known_flags", "respelt", "to_argv", "without"]


def from_argv(argv: Iterable[str]) -> dict[str, EngineValue]:
    """`--max-num-seqs 128 --enforce-eager` as {"max_num_seqs": 128, "enforce_eager": True}.

    A flag without a value is True, `--no-x` is x False, several values are a list; the last of
    the same flag counts, however it is spelt. Raises UsageError on a word that follows no flag.
    """
    values: dict[str, list[Scalar | dict[str, object]]] = {}
    key = ""
    for word in argv:
        flag, equals, rest = word.partition("=")
        if _is_flag(flag):
            key = flag
            values.pop(key, None)
            values[key] = [_value(rest)] if equals else []
        elif key:
            values[key].append(_value(word))
        else:
            raise UsageError(f"{word!r} is not expected here.", "MODEL comes first, once.")
    return canonical({key: _told(given) for key, given in values.items()})


def without(argv: Iterable[str], names: Collection[str]) -> list[str]:
    """`argv` without the flags of these names, and what follows them."""
    kept: list[str] = []
    dropped = False
    for word in argv:
        if _is_flag(word):
            (name,) = canonical({word.partition("=")[0].partition(".")[0]: True})
            dropped = name in names
        if not dropped:
            kept.append(word)
    return kept


def to_argv(args: Mapping[str, EngineValue]) -> list[str]:
    """The mapping as words for vLLM's parser. None leaves a key out: vLLM has no word for it."""
    argv: list[str] = []
    for key, value in args.items():
        name = respelt(key, "_", "-")
        flag = key if key.startswith("-") else f"--{name}"
        match value:
            case None:
                continue
            case True:
                argv.append(flag)
            case False:
                argv.append(f"--no-{name}")
            case list():
                argv += [flag, *(_word(item) for item in value)]
            case _:
                word = _word(value)
                argv += [f"{flag}={word}"] if _is_flag(word) else [flag, word]
    return argv


def known_flags() -> frozenset[str]:
    """Flags that stand in the installed vLLM's source ("--max-num-seqs"); empty if none is found.

    Read as text, so a name may be missing or too many: only good for a first suspicion.
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


def respelt(name: str, old: str, new: str) -> str:
    """vLLM takes dashes for underscores in a flag, but not in a key inside its value (--x.a_b)."""
    flag, dot, key = name.partition(".")
    return flag.replace(old, new) + dot + key


def _is_flag(word: str) -> bool:
    return word.startswith("--") or bool(re.match(r"-[A-Za-z]", word))


def _told(given: list[Scalar | dict[str, object]]) -> object:
    return given[0] if len(given) == 1 else list(given) or True


def _value(word: str) -> Scalar | dict[str, object]:
    """Numbers and JSON objects as themselves, everything else as written."""
    if not re.match(r"[-\d{.]", word):
        return word
    try:
        value = json.loads(word)
    except ValueError:
        return word
    # A number that would not be written back the same (1.50) stays the text it was.
    if isinstance(value, dict) or (isinstance(value, int | float) and str(value) == word):
        return value
    return word


def _word(value: object) -> str:
    return json.dumps(value) if isinstance(value, dict | list) else str(value)

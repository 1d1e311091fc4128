"""Explains a mistake in a profile in one sentence: file, place, expected value. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

import msgspec

from tputtui.errors import nearest
from tputtui.load import lengths, levels, workload
from tputtui.profile.spec import Scalar

__all__ = ["explain", "keys_of", "where"]


def explain(
    error: str, raw: Mapping[Any, Any], source: str, sections: Mapping[str, tuple[str, ...]]
) -> tuple[str, str]:
    """A sentence with file, key path and expected value, and a hint with the nearest key.

    error: the message of msgspec. raw: the content of the file.
    sections: the valid keys, by the path of their section.
    """
    match = re.fullmatch(r"(.*?)(?: - at `(key in )?\$\.?(.*?)`)?", error, re.DOTALL)
    what, place = (match[1], match[3] or "") if match else (error, "")
    place = place.replace("[...]", ".…")
    hint = ""
    if unknown := re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL):
        place, parent = f"{place}.{unknown[1]}".lstrip("."), place
        kind, section = _value(raw, f"{parent}.kind"), _unnumbered(parent)
        valid = sections.get(section) or _KINDS.get(section, {}).get(str(kind), ())
        what = "there is no such key"
        hint = nearest(unknown[1], valid) or (f"Valid here: {', '.join(valid)}." if valid else "")
    elif missing := re.fullmatch(r"Object missing required field `(.*)`", what):
        place = f"{place}.{missing[1]}".lstrip(".")
        what = "the key is required"
    elif missing := re.fullmatch(r"(\w+) is required, (.*)", what):
        place = f"{place}.{missing[1]}".lstrip(".")
        what = f"the key is required, {missing[2]}"
    elif invalid := re.fullmatch(r"Invalid value '?(.*?)'?", what, re.DOTALL):
        kinds = tuple(_KINDS.get(_unnumbered(place.removesuffix(".kind")), ()))
        what = f"{invalid[1]!r} is not one of {', '.join(kinds)}" if kinds else what.lower()
        hint = nearest(invalid[1], kinds)
    else:
        what = what[:1].lower() + what[1:] + _present_value(raw, place)
    return _plain(f"{source}: {place + ': ' if place else ''}{what.rstrip('.')}."), _plain(hint)


def where(error: Exception) -> str:
    """Line, column and problem of a file that is not YAML."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return _plain(f"{place}{problem}".rstrip("."))


def _unnumbered(place: str) -> str:
    """A place in any element of a list: `load.classes.arrivals`."""
    return re.sub(r"\[\d+\]", "", place)


def _plain(text: str) -> str:
    """One line without control characters, safe for a terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _kinds(union: Any) -> dict[str, tuple[str, ...]]:
    """Tag → valid keys, for every kind of a tagged union."""
    kinds = [part for part in get_args(union) if hasattr(part, "__struct_fields__")]
    return {str(k.__struct_config__.tag): ("kind", *k.__struct_fields__) for k in kinds}


_LENGTHS, _LEVELS = _kinds(lengths.Lengths), _kinds(levels.Level)
_KINDS = {
    "load.prompt": _LENGTHS,
    "load.output": _LENGTHS,
    "load.sessions.turns": _LENGTHS,
    "load.arrivals": _kinds(workload.Arrivals),
    "load.arrivals.rate": _LEVELS,
    "load.arrivals.in_flight": _LEVELS,
    "load.classes.prompt": _LENGTHS,
    "load.classes.output": _LENGTHS,
    "load.classes.arrivals": _kinds(workload.Arrivals),
    "load.classes.arrivals.rate": _LEVELS,
    "load.classes.arrivals.in_flight": _LEVELS,
}


def keys_of(kind: type[msgspec.Struct], path: str = "") -> dict[str, tuple[str, ...]]:
    """The valid keys of a section and of the sections in it, by path."""
    keys = {path: kind.__struct_encode_fields__}
    for field in msgspec.structs.fields(kind):
        for part in _structs(field.type):
            if part.__struct_config__.tag is None:
                keys |= keys_of(part, f"{path}.{field.encode_name}".lstrip("."))
    return keys


def _structs(annotation: Any) -> Iterator[type[msgspec.Struct]]:
    """The structs that a type is made of, those of lists too."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        yield annotation
    for part in get_args(annotation):
        yield from _structs(part)


def _value(raw: Any, place: str) -> Any:
    for key in place.split("."):
        key, _, number = key.partition("[")
        if not isinstance(raw, Mapping) or key not in raw:
            return None
        raw = raw[key]
        if number and isinstance(raw, list):
            raw = raw[int(number.rstrip("]"))]
    return raw


def _present_value(raw: Any, place: str) -> str:
    value = _value(raw, place)
    return f" (found {str(value)[:40]!r})" if isinstance(value, Scalar) else ""

"""One field of a load as text, and how `name=value` settings in it are read. Pure."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from tputtui.errors import UsageError, nearest
from tputtui.load.notation import named_reason

__all__ = ["NOTHING", "Field", "checked", "settings"]

T = TypeVar("T")
NOTHING = ("", "none", "off", "-")
"""Texts that leave a field empty."""


class Field(msgspec.Struct, frozen=True):
    """One field of a load as text.

    name: of the Workload field. forms: (name, example) of each form that a person can start from.
    """

    name: str
    label: str
    flag: str
    forms: tuple[tuple[str, str], ...]


def settings(text: str, known: tuple[str, ...], what: str, hint: str) -> dict[str, str] | None:
    """The settings in `text` by name; None for an empty field. Raises UsageError.

    known: the names that may stand there.
    """
    plain = text.strip()
    if plain.lower() in NOTHING:
        return None
    found: dict[str, str] = {}
    # A comma between settings separates them like a space; a comma inside a value stays.
    for word in re.split(r"[\s,]+(?=[a-z_]+=)|\s+", plain.strip(",")):
        name, equals, value = word.partition("=")
        name = name.lower().removesuffix("_s")
        if not equals or name not in known:
            raise UsageError(f"{what.title()} {text!r}: {word!r} is not known here.",
                             nearest(name, known) or hint)  # fmt: skip
        found[name] = value.strip(",")
    return found


def checked(raw: Any, kind: type[T], what: str, text: str, hint: str) -> T:
    """`raw` as a `kind`. Raises UsageError that names the setting and what is expected of it."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise UsageError(f"{what} {text.strip()!r}: {named_reason(error)}.", hint) from None

"""Writes a profile over an older text of it, and keeps comments, order and spelling. Pure.

Only values that have changed are replaced. The new text is read back: if it yields another profile,
the profile is written without the old text.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from tputtui.errors import ProfileError
from tputtui.profile.document import document_of, dump, laid_out, parse
from tputtui.profile.migrate import FORMER_KEYS
from tputtui.profile.spec import Profile
from tputtui.profile.spelling import named
from tputtui.profile.yamltext import Inline, is_ambiguous

__all__ = ["resaved"]


def resaved(profile: Profile, old: str) -> str:
    """The text of `profile` that keeps as much as possible of `old`, an older text."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML()
    yaml.preserve_quotes = True
    # Keeps the line breaks of the old text.
    yaml.width = 1 << 20
    try:
        before = document_of(parse(old, ""))
        tree = yaml.load(old)
        _merge(tree, before, laid_out(document_of(profile)))
        text = io.StringIO()
        yaml.dump(tree, text)
        if parse(text.getvalue(), "") == profile:
            return text.getvalue()
    except (ProfileError, YAMLError, ValueError, TypeError, RecursionError):
        pass
    return dump(profile)


def _merge(node: Any, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    """Write the differences between `before` and `after` into `node`, which means `before`."""
    spelt = {FORMER_KEYS.get(key, named(key)): key for key in node if isinstance(key, str)}
    for key in before.keys() - after.keys():
        if key in spelt:
            del node[spelt[key]]
    place = -1
    for key, value in after.items():
        here = spelt.get(key)
        known = key in before
        if here is not None:
            place = list(node).index(here)
        if known and _same(before[key], value):
            continue
        if here is None:
            place += 1
            node.insert(place, key, _made(value))
        elif known and isinstance(value, dict) and isinstance(node[here], dict) and (
            isinstance(before[key], dict) and _kind(value) == _kind(before[key])
        ):  # fmt: skip
            _merge(node[here], before[key], value)
        else:
            node[here] = _made(value)


def _same(a: Any, b: Any) -> bool:
    """Whether two values and their types are equal: True is not 1 here."""
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and bool(a == b)


def _kind(section: Mapping[str, Any]) -> object:
    """The kind of a section; a section whose kind changes (closed to Poisson) is written anew."""
    return section.get("kind")


def _made(value: Any) -> Any:
    """A value that ruamel writes in such a way that `read_yaml` reads the same value."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq
    from ruamel.yaml.scalarstring import DoubleQuotedScalarString

    if isinstance(value, dict):
        made = CommentedMap({key: _made(part) for key, part in value.items()})
        if isinstance(value, Inline):
            made.fa.set_flow_style()
        return made
    if isinstance(value, list | tuple):
        listed = CommentedSeq([_made(part) for part in value])
        if not any(isinstance(part, dict) for part in value):
            listed.fa.set_flow_style()
        return listed
    if isinstance(value, str) and is_ambiguous(value):
        return DoubleQuotedScalarString(value)
    return value

"""The YAML of profiles: plain values only, without features that execute, loop or surprise. Pure.

Not supported: aliases (cycles, and a few lines that expand to gigabytes), tags, merge keys,
duplicate keys, dates (they stay text) and base-60 numbers (12:30 is not 750).
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable
from typing import Any

import yaml

__all__ = ["Inline", "is_ambiguous", "read_yaml", "write_yaml"]

_KEPT = ("null", "bool")
_INT = re.compile(r"[-+]?(?:0b[0-1_]+|0[0-7_]+|0|[1-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:[0-9][0-9_]*)\.[0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.[0-9_]+(?:[eE][-+]?[0-9]+)?)$"
)


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Patterns of plain words that are null, booleans or numbers, by their first character."""
    ours = {
        first: [(tag, pattern) for tag, pattern in known if tag.rpartition(":")[2] in _KEPT]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    for first in "-+0123456789":
        ours.setdefault(first, []).append(("tag:yaml.org,2002:int", _INT))
    for first in "-+0123456789.":
        ours.setdefault(first, []).append(("tag:yaml.org,2002:float", _FLOAT))
    return ours


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _resolvers()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            raise _refused("a profile takes no aliases (*name)", event.start_mark)
        if event.tag is not None:
            raise _refused(f"a profile takes no tags ({event.tag})", event.start_mark)
        return super().compose_node(parent, index)

    def flatten_mapping(self, node: Any) -> None:
        """Do nothing: a merge key (<<) is a key like any other."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refused("a key must be a plain word", key.start_mark)
            if key.value in seen:
                raise _refused(f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_finite(self, node: Any) -> float:
        """A number; a number too large for a float is refused, not read as infinity."""
        value = self.construct_yaml_float(node)
        if not math.isfinite(value):
            raise _refused(f"{node.value} is too large a number", node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_finite)


def _refused(why: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, why, mark)


class Inline(dict[str, Any]):
    """A mapping that is written on one line."""


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _resolvers()

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    Inline,
    lambda dumper, data: dumper.represent_mapping(
        "tag:yaml.org,2002:map", data.items(), flow_style=True
    ),
)
_Dumper.add_representer(
    list,
    lambda dumper, data: dumper.represent_sequence(
        "tag:yaml.org,2002:seq", data, flow_style=not any(isinstance(v, dict) for v in data)
    ),
)


def read_yaml(text: str) -> Any:
    """The values in `text`. Raises yaml.YAMLError, ValueError or RecursionError."""
    return yaml.load(text, _Loader)


def write_yaml(document: dict[str, Any]) -> str:
    """Text that `read_yaml` turns back into `document`."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def is_ambiguous(text: str) -> bool:
    """Whether a string without quotes would be read as a number, boolean or null."""
    first = text[:1]
    known = _Loader.yaml_implicit_resolvers
    candidates = [*known.get(first, []), *known.get(None, [])]  # type: ignore[call-overload]
    return not text or any(pattern.match(text) for _, pattern in candidates)

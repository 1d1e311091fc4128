"""The board's keys by name, and the check of a remapping. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from textual.binding import Binding, BindingType
from textual.keys import format_key

from tputtui.errors import UsageError, nearest
from tputtui.ui.board import Board

__all__ = ["bound", "check_keys", "listed_of"]


def bound() -> dict[str, Binding]:
    """Every binding of the board by its name."""
    return {b.id: b for b in Board.BINDINGS if isinstance(b, Binding) and b.id}


def listed_of(
    bindings: Iterable[BindingType],
    keys: Mapping[str, str] | None = None,
    refused: Collection[str] = (),
) -> list[tuple[str, str]]:
    """(key as shown, what it does) of the bindings with a tooltip, remapped by `keys`.

    refused: names of bindings to leave out.
    """
    listed = []
    for binding in bindings:
        if isinstance(binding, Binding) and binding.tooltip and binding.id not in refused:
            remapped = (keys or {}).get(binding.id or "")
            shown = _shown(remapped) if remapped else binding.key_display or binding.key
            listed.append((shown, binding.tooltip))
    return listed


def check_keys(keys: Mapping[str, str]) -> None:
    """Raise UsageError for an unknown name, no key, or a key that two bindings would have."""
    known = bound()
    for name in keys:
        if name not in known:
            hint = nearest(name, known) or f"Known: {', '.join(known)}."
            raise UsageError(f"keys: there is nothing called {name!r} to remap.", hint)
    owners: dict[str, str] = {}
    for name, binding in known.items():
        for key in _split(keys.get(name, binding.key)):
            if key in owners:
                raise UsageError(
                    f"keys: {key!r} would be both {owners[key]} and {name}.",
                    "Give one of them another key.",
                )
            owners[key] = name
    for name, key in keys.items():
        if not _split(key):
            raise UsageError(f"keys: {name} has no key.", 'Write one, such as "z" or "ctrl+l".')


def _split(keys: str) -> list[str]:
    """Single keys, in Textual's long form."""
    if not keys.strip():
        return []
    return [binding.key for binding in Binding.make_bindings([Binding(keys, "x")])]


def _shown(keys: str) -> str:
    return " ".join(format_key(key) for key in _split(keys))

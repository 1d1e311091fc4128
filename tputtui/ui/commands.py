"""The palette: every action that has a key, by name, with the key. Main thread."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

from textual.app import SystemCommand
from textual.binding import Binding
from textual.keys import format_key

from tputtui.ui.board import Board
from tputtui.ui.terminal_app import TerminalApp

__all__ = ["commands"]

_COMMANDS = (
    ("undo", "Undo", "take back the last change"),
    ("redo", "Redo", "do again what was undone"),
    ("command", "Command", "a line such as max_num_seqs 48, load 8/s"),
    ("copy", "Copy", "a value, the vllm serve command, a row as Markdown"),
    ("preempt", "Preempt now", "shrink to max_num_seqs at once"),
    ("engine.pause", "Pause the engine", "or let it go on"),
    ("prefix.reset", "Empty the prefix cache", "preempts what runs"),
    ("load.toggle", "Hold or run the load", "what is in flight finishes"),
    ("load.stop", "Stop the load", "abort what is in flight"),
    ("load.edit", "Edit the load", "arrivals and lengths"),
    ("goals", "Goals", "what to serve requests within"),
    ("guard", "Guard", "what a change must not break"),
    ("engine.edit", "Engine arguments", "edit, and boot again"),
    ("compare", "A/B", "present limits against those before"),
    ("verify", "Verify boot", "exactly these values as ceilings"),
    ("verify.served", "As served", "vLLM's own server, over HTTP"),
    ("tuner", "Tuner", "ask for a goal, get a setting"),
    ("history", "Settings tried", "sort, jump, pin, diff"),
    ("frontier", "Frontier", "settings against each other"),
    ("limit.type", "Type a limit", "its exact value"),
    ("save", "Save a profile", "limits, load and figures"),
    ("log", "Engine log", "what vLLM prints"),
    ("help", "Help", "keys and meanings"),
)
"""Name of a binding of the board, what the palette calls it, and what it does."""


def commands(
    app: TerminalApp,
    zoom: Callable[[int], None],
    keys: Mapping[str, str],
    refused: Collection[str] = (),
) -> Iterator[SystemCommand]:
    """What the palette offers of the actions of `app`.

    zoom: shows the panel of that number alone. keys: key by binding name, where it is another one.
    refused: names of bindings to leave out.
    """
    known = {each.id: each for each in Board.BINDINGS if isinstance(each, Binding) and each.id}
    for name, title, does in _COMMANDS:
        if name in refused:
            continue
        action = known[name].action.removeprefix("app.")
        key = _shown(known[name], keys.get(name, ""))
        yield SystemCommand(title, f"{key} · {does}", getattr(app, f"action_{action}"))
    yield SystemCommand("Theme", "one of ours, or the terminal's own", app.action_change_theme)
    for number, name in enumerate(Board.PANELS):
        key = _shown(known[f"zoom.{number + 1}"], keys.get(f"zoom.{number + 1}", ""))
        yield SystemCommand(
            f"Panel: {name}",
            f"{number + 1 if '…' in key else key} · over the whole screen",
            partial(zoom, number),
        )
    quits = _shown(known["quit"], keys.get("quit", ""))
    yield SystemCommand("Quit", f"{quits} · stop load and engine", app.action_leave)


def _shown(binding: Binding, key: str) -> str:
    """A binding's key as people write it."""
    if key:
        return format_key(key)
    return binding.key_display or format_key(binding.key.partition(",")[0])

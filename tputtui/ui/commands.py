"""The palette: every action that has a key, by name. Main thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from textual.app import SystemCommand

from tputtui.ui.board import Board

if TYPE_CHECKING:
    from tputtui.ui.app import TputApp

__all__ = ["commands"]


def commands(app: TputApp) -> Iterator[SystemCommand]:
    """What the palette offers."""
    yield SystemCommand("Undo", "Take back the last change", app.action_undo)
    yield SystemCommand("Redo", "Do again what was undone", app.action_redo)
    yield SystemCommand("Preempt now", "Shrink to max_num_seqs at once", app.action_preempt)
    yield SystemCommand("Pause the engine", "Or let it go on", app.action_toggle_engine)
    yield SystemCommand(
        "Empty the prefix cache", "Preempts what runs", app.action_reset_prefix_cache
    )
    yield SystemCommand("Hold or run the load", "Space", app.action_toggle_load)
    yield SystemCommand("Stop the load", "Abort what is in flight", app.action_stop_load)
    yield SystemCommand("Edit the load", "Arrivals and lengths", app.action_edit_load)
    yield SystemCommand("Goals", "What to serve requests within", app.action_edit_goals)
    yield SystemCommand("Guard", "What a change must not break", app.action_edit_guard)
    yield SystemCommand("Engine arguments", "Edit, and boot again", app.action_edit_engine)
    yield SystemCommand("A/B", "Present limits against those before", app.action_compare)
    yield SystemCommand("Verify boot", "Exactly these values as ceilings", app.action_verify)
    yield SystemCommand("As served", "vLLM's own server, over HTTP", app.action_verify_served)
    yield SystemCommand("Tuner", "Ask for a goal, get a setting", app.action_show_tuner)
    yield SystemCommand("Settings tried", "Sort, jump, pin, diff", app.action_show_history)
    yield SystemCommand("Frontier", "Settings against each other", app.action_show_frontier)
    yield SystemCommand("Type a limit", "Its exact value", app.action_type)
    yield SystemCommand("Save a profile", "Limits, load and figures", app.action_save)
    yield SystemCommand("Engine log", "What vLLM prints", app.action_show_log)
    yield SystemCommand("Help", "Keys and meanings", app.action_show_help)
    yield SystemCommand("Theme", "Dark, light, the terminal's own", app.action_change_theme)
    for number, name in enumerate(Board.PANELS):
        yield SystemCommand(
            f"Panel: {name}",
            "Over the whole screen",
            lambda number=number: app.zoom(number),
        )
    yield SystemCommand("Quit", "Stop load and engine", app.action_leave)

"""Two themes of our own; the terminal's own colours are Textual's `ansi-dark` and `ansi-light`."""

from __future__ import annotations

from textual.theme import Theme

__all__ = ["NAMES", "THEMES", "VARIABLES"]

DARK = Theme(
    name="dark",
    primary="#7aa2f7",
    secondary="#9aa5ce",
    accent="#e0af68",
    success="#9ece6a",
    warning="#ff9e64",
    error="#f7768e",
    foreground="#c8cede",
    background="#14161c",
    surface="#191c24",
    panel="#222632",
    dark=True,
    variables={"chart": "#4f7cd6", "muted": "#737b94", "label": "#98a1b8"},
)
LIGHT = Theme(
    name="light",
    primary="#2f5fb3",
    secondary="#4a5a7a",
    accent="#9a5b00",
    success="#3d7a1c",
    warning="#b04a00",
    error="#b3203b",
    foreground="#22262f",
    background="#fbfbf9",
    surface="#f2f2ee",
    panel="#e6e6e0",
    dark=False,
    variables={"chart": "#3d6fc4", "muted": "#7b8190", "label": "#555c6b"},
)
THEMES = (DARK, LIGHT)
NAMES = {"dark": "dark", "light": "light", "terminal": "ansi-dark", "terminal-light": "ansi-light"}
VARIABLES = {"chart": "ansi_blue", "muted": "ansi_bright_black", "label": "ansi_default"}
"""Our own colour names, for themes that do not set them."""

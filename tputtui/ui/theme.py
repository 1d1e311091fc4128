"""The themes: ours, two well-known ones, one for colour-blind eyes, and the terminal's own.

Each colour of text has a contrast of 4.5 and more on each background that it stands on (WCAG AA);
a test holds them to it. The terminal's own colours are what its owner has made of them.
"""

from __future__ import annotations

from dataclasses import replace

from textual.theme import BUILTIN_THEMES, Theme

__all__ = ["GROUNDS", "INKS", "OWN", "THEMES", "VARIABLES"]

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
    variables={
        "chart": "#7096e8", "wave": "#b294e8", "fill": "#5fb8ae",
        "calm": "#73c990", "muted": "#8a92ab", "label": "#a0a9c0",
    },
)  # fmt: skip
LIGHT = Theme(
    name="light",
    primary="#2f5fb3",
    secondary="#4a5a7a",
    accent="#8a5000",
    success="#34701a",
    warning="#a64500",
    error="#b3203b",
    foreground="#22262f",
    background="#fbfbf9",
    surface="#f2f2ee",
    panel="#e6e6e0",
    dark=False,
    variables={
        "chart": "#3561b4", "wave": "#7747b3", "fill": "#126a63",
        "calm": "#2a6c3c", "muted": "#60656f", "label": "#4c535f",
    },
)  # fmt: skip
NORD = Theme(
    name="nord",
    primary="#88c0d0",
    secondary="#a3b4ce",
    accent="#ebcb8b",
    success="#a9c794",
    warning="#e6a48a",
    error="#eb9aa2",
    foreground="#e5e9f0",
    background="#2e3440",
    surface="#333a47",
    panel="#3b4252",
    dark=True,
    variables={
        "chart": "#94b4d6", "wave": "#ccaac6", "fill": "#8fbcbb",
        "calm": "#a9c794", "muted": "#aab4c5", "label": "#c3cbd9",
    },
)  # fmt: skip
GRUVBOX = Theme(
    name="gruvbox",
    primary="#83a598",
    secondary="#bdae93",
    accent="#fabd2f",
    success="#b8bb26",
    warning="#fe8f3a",
    error="#ff806c",
    foreground="#ebdbb2",
    background="#282828",
    surface="#2e2c2b",
    panel="#3c3836",
    dark=True,
    variables={
        "chart": "#8db3a5", "wave": "#dc9aae", "fill": "#9cc98a",
        "calm": "#b8bb26", "muted": "#b5a68f", "label": "#d0bfa0",
    },
)  # fmt: skip
SAFE = Theme(
    # Wong's palette (Nature Methods 8, 2011, 441): its colours are told apart with any kind of
    # colour blindness. Better is blue and worse is orange: neither is red or green.
    name="colour-blind",
    primary="#56b4e9",
    secondary="#a9b4c2",
    accent="#f0e442",
    success="#56b4e9",
    warning="#e69f00",
    error="#f5793a",
    foreground="#dfe3ea",
    background="#101216",
    surface="#171a20",
    panel="#22262e",
    dark=True,
    variables={
        "chart": "#56b4e9", "wave": "#d59abe", "fill": "#22b08a",
        "calm": "#22b08a", "muted": "#9299a5", "label": "#aab1bd",
    },
)  # fmt: skip


def _legible(theme: Theme) -> Theme:
    """The theme with what Textual's own widgets derive from it too faint: hints, selected text."""
    selected = f"{theme.primary} 25%"
    derived = {"text-disabled": theme.variables["muted"], "input-selection-background": selected}
    return replace(theme, variables={**theme.variables, **derived})


OWN = tuple(map(_legible, (DARK, LIGHT, NORD, GRUVBOX, SAFE)))
THEMES = (
    *OWN,
    replace(BUILTIN_THEMES["ansi-dark"], name="terminal"),
    replace(BUILTIN_THEMES["ansi-light"], name="terminal-light"),
)
"""All that can be chosen."""
VARIABLES = {
    "chart": "ansi_blue", "wave": "ansi_magenta", "fill": "ansi_cyan", "calm": "ansi_green",
    "muted": "ansi_bright_black", "label": "ansi_default",
}  # fmt: skip
"""Our own colour names, for themes that do not set them."""
INKS = ("foreground", "accent", "success", "warning", "error", *VARIABLES)
"""The colours of text, as fields of a theme or variables of it."""
GROUNDS = ("background", "surface", "panel")
"""The colours that text stands on."""

"""The first words that name a command."""

from __future__ import annotations

__all__ = ["COMMANDS"]

COMMANDS = {
    "bench": "measure without a screen; figures on stdout, goals as the exit code",
    "tune": "search for the setting that meets a goal best; a profile on stdout",
    "attach": "watch servers that run elsewhere (vLLM, SGLang, TGI), one or a fleet",
    "calibrate": "measure what steps of an engine cost, for simulations of it",
    "verify": "boot with exactly a profile's values and measure again",
    "profiles": "list, show, diff, validate and export profiles",
    "replay": "open a recorded run on the same screen, with time control",
    "report": "a recorded run as an HTML or Markdown page",
    "compare": "two recorded runs side by side, with intervals",
    "config": "the settings in force, and where each comes from",
    "completion": "shell completion for bash, zsh or fish",
    "help": "topics: load, goals, profiles, bench, files, environment, exit-codes, keys, …",
}
"""Command to what it does; every other first word is a MODEL."""

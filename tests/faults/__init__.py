"""Faults that are really caused, in the program as it is installed, and what a person then sees."""

from __future__ import annotations

from pathlib import Path

INJECTED = Path(__file__).with_name("injected")


def fault(name: str, **more: str | None) -> dict[str, str | None]:
    """The environment in which `name` goes wrong; `injected/sitecustomize.py` lists what can."""
    return {"FAULT": name, "PYTHONPATH": str(INJECTED), **more}

"""Faults that are really caused, in the program as it is installed, and what a person then sees."""

from __future__ import annotations

from pathlib import Path

INJECTED = Path(__file__).with_name("injected")


def fault(name: str, **more: str | None) -> dict[str, str | None]:
    """The environment in which `name` goes wrong; `injected/sitecustomize.py` lists what can."""
    return {"FAULT": name, "PYTHONPATH": str(INJECTED), **more}


PACED: dict[str, str | None] = {"PACED": "1", "PYTHONPATH": str(INJECTED)}
"""The environment with the deterministic engine in vLLM's place: for what is not about vLLM."""

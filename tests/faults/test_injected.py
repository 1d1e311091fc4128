"""What `injected/sitecustomize.py` does to a program under test, beside what it is there for."""

from __future__ import annotations

import runpy
import sys

import pytest

import tputtui.engine.vllm
from tests.faults import INJECTED


def test_other_threads_import_undisturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that goes through the finders skips the next where one is taken out before it."""
    for name in ("PACED", "FAULT"):
        monkeypatch.delenv(name, raising=False)
    finder = runpy.run_path(str(INJECTED / "sitecustomize.py"))["PacedFinder"]
    finders = [finder, *sys.meta_path]
    monkeypatch.setattr(sys, "meta_path", finders)
    before = list(finders)
    assert finder.find_spec("tputtui.engine.vllm.inproc", tputtui.engine.vllm.__path__)
    assert finders == before

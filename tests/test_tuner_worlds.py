"""A small fixed part of `benchmarks/tuner.py`: worlds in which the best setting is known."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("seed", "kind"), [(8, "linear"), pytest.param(8, "padded", marks=pytest.mark.long)]
)
def test_a_few_trials_find_what_is_truly_best(
    seed: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a restless machine in virtual time, so it is the same every time."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    bench: Any = importlib.import_module("tuner")
    world = bench.World(seed, kind)
    true, clear, _ = bench.truth(world)
    assert clear
    run = bench.searched(world, true, "physics")
    assert run.regret <= 0.02
    assert run.trials <= 6
    assert run.took_s <= 125

"""Prefix-cache hits on a real engine are those that the structure of the load predicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engine.conftest import Served
from tputtui.engine.orders import RunLoad
from tputtui.load.hits import predicted_hits
from tputtui.load.lengths import Uniform
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

BASE = Workload(ClosedLoop(1), Uniform(30, 50), Uniform(3, 9), seed=77)


def served_hits(cpu: Served, load: Workload, requests: int) -> tuple[float, int]:
    """(hits ÷ tokens looked up, requests) of the first requests of `load` on an empty cache."""
    assert cpu.llm_engine.reset_prefix_cache()
    cpu.session.steer.load.set(load)
    # From request 0, with the load's own seed.
    cpu.session.steer.load.stop()
    cpu.turn()
    cpu.begin()
    cpu.host.order(RunLoad())
    cpu.turn_until(lambda: len(cpu.ended) >= requests, at_most=requests * 12)
    cpu.drain(at_most=100)
    looked_up = sum(step.looked_up_tokens for step in cpu.steps)
    prompts = sum(sample.prompt_tokens for sample in cpu.ended)
    assert looked_up == prompts
    hits = sum(step.cached_tokens for step in cpu.steps)
    assert hits == sum(sample.cached_tokens for sample in cpu.ended)
    return hits / looked_up, len(cpu.ended)


@pytest.mark.parametrize(
    ("texts", "requests"),
    [
        ({}, 20),
        pytest.param(
            {"prefix": "share=0.7 tokens=100 groups=4 zipf=1"}, 60, marks=pytest.mark.long
        ),
        pytest.param({"sessions": "turns=1-5 think=0s"}, 40, marks=pytest.mark.long),
        ({"prefix": "share=1 tokens=64 groups=2", "sessions": "turns=3 think=0s"}, 30),
    ],
)
def test_one_after_another_the_cache_hits_exactly_as_predicted(
    cpu: Served, texts: dict[str, str], requests: int
) -> None:
    load = from_texts(BASE, texts)
    found, n = served_hits(cpu, load, requests)
    predicted = predicted_hits(load, cpu.host.status.facts.block_size, n)
    assert found == pytest.approx(predicted, abs=1e-9)
    assert (found > 0.2) == bool(texts)


def test_many_at_once_miss_only_what_was_asked_for_at_the_same_time(cpu: Served) -> None:
    load = from_texts(BASE, {"arrivals": "16", "prefix": "share=0.8 tokens=96 groups=3 zipf=0"})
    found, n = served_hits(cpu, load, 150)
    predicted = predicted_hits(load, cpu.host.status.facts.block_size, n)
    assert predicted - 0.1 < found <= predicted


@pytest.mark.long
def test_blocks_of_a_trace_are_found_again(cpu: Served, tmp_path: Path) -> None:
    rows = [
        {"timestamp": 0, "input_length": 1100, "output_length": 4, "hash_ids": [1, 2, 3]},
        {"timestamp": 1, "input_length": 1090, "output_length": 4, "hash_ids": [1, 2, 4]},
        {"timestamp": 2, "input_length": 700, "output_length": 4, "hash_ids": [1, 9]},
    ]
    path = tmp_path / "mooncake.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    load = from_texts(BASE, {"trace": str(path), "arrivals": "1"})
    found, _ = served_hits(cpu, load, 3)
    assert found == pytest.approx((1024 + 512) / (1100 + 1090 + 700))
    size = cpu.host.status.facts.block_size
    assert found == pytest.approx(predicted_hits(load, size, 3))

"""From which tier of the KV cache hits came, from vLLM's statistics to the screen and the log."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest

from tests.made import MARKS, frame_of, six_trials
from tputtui.engine.vllm.tiers import Tiers
from tputtui.measure.history import History
from tputtui.measure.mirror import Copy, Tail
from tputtui.measure.recorder import Recorder
from tputtui.measure.tiers import beyond_the_gpu, tier_text
from tputtui.record.kept import KEPT
from tputtui.ui.panels.batch import batch

TIERS = (("device", 600), ("host", 300), ("disk", 100))


class Source(Enum):
    """Stands for vLLM's CacheHitSource."""

    HOST = "host"
    DISK = "disk"


def step(own: int, beyond: Any) -> SimpleNamespace:
    return SimpleNamespace(
        prefix_cache_stats=SimpleNamespace(hits=own), connector_prefix_cache_stats=beyond
    )


def test_each_tier_adds_up_over_the_steps() -> None:
    tiers = Tiers()
    tiers.see(step(400, SimpleNamespace(hits=300, hits_by_source={Source.HOST: 300})))
    tiers.see(step(200, SimpleNamespace(hits=100, hits_by_source={Source.DISK: 100})))
    assert tiers.told == TIERS


def test_a_version_that_names_no_tiers_has_one_beside_the_gpu() -> None:
    tiers = Tiers()
    tiers.see(step(400, SimpleNamespace(hits=100)))
    assert tiers.told == (("device", 400), ("external_unspecified", 100))
    assert tier_text(tiers.told) == "GPU 80% · external 20%"


def test_without_a_connector_there_are_no_tiers() -> None:
    tiers = Tiers()
    tiers.see(step(400, None))
    tiers.see(SimpleNamespace())
    assert tiers.told == ()
    assert not beyond_the_gpu(tiers.told)
    assert not beyond_the_gpu((("device", 400), ("host", 0)))


def test_they_cross_to_another_process_and_a_log() -> None:
    recorder, other = Recorder(), Recorder()
    tail, copy = Tail(recorder), Copy(other)
    recorder.tiers = TIERS
    changes = tail.take()
    assert changes is not None
    copy.apply(changes)
    assert other.tiers == TIERS
    assert tail.take() is None
    (kept,) = (row for row in KEPT if row.name == "tiers")
    assert kept.read(kept.write(TIERS)) == TIERS


@pytest.mark.parametrize("width", [38, 58, 98])
def test_the_batch_panel_names_them_where_there_are_any(width: int) -> None:
    frame = replace(frame_of(six_trials(), marks=MARKS), tiers=TIERS)

    def shown(tiers: tuple[tuple[str, int], ...], height: int = 16) -> list[str]:
        rows = batch(replace(frame, tiers=tiers), History(0.0), width, height)
        texts = ["".join(text for text, _ in row) for row in rows]
        return [text for text in texts if text.startswith("hits by")]

    (line,) = shown(TIERS)
    assert line.startswith("hits by  GPU 60% · CPU 30% · disk 10%")
    assert len(line) <= width
    assert line.endswith(" since the boot") == (width >= 58)
    assert shown(TIERS[:1]) == []
    assert shown(TIERS, 9) == []

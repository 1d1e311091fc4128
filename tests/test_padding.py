"""Padding of decode steps to the captured sizes of CUDA graphs, by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from tests.made import MARKS, frame_of, six_trials
from tests.rig import Rig
from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import EngineFacts, Report
from tputtui.engine.resolved import CAPTURE_SIZES, GRAPH_MODE, from_runs, in_runs, resolved
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.history import History
from tputtui.measure.padding import Padding, padding
from tputtui.measure.samples import STEP
from tputtui.measure.stats import Floats
from tputtui.profile import EngineSpec
from tputtui.ui.panels.batch import batch


def steps_of(*batches: tuple[int, int], a_sequence: int = 1) -> Floats:
    """Steps as (decode tokens, prefill tokens), each sequence decoding `a_sequence` tokens."""
    rows = np.zeros((len(batches), len(STEP)))
    for row, (decode, prefill) in zip(rows, batches, strict=True):
        row[STEP["decode_tokens"]], row[STEP["prefill_tokens"]] = decode, prefill
        row[STEP["running"]] = decode / a_sequence
    return rows


def test_a_step_runs_as_the_next_captured_size() -> None:
    # 40 of 64 slots, and 32 of 32: 24 of 96 are empty.
    found = padding(steps_of((40, 0), (32, 0)), [1, 2, 4, 8, 16, 32, 64])
    assert found == Padding(24 / 96, 0.0, (40,))


def test_sizes_that_hold_every_step_leave_no_padding() -> None:
    assert padding(steps_of((8, 0), (16, 0)), [8, 16]) == Padding(0.0, 0.0, ())


def test_steps_with_prompts_are_none_of_decodes() -> None:
    assert padding(steps_of((40, 500)), [64]) is None
    assert padding(steps_of((40, 500), (64, 0)), [64]) == Padding(0.0, 0.0, ())
    assert padding(steps_of((0, 0)), [64]) is None
    assert padding(steps_of((40, 0)), []) is None


def test_a_step_above_the_largest_size_runs_as_it_is() -> None:
    found = padding(steps_of((100, 0), (60, 0), (64, 0), (200, 0)), [32, 64])
    assert found == Padding(4 / 128, 0.5, ())
    alone = padding(steps_of((100, 0)), [64])
    assert alone is not None
    assert math.isnan(alone.frac)
    assert (alone.beyond_frac, alone.capture) == (1.0, ())


def test_the_two_sizes_that_save_most_are_advised() -> None:
    steps = steps_of(*[(45, 0)] * 60, *[(53, 0)] * 40, (2, 0))
    found = padding(steps, [1, 2, 4, 8, 16, 32, 64])
    assert found is not None
    # 60 × 19 + 40 × 11 of 100 × 64 + 2.
    assert found.frac == pytest.approx((60 * 19 + 40 * 11) / 6402)
    assert found.capture == (48, 56)
    # With them 60 × 3 + 40 × 3 are left, which is not worth another.
    better = padding(steps, [1, 2, 4, 8, 16, 32, 48, 56, 64])
    assert better is not None
    assert better.frac == pytest.approx((60 * 3 + 40 * 3) / (60 * 48 + 40 * 56 + 2))
    assert better.capture == ()


def test_where_several_tokens_a_sequence_are_decoded_no_size_is_advised() -> None:
    found = padding(steps_of((40, 0), a_sequence=4), [64])
    assert found == Padding(24 / 64, 0.0, ())


@pytest.mark.parametrize("sizes", [(), (8,), (1, 2, 4, *range(8, 257, 8), *range(272, 513, 16))])
def test_the_sizes_survive_their_text(sizes: tuple[int, ...]) -> None:
    assert from_runs(in_runs(sizes)) == sizes


class Graphs(FakeEngine):
    """Has captured a few sizes."""

    got: dict[str, str]

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        return replace(super().boot(spec, report), resolved=resolved({}, self.got))


@pytest.mark.parametrize("mode", ["FULL_AND_PIECEWISE", "NONE"])
def test_a_run_with_graphs_counts_its_padding_and_one_without_has_none(mode: str) -> None:
    Graphs.got = {GRAPH_MODE: mode, CAPTURE_SIZES: "1 2 4 8 16 64"}
    rig = Rig(Workload(ClosedLoop(40), pairs=((60, 20, 1.0),)), kind=Graphs)
    rig.boot()
    rig.run(10.0)
    frame = rig.session.advance()
    assert frame.status.facts is not None
    if mode == "NONE":
        assert frame.status.facts.capture_sizes == ()
        assert frame.padding is None
        return
    assert frame.status.facts.capture_sizes == (1, 2, 4, 8, 16, 64)
    steps = rig.session.recorder.steps.between(frame.window.start_s, frame.window.end_s)
    assert frame.padding == padding(steps, (1, 2, 4, 8, 16, 64))
    assert frame.padding is not None
    assert 0 < frame.padding.frac < 1


@pytest.mark.parametrize("width", [38, 58, 78, 98])
def test_the_batch_panel_has_a_line_that_fits(width: int) -> None:
    made = frame_of(six_trials(), marks=MARKS)
    frame = replace(made, padding=Padding(0.11, 0.0, (48, 56)))

    def line(height: int) -> str:
        rows = batch(frame, History(0.0), width, height)
        lines = ("".join(text for text, _ in row) for row in rows)
        return next((line for line in lines if line.startswith("graphs")), "")

    assert len(line(20)) <= width
    assert line(20) == (
        "graphs  11% of decode slots are padding: capture 48 and 56"
        if width >= 58
        else "graphs  11% padding: capture 48 and 56"
    )
    # A low panel keeps its charts.
    assert (line(9), bool(line(10))) == ("", True)
    none = replace(frame, padding=None)
    assert all("graphs" not in text for row in batch(none, History(0.0), 98, 20) for text, _ in row)

"""Steps that the plugin tells of, as samples: our own tokens, several engines, other clocks."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from tputtui.attach.access import Access
from tputtui.attach.address import parse_addresses
from tputtui.engine.served.inside import Inside
from tputtui.engine.served.link import Link
from tputtui.engine.served.seen import SeenSteps
from tputtui.engine.wire import StepBatch
from tputtui.measure.binding import Binding, Bound, in_common
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Accounting, EngineLoad, StepSample, above, kv_frac_of
from tputtui.measure.window import figures


class Told:
    """What comes in at `now_s` of our clock; nothing goes out."""

    def __init__(self, engines: int = 1) -> None:
        self.now_s = 100.0
        (address,) = parse_addresses(["localhost:1"])
        self.inside = Inside(Link(address, Access(), self.clock), "", self.clock)
        self.seen = SeenSteps(self.inside, engines)

    def clock(self) -> float:
        return self.now_s

    def come(self, *rows: StepSample, now_s: float = 7.0, **more: Any) -> None:
        batch = StepBatch(now_s, 0, [list(row) for row in rows], **more)
        self.inside._came(msgspec.json.encode(batch))


def step(end_s: float, generated: int, running: int = 4) -> StepSample:
    return StepSample(end_s, 0.1, running, 1, 10, running, generated, 0, 0, 0, 0.5, 64, 2048, 0.01,
                      400, 1000)  # fmt: skip


def test_times_are_told_on_our_clock_by_the_quickest_journey() -> None:
    told = Told()
    told.come(step(6.9, 4), now_s=7.0)
    assert told.seen.take(4, 100.0)[0].end_s == pytest.approx(99.9)
    told.now_s = 101.5  # half a second late
    told.come(step(7.9, 4), now_s=8.0)
    assert told.seen.take(4, 101.5)[0].end_s == pytest.approx(100.9)


def test_our_own_tokens_stand_in_place_of_everybodys() -> None:
    told = Told()
    told.come(step(6.7, 10), step(6.8, 10), step(6.9, 20), others=3)
    rows = told.seen.take(20, 100.0)
    assert [row.generated_tokens for row in rows] == [5, 5, 10]
    assert [row.running for row in rows] == [4, 4, 4]
    assert told.inside.others == 3


def test_tokens_whose_steps_are_under_way_are_waited_for_and_not_for_ever() -> None:
    told = Told()
    assert told.seen.take(7, 100.0) == []
    assert told.seen.awaits(100.5)
    assert not told.seen.awaits(101.5)
    told.come(step(6.9, 7))
    assert told.seen.take(0, 100.5)[0].generated_tokens == 7
    assert not told.seen.awaits(100.6)
    # Those whose steps never come are counted once, and with no later step.
    assert told.seen.take(5, 101.0) == []
    (row,) = told.seen.take(0, 102.5)
    assert (row.generated_tokens, row.decode_tokens, row.max_num_seqs) == (5, 0, 64)
    told.come(step(7.9, 7))
    assert told.seen.take(0, 102.6)[0].generated_tokens == 0


def test_several_engines_are_one_row_of_totals() -> None:
    told = Told(2)
    told.come(step(6.8, 4), step(6.9, 4), engine=0, others=1)
    told.come(step(6.95, 6, running=6), engine=1, others=2)
    (row,) = told.seen.take(14, 100.0)
    assert (row.running, row.waiting, row.max_num_seqs, row.kv_blocks) == (10, 2, 128, 2000)
    assert (row.prefill_tokens, row.decode_tokens) == (30, 14)
    assert row.generated_tokens == 14
    assert row.kv_frac == 0.5
    assert row.end_s == pytest.approx(99.95)
    assert told.inside.others == 3


def test_caches_of_different_sizes_are_one_by_their_blocks() -> None:
    told = Told(2)
    told.come(step(6.9, 4)._replace(kv_frac=0.25, kv_blocks=6000), engine=0, kv_frac=0.25,
              kv_blocks=6000)  # fmt: skip
    told.come(step(6.9, 4)._replace(kv_frac=0.95, kv_blocks=2000), engine=1, kv_frac=0.95,
              kv_blocks=2000)  # fmt: skip
    (row,) = told.seen.take(8, 100.0)
    assert row.kv_blocks == 8000
    assert row.kv_frac == pytest.approx(3400 / 8000)
    assert [each.kv_blocks for each in told.seen.engines] == [6000, 2000]
    assert kv_frac_of(told.seen.engines) == pytest.approx(3400 / 8000)
    # Where an older plugin does not tell sizes, each counts as much.
    assert kv_frac_of([EngineLoad(1, 0, 0.2, 0.1), EngineLoad(1, 0, 0.4, 0.1)]) == pytest.approx(
        0.3
    )
    assert math.isnan(kv_frac_of([]))


def test_a_line_that_is_none_is_passed_over() -> None:
    told = Told()
    for line in (b"", b"{", b"[]", b'{"message": "gone"}'):
        told.inside._came(line)
    assert told.seen.take(0, 100.0) == []


def test_an_engine_without_a_step_counts_as_it_tells() -> None:
    told = Told(2)
    told.come(step(6.9, 4), engine=0, running=4)
    told.come(step(6.9, 4), engine=1, running=4)
    told.seen.take(8, 100.0)
    told.come(engine=1, now_s=7.1)  # idle by now
    told.come(step(7.0, 4, running=5), engine=0, now_s=7.1, running=5)
    (row,) = told.seen.take(4, 100.2)
    assert (row.running, row.max_num_seqs) == (5, 128)
    assert [each.running for each in told.seen.engines] == [5, 0]


def test_the_steps_of_each_engine_are_kept_apart() -> None:
    told = Told(2)
    assert told.seen.engines == ()
    told.come(step(6.8, 4), step(6.9, 4), engine=0, running=3)
    told.come(step(6.85, 6, running=6), engine=1, running=6)
    told.seen.take(14, 100.0)
    apart = told.seen.of_engines()
    assert {engine: len(rows) for engine, rows in apart.items()} == {0: 2, 1: 1}
    recorder = Recorder()
    recorder.note_engines(2, 0.0)
    recorder.add_engine_steps(apart)
    # Told later than another engine's, and yet the table's time does not turn back.
    recorder.add_engine_steps({1: [step(50.0, 1)]})
    first, second = recorder.steps_of_engines(0.0, 200.0)
    assert (len(first), len(second)) == (2, 2)
    assert (np.diff(recorder.engine_steps.between(0.0)[:, 0]) >= 0).all()


def test_shares_and_step_times_of_several_engines_are_of_single_steps() -> None:
    recorder = Recorder()
    recorder.note_engines(2, 0.0)
    both = {0: [step(1.0, 4), step(1.1, 4)], 1: [step(1.05, 4)]}
    recorder.add_step(step(1.1, 12, running=8)._replace(max_num_seqs=128, duration_s=0.2), ())
    recorder.add_engine_steps(both)
    seen = figures(recorder, 0.0, 2.0)
    assert seen.generated_per_s == 6.0
    assert (seen.step.p50, seen.steps_per_s) == (0.1, 1.5)
    assert seen.tokens_frac == pytest.approx(14 / 2048)
    assert seen.sequences_frac == pytest.approx(4 / 64)
    assert seen.busy_frac == pytest.approx(0.3 / 2 / 2)


def test_one_engine_above_its_limit_is_draining_whatever_the_other_does() -> None:
    books = Accounting(issued=40, running=40)
    engines = (EngineLoad(30, 0, 0.5, 0.1), EngineLoad(10, 0, 0.5, 0.1))
    assert above(books, engines, 20) == 10
    assert above(books, engines, 30) == 0
    assert above(books, (), 30) == 10


def test_what_binds_most_engines_is_named_with_how_many() -> None:
    full = Binding(Bound.SEQUENCES, 0.5, "64/64 run", "raise it to 128")
    fuller = replace(full, share=0.9, evidence="full")
    load = Binding(Bound.LOAD, 0.9, "idle", "+ adds load")
    assert in_common([full, load, fuller, None]) == replace(fuller, engines="2 of 4 engines")
    assert in_common([None, None]) is None

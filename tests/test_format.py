"""Numbers keep their width, charts their shape."""

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rig import Rig
from tests.several import TwoEngines, TwoSizes
from tests.test_screen import app_after
from tputtui.errors import KnobError
from tputtui.frame import Frame
from tputtui.knobs import Knobs, checked, knob
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.bounds import Bound
from tputtui.measure.history import Bucket, History
from tputtui.measure.samples import Mark
from tputtui.text.braille import area, dotted, nice_top
from tputtui.text.format import bar, clock, compact, percent, rate, seconds, size
from tputtui.ui.chart import chart
from tputtui.ui.panels.batch import batch
from tputtui.ui.panels.header import header
from tputtui.ui.panels.latency import latency
from tputtui.ui.panels.limits import _state, limits
from tputtui.ui.panels.throughput import throughput
from tputtui.ui.rows import fitted, spread, width_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (compact(7), "     7"),
        (compact(3221), " 3,221"),
        (compact(123_456), "  123k"),
        (compact(4_567_890), " 4.57M"),
        (compact(math.nan), "     –"),
        (compact(32_768, 0), "32,768"),
        (rate(0), "  0.00"),
        (rate(34.26), "  34.3"),
        (rate(1234.5), " 1,234"),
        (seconds(0.00094), " 940 µs"),
        (seconds(0.00657), "6.57 ms"),
        (seconds(0.0174), "17.4 ms"),
        (seconds(0.9494), " 949 ms"),
        (seconds(1.034), " 1.03 s"),
        (seconds(12.34), " 12.3 s"),
        (seconds(125), "   2m05"),
        (seconds(7260), "   2h01"),
        (seconds(math.nan), "      –"),
        (percent(0.413), " 41%"),
        (percent(0.001), " <1%"),
        (percent(0.0), "  0%"),
        (percent(1.0), "100%"),
        (clock(42), "0:42"),
        (clock(3723), "1:02:03"),
        (size(3 * 2**30), "  3.0G"),
        (size(871 * 2**20), "  871M"),
    ],
)
def test_numbers_read_as_a_person_writes_them(text: str, expected: str) -> None:
    assert text == expected


@given(st.floats(0, 1e15))
def test_no_number_outgrows_its_column(value: float) -> None:
    assert len(compact(value)) == 6
    assert len(rate(value)) == 6
    assert len(seconds(min(value, 3.5e6))) == 7


@given(st.floats(-1, 2), st.integers(0, 60))
def test_a_gauge_fills_its_width(fraction: float, width: int) -> None:
    filled, empty = bar(fraction, width)
    assert len(filled) + len(empty) == width


def test_an_area_fills_from_below_in_quarters_of_a_cell() -> None:
    assert area([0, 4, 8, 8], 1, 8.0) == ["⢠⣿"]
    assert area([8, 4], 2, 8.0) == ["⡇", "⣿"]
    assert area([math.nan, 0.0], 1, 1.0) == ["⠀"]
    assert area([0.001, 0.001], 1, 1.0) == ["⣀"]


@given(st.floats(1e-9, 1e12))
def test_a_scale_holds_its_value_and_wastes_at_most_a_third(value: float) -> None:
    top = nice_top(value)
    assert value <= top * (1 + 1e-9)
    assert top <= value * 1.5 * (1 + 1e-9)


def history(n: int, start: int = 0) -> History:
    made = History(0.0)
    made.first = start
    made.total = start + n
    made.buckets.extend(
        Bucket(float(i), i, 0, 0, 0, 8, 0, 0.01, 0) for i in range(start, start + n)
    )
    return made


def plain(rows: list[list[tuple[str, str]]]) -> list[str]:
    return ["".join(text for text, _ in row) for row in rows]


def test_a_chart_runs_in_from_the_right_and_marks_where_things_changed() -> None:
    mark = Mark(105.0, "knob", "max_num_seqs 64 → 32")
    rows = plain(chart("x", history(10, start=100), lambda b: 1.0, [mark], 20, 3))
    assert rows[2][:15].strip(" ⠀") == ""
    assert rows[2][15:] == "⣿⣿┃⣿⣿"
    assert rows[1].index("┃") == rows[2].index("┃") == 17


def test_a_chart_moves_by_a_column_every_two_seconds() -> None:
    def drawn(n: int) -> list[str]:
        return plain(chart("x", history(n), lambda b: b.generated, [], 40, 6, top=100.0))

    assert drawn(30)[1:] == drawn(31)[1:]
    for before, after in zip(drawn(60)[1:], drawn(62)[1:], strict=True):
        assert before[1:] == after[:-1]


def test_a_chart_reads_its_newest_value_and_has_ticks_where_it_is_wide() -> None:
    rows = plain(chart("tokens", history(255), lambda b: b.generated, [], 60, 13))
    assert rows[0].startswith("tokens")
    assert rows[0].endswith("253")
    assert [row[:8] for row in rows[1:-1]] == [
        "    300┤", *["       │"] * 9, "      0┤"
    ]  # fmt: skip
    assert rows[-1].split() == ["-1:30", "-1:00", "-0:30", "now"]
    assert all(len(row) == 60 for row in rows)


@pytest.mark.parametrize(
    ("value", "top"), [(256, 300), (1024, 1200), (64, 80), (1, 1), (0.13, 0.15)]
)
def test_a_scale_ends_near_its_value(value: float, top: float) -> None:
    assert nice_top(value) == pytest.approx(top)


def test_a_limit_far_above_everything_is_named_and_does_not_press_the_chart_flat() -> None:
    def drawn(limit: float) -> list[str]:
        return plain(chart("x", history(40), lambda b: 10.0, [], 60, 6, limit=lambda bucket: limit))

    assert drawn(1000.0)[1].startswith("     10┤")
    assert drawn(1000.0)[0].endswith("▔ 1,000 ↑")
    assert drawn(20.0)[1].startswith("     20┤")
    assert "▔" in drawn(20.0)[1]


def test_dots_of_a_second_quantity_lie_over_the_area() -> None:
    lines = area([4, 4], 2, 8.0)
    assert lines == ["⠀", "⣿"]
    assert dotted(lines, [8.0, math.nan], 8.0) == ["⠁", "⣿"]
    assert dotted(lines, [math.nan, 5.0], 8.0) == ["⢀", "⣿"]


def test_rows_are_cut_with_an_ellipsis_and_padded_to_their_width() -> None:
    assert plain([fitted([("hello", "a"), ("world", "b")], 7)]) == ["hellow…"]
    assert plain([fitted([("hi", "a")], 4)]) == ["hi  "]
    assert plain([spread([("left", "a")], [("right", "b")], 12)]) == ["left   right"]
    assert plain([spread([("left", "a")], [("right", "b")], 6)]) == ["left  "]


@pytest.mark.parametrize("width", [38, 58, 72])
def test_no_panel_is_wider_than_it_may_be_nor_loses_a_figure_in_an_ellipsis(width: int) -> None:
    rig = Rig.booted(Workload(ClosedLoop(2000), Fixed(100), Fixed(20)), max_num_seqs=200)
    rig.session.steer.limits.set("max_num_batched_tokens", 64)
    rig.run(20)
    frame, past = rig.session.advance(), rig.session.history
    panels = [
        throughput(frame, past, width, 12),
        batch(frame, past, width, 12),
        latency(frame, width, 5),
        limits(frame, "max_num_seqs", max(width, 78), 4),
        [header(frame, max(width, 70))],
    ]
    for rows in panels:
        for row in rows:
            shown = "".join(text for text, _ in row)
            assert "…" not in shown
            assert width_of(row) <= max(width, 78), shown


@pytest.mark.parametrize(("width", "height"), [(38, 12), (58, 12), (58, 30), (100, 40)])
def test_several_engines_are_told_apart_where_there_is_room(width: int, height: int) -> None:
    rig = Rig(Workload(ClosedLoop(48), Fixed(100), Fixed(20)), {"max_num_seqs": 30},
              kind=TwoEngines)  # fmt: skip
    rig.boot()
    rig.run(20)
    frame = rig.session.advance()
    rows = batch(frame, rig.session.history, width, height)
    text = plain(rows)
    assert all(width_of(row) <= width for row in rows)
    assert text[0].split()[:4] == ["sequences", "30", "/", "60"]
    (line,) = [row for row in text if row.startswith("2 engines")]
    assert "7–23 run each  uneven" in line
    apart = [row.split() for row in text if row.startswith(("0 ", "1 "))]
    assert len(apart) == (2 if width >= 58 and height >= 30 else 0)
    assert [row[1:4] for row in apart] in ([], [["23", "/", "30"], ["7", "/", "30"]])
    assert "blocks" not in "".join(text)


def state_of(frame: Frame) -> str:
    assert frame.asked is not None
    return _state(frame, knob("num_gpu_blocks"), frame.status.knobs, frame.asked)[0]


@pytest.mark.parametrize(("width", "height"), [(38, 12), (78, 30), (100, 40)])
def test_engines_with_caches_of_different_sizes_add_up_by_their_blocks(
    width: int, height: int
) -> None:
    rig = Rig(Workload(ClosedLoop(48), Fixed(100), Fixed(20)), {"max_num_seqs": 30},
              kind=TwoSizes)  # fmt: skip
    rig.boot()
    rig.run(20)
    frame = rig.session.advance()
    # 1,500 of 6,000 blocks and 1,900 of 2,000: not the mean of 25 % and 95 %.
    assert frame.kv_frac == pytest.approx(3400 / 8000)
    assert frame.figures.kv_frac == pytest.approx(3400 / 8000)
    rows = batch(frame, rig.session.history, width, height)
    assert all(width_of(row) <= width for row in rows)
    text = plain(rows)
    gauge = next(row.split() for row in text if row.startswith("KV cache"))
    assert gauge[2:6] == ["109k", "/", "256k", "42%"]
    assert "KV 25%–95%" in "".join(text) or width < 50
    apart = [row.split() for row in text if row.startswith(("0 ", "1 "))]
    assert [row[5:7] for row in apart] in ([], [["25%", "6,000"], ["95%", "2,000"]])
    assert bool(apart) == (width >= 78)
    # The ceiling is what each engine can have: nothing is held back at it, and then it is.
    assert frame.status.facts is not None
    assert frame.status.facts.ceilings.num_gpu_blocks == 2001
    assert state_of(frame) == "in force"
    rig.session.steer.limits.set("num_gpu_blocks", 1001)
    rig.run(1)
    assert state_of(rig.session.advance()) == "holding, 6,001 left"
    # What binds the small one is told by its own cache.
    assert frame.binding is not None
    assert (frame.binding.bound, frame.binding.engines) == (Bound.KV, "1 of 2 engines")
    assert frame.binding.evidence.startswith("95% used")


@pytest.mark.parametrize("width", [46, 119])
@pytest.mark.parametrize(("value", "unit"), [(1, "step"), (2, "steps")])
def test_one_of_a_unit_is_not_called_several(width: int, value: int, unit: str) -> None:
    frame = app_after(20).session.latest
    assert frame.asked is not None
    shown = replace(frame, asked=frame.asked.with_value("prefill_schedule_interval", value))
    rows = limits(shown, "prefill_schedule_interval", width, 30)
    text = "\n".join("".join(text for text, _ in row) for row in rows)
    assert re.search(rf"prefill every +{value} +{unit}\b|schedule_interval.* {unit}\b", text)


def test_bounds_that_allow_one_value_say_so() -> None:
    ceilings = Knobs(*[1] * len(Knobs(1, 1, 1).as_dict()))
    with pytest.raises(KnobError, match="1 seq, and nothing else") as refusal:
        checked("max_num_seqs", 2, ceilings)
    assert "1 to 1" not in str(refusal.value)

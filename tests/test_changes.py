"""What the last turn did, as rows: at every size of the panel, in every state."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest

from tests.made import (
    EVERY_JUDGEMENT,
    MARKS,
    OTHER_ENGINE,
    difference_of,
    frame_of,
    series_of,
    six_trials,
)
from tputtui.frame import CompareState, Frame
from tputtui.measure.window import Phase
from tputtui.ui.large import large
from tputtui.ui.panels.changes import changes, changes_caption
from tputtui.ui.panels.intervals import interval_axis, interval_bar, interval_scale
from tputtui.ui.panels.verdicts import Bars, difference_row

SIZES = [(78, 3), (118, 6), (58, 6), (78, 22), (198, 48), (40, 4)]
WORDS = {"better": "▲", "worse": "▼", "the same": "=", "cannot tell yet": "?"}


def lines(frame: Frame, width: int = 118, height: int = 6) -> list[str]:
    return ["".join(text for text, _ in row) for row in changes(frame, width, height)]


@pytest.fixture(scope="module")
def frame() -> Frame:
    """The third setting, under way for 20 s, against the second, which is pinned."""
    trials = six_trials()[:3]
    present = replace(
        trials[2],
        differences=EVERY_JUDGEMENT,
        series=series_of(2330, 0.52, 0.0166, length_s=20.0),
    )
    return frame_of((*trials[:2], present), marks=MARKS, baseline=2)


def comparing(
    frame: Frame,
    *,
    done: bool = False,
    note: str = "pair 3 of at most 12: B warming up, 31 of 96 requests",
) -> Frame:
    rows = EVERY_JUDGEMENT
    return replace(frame, compare=CompareState("" if done else "B", 2, note, done, rows))


def test_before_and_after_of_every_judgement(frame: Frame) -> None:
    assert lines(frame, 94, 6) == [
        "tokens/s    2,316 →   2,541    +9.7 % [+8.1 … +11.3]   ▲ better",
        "TTFT p50   302 ms →  441 ms   +46.1 % [+31.0 … +58.0]  ▼ worse",
        "TTFT p90   963 ms →  1.03 s    +7.2 % [-4.0 … +19.0]   ? cannot tell yet "
        "(needs ~40 s more)",
        "TPOT p50  17.4 ms → 17.5 ms    +0.3 % [-1.1 … +1.8]    = the same, within 2 %",
        "TPOT p90  22.1 ms → 22.9 ms    +3.6 % [-2.0 … +9.1]    ? undecided, c runs an A/B",
        "   6:20 ╎ load 96 in flight → 120 in flight",
    ]


def test_a_row_of_an_ab_needs_no_minute_more_than_the_ab_has_left(frame: Frame) -> None:
    row = replace(EVERY_JUDGEMENT[2], needs_s=232.0)
    whole = replace(comparing(frame).compare, differences=(row,), left_s=232.0)
    (said,) = [line for line in lines(replace(frame, compare=whole), 94, 6) if "TTFT p90" in line]
    assert said.endswith("(needs ~4 min more)")


def test_where_there_is_room_the_headline_is_large_and_intervals_are_bars(frame: Frame) -> None:
    assert lines(frame, 118, 9) == [
        " ╻ ┏━┓ ╺━┓ o ╱         tokens/s  ▲ better",
        "╺╋╸┗━┫   ┃  ╱          2,316 → 2,541  -50 %                     0                     "
        "+50 %",
        " ╹ ╺━┛•  ╹ ╱ o         [+8.1 … +11.3]                           │   ├●┤"
        "                    ",
        "           before     after    change  ",
        "TTFT p50   302 ms →  441 ms   +46.1 %                           │               "
        "├───────●─▸  ▼ worse",
        "TTFT p90   963 ms →  1.03 s    +7.2 %                         ├─┼───●─────┤"
        "                  ? needs ~40 s more",
        "TPOT p50  17.4 ms → 17.5 ms    +0.3 %                          ├●┤"
        "                           = the same, within 2 %",
        "TPOT p90  22.1 ms → 22.9 ms    +3.6 %                          ├┼─●──┤"
        "                       ? c: A/B",
        "   6:20 ╎ load 96 in flight → 120 in flight",
    ]
    beside = lines(frame, 198, 17)
    assert "│    6:20 ╎ load" in beside[0]
    assert beside[1].count("+50 %") == 1


@pytest.mark.parametrize("width", [96, 118, 132, 198])
def test_every_bar_is_on_one_scale_and_points_at_zero(frame: Frame, width: int) -> None:
    bars = Bars.of(EVERY_JUDGEMENT, width)
    assert bars is not None
    assert bars.cells % 2 == 1
    axis = interval_axis(bars.scale, bars.cells)
    assert len(axis) == bars.cells
    assert axis[bars.cells // 2] == "0"
    for row in EVERY_JUDGEMENT:
        drawn = "".join(text for text, _ in interval_bar(row, bars.scale, bars.cells, "good"))
        assert len(drawn) == bars.cells
        middle = bars.cells // 2
        assert drawn[middle] in "│┼├┤●"
        dot = drawn.index("●")
        assert (dot > middle) == (row.change > 0.5 * bars.scale / middle), drawn
        assert (row.judgement.clear) == (drawn[middle] == "│"), drawn


def test_a_bar_without_an_interval_and_one_beyond_its_axis() -> None:
    def drawn(change: float, low: float, high: float) -> str:
        row = difference_of("ttft_p50", 1.0, 1.0 + change, low, high, "cannot tell yet")
        return "".join(text for text, _ in interval_bar(row, 0.5, 21, "label"))

    assert drawn(0.1, math.nan, math.nan) == "          │ ●        "
    assert drawn(0.1, -0.9, math.inf) == "◂─────────┼─●───────▸"
    assert drawn(2.0, 0.2, math.inf) == "          │   ├─────▸"


def test_one_row_of_many_times_as_much_does_not_shrink_the_others_to_a_dot() -> None:
    small, huge = (
        difference_of("ttft_p50", 1.0, 1.0 + change, change - 0.1, change + 0.1, "worse")
        for change in (0.4, 32.0)
    )
    assert interval_scale([small, huge]) == 0.5
    assert "".join(text for text, _ in interval_bar(huge, 0.5, 21, "bad")).endswith("▸")
    # The first is the headline: it is never off its own axis.
    assert interval_scale([huge, small]) == 5.0


@pytest.mark.parametrize("text", ["+9.7 %", "-41.0 %", "×12", "+240 %", "1234567890"])
def test_a_large_figure_is_three_rows_of_one_width(text: str) -> None:
    rows = large(text)
    assert rows is not None
    assert len(rows) == 3
    assert len({len(row) for row in rows}) == 1
    assert large("from 0") is None


def test_the_wide_screens_narrow_column(frame: Frame) -> None:
    assert lines(frame, 58, 6)[:5] == [
        "tokens/s    2,316 → 2,541  +9.7 % [+8.1 … +11.3]  ▲ better",
        "TTFT p50     302 → 441 ms +46.1 % [+31.0 … +58.0] ▼ worse",
        "TTFT p90  963 ms → 1.03 s  +7.2 % [-4.0 … +19.0]  ? ~40 s",
        "TPOT p50   17.4 → 17.5 ms  +0.3 % [-1.1 … +1.8]   = same",
        "TPOT p90   22.1 → 22.9 ms  +3.6 % [-2.0 … +9.1]   ? c: A/B",
    ]


def test_where_there_is_little_room_the_headline_and_what_it_was_paid_with(frame: Frame) -> None:
    assert [line[:8] for line in lines(frame, 78, 3)] == ["tokens/s", "TTFT p50", "   6:20 "]
    later = (*EVERY_JUDGEMENT[:1], *EVERY_JUDGEMENT[2:])
    worse = difference_of("tpot_p90", 0.0221, 0.03, 0.3, 0.4, "worse")
    present = replace(frame.trials[-1], differences=(*later[:-1], worse))
    shown = lines(replace(frame, trials=(*frame.trials[:-1], present)), 78, 3)
    assert shown[1].startswith("TPOT p90")


def test_a_whole_screen_has_a_head_and_every_mark(frame: Frame) -> None:
    shown = lines(frame, 118, 30)
    assert "before     after    change" in shown[4]
    assert len(shown) == 5 + 2 * 4 + 1 + len(MARKS)
    assert "┇" in shown[16]
    assert "┊" in shown[15]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("state", ["turned", "settling", "alone", "empty", "comparing", "compared"])
def test_no_row_is_wider_than_the_panel_and_no_number_is_cut(
    frame: Frame, size: tuple[int, int], state: str
) -> None:
    frame = {
        "turned": lambda: frame,
        "settling": lambda: settling(frame),
        "alone": lambda: replace(frame, trials=frame.trials[:1]),
        "empty": lambda: replace(frame, trials=()),
        "comparing": lambda: comparing(frame),
        "compared": lambda: comparing(
            frame, done=True, note="Undecided after 12 pairs: B's tokens/s changes by -1.0% to "
            "+3.1%; its TTFT p50 is better.",
        ),
    }[state]()  # fmt: skip
    shown = lines(frame, *size)
    assert len(shown) <= size[1]
    for line in shown:
        assert len(line) <= size[0]
        assert not re.search(r"[\d.+-]…$", line), line
    assert len(changes_caption(frame, size[0] - 14)) <= size[0] - 14


def test_numbers_keep_their_places_whatever_they_are(frame: Frame) -> None:
    rows = [
        difference_of("tokens_per_s", 9.99, 101_234.0, 9_000.0, math.inf, "better"),
        difference_of("tokens_per_s", 123_456.0, 0.0, -1.0, -0.99, "worse"),
        difference_of("ttft_p50", 940e-6, 61.0, 0.0, 12_345_678.0, "cannot tell yet", 3000.0),
        difference_of("tpot_p90", 0.9991, 0.0999, -0.995, -0.81, "better"),
        difference_of("goodput_per_s", 0.0, 4.0, math.nan, math.nan, "cannot tell yet"),
        difference_of("ttft_p90", math.nan, 4.0, math.nan, math.nan, "cannot tell yet"),
    ]
    for width in (118, 78, 58):
        shown = ["".join(text for text, _ in difference_row(row, width)) for row in rows]
        assert {len(line) > width for line in shown} == {False}
        sign = re.compile(r"[▲▼=?–](?= [a-z~\d])")
        assert len({sign.search(line).start() for line in shown}) == 1, shown


def test_signs_are_never_told_by_colour_alone(frame: Frame) -> None:
    for row in EVERY_JUDGEMENT:
        text, look = difference_row(row, 118)[-1]
        assert text.startswith(WORDS[row.judgement.value])
        assert look in ("good", "bad", "text", "label")


@pytest.mark.parametrize(
    ("needs_s", "said"),
    [(3.0, "~5 s"), (33.0, "~40 s"), (61.0, "~90 s"), (100.0, "~2 min"), (1000.0, "~20 min")],
)
def test_how_long_it_takes_is_said_in_round_steps(needs_s: float, said: str) -> None:
    row = difference_of("ttft_p90", 1.0, 1.1, -0.1, 0.3, "cannot tell yet", needs_s)
    assert f"(needs {said} more)" in difference_row(row, 118)[-1][0]


def test_on_live_traffic_no_ab_is_named_that_would_be_refused(frame: Frame) -> None:
    facts = frame.status.facts
    assert facts is not None
    live = replace(frame, status=replace(frame.status, facts=replace(facts, live=True)))
    assert any("A/B" in line for line in lines(frame, 94))
    assert not any("A/B" in line for line in lines(live, 94))


def test_what_takes_longer_than_a_setting_is_measured_is_left_to_an_ab(frame: Frame) -> None:
    whole = replace(frame.trials[-1], series=series_of(2330, 0.52, 0.0166, length_s=60.0))
    shown = lines(replace(frame, trials=(*frame.trials[:-1], whole)), 94)
    assert "needs" not in shown[2]
    assert shown[2].endswith("c runs an A/B")
    # Another engine cannot be had for a leg.
    other = replace(whole, engine=OTHER_ENGINE)
    assert lines(replace(frame, trials=(*frame.trials[:-1], other)), 94)[2].endswith(
        "waiting will not decide it"
    )


def settling(frame: Frame) -> Frame:
    window = replace(
        frame.window, phase=Phase.SETTLING, settled=False, turned_over=45, to_turn_over=96
    )
    present = replace(
        frame.trials[-1], series=None, differences=(), against=None, phase=Phase.SETTLING
    )
    return replace(frame, window=window, trials=(*frame.trials[:-1], present))


def test_while_it_settles_and_without_anything_to_compare_with(frame: Frame) -> None:
    settles = settling(frame)
    assert lines(settles)[0] == "settling: 45 of 96 old requests finished"
    assert changes(settles, 118, 6)[0][0][1] == "muted"
    caption = "max_num_seqs 32 → 64, max_num_batched_tokens 2048 → 1024"
    assert changes_caption(settles, 100) == caption
    alone = replace(frame, trials=frame.trials[:1])
    assert lines(alone)[0].startswith("Nothing to compare with yet: change a limit")
    assert lines(alone, 58)[0] == "Nothing to compare with yet"
    assert changes_caption(alone, 100) == ""
    held = replace(settles, window=replace(settles.window, phase=Phase.DRAINING))
    assert "while the load is held" in lines(held)[0]


def test_the_caption_says_what_is_compared_and_gives_way_in_whole_words(frame: Frame) -> None:
    whole = "max_num_seqs 32 → 64, max_num_batched_tokens 2048 → 1024 · against 2 (baseline)"
    assert changes_caption(frame, 104) == whole
    assert changes_caption(frame, 64) == "max_num_seqs 32 → 64 +1 · against 2 (baseline)"
    assert changes_caption(frame, 44) == "max_num_seqs 32 → 64 +1 · against 2"
    assert changes_caption(frame, 12) == "against 2"
    assert changes_caption(frame, 5) == ""
    guarded = replace(frame, guard="ttft_p99=2s")
    assert changes_caption(guarded, 110) == f"{whole} · guard ttft_p99=2s"
    restless = replace(frame.trials[-1], unjudged="not steady")
    restless_frame = replace(frame, trials=(*frame.trials[:-1], restless))
    # What is not steady is the present setting, not the baseline.
    assert changes_caption(restless_frame, 110) == f"{whole} · not steady"


def test_an_ab_takes_the_place_until_it_is_over(frame: Frame) -> None:
    running = comparing(frame)
    assert changes_caption(running, 60) == "A/B pair 3 of at most 12"
    shown = lines(running, 94)
    assert shown[0] == "A/B  B warming up, 31 of 96 requests"
    assert shown[1].startswith("tokens/s")
    assert shown[3].endswith("(needs ~40 s more)")
    assert shown[5].endswith("? undecided")
    reason = "B's tokens/s is better, by +8.1% to +11.3%."
    over = comparing(frame, done=True, note=reason)
    assert changes_caption(over, 60) == "A/B over, 2 pairs"
    assert lines(over)[0] == f"A/B  {reason}"
    assert lines(over, 94)[3].endswith("? undecided")
    nothing = tuple(replace(row, change=math.nan, old=math.nan) for row in EVERY_JUDGEMENT)
    early = replace(running, compare=replace(running.compare, differences=nothing))
    assert lines(early)[1].startswith("   6:20")

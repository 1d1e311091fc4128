"""One pair of figures for each setting, wherever it is shown; verdicts that go when they must."""

import math
import re

import msgspec
import pytest

from tests.rig import Rig
from tputtui.engine.fake import FakeEngine
from tputtui.frame.tried import between
from tputtui.goals import parse_goals
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.splice import spliced
from tputtui.measure.verdict import Verdict
from tputtui.measure.window import figures
from tputtui.ui.panels.changes import changes, changes_caption

LOAD = Workload(ClosedLoop(48), pairs=((60, 20, 1.0),))


@pytest.fixture
def rig() -> Rig:
    made = Rig.booted(LOAD, max_num_seqs=32)
    made.run(15.0)
    return made


def text_of(rows: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(text for text, _ in row) for row in rows)


def test_goals_begin_no_new_setting_and_judge_what_was_measured(rig: Rig) -> None:
    rig.session.steer.limits.set("max_num_seqs", 8)
    rig.run(15.0)
    before = rig.session.advance()
    assert [row.number for row in before.trials] == [1, 2]
    assert math.isnan(before.trials[0].value("goodput_per_s"))
    rig.session.set_goals(parse_goals("ttft_p90=1s"))
    rig.run(2.0)
    frame = rig.session.advance()
    assert [row.number for row in frame.trials] == [1, 2]
    assert [point.label for point in frame.points] == [point.label for point in before.points]
    # Also the setting that is over is judged by them, and the frontier says what the table says.
    for row, point in zip(frame.trials, frame.points, strict=True):
        assert row.value("goodput_per_s") == pytest.approx(point.goodput_per_s)
        assert row.value("goodput_per_s") >= 0
    assert frame.trials[-1].differences[0].metric.key == "goodput_per_s"


def test_another_load_is_described_and_not_judged(rig: Rig) -> None:
    rig.session.steer.load.set(from_texts(LOAD, {"arrivals": "4"}))
    rig.run(15.0)
    frame = rig.session.advance()
    row = frame.trials[-1]
    assert row.differences[0].change < -0.3
    assert {each.judgement for each in row.differences} == {Verdict.UNJUDGED}
    assert math.isnan(row.decided_s)
    assert "described, not judged" in changes_caption(frame, 120)
    told = text_of(changes(frame, 100, 12))
    assert "not judged" in told
    assert "worse" not in told
    assert row.course(1000.0) == "another load: described, not judged"


def test_the_same_setting_measured_twice_is_one_row_and_one_point_of_both_windows(rig: Rig) -> None:
    once = rig.session.advance()
    rig.session.steer.limits.set("max_num_seqs", 8)
    rig.run(15.0)
    rig.session.steer.undo()
    rig.run(15.0)
    frame = rig.session.advance()
    assert [row.number for row in frame.trials] == [2, 1]
    row = frame.trials[-1]
    assert row.changed == "max_num_seqs 8 → 32"
    assert row.against == 2
    assert row.differences[0].judgement is Verdict.BETTER
    assert len(row.spans) == 2
    assert row.series.n > once.trials[0].series.n
    assert sorted(point.trial for point in frame.points) == [1, 2]
    told = row.course(frame.t_s - frame.elapsed_s)
    assert told.endswith(", pooled")
    assert " and " in told
    # The row of the limit that was turned down is compared with all that the other one gave.
    down = frame.trials[0]
    assert down.against == 1
    assert down.differences[0].judgement is Verdict.WORSE
    assert down.differences[0].old == row.value("tokens_per_s")
    # Left once more, it stands as it did.
    rig.session.steer.limits.set("max_num_seqs", 8)
    rig.run(3.0)
    assert rig.session.advance().trials[-1].number == 2


def test_every_place_has_the_same_figures_of_a_setting(rig: Rig) -> None:
    rig.session.steer.limits.set("max_num_seqs", 8)
    rig.run(75.0)
    frame = rig.session.advance()
    old, new = frame.trials
    headline = new.differences[0]
    assert (headline.old, headline.new) == (old.value("tokens_per_s"), new.value("tokens_per_s"))
    assert between(old, new)[0] == new.differences
    for row in frame.trials:
        point = next(point for point in frame.points if point.trial == row.number)
        assert point.tokens_per_s == pytest.approx(row.value("tokens_per_s"), rel=1e-9)
        assert point.latency["ttft"].p90 == pytest.approx(row.value("ttft_p90"), rel=1e-9)
        assert point.n == pytest.approx(row.series.n, abs=1)
    kept = rig.session.snapshot().evidence.tuned
    assert kept.figures["tokens_per_s"].value == pytest.approx(new.value("tokens_per_s"), rel=1e-3)
    assert kept.figures["ttft_p90_s"].value == pytest.approx(new.value("ttft_p90"), rel=1e-3)
    assert kept.window.length_s == pytest.approx(new.series.length_s, rel=1e-3)


def test_a_verdict_that_the_figures_no_longer_bear_is_withdrawn_and_says_when(rig: Rig) -> None:
    rig.session.steer.limits.set("max_num_seqs", 28)
    engine = rig.host._engine
    assert isinstance(engine, FakeEngine)
    engine.STEP_S = 0.012
    rig.run(20.0)
    row = rig.session.advance().trials[-1]
    assert row.differences[0].judgement is Verdict.WORSE
    assert math.isnan(row.withdrawn_s)
    for _ in range(25):
        # Ever quicker: the window is no one thing.
        engine.STEP_S *= 0.85
        rig.run(1.0)
    frame = rig.session.advance()
    row = frame.trials[-1]
    headline = row.differences[0]
    assert row.unjudged == "not steady"
    assert headline.judgement is Verdict.UNJUDGED
    # The figures go on, and no verdict of before stands beside them.
    assert headline.new == row.value("tokens_per_s")
    assert row.t_s < row.decided_s < row.withdrawn_s <= frame.t_s
    assert re.fullmatch(
        r"decided at 0:\d\d, withdrawn at 0:\d\d: not steady",
        row.course(frame.t_s - frame.elapsed_s),
    )


def test_rows_that_were_spliced_are_those_of_their_windows(rig: Rig) -> None:
    rig.run(10.0)
    recorder = rig.session.recorder
    now_s = rig.clock()
    spans = ((now_s - 9.0, now_s - 6.0), (now_s - 4.0, now_s))
    run = spliced(recorder, spans)
    for name in ("steps", "ended", "first_tokens", "issued", "gaps"):
        apart = [len(getattr(recorder, name).between(*span)) for span in spans]
        assert getattr(run, name).count == sum(apart)
        assert len(getattr(run, name).between(0.0, 3.0)) == apart[0]
        assert len(getattr(run, name).between(3.0, 7.0)) == apart[1]
    one, two = (figures(recorder, *span).generated_per_s for span in spans)
    assert figures(run, 0.0, 7.0).generated_per_s == pytest.approx((3 * one + 4 * two) / 7)


def test_a_load_begun_from_another_seed_is_another_load(rig: Rig) -> None:
    rig.session.steer.load.set(msgspec.structs.replace(rig.session.workload, seed=9))
    rig.run(12.0)
    frame = rig.session.advance()
    assert [row.number for row in frame.trials] == [1, 2]
    assert frame.trials[-1].unjudged

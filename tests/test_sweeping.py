"""Points and sweeps on the deterministic engine, through the session."""

import pytest

from tests.rig import Rig
from tputtui.errors import KnobError, UsageError
from tputtui.frame import Frame
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.frontier import knee
from tputtui.measure.window import Phase

BASE = Workload(ClosedLoop(96), pairs=((100, 20, 1.0),))


def booted(arrivals: str, **knobs: int) -> Rig:
    return Rig.booted(from_texts(BASE, {"arrivals": arrivals}), **knobs)


def swept_to_its_end(rig: Rig) -> Frame:
    """The frame in which a sweep is over."""
    rig.session.steer.experiments.sweep()
    for _ in range(900):
        rig.run(1.0)
        frame = rig.session.advance()
        if frame.sweep.level is None:
            return frame
    raise AssertionError(f"never over: {frame.sweep}")


def test_every_setting_that_was_measured_is_one_point_with_its_limits() -> None:
    rig = booted("96", max_num_seqs=64)
    rig.run(20.0)
    rig.session.steer.limits.set("max_num_seqs", 16)
    rig.run(1.0)
    rig.session.steer.limits.set("max_num_seqs", 8)
    rig.run(25.0)
    one, two = rig.session.advance().points
    # 16 was never measured long enough to count.
    assert (one.knobs["max_num_seqs"], two.knobs["max_num_seqs"]) == (64, 8)
    assert one.label == "a"
    assert one.tokens_per_s > two.tokens_per_s
    assert one.n >= 30
    assert one.steady
    assert one.load == "96 in flight"
    assert one.latency["e2e"].p50 < two.latency["e2e"].p50


def test_a_point_is_measured_on_while_its_setting_stands_and_is_closed_by_the_next() -> None:
    rig = booted("96")
    rig.run(15.0)
    early = rig.session.advance().points[-1]
    rig.run(20.0)
    late = rig.session.advance().points
    assert [point.label for point in late] == ["a"]
    assert late[0].n > early.n
    rig.session.clear_points()
    assert [point.label for point in rig.session.advance().points] in ([], ["a"])


def test_a_closed_loop_is_swept_to_its_plateau_and_put_back() -> None:
    rig = booted("64", max_num_seqs=32)
    rig.run(5.0)
    rig.session.steer.experiments.sweep()
    levels = set()
    for _ in range(400):
        rig.run(1.0)
        frame = rig.session.advance()
        if frame.sweep.level is None:
            break
        levels.add(frame.sweep.level)
    assert frame.sweep.level is None
    assert "gained less than 5%" in frame.sweep.note
    assert min(levels) == 8
    assert max(levels) > 64
    assert rig.session.workload.arrivals == ClosedLoop(64)
    swept = [point for point in frame.points if point.swept]
    assert {point.level for point in swept} == levels
    # More in flight than can run only waits: the knee is at or below the limit.
    assert knee(swept).level <= 40
    rig.turn()
    assert rig.session.advance().marks[-1].text == "sweep done: back to 64 in flight"


def test_an_open_loop_is_swept_until_it_saturates() -> None:
    rig = booted("16/s", max_num_seqs=8)
    frame = swept_to_its_end(rig)
    assert frame.sweep.note.startswith("Saturated at")
    served = max(p.requests_per_s for p in frame.points)
    held = [p.level for p in frame.points if p.steady and not p.saturated]
    # The highest level that held is near what the engine can serve.
    assert 0.6 * served < max(held) <= served * 1.05


@pytest.mark.parametrize("order", ["knob", "load", "hold", "undo", "stop", "again"])
def test_whatever_the_person_does_breaks_a_sweep_off(order: str) -> None:
    rig = booted("64", max_num_seqs=32)
    session = rig.session
    session.steer.limits.set("max_num_seqs", 30)
    rig.run(3.0)
    session.steer.experiments.sweep()
    rig.run(2.0)
    match order:
        case "knob":
            session.steer.limits.set("max_num_seqs", 16)
        case "load":
            session.steer.load.set(from_texts(BASE, {"arrivals": "5"}))
        case "hold":
            session.steer.load.toggle()
        case "undo":
            session.steer.undo()
        case "stop":
            session.steer.experiments.stop()
        case "again":
            session.steer.experiments.sweep()
    rig.run(1.0)
    frame = session.advance()
    if order == "again":
        assert frame.sweep.level is not None
        session.steer.experiments.stop()
        frame = session.advance()
    assert frame.sweep.level is None
    assert session.workload.arrivals == ClosedLoop(5 if order == "load" else 64)
    assert frame.accounting.balanced


def test_what_cannot_be_swept_is_refused() -> None:
    rig = booted("8..90 over 20s")
    with pytest.raises(UsageError, match="constant load"):
        rig.session.steer.experiments.sweep()
    cold = Rig(BASE)
    with pytest.raises(KnobError):
        cold.session.steer.experiments.sweep()


def test_a_backlog_of_before_is_in_no_level_of_a_sweep_and_in_no_row() -> None:
    rig = booted("200/s", max_num_seqs=8)
    rig.run(15.0)
    rig.session.steer.load.set(from_texts(BASE, {"arrivals": "8/s"}))
    rig.run(5.0)
    frame = rig.session.advance()
    before = frame.accounting.in_flight
    assert before > 300
    frame = swept_to_its_end(rig)
    swept = [point for point in frame.points if point.swept]
    assert len(swept) >= 3
    for point in swept:
        # No more is served than arrives, beyond what chance has in flight at either end.
        served, offered = (rate * point.window_s for rate in (point.requests_per_s, point.level))
        assert served <= offered + 3 * offered**0.5 + 8
        if not point.saturated:
            assert point.latency["ttft"].p50 < 1.0
    # Nor is what stood in the queue in a row of the history, or in what is put back.
    for row in frame.trials[1:]:
        assert row.series is None or row.value("ttft_p90") < 20.0


def test_a_backlog_of_before_settles_for_as_long_as_it_takes_and_says_so() -> None:
    rig = booted("100/s", max_num_seqs=4)
    rig.run(30.0)
    rig.session.steer.load.set(from_texts(BASE, {"arrivals": "2/s"}))
    rig.run(70.0)
    frame = rig.session.advance()
    old = frame.window.to_turn_over
    assert frame.window.phase is Phase.SETTLING
    assert 0 < frame.window.turned_over < old
    assert frame.window.turnover.endswith(f" of {old} old requests finished")
    assert frame.trials[-1].series is None
    rig.run(150.0)
    frame = rig.session.advance()
    assert frame.window.settled
    assert frame.trials[-1].value("ttft_p90") < 5.0

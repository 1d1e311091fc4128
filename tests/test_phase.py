"""What a window is worth, and what is refused while it is worth nothing."""

import math
from typing import Any

import msgspec
import pytest

from tests.rig import Rig
from tputtui.frame.proof import tuned
from tputtui.goals import parse_goals
from tputtui.hardware import GpuSample, HardwareSample
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.energy import EnergyMeter, cost_per_mtok
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import StepSample
from tputtui.measure.window import Phase
from tputtui.simulate.clock import VirtualTime

BASE = Workload(ClosedLoop(96), pairs=((100, 20, 1.0),))


def rig_with(**texts: str) -> Rig:
    return Rig.booted(from_texts(BASE, {"prompt": "100", "output": "20"} | texts), max_num_seqs=64)


def phase(rig: Rig) -> Phase:
    return rig.session.advance().window.phase


def test_a_constant_load_settles_is_measured_and_is_steady() -> None:
    rig = rig_with(arrivals="96")
    seen: list[Any] = []
    for _ in range(30):
        rig.run(0.6)
        if phase(rig) not in seen[-1:]:
            seen.append(phase(rig))
    assert seen == [Phase.SETTLING, Phase.MEASURING, Phase.STEADY]


def test_a_turned_limit_unsettles_and_settles_again() -> None:
    rig = rig_with(arrivals="96")
    rig.run(15.0)
    rig.session.steer.limits.set("max_num_seqs", 16)
    rig.run(0.5)
    assert phase(rig) is Phase.SETTLING
    rig.run(15.0)
    assert phase(rig) is Phase.STEADY


def test_a_ramp_gives_no_figure_until_it_has_come_to_rest() -> None:
    rig = rig_with(arrivals="4..90 over 20s")
    rig.run(10.0)
    frame = rig.session.advance()
    assert frame.window.phase is Phase.RAMPING
    found = tuned(frame, rig.session.recorder)
    assert "ramping" in found.note
    assert found.tuned is None
    rig.run(30.0)
    frame = rig.session.advance()
    assert frame.window.phase is Phase.STEADY
    assert frame.window.start_s > rig.session.recorder.marks[0].t_s + 20
    assert tuned(frame, rig.session.recorder).tuned.figures["tokens_per_s"].value > 0


def test_each_step_of_a_staircase_is_a_setting_of_its_own() -> None:
    rig = rig_with(arrivals="8,32,64 each 20s")
    labels = {}
    for _ in range(60):
        rig.run(1.0)
        for point in rig.session.advance().points:
            labels[point.label] = point.level
    assert labels == {"a": 8, "b": 32, "c": 64}


def test_a_load_that_is_held_drains_and_nothing_is_quoted() -> None:
    rig = rig_with(arrivals="96")
    rig.run(15.0)
    rig.session.steer.load.toggle()
    rig.turn()
    rig.clock.advance(1.0)
    frame = rig.session.advance()
    assert frame.window.phase is Phase.DRAINING
    assert "draining" in tuned(frame, rig.session.recorder).note
    rig.run(10.0)
    assert phase(rig) is Phase.IDLE


def test_a_queue_that_grows_is_not_steady_and_says_saturated() -> None:
    rig = rig_with(arrivals="400/s")
    rig.session.steer.limits.set("max_num_seqs", 8)
    rig.run(70.0)
    frame = rig.session.advance()
    assert frame.window.phase is Phase.DRIFTING
    assert frame.figures.saturated


def test_a_load_that_repeats_is_measured_over_whole_periods() -> None:
    rig = rig_with(arrivals="constant:30/s for 2s, 5 for 3s")
    rig.run(33.0)
    frame = rig.session.advance()
    assert frame.window.length_s % 5.0 == pytest.approx(0.0, abs=1e-6) or (
        frame.window.length_s % 5.0 == pytest.approx(5.0, abs=1e-6)
    )
    assert frame.window.length_s >= 10
    assert frame.figures.offered_per_s == pytest.approx((60 + 15) / 5, rel=0.05)
    assert frame.window.phase is Phase.STEADY


def test_a_paused_process_does_not_make_a_ramp_of_a_constant_load() -> None:
    rig = rig_with(arrivals="96")
    rig.run(10.0)
    rig.clock.advance(30.0)
    rig.run(1.0)
    assert phase(rig) is not Phase.RAMPING


def test_goals_are_judged_live_and_only_while_something_can_be_quoted() -> None:
    rig = rig_with(arrivals="96")
    rig.run(20.0)
    session = rig.session
    session.set_goals(parse_goals("ttft_p90=1s, e2e_p50=1ms, tpot_p99.9=16ms"))
    found = session.advance().goodput
    verdicts = {each.goal.name: each.verdict.value for each in found.each}
    assert verdicts["ttft_p90"] == "met"
    assert verdicts["e2e_p50"] == "missed"
    assert found.per_s == 0.0
    kept = tuned(session.advance(), session.recorder).tuned
    assert kept.goals["e2e_p50"].verdict == "missed"
    assert kept.figures["goodput_per_s"].value == 0.0
    assert session.snapshot().goals == session.goals


def test_requests_cut_by_a_limit_are_bad_for_a_goal() -> None:
    rig = rig_with(arrivals="40")
    rig.session.set_goals(parse_goals("e2e_p50=100s"))
    rig.run(8.0)
    rig.session.steer.limits.set("max_model_len", 110)
    rig.turn()
    before = rig.session.advance().accounting
    rig.run(2.0)
    frame = rig.session.advance()
    cut = frame.accounting.cut - before.cut
    assert cut > 0
    ended = rig.session.recorder.ended.between(-math.inf)
    assert (ended[:, ENDED["good"]] == 0).sum() == frame.accounting.cut


def test_tokens_per_joule_by_hand() -> None:
    recorder, meter = Recorder(), EnergyMeter()
    for second in range(1, 11):
        values: dict[str, Any] = {name: 0 for name in StepSample._fields}
        values |= {"end_s": float(second), "generated_tokens": 50}
        recorder.add_step(StepSample(**values), [])
        meter.add(float(second), 1000.0 + 20.0 * second)
        meter.add(float(second), 9.0)
    # From the reading at 3 s to that at 8 s: 5 steps of 50 tokens, 100 J.
    assert meter.tokens_per_joule(recorder, 2.5, 8.5) == pytest.approx(2.5)
    assert math.isnan(meter.tokens_per_joule(recorder, 3.5, 4.5))
    meter.add(12.0, 5.0)
    assert math.isnan(meter.tokens_per_joule(recorder, 0.0, 20.0))


class Machine:
    """One whose GPUs count energy at so many watts each; None does not count."""

    def __init__(self, clock: VirtualTime, *watts: float | None) -> None:
        self._clock, self._watts = clock, watts

    def latest(self) -> HardwareSample:
        now_s = self._clock()
        gpus = tuple(
            GpuSample(n, "GPU", visible=n < 3, energy_j=None if watts is None else watts * now_s)
            for n, watts in enumerate(self._watts)
        )
        return HardwareSample(now_s, gpus, "ok", now_s, None, None)


def test_energy_is_that_of_every_gpu_in_use() -> None:
    rig = rig_with(arrivals="96")
    rig.session._hardware = Machine(rig.clock, 300.0, 200.0, 100.0, None)  # type: ignore[assignment]
    rig.run(10.0)
    frame = rig.session.advance()
    # The fourth is hidden from the engine: what it takes, and whether it counts, is not ours.
    expected = frame.figures.generated_per_s / 600
    assert frame.tokens_per_joule == pytest.approx(expected, rel=0.1)


def test_energy_is_not_told_while_one_gpu_in_use_does_not_count_it() -> None:
    rig = rig_with(arrivals="96")
    rig.session._hardware = Machine(rig.clock, 300.0, None, 100.0)  # type: ignore[assignment]
    rig.run(5.0)
    assert math.isnan(rig.session.advance().tokens_per_joule)


def test_cost_of_a_million_tokens_by_hand() -> None:
    # 3.60 an hour is 0.001 a second; at 500 tok/s a million tokens take 2,000 s.
    assert cost_per_mtok(3.6, 500.0) == pytest.approx(2.0)
    assert math.isnan(cost_per_mtok(None, 500.0))
    assert math.isnan(cost_per_mtok(3.6, 0.0))
    rig = rig_with(arrivals="96")
    rig.session._asked.profile = msgspec.structs.replace(
        rig.session._asked.profile, price_per_hour=3.6
    )
    rig.run(10.0)
    frame = rig.session.advance()
    assert frame.cost_per_mtok == pytest.approx(1000.0 / frame.figures.generated_per_s)


@pytest.mark.parametrize(("age_s", "told"), [(1.0, ["thermal"]), (10.0, [])])
def test_a_driver_that_hangs_says_nothing_of_what_binds_now(
    monkeypatch: pytest.MonkeyPatch, age_s: float, told: list[str]
) -> None:
    def spy(*_: object, throttled: list[str], **__: object) -> None:
        seen.append(throttled)

    class Hot(Machine):
        def latest(self) -> HardwareSample:
            now_s = self._clock()
            gpus = (GpuSample(0, "GPU", throttle=("thermal",)),)
            return HardwareSample(now_s, gpus, "ok", now_s - age_s, None, None)

    seen: list[Any] = []
    monkeypatch.setattr("tputtui.frame.observer.binding", spy)
    rig = rig_with(arrivals="96")
    rig.session._hardware = Hot(rig.clock)  # type: ignore[assignment]
    rig.run(2.0)
    assert seen[-1] == told

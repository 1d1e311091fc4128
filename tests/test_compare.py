"""A/B in turns: the order, when it ends, how often chance speaks; and driven on an engine."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tputtui.engine.fake import FakeEngine
from tputtui.engine.host import Host
from tputtui.engine.orders import BeginLeg, Boot, Start
from tputtui.experiments.compare import Comparison, Leg, LegFigures
from tputtui.experiments.comparing import Comparing, Side
from tputtui.experiments.leg import LiveLeg
from tputtui.experiments.stalls import Stalls, without_stalls
from tputtui.frame import CompareState, Frame
from tputtui.frame.observer import Observer
from tputtui.goals import Goal, parse_goals
from tputtui.knobs import Knobs
from tputtui.load.levels import Bursts
from tputtui.load.workload import ClosedLoop, Poisson, Recorded, TraceFile, Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import StepSample
from tputtui.measure.series import Metric, rows, series
from tputtui.measure.stats import t_quantile
from tputtui.measure.verdict import Difference, Verdict
from tputtui.profile import EngineSpec, Profile
from tputtui.simulate.clock import VirtualTime

ROWS = rows(False)
KEYS = [metric.key for metric in ROWS]
CLEAR = (Verdict.BETTER, Verdict.WORSE)


def played(
    figure: Callable[[Leg, str], float], metrics: tuple[Metric, ...] = ROWS, **options: Any
) -> Comparison:
    """A comparison to its end; `figure(leg, key)` is what a leg gives."""
    comparison = Comparison(metrics, **options)
    while (leg := comparison.ask()) is not None:
        values = {m.key: figure(leg, m.key) for m in metrics}
        comparison.tell(leg, LegFigures(values), took_s=15.0)
    return comparison


def alike(value: float) -> LegFigures:
    """A leg with that value in every row."""
    return LegFigures(dict.fromkeys(KEYS, value))


def noisy(seed: int, ratio: float = 1.0, noise: float = 0.02) -> Callable[[Leg, str], float]:
    """Legs that wander by `noise`, a drift over the whole, B at `ratio` of A; rows vary together.

    Latencies are the other way round.
    """
    rng = np.random.default_rng(seed)
    legs: dict[Leg, float] = {}

    def figure(leg: Leg, key: str) -> float:
        if leg not in legs:
            legs[leg] = math.exp(rng.normal(0, noise)) * (1 - 0.01 * len(legs))
        speed = legs[leg] * (ratio if leg.side == "B" else 1.0)
        own = math.exp(rng.normal(0, noise))
        return own * (100 * speed if key == "tokens_per_s" else 0.1 / speed)

    return figure


def test_legs_alternate_and_those_of_a_pair_belong_together() -> None:
    comparison = Comparison(ROWS)
    seen = []
    for _ in range(8):
        seen.append(comparison.ask())
        assert comparison.ask() == seen[-1]
        comparison.tell(seen[-1], alike(100.0 + len(seen) % 3))
    assert "".join(leg.side for leg in seen) == "ABBAABBA"
    assert [leg.pair for leg in seen] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_it_says_how_far_it_is_and_takes_only_what_it_asked_for() -> None:
    comparison = Comparison(ROWS)
    assert comparison.progress == "pair 1 of at most 12"
    with pytest.raises(ValueError, match="asked for"):
        comparison.tell(Leg("B", 0), LegFigures({}))
    for _ in range(5):
        comparison.tell(comparison.ask(), LegFigures({"tokens_per_s": 100.0}))
    assert comparison.progress == "pair 3 of at most 12"
    assert comparison.pairs == 2
    with pytest.raises(ValueError, match="no comparison"):
        Comparison(())


def test_a_clear_difference_in_every_row_ends_it_at_the_first_look() -> None:
    # ±0.1 % about 10 % more: t with two degrees of freedom has no doubt.
    comparison = played(
        lambda leg, key: (
            (110 if leg.side == "B" else 100) * (1 + 0.001 * (-1) ** leg.pair)
            + 0.02 * leg.pair * (leg.side == "B")
        )
    )
    headline, *others = comparison.result
    assert comparison.pairs == 3
    assert headline.judgement is Verdict.BETTER
    assert headline.low < 0.10 < headline.high
    assert (headline.old, headline.new) == pytest.approx((100.0, 110.1), abs=0.1)
    assert comparison.reason.startswith("B's tokens/s is better, by +")
    assert all(other.judgement is Verdict.WORSE for other in others)
    assert comparison.ask() is None


def test_no_interval_is_given_before_the_first_look() -> None:
    comparison = Comparison(ROWS)
    for _ in range(5):
        leg = comparison.ask()
        comparison.tell(leg, alike(110.0 if leg.side == "B" else 100.0))
        assert all(math.isnan(found.low) for found in comparison.result)
    assert comparison.result[0].change == pytest.approx(0.1)


def test_equal_legs_are_the_same() -> None:
    comparison = played(lambda leg, key: 100.0 + leg.pair)
    assert comparison.pairs == 3
    assert {found.judgement for found in comparison.result} == {Verdict.SAME}
    assert comparison.reason == "B's tokens/s is the same, within 2 %."


def test_the_same_goes_on_for_rows_that_are_still_open() -> None:
    rng = np.random.default_rng(4)

    def figure(leg: Leg, key: str) -> float:
        if key != "ttft_p90":
            return 100.0
        return (80 if leg.side == "B" else 100) * math.exp(rng.normal(0, 0.08))

    comparison = played(figure)
    found = {f.metric.key: f.judgement for f in comparison.result}
    assert comparison.pairs > 3
    assert found["ttft_p90"] is Verdict.BETTER
    assert comparison.reason == "B's tokens/s is the same, within 2 %; its TTFT p90 is better."


def test_a_clear_headline_goes_on_for_latency_rows_that_are_still_open() -> None:
    logs = [0.0, 0.3, 0.15, 0.25, 0.1, 0.2] * 2

    def figure(leg: Leg, key: str) -> float:
        if key != "tpot_p90":
            return (110 if leg.side == "B" else 100) + 0.01 * leg.pair
        return 100 * math.exp(logs[leg.pair] if leg.side == "B" else 0.0)

    comparison = played(figure)
    found = {f.metric.key: f.judgement for f in comparison.result}
    assert comparison.pairs > 3
    assert found["tokens_per_s"] is Verdict.BETTER
    assert found["tpot_p90"] is Verdict.WORSE
    assert comparison.reason.endswith("its TPOT p90 is worse.")


def test_two_nones_are_nothing_to_compare() -> None:
    goodput = rows(True)[:2]
    comparison = played(lambda leg, key: 0.0 if key == "goodput_per_s" else 100.0, goodput)
    headline, tokens = comparison.result
    assert headline.judgement is Verdict.NOTHING
    assert math.isnan(headline.change)
    assert tokens.judgement is Verdict.SAME
    assert comparison.reason == "Neither side had any goodput: nothing to compare."


def test_half_an_event_stands_in_for_a_none_beside_one_that_is_not() -> None:
    comparison = Comparison(rows(True)[:1])
    while (leg := comparison.ask()) is not None:
        value = 0.0 if leg.side == "B" else 10.0 + 0.1 * leg.pair
        comparison.tell(leg, LegFigures({"goodput_per_s": value}, least={"goodput_per_s": 0.05}))
    headline = comparison.result[0]
    assert headline.judgement is Verdict.WORSE
    assert headline.new == pytest.approx(0.05)


def test_what_varies_inside_the_legs_counts_as_two_degrees_of_freedom() -> None:
    # Pairs of +2, +6 and +10 %: 4 % apart by two degrees of freedom. 0.01 inside each leg has
    # them 3.0 % apart by four; more than they differ is of no use.
    def width(error: float) -> float:
        comparison = Comparison(ROWS[:1])
        for _ in range(6):
            leg = comparison.ask()
            value = 100.0 * (math.exp(0.02 + 0.04 * leg.pair) if leg.side == "B" else 1.0)
            errors = {"tokens_per_s": error}
            comparison.tell(leg, LegFigures({"tokens_per_s": value}, errors))
        found = comparison.result[0]
        return math.log1p(found.high) - math.log1p(found.low)

    level = 0.05 / 6
    pooled = math.sqrt((2 * 0.04**2 + 2 * 2 * 0.01**2) / 4)
    assert width(math.nan) == pytest.approx(2 * t_quantile(level, 2) * 0.04 / math.sqrt(3))
    assert width(0.01) == pytest.approx(2 * t_quantile(level, 4) * pooled / math.sqrt(3))
    assert width(0.5) == width(math.nan)


def stalled(a_s: float, b_s: float) -> Comparison:
    """Three pairs whose smooth values are equal, with stalls of so many seconds on each side."""
    comparison = Comparison(ROWS[:1])
    for _ in range(6):
        leg = comparison.ask()
        total_s = a_s if leg.side == "A" else b_s
        comparison.tell(
            leg,
            LegFigures(
                {"tokens_per_s": 100.0 * (1 - total_s / 10)},
                smooth={"tokens_per_s": 100.0},
                stalls=Stalls(10.0, total_s, 0.3 * total_s),
            ),
        )
    return comparison


def test_stalls_of_the_machine_are_taken_out_and_told() -> None:
    comparison = stalled(0.4, 0.2)
    assert comparison.smooth
    assert comparison.result[0].judgement is Verdict.SAME
    assert comparison.reason == (
        "B's tokens/s is the same, within 2 %. Stalls took 4.0% of A's time and 2.0% of B's; "
        "they are taken out."
    )


def test_stalls_that_one_side_has_more_of_count() -> None:
    # 3 s against 0.3 s: no chance has them so far apart; they may be the setting's own doing.
    comparison = stalled(0.1, 1.0)
    assert not comparison.smooth
    assert comparison.result[0].judgement is Verdict.WORSE
    assert comparison.reason.endswith(
        "Stalls took 1.0% of A's time and 10.0% of B's; they count, for the sides differ."
    )


def test_what_cannot_be_resolved_is_given_up_before_the_last_pair() -> None:
    comparison = played(noisy(4, noise=0.2))
    assert 6 <= comparison.pairs < 12
    headline = comparison.result[0]
    assert headline.judgement is Verdict.OPEN
    assert headline.needs_s == math.inf
    assert re.fullmatch(
        r"Undecided after \d+ pairs, and 12 would hardly decide it: "
        r"B's tokens/s changes by -[\d.]+% to \+[\d.]+%\.",
        comparison.reason,
    )


def test_nothing_measured_ends_it() -> None:
    assert played(lambda leg, key: math.nan).reason == "Nothing could be measured."
    assert played(lambda leg, key: math.nan).pairs == 1


def test_a_pair_with_a_missing_side_is_left_out_of_that_row() -> None:
    noise = noisy(1, 1.2)
    comparison = played(
        lambda leg, key: math.nan if key == "ttft_p90" and leg.pair == 1 else noise(leg, key)
    )
    assert comparison.result[0].judgement is Verdict.BETTER


def said(ratio: float, runs: int, **options: Any) -> list[tuple[Difference, ...]]:
    return [played(noisy(seed, ratio, **options)).result for seed in range(runs)]


def test_chance_says_something_in_one_comparison_of_twenty_at_most() -> None:
    # Without the correction for looks and rows it is more than one in three.
    clear = sum(any(f.judgement in CLEAR for f in found) for found in said(1.0, 400))
    assert clear / 400 <= 0.05


def test_a_tenth_is_found() -> None:
    found = said(1.1, 100)
    assert sum(f[0].judgement is Verdict.BETTER for f in found) >= 90


@settings(deadline=None)
@given(st.data())
def test_it_always_ends(data: st.DataObject) -> None:
    figures = st.one_of(st.just(math.nan), st.just(0.0), st.floats(1e-6, 1e6))
    comparison = played(lambda leg, key: data.draw(figures), ROWS[:2])
    assert 1 <= comparison.pairs <= 12
    assert comparison.reason.endswith(".")
    for found in comparison.result:
        assert math.isnan(found.low) or found.low <= found.high


def steps_of(recorder: Recorder, slow: dict[int, float]) -> float:
    """A hundred seconds of steps of 0.1 s and ten tokens; those in `slow` take so much longer."""
    now_s = 0.0
    for i in range(1000):
        duration_s = 0.1 + slow.get(i, 0.0)
        now_s += duration_s
        recorder.add_step(
            StepSample(now_s, duration_s, 10, 0, 0, 10, 10, 0, 0, 0, 0.5, 64, 2048), []
        )
    return now_s


def test_stalls_are_steps_that_take_longer_than_their_tokens_explain() -> None:
    recorder = Recorder()
    # Due before the first stall and ended after the second; its first token came in between.
    end_s = steps_of(recorder, {100: 0.5, 300: 0.8, 500: 0.1})
    recorder.add_first_token(20.6, 5.0, 5.0)
    made, (start_s, until_s), stalls = without_stalls(recorder, 0.0, end_s)
    # A step of twice its time is none.
    assert stalls.total_s == pytest.approx(1.3)
    assert stalls.squares == pytest.approx(0.5**2 + 0.8**2)
    assert (start_s, until_s) == pytest.approx((0.0, end_s - 1.3))
    found = series(made, start_s, until_s, ()).values
    assert found["tokens_per_s"].value == pytest.approx(10_000 / 100.1)
    # Half a second of the 15.6 s until its first token was the machine's.
    assert found["ttft_p50"].value == pytest.approx(15.1)


def test_a_request_that_comes_in_a_stall_loses_what_is_left_of_it() -> None:
    recorder = Recorder()
    end_s = steps_of(recorder, {100: 0.5})
    # The step ends at 10.6 s, and stalls from 10.1 s on.
    recorder.add_first_token(11.0, 10.4, 10.4)
    made, window, _ = without_stalls(recorder, 0.0, end_s)
    assert series(made, *window, ()).values["ttft_p50"].value == pytest.approx(0.4)


def test_a_leg_of_few_steps_keeps_its_time() -> None:
    recorder = Recorder()
    recorder.add_step(StepSample(1.0, 0.9, 10, 0, 0, 10, 10, 0, 0, 0, 0.5, 64, 2048), [])
    assert without_stalls(recorder, 0.0, 2.0)[2].total_s == 0


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_without_stalls_nothing_takes_longer_and_order_stays(seed: int) -> None:
    rng = np.random.default_rng(seed)
    recorder = Recorder()
    slow = dict(zip(rng.integers(0, 1000, 20).tolist(), rng.exponential(0.5, 20).tolist(),
                    strict=True))  # fmt: skip
    end_s = steps_of(recorder, slow)
    for at_s in np.sort(rng.uniform(0, end_s, 50)).tolist():
        due_s = at_s - rng.exponential(2.0)
        recorder.add_first_token(at_s, due_s, due_s)
    made, (start_s, until_s), stalls = without_stalls(recorder, 0.0, end_s)
    before = recorder.first_tokens.between(0.0, end_s)
    after = made.first_tokens.between(start_s, until_s)
    assert len(after) == len(before)
    assert (after[:, 1] <= before[:, 1] + 1e-9).all()
    assert (np.diff(after[:, 0]) >= -1e-9).all()
    assert until_s - start_s == pytest.approx(end_s - stalls.total_s)


# -- on an engine ------------------------------------------------------------------------------

A = FakeEngine.BOOTED.with_value("max_num_seqs", 32)
B = FakeEngine.BOOTED.with_value("max_num_seqs", 8)
CLOSED = Workload(ClosedLoop(24), pairs=((60, 12, 0.5), (100, 30, 0.5)), seed=5)


class Driven:
    """A comparison on the deterministic engine, turned by hand, seen four times a second."""

    def __init__(
        self, load: Workload, a: Knobs = A, b: Knobs = B, goals: tuple[Goal, ...] = ()
    ) -> None:
        self.clock, self.recorder = VirtualTime(), Recorder()
        self.host = Host(lambda: FakeEngine(self.clock), self.recorder, load, self.clock)
        self.host.order(Boot(Start(EngineSpec("shape:demo"), a.as_dict()), load=True))
        self.host.run_pass()
        self.observer = Observer(self.recorder, self.clock())
        self.profile = Profile(EngineSpec("shape:demo"), load, {}, goals=goals)
        self.comparing = Comparing(Side(a), Side(b), load, goals, self.clock())
        self.legs: list[LiveLeg] = []
        self.spans: list[tuple[float, float, float]] = []

    def look(self) -> Frame:
        leg = self.comparing.leg
        return self.observer.frame(
            self.clock(), self.host.status, self.profile, leg.knobs if leg else None, None
        )

    def run(self, limit_s: float = 900.0) -> CompareState:
        put_on, until_s = True, self.clock() + limit_s
        while (leg := self.comparing.leg) is not None and self.clock() < until_s:
            if put_on:
                self.host.order(BeginLeg(leg.knobs, leg.workload, leg.text))
                self.legs.append(leg)
            end_s = self.clock() + 0.25
            while self.clock() < end_s:
                wait_s = self.host.run_pass()
                if wait_s > 0:
                    self.clock.advance(min(wait_s, 0.05))
            # Where the leg is measured, before it is told.
            watch = self.comparing._watch
            put_on = self.comparing.follow(self.look(), self.recorder)
            if put_on:
                self.spans.append((watch.began_s, watch.cut_s, self.comparing._length_s))
        return self.comparing.state


def test_a_lower_limit_is_found_worse_and_every_leg_is_warm_and_as_long_as_its_twin() -> None:
    driven = Driven(CLOSED)
    state = driven.run()
    assert state.done
    assert state.side == ""
    assert state.note.startswith("B's tokens/s is worse")
    assert state.differences[0].change < -0.1
    assert [leg.knobs for leg in driven.legs] == [A, B, B, A, A, B]
    assert [leg.workload.seed for leg in driven.legs] == [6, 6, 7, 7, 8, 8]
    for first, second in zip(driven.spans[::2], driven.spans[1::2], strict=True):
        for began_s, cut_s, _ in (first, second):
            assert cut_s - began_s >= 3.0 - 1e-9
            gone = driven.recorder.ended.between(began_s, cut_s)
            assert len(gone) >= 24
        assert first[2] == pytest.approx(second[2])
        assert first[2] >= 10.0
        assert second[1] - second[0] >= first[1] - first[0] - 1e-9


def test_goals_put_goodput_first() -> None:
    state = Driven(CLOSED, goals=parse_goals("ttft_p90=1s, tpot_p90=20ms")).run()
    assert state.differences[0].metric.key == "goodput_per_s"
    assert state.done


@pytest.mark.parametrize("load", [CLOSED, Workload(Poisson(12.0), pairs=((60, 12, 1.0),))])
def test_equal_settings_are_the_same(load: Workload) -> None:
    state = Driven(load, b=A).run()
    assert state.note == "B's tokens/s is the same, within 2 %."
    assert {found.judgement for found in state.differences} == {Verdict.SAME}


def test_a_load_that_repeats_is_measured_in_whole_periods() -> None:
    driven = Driven(Workload(ClosedLoop(Bursts(12, 4.0, 3.0, 4)), pairs=((60, 12, 1.0),)), b=A)
    driven.run()
    assert [span[2] for span in driven.spans] == pytest.approx([14.0] * len(driven.spans))


def test_it_says_what_it_does() -> None:
    driven = Driven(CLOSED)
    assert driven.comparing.state.note == "pair 1 of at most 12: A starting"
    driven.run(1.5)
    assert "warming up" in driven.comparing.state.note
    assert (driven.comparing.state.side, driven.comparing.state.pair) == ("A", 0)


def test_a_trace_that_ends_too_soon_breaks_it_off(tmp_path: Path) -> None:
    path = tmp_path / "short.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "".join(f"2024-05-10 00:00:0{i}.0000000,50,5\n" for i in range(4))
    )
    state = Driven(Workload(Recorded(), trace=TraceFile(str(path)))).run()
    assert state.done
    assert state.note == "The load ended before a leg was measured."


def test_stopped_it_asks_for_no_more() -> None:
    driven = Driven(CLOSED)
    driven.run(20.0)
    state = driven.comparing.stop("A limit was changed.")
    assert (state.done, state.side, state.note) == (True, "", "A limit was changed.")
    assert driven.comparing.leg is None
    assert driven.comparing.follow(driven.look(), driven.recorder) is False


def test_a_leg_that_never_begins_breaks_it_off() -> None:
    driven = Driven(CLOSED)
    frame = driven.look()
    assert driven.comparing.follow(frame, driven.recorder) is False
    assert driven.comparing.follow(replace(frame, t_s=frame.t_s + 31), driven.recorder) is True
    assert driven.comparing.state.note == "The engine did not begin the leg."

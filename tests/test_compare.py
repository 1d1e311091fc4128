"""A/B in turns: the order, when it ends, how often chance speaks; and driven on an engine."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tputtui.engine.fake import FakeEngine
from tputtui.engine.host import Host
from tputtui.goals import parse_goals
from tputtui.load.levels import Bursts
from tputtui.load.workload import ClosedLoop, Poisson, Recorded, TraceFile, Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.series import rows
from tputtui.measure.verdict import Judgement
from tputtui.observer import Observer
from tputtui.profile import EngineSpec, Profile
from tputtui.simulate.clock import VirtualTime
from tputtui.tune.compare import Comparison, Leg
from tputtui.tune.comparing import Comparing, Side

ROWS = rows(False)
KEYS = [metric.key for metric in ROWS]
CLEAR = (Judgement.BETTER, Judgement.WORSE)


def played(figure, metrics=ROWS, **options):
    """A comparison to its end; `figure(leg, key)` is what a leg gives."""
    comparison = Comparison(metrics, **options)
    while (leg := comparison.ask()) is not None:
        comparison.tell(leg, {m.key: figure(leg, m.key) for m in metrics}, took_s=15.0)
    return comparison


def noisy(seed, ratio=1.0, noise=0.02):
    """Legs that wander by `noise`, a drift over the whole, B at `ratio` of A; rows vary together.

    Latencies are the other way round.
    """
    rng = np.random.default_rng(seed)
    legs = {}

    def figure(leg, key):
        if leg not in legs:
            legs[leg] = math.exp(rng.normal(0, noise)) * (1 - 0.01 * len(legs))
        speed = legs[leg] * (ratio if leg.side == "B" else 1.0)
        own = math.exp(rng.normal(0, noise))
        return own * (100 * speed if key == "tokens_per_s" else 0.1 / speed)

    return figure


def test_legs_alternate_and_those_of_a_pair_belong_together():
    comparison = Comparison(ROWS)
    seen = []
    for _ in range(8):
        seen.append(comparison.ask())
        assert comparison.ask() == seen[-1]
        comparison.tell(seen[-1], dict.fromkeys(KEYS, 100.0 + len(seen) % 3))
    assert "".join(leg.side for leg in seen) == "ABBAABBA"
    assert [leg.pair for leg in seen] == [0, 0, 1, 1, 2, 2, 3, 3]


def test_it_says_how_far_it_is_and_takes_only_what_it_asked_for():
    comparison = Comparison(ROWS)
    assert comparison.progress == "pair 1 of at most 12"
    with pytest.raises(ValueError, match="asked for"):
        comparison.tell(Leg("B", 0), {})
    for _ in range(5):
        comparison.tell(comparison.ask(), {"tokens_per_s": 100.0})
    assert comparison.progress == "pair 3 of at most 12"
    assert comparison.pairs == 2
    with pytest.raises(ValueError, match="no comparison"):
        Comparison(())


def test_a_clear_difference_ends_it_at_the_first_look():
    # ±0.1 % about 10 % more: t with three degrees of freedom has no doubt.
    comparison = played(
        lambda leg, key: (
            (110 if leg.side == "B" else 100) * (1 + 0.001 * (-1) ** leg.pair)
            + 0.05 * leg.pair * (leg.side == "B")
        )
    )
    headline, *others = comparison.result
    assert comparison.pairs == 4
    assert headline.judgement is Judgement.BETTER
    assert headline.low < 0.10 < headline.high
    assert (headline.old, headline.new) == pytest.approx((100.0, 110.1), abs=0.1)
    assert comparison.reason.startswith("B's tokens/s is better, by +")
    assert all(other.judgement is Judgement.WORSE for other in others)
    assert comparison.ask() is None


def test_no_interval_is_given_before_the_first_look():
    comparison = Comparison(ROWS)
    for _ in range(6):
        leg = comparison.ask()
        comparison.tell(leg, dict.fromkeys(KEYS, 110.0 if leg.side == "B" else 100.0))
        assert all(math.isnan(found.low) for found in comparison.result)
    assert comparison.result[0].change == pytest.approx(0.1)


def test_equal_legs_are_the_same():
    comparison = played(lambda leg, key: 100.0 + leg.pair)
    assert comparison.pairs == 4
    assert {found.judgement for found in comparison.result} == {Judgement.SAME}
    assert comparison.reason == "B's tokens/s is the same, within 2 %."


def test_the_same_goes_on_for_rows_that_are_still_open():
    rng = np.random.default_rng(4)

    def figure(leg, key):
        if key != "ttft_p90":
            return 100.0
        return (80 if leg.side == "B" else 100) * math.exp(rng.normal(0, 0.08))

    comparison = played(figure)
    found = {f.metric.key: f.judgement for f in comparison.result}
    assert comparison.pairs > 4
    assert found["ttft_p90"] is Judgement.BETTER
    assert comparison.reason == "B's tokens/s is the same, within 2 %; its TTFT p90 is better."


def test_what_cannot_be_resolved_is_given_up_before_the_last_pair():
    comparison = played(noisy(4, noise=0.2))
    assert 6 <= comparison.pairs < 12
    headline = comparison.result[0]
    assert headline.judgement is Judgement.OPEN
    assert headline.needs_s == math.inf
    assert re.fullmatch(
        r"Undecided after \d+ pairs, and 12 would hardly decide it: "
        r"B's tokens/s changes by -[\d.]+% to \+[\d.]+%\.",
        comparison.reason,
    )


def test_nothing_measured_ends_it():
    assert played(lambda leg, key: math.nan).reason == "Nothing could be measured."
    assert played(lambda leg, key: math.nan).pairs == 1


def test_a_pair_with_a_missing_side_is_left_out_of_that_row():
    noise = noisy(1, 1.2)
    comparison = played(
        lambda leg, key: math.nan if key == "ttft_p90" and leg.pair == 1 else noise(leg, key)
    )
    assert comparison.result[0].judgement is Judgement.BETTER


def said(ratio, runs, **options):
    return [played(noisy(seed, ratio, **options)).result for seed in range(runs)]


def test_chance_says_something_in_one_comparison_of_twenty_at_most():
    # Without the correction for looks and rows it is more than one in three.
    clear = sum(any(f.judgement in CLEAR for f in found) for found in said(1.0, 400))
    assert clear / 400 <= 0.05


def test_a_tenth_is_found():
    found = said(1.1, 100)
    assert sum(f[0].judgement is Judgement.BETTER for f in found) >= 90


@settings(deadline=None)
@given(st.data())
def test_it_always_ends(data):
    figures = st.one_of(st.just(math.nan), st.just(0.0), st.floats(1e-6, 1e6))
    comparison = played(lambda leg, key: data.draw(figures), ROWS[:2])
    assert 1 <= comparison.pairs <= 12
    assert comparison.reason.endswith(".")
    for found in comparison.result:
        assert math.isnan(found.low) or found.low <= found.high


# -- on an engine ------------------------------------------------------------------------------

A = FakeEngine.BOOTED.with_value("max_num_seqs", 32)
B = FakeEngine.BOOTED.with_value("max_num_seqs", 8)
CLOSED = Workload(ClosedLoop(24), pairs=((60, 12, 0.5), (100, 30, 0.5)), seed=5)


class Driven:
    """A comparison on the deterministic engine, turned by hand, seen four times a second."""

    def __init__(self, load, a=A, b=B, goals=()):
        self.clock, self.recorder = VirtualTime(), Recorder()
        self.host = Host(lambda: FakeEngine(self.clock), self.recorder, load, self.clock)
        self.host.boot(EngineSpec("shape:demo"), a.as_dict(), load=True)
        self.host.turn()
        self.observer = Observer(self.recorder, self.clock())
        self.profile = Profile(EngineSpec("shape:demo"), load, {}, goals=goals)
        self.comparing = Comparing(Side(a), Side(b), load, goals, self.clock())
        self.legs, self.spans = [], []

    def look(self):
        leg = self.comparing.leg
        return self.observer.frame(
            self.clock(), self.host.status, self.profile, leg and leg.knobs, None
        )

    def run(self, limit_s=900.0):
        put_on, until_s = True, self.clock() + limit_s
        while (leg := self.comparing.leg) is not None and self.clock() < until_s:
            if put_on:
                self.host.begin_leg(leg.knobs, leg.workload, leg.text)
                self.legs.append(leg)
            end_s = self.clock() + 0.25
            while self.clock() < end_s:
                wait_s = self.host.turn()
                if wait_s > 0:
                    self.clock.advance(min(wait_s, 0.05))
            # Where the leg is measured, before it is told.
            watch = self.comparing._watch
            put_on = self.comparing.follow(self.look(), self.recorder)
            if put_on:
                self.spans.append((watch.began_s, watch.cut_s, self.comparing._length_s))
        return self.comparing.state


def test_a_lower_limit_is_found_worse_and_every_leg_is_warm_and_as_long_as_its_twin():
    driven = Driven(CLOSED)
    state = driven.run()
    assert state.done
    assert state.side == ""
    assert state.note.startswith("B's tokens/s is worse")
    assert state.differences[0].change < -0.1
    assert [leg.knobs for leg in driven.legs] == [A, B, B, A, A, B, B, A]
    assert [leg.workload.seed for leg in driven.legs] == [6, 6, 7, 7, 8, 8, 9, 9]
    for first, second in zip(driven.spans[::2], driven.spans[1::2], strict=True):
        for began_s, cut_s, _ in (first, second):
            assert cut_s - began_s >= 3.0 - 1e-9
            gone = driven.recorder.ended.between(began_s, cut_s)
            assert len(gone) >= 24
        assert first[2] == pytest.approx(second[2])
        assert first[2] >= 10.0
        assert second[1] - second[0] >= first[1] - first[0] - 1e-9


def test_goals_put_goodput_first():
    state = Driven(CLOSED, goals=parse_goals("ttft_p90=1s, tpot_p90=20ms")).run()
    assert state.differences[0].metric.key == "goodput_per_s"
    assert state.done


@pytest.mark.parametrize("load", [CLOSED, Workload(Poisson(12.0), pairs=((60, 12, 1.0),))])
def test_equal_settings_are_the_same(load):
    state = Driven(load, b=A).run()
    assert state.note == "B's tokens/s is the same, within 2 %."
    assert {found.judgement for found in state.differences} == {Judgement.SAME}


def test_a_load_that_repeats_is_measured_in_whole_periods():
    driven = Driven(Workload(ClosedLoop(Bursts(12, 4.0, 3.0, 4)), pairs=((60, 12, 1.0),)), b=A)
    driven.run()
    assert [span[2] for span in driven.spans] == pytest.approx([14.0] * len(driven.spans))


def test_it_says_what_it_does():
    driven = Driven(CLOSED)
    assert driven.comparing.state.note == "pair 1 of at most 12: A starting"
    driven.run(1.5)
    assert "warming up" in driven.comparing.state.note
    assert (driven.comparing.state.side, driven.comparing.state.pair) == ("A", 0)


def test_a_trace_that_ends_too_soon_breaks_it_off(tmp_path):
    path = tmp_path / "short.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        + "".join(f"2024-05-10 00:00:0{i}.0000000,50,5\n" for i in range(4))
    )
    state = Driven(Workload(Recorded(), trace=TraceFile(str(path)))).run()
    assert state.done
    assert state.note == "The load ended before a leg was measured."


def test_stopped_it_asks_for_no_more():
    driven = Driven(CLOSED)
    driven.run(20.0)
    state = driven.comparing.stop("A limit was turned.")
    assert (state.done, state.side, state.note) == (True, "", "A limit was turned.")
    assert driven.comparing.leg is None
    assert driven.comparing.follow(driven.look(), driven.recorder) is False


def test_a_leg_that_never_begins_breaks_it_off():
    driven = Driven(CLOSED)
    frame = driven.look()
    assert driven.comparing.follow(frame, driven.recorder) is False
    assert driven.comparing.follow(replace(frame, t_s=frame.t_s + 31), driven.recorder) is True
    assert driven.comparing.state.note == "The engine did not begin the leg."

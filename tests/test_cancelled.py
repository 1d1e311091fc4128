"""Requests that their client gives up: aborted in time, counted apart, missing no goal."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.rig import Rig
from tputtui.errors import UsageError
from tputtui.goals import parse_goals
from tputtui.load.carrier import PLAIN, Carrier
from tputtui.load.extras import Cancel
from tputtui.load.generator import Generator
from tputtui.load.lengths import Fixed
from tputtui.load.sections import from_texts, to_texts
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.measure.attainment import goodput
from tputtui.measure.mirror import Copy, Tail
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import Outcome

BASE = Workload(ClosedLoop(32), Fixed(100), Fixed(100))


def load(text: str) -> Workload:
    return from_texts(BASE, {"cancel": text})


def test_a_share_of_the_requests_is_given_up_after_the_time_that_was_drawn() -> None:
    rig = Rig.booted(load("share=0.3 after=0.4s"))
    rig.run(30)
    books = rig.session.recorder.accounting
    gone = [s for s in rig.session.recorder.request_log if s.outcome is Outcome.CANCELLED]
    assert books.balanced
    assert len(gone) == books.cancelled > 50
    assert books.aborted == books.failed == books.cut == 0
    assert books.cancelled / (books.issued - books.in_flight) == pytest.approx(0.3, abs=0.08)
    # Given up between two steps: after the time, by a step and the turn of the loop at most.
    assert all(0.4 <= s.e2e_s < 0.5 for s in gone)
    assert all(s.output_tokens < s.wanted_tokens for s in gone)


def test_one_that_is_served_sooner_is_not_cancelled() -> None:
    rig = Rig.booted(load("share=1 after=100s"))
    rig.run(20)
    books = rig.session.recorder.accounting
    assert books.finished > 50
    assert books.cancelled == 0


@pytest.mark.parametrize("after_s", [0.001, 0.006, 0.01, 0.02, 0.05])
def test_one_may_be_given_up_in_the_step_in_which_it_begins_or_ends(after_s: float) -> None:
    workload = from_texts(BASE, {"output": "3", "cancel": f"share=0.7 after={after_s}s~1"})
    rig = Rig.booted(workload)
    rig.run(10)
    books = rig.session.recorder.accounting
    assert books.balanced
    assert books.cancelled > 50
    assert books.finished > 50
    assert books.issued - books.in_flight == books.cancelled + books.finished


def test_the_times_are_spread_as_the_load_has_it() -> None:
    workload, carrier = load("share=1 after=2s~0.5"), Carrier(7)
    times = np.array([carrier.carried(workload, i).cancel_s for i in range(4000)])
    assert np.median(times) == pytest.approx(2.0, rel=0.05)
    assert np.log(times).std() == pytest.approx(0.5, rel=0.05)
    assert [carrier.carried(workload, i).cancel_s for i in range(9)] == list(times[:9])


def test_a_request_is_the_same_whatever_else_the_load_carries() -> None:
    plain, other = Generator(BASE, 8192), Generator(load("share=0.5 after=1s"), 8192)
    for generator in (plain, other):
        generator.resume(0.0)
    before, after = (list(g.due(1.0, 0, 2048)) for g in (plain, other))
    assert [(a.prompt_tokens, a.output_tokens) for a in before] == [
        (b.prompt_tokens, b.output_tokens) for b in after
    ]
    assert all((a.token_ids() == b.token_ids()).all() for a, b in zip(before, after, strict=True))
    assert all(a.carried is PLAIN for a in before)
    assert 0 < sum(b.carried.cancel_s < math.inf for b in after) < len(after)


def test_they_miss_no_goal_and_count_for_none() -> None:
    rig = Rig.booted(from_texts(BASE, {"cancel": "share=0.5 after=0.2s"}))
    rig.run(20)
    recorder = rig.session.recorder
    end_s = rig.clock()
    kept = goodput(recorder, parse_goals("ttft_p99=60min"), 0.0, end_s)
    books = recorder.accounting
    assert books.cancelled > 20
    assert (kept.met, kept.n) == (books.finished, books.finished)
    assert kept.each[0].frac == 1.0


def test_an_engine_at_rest_still_lets_a_client_go() -> None:
    rig = Rig.booted(load("share=1 after=1s"))
    rig.run(0.2)
    rig.session.steer.engine.toggle()
    rig.run(0.2)
    paused = rig.session.recorder.accounting
    assert paused.cancelled == 0
    rig.session.steer.load.toggle()
    rig.run(3)
    books = rig.session.recorder.accounting
    assert books.in_flight == 0
    assert books.cancelled == paused.in_flight > 0


def test_it_is_turned_while_the_load_runs() -> None:
    rig = Rig.booted(BASE)
    rig.run(5)
    assert rig.session.recorder.accounting.cancelled == 0
    rig.session.steer.load.set(load("share=0.5 after=0.2s"))
    rig.run(10)
    seen = rig.session.recorder.accounting.cancelled
    assert seen > 0
    assert rig.session.latest.marks[-1].text == "cancel none → share=0.5 after=0.2s"
    rig.session.steer.load.set(BASE)
    rig.run(2)
    after = rig.session.recorder.accounting.cancelled
    rig.run(10)
    assert rig.session.recorder.accounting.cancelled == after


def test_a_copy_has_them_too() -> None:
    rig = Rig.booted(load("share=0.5 after=0.2s"))
    rig.run(5)
    made = Recorder()
    changes = Tail(rig.session.recorder).take()
    Copy(made).apply(changes)
    assert made.accounting == rig.session.recorder.accounting
    rows = made.ended.between(-math.inf)
    assert int(rows[:, ENDED["cancelled"]].sum()) == made.accounting.cancelled > 0


def test_the_books_of_an_open_loop_are_whole_too() -> None:
    workload = from_texts(BASE, {"arrivals": "20/s", "cancel": "share=0.4 after=0.5s~1"})
    assert isinstance(workload.arrivals, Poisson)
    rig = Rig.booted(workload, max_num_seqs=4)
    for _ in range(20):
        rig.run(1)
        assert rig.session.recorder.accounting.balanced
    assert rig.session.recorder.accounting.cancelled > 0


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("share=2 after=1s", "'2' is not a share from 0 to 1"),
        ("share=0.1", "after is missing"),
        ("after=1s", "share is missing"),
        ("share=0.1 after=soon", "'soon' is not a time"),
        ("share=0.1 after=0s", "more than 0"),
        ("share=0.1 later=1s", "'later=1s' is not known here"),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, wrong: str) -> None:
    with pytest.raises(UsageError) as told:
        load(text)
    assert wrong in told.value.message


@pytest.mark.parametrize("text", ["share=0.02 after=1s~0.5", "share=1 after=90s"])
def test_it_is_written_as_it_is_read(text: str) -> None:
    assert to_texts(load(text))["cancel"] == text


def test_a_minute_may_be_written_as_one() -> None:
    assert load("share=1 after=2m~0.5").cancel == Cancel(1.0, 120.0, 0.5)

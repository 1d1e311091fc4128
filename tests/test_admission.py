"""Limits of admission: who is one too many is refused, counted, and missed in the goals."""

from __future__ import annotations

import pytest

from tests.rig import Rig
from tests.test_screen import app_after, paint
from tputtui.engine.fake import FakeEngine
from tputtui.errors import KnobError
from tputtui.experiments.tuner.space import parse_axes
from tputtui.export.startup import start_up
from tputtui.frame import Frame
from tputtui.goals import parse_goals
from tputtui.knobs import UNTOLD, checked, coarse_step, fine_step, parse_value, spoken, started_at
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.measure.attainment import goodput
from tputtui.measure.samples import Outcome
from tputtui.plugin.front import NO_FRONT, Front
from tputtui.plugin.lease import cost_to_others
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.document import dump, parse
from tputtui.ui.panels.limits import limits

REQS, TOKENS = "max_num_queued_reqs", "max_num_queued_tokens"
RATE = Workload(Poisson(60.0), Fixed(400), Fixed(60), seed=5)
"""More than the fake engine serves with 32 sequences."""
CEILINGS = FakeEngine.CEILINGS


def set_limits(rig: Rig, **values: int | str) -> None:
    for name, value in values.items():
        rig.session.steer.limits.set(name, value)
    rig.turn()


def left_since(rig: Rig, start_s: float) -> list[Outcome]:
    return [s.outcome for s in rig.session.recorder.request_log if s.end_s > start_s]


# -- refused ----------------------------------------------------------------------------------


def test_no_more_are_in_flight_than_the_limit_and_every_other_is_rejected() -> None:
    rig = Rig.booted(RATE, max_num_seqs=32, max_num_queued_reqs=48)
    most = 0
    for _ in range(400):
        rig.turn()
        books = rig.session.recorder.accounting
        assert books.balanced
        most = max(most, books.in_flight)
    assert most == 48
    assert books.rejected > 20
    assert books.issued - books.in_flight == books.rejected + books.finished
    set_limits(rig, max_num_queued_reqs="none")
    since_s, rejected = rig.clock(), rig.session.recorder.accounting.rejected
    rig.run(10)
    assert rig.session.recorder.accounting.rejected == rejected
    assert Outcome.REJECTED not in left_since(rig, since_s)
    assert rig.session.recorder.accounting.in_flight > 60


def test_the_backlog_of_prompts_is_bounded_by_one_prompt_too_many() -> None:
    rig = Rig.booted(RATE, max_num_seqs=32, max_num_queued_tokens=4000)
    most = 0
    for _ in range(400):
        rig.turn()
        engine = rig.host._engine
        assert isinstance(engine, FakeEngine)
        queued = [r for r in (*engine._waiting, *engine._running) if not r.generated]
        most = max(most, sum(request.spec.prompt_tokens for request in queued))
    assert most == 4000
    assert rig.session.recorder.accounting.rejected > 20


def test_shedding_gives_the_others_a_goodput_that_a_queue_does_not() -> None:
    """Overloaded without a limit nobody is in time after a while; with one, whoever gets in is."""
    goals = parse_goals("ttft_p90=1s")
    good = {}
    for most in (0, 48):
        rig = Rig.booted(RATE, max_num_seqs=32, max_num_queued_reqs=most)
        rig.run(40)
        window = rig.session.recorder, goals, rig.clock() - 20, rig.clock()
        good[most] = goodput(*window)
    assert good[0].per_s < 1
    assert good[48].per_s > 20
    (goal,) = good[48].each
    left = left_since(rig, rig.clock() - 20)
    finished = left.count(Outcome.FINISHED) / len(left)
    assert 0.3 < finished < 0.95
    assert goal.frac == pytest.approx(finished, abs=0.02)  # every refused one has missed its goal


def test_a_client_of_a_closed_loop_waits_before_it_tries_again() -> None:
    load = Workload(ClosedLoop(40), Fixed(64), Fixed(200), seed=3)
    rig = Rig.booted(load, max_num_queued_reqs=16)
    rig.run(20)
    books = rig.session.recorder.accounting
    assert books.balanced
    assert books.in_flight == 16
    # 24 clients at a time are out, for half a second each.
    assert books.rejected == pytest.approx(24 * 20 / 0.5, rel=0.1)
    refused = [s for s in rig.session.recorder.request_log if s.outcome is Outcome.REJECTED]
    assert all(s.submitted_s - s.due_s < 0.1 for s in refused)
    set_limits(rig, max_num_queued_reqs="none")
    rig.run(1)
    assert rig.session.recorder.accounting.in_flight == 40


def test_nothing_is_sent_while_the_load_is_held_and_all_are_let_in_again() -> None:
    load = Workload(ClosedLoop(40), Fixed(64), Fixed(20), seed=3)
    rig = Rig.booted(load, max_num_queued_reqs=16)
    rig.run(5)
    rig.session.steer.load.toggle()
    rig.run(5)
    books = rig.session.recorder.accounting
    assert books.in_flight == 0
    issued = books.issued
    rig.run(5)
    assert rig.session.recorder.accounting.issued == issued
    set_limits(rig, max_num_queued_reqs=0)
    rig.session.steer.load.toggle()
    rig.run(1)
    assert rig.session.recorder.accounting.in_flight == 40
    assert rig.session.recorder.accounting.rejected == books.rejected


# -- typed, stepped, written ------------------------------------------------------------------


def test_none_is_a_word_that_is_typed_and_shown() -> None:
    for text in ("none", " None ", "0"):
        assert checked(REQS, parse_value(REQS, text), CEILINGS) == 0
        assert started_at(REQS, parse_value(REQS, text)) == 0
    assert spoken(REQS, 0) == "none"
    assert spoken(REQS, 96) == "96"
    assert checked(TOKENS, parse_value(TOKENS, "64k"), CEILINGS) == 64_000
    assert spoken("long_prefill_token_threshold", 0) == "0"
    for bad in ("-1", "many", "1.5"):
        with pytest.raises(KnobError) as refused:
            checked(REQS, parse_value(REQS, bad), CEILINGS)
        assert "none, or 1 or more" in refused.value.hint
    with pytest.raises(KnobError):
        checked("max_num_seqs", "none", CEILINGS)


def test_steps_never_lead_from_few_to_all() -> None:
    """Lower than the lowest would be no limit; none is above every value."""
    for step in (fine_step, coarse_step):
        assert step(REQS, 1, -1, CEILINGS) == 1
        assert step(TOKENS, 64, -1, CEILINGS) == 64
        assert step(REQS, 0, +1, CEILINGS) == 0
        assert step(REQS, 0, -1, CEILINGS) == 4 * 256
        assert step(TOKENS, 0, -1, CEILINGS) == 4 * 2048
    assert coarse_step(REQS, 1024, -1, CEILINGS) == 512
    value, steps = 1024, 0
    while value:
        value, steps = coarse_step(REQS, value, +1, CEILINGS), steps + 1
    assert steps == 3


def test_a_profile_keeps_it_and_a_boot_gets_vllms_own_argument() -> None:
    spec = EngineSpec("some/model", {"max_num_queued_reqs": 300, "max_num_seqs": 64})
    profile = Profile(spec, RATE, {REQS: 96, TOKENS: 8000})
    again = parse(dump(profile), "here")
    assert again.knobs == {REQS: 96, TOKENS: 8000}
    assert start_up(again).spec.args == {"max_num_queued_reqs": 96, "max_num_seqs": 64,
                                         "max_num_queued_tokens": 8000}  # fmt: skip
    without = parse(dump(Profile(spec, RATE, {REQS: 0})), "here")
    assert start_up(without).spec.args == {"max_num_seqs": 64}


def test_the_tuner_varies_it() -> None:
    (axis,) = parse_axes(f"{REQS}=64..256", CEILINGS.with_value(REQS, 0), CEILINGS)
    assert axis.values == (0, 64, 128, 256)
    with pytest.raises(Exception, match="no ceiling to start from"):
        parse_axes(REQS, CEILINGS, CEILINGS)


# -- shown ------------------------------------------------------------------------------------


def shown(frame: Frame, name: str) -> str:
    return "\n".join("".join(text for text, _ in row) for row in limits(frame, name, 80, 4))


def test_the_panel_says_none_and_shows_no_bar_for_what_has_no_ceiling() -> None:
    rig = Rig.booted(RATE)
    rig.run(1)
    row = next(line for line in shown(rig.session.latest, REQS).splitlines() if REQS in line)
    assert "none" in row
    assert str(UNTOLD)[:4] not in row
    set_limits(rig, max_num_queued_reqs=48)
    rig.run(1)
    row = next(line for line in shown(rig.session.latest, REQS).splitlines() if REQS in line)
    assert "48" in row
    assert "in force" in row


async def test_the_dialog_says_that_none_is_no_limit() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        app._board.selected = REQS
        await pilot.press("enter")
        await paint(pilot)
        texts = " ".join(str(each.render()) for each in app.screen.query("Label, Static"))
        assert "1 or more; live; none, or 0, is no limit." in texts
        for key in "none":
            await pilot.press(key)
        await pilot.press("escape")
        await pilot.press("right_square_bracket")
        assert app.session.steer.limits.asked(REQS) == 0
        await pilot.press("left_square_bracket")
        assert app.session.steer.limits.asked(REQS) == 1024


# -- at a server's front ----------------------------------------------------------------------


class Config:
    """As vLLM's SchedulerConfig has them."""

    def __init__(self, reqs: int | None = None, tokens: int | None = None) -> None:
        self.max_num_queued_reqs, self.max_num_queued_tokens = reqs, tokens


def test_a_front_follows_what_the_engines_tell() -> None:
    config = Config(tokens=5000)
    front = Front(config, 1)
    assert front.fixed == {}
    front.follow({REQS: 64, TOKENS: 0, "max_num_seqs": 8})
    assert (config.max_num_queued_reqs, config.max_num_queued_tokens) == (64, None)
    front.follow({REQS: 0, TOKENS: 5000})
    assert (config.max_num_queued_reqs, config.max_num_queued_tokens) == (None, 5000)


def test_refusing_more_of_other_peoples_requests_is_a_cost_to_them() -> None:
    knobs = FakeEngine.BOOTED
    some, fewer = knobs.with_value(REQS, 64), knobs.with_value(REQS, 32)
    for old, new, costs in ((knobs, some, True), (some, fewer, True), (fewer, some, False),
                            (some, knobs, False), (some, some, False)):  # fmt: skip
        assert bool(cost_to_others(old, new)) is costs
    assert "refused" in cost_to_others(knobs, knobs.with_value(TOKENS, 9))


def test_where_it_would_be_half_done_it_is_fixed_with_the_reason() -> None:
    several = Config(reqs=64)
    front = Front(several, 2)
    assert "2 front processes" in front.fixed[REQS]
    front.follow({REQS: 8, TOKENS: 8})
    assert (several.max_num_queued_reqs, several.max_num_queued_tokens) == (64, None)
    shut = Front(Config(reqs=0), 1)
    assert shut.fixed.keys() == {REQS}
    assert NO_FRONT.keys() == {REQS, TOKENS}
    old = object()
    Front(old, 1).follow({REQS: 8})
    assert not hasattr(old, REQS)

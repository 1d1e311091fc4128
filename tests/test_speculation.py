"""Speculation on the deterministic engine: counted, shown, named by what it says, tuned, kept."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from tests.rig import Rig
from tests.test_measure import step
from tests.test_screen import app_after
from tputtui.errors import KnobError
from tputtui.experiments.tuner.space import parse_axes
from tputtui.frame import Frame
from tputtui.load.lengths import Fixed
from tputtui.load.requests.file import RequestFile
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.acceptance import Acceptance
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import figures
from tputtui.profile import EngineSpec
from tputtui.ui.panels.batch import batch
from tputtui.ui.panels.drafts import draft_rows, drafts_are_of_chance
from tputtui.ui.panels.limits import limits
from tputtui.ui.rows import Row

NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}
ARGS: dict[str, Any] = {"speculative_config": NGRAM}


def rig_of(in_flight: int = 60, seconds: float = 10.0) -> Rig:
    rig = Rig(Workload(ClosedLoop(in_flight), Fixed(40), Fixed(60)), {"max_num_seqs": 64},
              args=ARGS)  # fmt: skip
    rig.boot()
    rig.run(seconds)
    return rig


def text(rows: list[Row]) -> str:
    return "\n".join("".join(part for part, _ in row) for row in rows)


# -- figures ---------------------------------------------------------------------------------------


def test_acceptance_is_averaged_over_checks_as_vllm_does() -> None:
    recorder = Recorder()
    counts = {"drafts": 10, "checked_tokens": 30, "accepted_tokens": 12, "draft_tokens": 30}
    recorder.add_step(step(1.0, **counts, accepted_1=8, accepted_2=4), [])
    recorder.add_step(step(2.0, drafts=2, checked_tokens=2, accepted_tokens=0, draft_tokens=2), [])
    recorder.add_step(step(3.0), [])
    found = figures(recorder, 0.0, 3.0).acceptance
    assert found.drafts == 12
    assert found.frac == pytest.approx(12 / 32)
    # The token that the model itself adds counts, as in vLLM's own "mean acceptance length".
    assert found.length == pytest.approx(1 + 12 / 12)
    assert found.at == pytest.approx((8 / 12, 4 / 12))


def test_without_drafts_there_is_nothing_to_average() -> None:
    recorder = Recorder()
    recorder.add_step(step(1.0), [])
    found = figures(recorder, 0.0, 2.0).acceptance
    assert found.drafts == 0
    assert math.isnan(found.frac)
    assert math.isnan(found.length)
    assert found.at == ()


def test_draft_tokens_fill_a_step_and_are_no_output() -> None:
    rig = rig_of()
    run = rig.session.recorder
    found = figures(run, rig.clock() - 5.0, rig.clock())
    assert found.draft_frac > found.decode_frac > 0
    assert found.tokens_frac == pytest.approx(
        found.prefill_frac + found.decode_frac + found.draft_frac
    )
    # All output is a token of each sequence's own, or an accepted one.
    rows = run.steps.between(-math.inf)
    assert found.acceptance.length == pytest.approx(1 + 3 / 2, rel=0.1)
    assert run.generated_tokens == rows[:, 6].sum()
    ended = [sample for sample in run.request_log if sample.outcome == "finished"]
    assert ended
    assert all(sample.output_tokens == 60 for sample in ended)


def test_it_can_be_turned_off_and_on_again() -> None:
    rig = rig_of()
    rig.session.steer.limits.set("num_speculative_tokens", 0)
    rig.run(8.0)
    frame = rig.session.latest
    assert frame.figures.acceptance.drafts == 0
    assert frame.now.draft_frac == 0
    rig.session.steer.undo()
    rig.run(8.0)
    assert rig.session.latest.figures.acceptance.length == pytest.approx(1 + 3 / 2, rel=0.1)
    assert rig.session.recorder.accounting.balanced


# -- the screen ------------------------------------------------------------------------------------


def frame_with(acceptance: Acceptance, frame: Frame) -> Frame:
    return replace(frame, figures=replace(frame.figures, acceptance=acceptance))


@pytest.mark.parametrize("width", [38, 58, 80])
def test_the_batch_shows_what_is_accepted_and_where(width: int) -> None:
    frame = rig_of().session.latest
    frame = frame_with(Acceptance(100, 0.62, 2.41, (0.9, 0.61, 0.4)), frame)
    shown = text(batch(frame, app_after(2).session.history, width, 30))
    assert "accepted  62% length 2.41" in shown
    assert "by place 90% 61% 40%" in shown
    assert "random prompts" in shown
    assert all(len(line) <= width for line in shown.split("\n")[:9])
    none = Rig(Workload(ClosedLoop(8), Fixed(40), Fixed(60)))
    none.boot()
    none.run(2.0)
    assert draft_rows(none.session.latest, width) == []


def test_where_there_is_no_room_only_what_is_accepted_is_shown() -> None:
    shown = text(batch(rig_of().session.latest, app_after(2).session.history, 38, 6)).split("\n")
    assert len(shown) == 6
    assert shown[2].startswith("drafts accepted ")
    assert shown[2].endswith(" random prompts")
    assert len(shown[2]) <= 38


def test_only_real_prompts_or_a_made_up_acceptance_tell_of_production() -> None:
    frame = rig_of(seconds=2.0).session.latest
    assert drafts_are_of_chance(frame)
    real = msgspec.structs.replace(
        frame.profile, load=Workload(ClosedLoop(4), requests=RequestFile("a.jsonl"))
    )
    assert not drafts_are_of_chance(replace(frame, profile=real))
    synthetic = {**NGRAM, "rejection_sample_method": "synthetic"}
    spec = EngineSpec("shape:demo", {"speculative_config": synthetic})
    assert not drafts_are_of_chance(replace(frame, status=replace(frame.status, spec=spec)))
    assert frame.status.facts is not None
    live = replace(frame.status, facts=replace(frame.status.facts, live=True))
    assert not drafts_are_of_chance(replace(frame, status=live))


def test_starves_knows_the_draft_tokens() -> None:
    rig = rig_of()
    frame = rig.session.latest
    assert "starves" not in text(limits(frame, "max_num_seqs", 118, 8))
    rig.session.steer.limits.set("max_num_batched_tokens", 130)
    rig.turn()
    frame = rig.session.advance()
    running = frame.accounting.running
    assert f"below {running} × 4: starves" in text(limits(frame, "max_num_seqs", 118, 8))
    rig.session.steer.limits.set("num_speculative_tokens", 1)
    rig.turn()
    assert "starves" not in text(limits(rig.session.advance(), "max_num_seqs", 118, 8))


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_the_limit_is_on_the_board_where_an_engine_drafts(size: tuple[int, int]) -> None:
    for args in (ARGS, {}):
        app = app_after(4, args=args)
        async with app.run_test(size=size) as pilot:
            names = []
            while app._board.selected not in names:
                names.append(app._board.selected)
                await pilot.press("down")
            assert ("num_speculative_tokens" in names) is bool(args)


def test_above_what_was_booted_the_flag_is_named_that_raises_it() -> None:
    rig = rig_of(seconds=1.0)
    with pytest.raises(KnobError, match="4 is above its ceiling 3") as refused:
        rig.session.steer.limits.set("num_speculative_tokens", 4)
    assert refused.value.hint == (
        "It takes 0 to 3 tok. A boot with more in --speculative-config raises that."
    )


# -- the tuner, the profile ------------------------------------------------------------------------


def test_the_tuner_varies_it_from_none_on() -> None:
    facts = rig_of(seconds=1.0).host.status.facts
    assert facts is not None
    (axis,) = parse_axes("num_speculative_tokens", facts.booted, facts.ceilings)
    assert axis.values == (0, 1, 2, 3)
    far = facts.ceilings.with_value("num_speculative_tokens", 16)
    (axis,) = parse_axes("num_speculative_tokens", far, far)
    assert axis.values == (0, 1, 2, 4, 8, 16)


def test_a_profile_keeps_it_with_what_was_accepted() -> None:
    rig = rig_of(seconds=14.0)
    rig.session.steer.limits.set("num_speculative_tokens", 2)
    rig.run(20.0)
    kept = rig.session.snapshot()
    assert kept.knobs["num_speculative_tokens"] == 2
    assert kept.evidence is not None
    assert kept.evidence.tuned is not None
    told = kept.evidence.tuned.figures
    assert told["draft_accepted_frac"].value == pytest.approx(0.5, abs=0.1)
    assert told["draft_accepted_length"].value == pytest.approx(2.0, abs=0.2)


def test_nothing_is_predicted_while_it_is_configured() -> None:
    rig = rig_of(seconds=2.0)
    assert not rig.session._foresight.ask((), ())

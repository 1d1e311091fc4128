"""What another value of a limit would do: predicted beside it, and held against what it did."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from textual.widgets import Input, Label

from tests import PATIENCE_S
from tests.rig import Rig
from tests.screens import on_screen
from tests.test_screen import RigApp, board_of, paint, with_rig
from tputtui.engine.fake import FakeEngine
from tputtui.goals import parse_goals
from tputtui.load.extras import Cancel
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.measure.series import Batched
from tputtui.predict.forecast import Forecast, Query, Seen
from tputtui.predict.foresight import Inline
from tputtui.predict.outlook import Expected, Outlook, fits, outlook
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log
from tputtui.record.replay import Replay
from tputtui.ui.panels.changes import changes
from tputtui.ui.panels.limits import limits, next_values
from tputtui.ui.panels.outlooks import outlook_line
from tputtui.ui.screens.dialog import Dialog

LENGTHS = ((60, 16, 0.4), (120, 24, 0.4), (200, 40, 0.2))
LOAD = Workload(ClosedLoop(96), pairs=LENGTHS, seed=7)


class Counted(Inline):
    """Answers at once, and counts the questions."""

    asked: list[Query]

    def __init__(self) -> None:
        super().__init__()
        self.asked = []

    def begin(self, query: Query) -> None:
        self.asked.append(query)
        super().begin(query)


def serving(load: Workload = LOAD, **limits: int) -> tuple[Rig, Counted]:
    """An engine that has served for a while, and who answers its questions."""
    rig = Rig.booted(load, **({"max_num_seqs": 32} | limits))
    counted = Counted()
    rig.session._foresight._make = lambda: counted
    rig.run(20.0)
    return rig, counted


# -- asked for, and when -----------------------------------------------------------------------


def test_what_a_change_does_is_predicted_before_it_is_made_and_shown_beside_what_it_did() -> None:
    rig, counted = serving()
    rig.session.consider("max_num_seqs", 16, 24)
    rig.run(2.0)
    by_value = {each.value: each for each in rig.session.latest.outlooks}
    assert set(by_value) == {16, 24}
    assert len(counted.asked) == 1
    rig.session.steer.limits.set("max_num_seqs", 16)
    rig.run(40.0)
    row = rig.session.latest.trials[-1]
    expected = by_value[16].figures
    assert set(row.foretold) == set(expected) >= {"tokens_per_s", "tpot_p50", "ttft_p90"}
    assert row.differences
    for each in row.differences:
        foretold = expected[each.metric.key]
        close = 0.12 if each.metric.key.startswith("ttft") else 0.04
        assert each.new == pytest.approx(foretold.value, rel=close), each.metric.label
        assert each.new == pytest.approx(foretold.value, abs=foretold.half), each.metric.label
    # Held against another row, it would say nothing.
    rig.session.steer.limits.set("max_num_seqs", 20)
    rig.run(20.0)
    rig.session.steer.pin(1)
    rig.session.steer.limits.set("max_num_seqs", 32)
    rig.run(20.0)
    assert all(not each.foretold for each in rig.session.latest.trials if each.number != 2)


def test_it_is_asked_once_a_value_stands_still_and_not_again() -> None:
    rig, counted = serving()
    for value in range(8, 28):
        rig.session.consider("max_num_seqs", value)
        rig.run(0.25)
    assert counted.asked == []
    rig.run(30.0)
    assert len(counted.asked) == 1
    # Back and forth: what is known stays known while the setting stays.
    rig.session.consider("max_num_batched_tokens", 1024)
    rig.run(2.0)
    rig.session.consider("max_num_seqs", 27)
    rig.run(2.0)
    assert len(counted.asked) == 2
    assert len(rig.session.latest.outlooks) == 2
    # Another setting in force: all of it is about the one before.
    rig.session.steer.limits.set("max_num_seqs", 30)
    assert rig.session.advance().outlooks == ()
    rig.session.consider("")
    rig.run(30.0)
    assert len(counted.asked) == 2


def carried() -> Workload:
    return msgspec.structs.replace(LOAD, cancel=Cancel(0.1, 5.0))


def classed(text: str) -> Workload:
    return from_texts(LOAD, {"classes": text})


def test_a_load_of_classes_is_predicted_with_the_goals_of_each() -> None:
    text = "chat share=2 prompt=40 output=12 goal=tpot_p90=9s; batch share=1 goal=e2e_p50=1ms"
    rig, counted = serving(classed(text))
    rig.session.consider("max_num_seqs", 8)
    rig.run(20.0)
    (asked,) = counted.asked
    assert {goal.traffic for goal in asked.goals} == {"chat", "batch"}
    (outlook,) = rig.session.latest.outlooks
    assert outlook.value == 8


@pytest.mark.parametrize(
    ("load", "name", "values"),
    [
        (carried(), "max_num_seqs", (16,)),
        (classed("a share=1 priority=3"), "max_num_seqs", (16,)),
        (classed("a share=1 adapter=x; b share=1"), "max_num_seqs", (16,)),
        (LOAD, "scheduling_policy", (1,)),
        (LOAD, "scheduler_reserve_full_isl", (0,)),
        (LOAD, "max_num_seqs", (32,)),
    ],
)
def test_of_what_cannot_be_predicted_nothing_is_asked(
    load: Workload, name: str, values: tuple[int, ...]
) -> None:
    rig, counted = serving(load)
    rig.session.consider(name, *values)
    rig.run(5.0)
    assert counted.asked == []
    assert rig.session.latest.outlooks == ()


def test_what_prefix_caching_would_hit_is_not_known_while_it_is_off() -> None:
    rig, counted = serving(enable_prefix_caching=0)
    rig.session.consider("enable_prefix_caching", 1)
    rig.run(3.0)
    assert counted.asked == []


def test_a_held_load_a_ramp_and_an_experiment_are_left_alone() -> None:
    rig, counted = serving()
    rig.session.steer.load.toggle()
    rig.session.consider("max_num_seqs", 16)
    rig.run(5.0)
    assert counted.asked == []
    rig.session.steer.load.toggle()
    rig.run(0.5)
    rig.session.steer.experiments.sweep()
    rig.run(10.0)
    assert counted.asked == []
    rig.session.steer.experiments.stop()
    rig.run(30.0)
    assert len(counted.asked) == 1


def test_predictions_that_are_wrong_of_the_present_setting_are_not_shown() -> None:
    rig, _ = serving()

    class Wrong(Counted):
        def answer(self) -> tuple[Forecast, ...] | None:
            right = super().answer()
            return right and tuple(f._replace(tokens_per_s=2 * f.tokens_per_s) for f in right)

    wrong = Wrong()
    rig.session._foresight._make = lambda: wrong
    rig.session.consider("max_num_seqs", 16)
    rig.run(8.0)
    assert len(wrong.asked) == 1
    assert rig.session.latest.outlooks == ()


def test_a_prediction_goes_when_the_engine_has_become_slower_and_comes_back_with_it() -> None:
    class Shared(FakeEngine):
        slower = 1.0

        def _cost_s(self, decode: int, prefill: int) -> float:
            return self.slower * super()._cost_s(decode, prefill)

    rig = Rig(LOAD, {"max_num_seqs": 32}, kind=Shared)
    rig.boot()
    rig.session._foresight._make = Counted
    rig.session.consider("max_num_seqs", 16)
    rig.run(70.0)
    assert rig.session.latest.outlooks
    Shared.slower = 3.0
    rig.run(40.0)
    # The row still has the first minute, which the forecast agrees with.
    assert rig.session.latest.trials[-1].series is not None
    assert rig.session.latest.outlooks == ()
    Shared.slower = 1.0
    rig.run(120.0)
    assert rig.session.latest.outlooks


# -- what it says --------------------------------------------------------------------------------


def forecast_of(tokens: float, tpot_s: float, **more: Any) -> Forecast:
    fields: dict[str, Any] = dict(
        value=tokens, miss=-5.0, tokens_per_s=tokens, requests_per_s=tokens / 20,
        ttft_s=Seen(0.5, 0.9), tpot_s=Seen(tpot_s, 1.2 * tpot_s), beyond=False, error=0.01,
    )  # fmt: skip
    return Forecast(**(fields | more))


def batches(value: float, floor: float = math.nan) -> Batched:
    logs = math.log(value) + np.array([0.01, -0.01, 0.01, -0.01, 0.01, -0.01])
    return Batched(value, logs if math.isnan(floor) else logs - logs.mean(), floor=floor)


MEASURED = {
    "tokens_per_s": batches(2000.0, 0.1), "goodput_per_s": batches(90.0, 0.1),
    "tpot_p50": batches(0.012), "ttft_p50": batches(0.6),
}  # fmt: skip
KNOBS = FakeEngine.BOOTED.with_value("max_num_seqs", 32)


def test_the_change_is_applied_to_what_was_measured() -> None:
    new = forecast_of(1600.0, 0.006)
    seen = outlook("max_num_seqs", KNOBS, 64, forecast_of(2100.0, 0.010), new, MEASURED)
    tokens, tpot = seen.figures["tokens_per_s"], seen.figures["tpot_p50"]
    assert tokens.change == pytest.approx(1600 / 2100 - 1)
    assert tokens.value == pytest.approx(2000 * 1600 / 2100)
    assert tpot.value == pytest.approx(0.0072)
    assert 0.04 < tokens.half / tokens.value < 0.1
    # A size of batch that was hardly seen is known far less well.
    far = new._replace(far=1.0)
    wide = outlook("max_num_seqs", KNOBS, 64, forecast_of(2100.0, 0.010), far, MEASURED)
    assert wide.figures["tpot_p50"].half > 3 * tpot.half


def test_off_the_measured_range_it_says_so_and_gives_no_figures() -> None:
    off = forecast_of(3000.0, 0.010, beyond=True)
    seen = outlook("max_num_seqs", KNOBS, 16, forecast_of(2000.0, 0.010), off, MEASURED)
    assert (seen.beyond, seen.figures) == (True, {})
    assert outlook_line([("]", seen)], 70) == "] 32: off the range measured so far"


def test_goodput_is_predicted_where_the_goals_are_clearly_met_alone() -> None:
    present, near = forecast_of(2000.0, 0.010), forecast_of(1600.0, 0.006, miss=0.03)
    met = outlook("max_num_seqs", KNOBS, 64, present, present, MEASURED, goals=True)
    close = outlook("max_num_seqs", KNOBS, 64, present, near, MEASURED, goals=True)
    missed = outlook(
        "max_num_seqs", KNOBS, 64, present, near._replace(miss=0.5), MEASURED, goals=True
    )
    assert (met.meets, close.meets, missed.meets) == (True, None, False)
    assert "goodput_per_s" in met.figures
    assert "goodput_per_s" not in {**close.figures, **missed.figures}
    assert "misses a goal" in outlook_line([("", missed)], 90)


def test_a_queue_that_grows_for_ever_has_no_ttft() -> None:
    present = forecast_of(2000.0, 0.010)
    served = outlook("max_num_seqs", KNOBS, 64, present, present, MEASURED, 100.0)
    behind = outlook("max_num_seqs", KNOBS, 64, present, present, MEASURED, 200.0)
    assert "ttft_p50" in served.figures
    assert "ttft_p50" not in behind.figures
    assert "tpot_p50" in behind.figures


def test_a_forecast_fits_what_is_measured_within_a_tenth() -> None:
    assert fits(forecast_of(2000.0, 0.01), 2150.0)
    assert not fits(forecast_of(2000.0, 0.01), 2300.0)
    assert not fits(forecast_of(2000.0, 0.01), math.nan)


def shown(value: int, change: float = -0.2, **more: Any) -> Outlook:
    figures = {
        "tokens_per_s": Expected(1600.0, change, 60.0),
        "tpot_p50": Expected(0.0123, 0.1, 0.0017),
        "ttft_p50": Expected(2.06, 0.1, 0.31),
    }
    return Outlook("max_num_seqs", value, KNOBS, figures, **more)


def test_the_line_is_as_long_as_there_is_room() -> None:
    both = [("[", shown(16)), ("]", shown(64, 0.36, meets=True))]
    assert outlook_line([("", shown(32))], 80) == (
        "32: about −20 % tok/s, TPOT 12 ms ±2, TTFT 2.1 s ±0.3, predicted"
    )
    assert outlook_line(both, 110) == (
        "[ 16: about −20 % tok/s, TPOT 12 ms ±2 · "
        "] 64: about +36 % tok/s, TPOT 12 ms ±2, meets the goals, predicted"
    )
    assert outlook_line(both, 76) == (
        "[ 16: −20 % tok/s, TPOT 12 ms · ] 64: +36 % tok/s, TPOT 12 ms, predicted"
    )
    # It belongs to figures, not to a value that has none.
    off = Outlook("max_num_seqs", 64, KNOBS, {}, beyond=True)
    assert outlook_line([("[", shown(16)), ("]", off)], 110) == (
        "[ 16: about −20 % tok/s, TPOT 12 ms ±2, TTFT 2.1 s ±0.3, predicted · "
        "] 64: off the range measured so far"
    )
    for width in range(200):
        line = outlook_line(both, width)
        assert len(line) <= width
        assert not line or line.endswith("predicted")


@pytest.mark.parametrize(
    ("change", "said"), [(-0.201, "−20 %"), (0.0, "±0 %"), (-0.004, "±0 %"), (11.0, "×12")]
)
def test_a_change_in_words(change: float, said: str) -> None:
    assert outlook_line([("", shown(32, change))], 90).startswith(f"32: about {said} tok/s")


def test_a_wide_interval_is_shown() -> None:
    wide = Outlook("max_num_seqs", 8, KNOBS, {"tokens_per_s": Expected(1000.0, -0.4, 300.0)})
    assert outlook_line([("[", wide)], 60) == "[ 8: −40 ±18 % tok/s, predicted"


# -- on the screen -------------------------------------------------------------------------------


def app(load: Workload = LOAD, **limits: int) -> RigApp:
    return with_rig(serving(load, **limits)[0])


async def looked(app: RigApp, pilot: Any, seconds: float = 2.0) -> str:
    """What the panel of limits shows after some time with the board open."""
    app._tick()
    app.rig.run(seconds)
    app._tick()
    await paint(pilot)
    panel = board_of(pilot)._canvases["limits"]
    rows = limits(app.session.latest, board_of(pilot).selected, *panel.size)
    return "\n".join("".join(text for text, _ in row) for row in rows)


@pytest.mark.parametrize(
    "size",
    [(80, 24), *(pytest.param(each, marks=pytest.mark.long) for each in ((120, 40), (200, 50)))],
    ids=str,
)
async def test_beside_the_limit_that_is_picked_stands_what_the_keys_would_do(
    size: tuple[int, int],
) -> None:
    program = app()
    async with program.run_test(size=size) as pilot:
        await paint(pilot)
        panel = board_of(pilot)._canvases["limits"]
        before = limits(program.session.latest, "max_num_seqs", *panel.size)
        after = (await looked(program, pilot)).split("\n")
        assert "[ 16: " in "\n".join(after)
        assert "predicted" in "\n".join(after)
        # Nothing moves: the rows of the limits stay, only a hint or an empty row gives way.
        table = ["".join(text for text, _ in row) for row in before]
        first = next(y for y, line in enumerate(after) if "16: " in line)
        assert after[:first] == table[:first]
        assert all(len(line) <= panel.size.width for line in after)
        # It is muted, and of the limit that is picked alone.
        rows = limits(program.session.latest, "max_num_seqs", *panel.size)
        assert [style for _, style in rows[-1]] == ["muted"]
        await pilot.press("down")
        assert "predicted" not in "\n".join(
            "".join(text for text, _ in row)
            for row in limits(program.session.latest, "max_num_batched_tokens", *panel.size)
        )
        assert "1024: " in await looked(program, pilot)


async def test_under_a_load_that_cannot_be_forecast_the_hint_stays() -> None:
    program = app(carried())
    async with program.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        assert "More share a step" in await looked(program, pilot, 5.0)


async def test_a_value_is_predicted_while_it_is_typed() -> None:
    program = app()
    async with program.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        await pilot.press("enter")
        dialog = on_screen(program, Dialog)
        height = dialog.query_one("#box").size.height

        def said(text: str) -> str:
            dialog.query_one(Input).value = text
            dialog.look_ahead()
            program.rig.run(2.0)
            program._tick()
            dialog.look_ahead()
            return str(dialog.query_one("#ahead", Label).content)

        # Steps of 20 were not seen yet: its interval stands there.
        assert re.match(r"20: −\d+ ±\d+ % tok/s, TPOT ", said("20"))
        assert said("20").endswith(", predicted")
        assert said("32") == said("x") == said("100k") == ""
        await pilot.pause()
        assert dialog.query_one("#box").size.height == height
        await pilot.press("escape")
        await pilot.press("up", "enter")
        # A limit that the predictor does not follow has no line.
        assert not on_screen(program, Dialog).query("#ahead")


async def test_the_verdict_says_what_was_predicted() -> None:
    program = app()
    async with program.run_test(size=(120, 40)) as pilot:
        await paint(pilot)
        await looked(program, pilot)
        await pilot.press("left_square_bracket")
        program.rig.run(30.0)
        program._tick()
        await paint(pilot)
        frame = program.session.latest
        for width in (78, 100, 118, 200):
            rows = changes(frame, width, 12)
            text = "\n".join("".join(part for part, _ in row) for row in rows)
            assert ("predicted −" in text) == (width >= 100)
            assert all(len(line) <= width for line in text.split("\n"))


def test_the_keys_values_are_those_that_are_not_refused() -> None:
    rig, _ = serving()
    frame = rig.session.latest
    assert next_values(frame, "max_num_seqs") == (16, 64)
    assert frame.status.facts is not None
    top = frame.status.facts.ceilings.max_num_batched_tokens
    assert next_values(frame, "max_num_batched_tokens") == (top // 2,)
    # Fewer blocks than the longest request needs would be refused.
    assert all(value >= 65 for value in next_values(frame, "num_gpu_blocks"))


def test_an_open_loop_is_predicted_too() -> None:
    load = msgspec.structs.replace(LOAD, arrivals=Poisson(30.0))
    rig, _ = serving(load)
    rig.session.set_goals(parse_goals("tpot_p90=1s"))
    rig.run(12.0)
    rig.session.consider("max_num_seqs", 16)
    rig.run(3.0)
    (seen,) = rig.session.latest.outlooks
    assert seen.meets
    assert seen.figures["goodput_per_s"].change == pytest.approx(0.0, abs=0.05)


def test_a_recorded_run_keeps_what_was_predicted(tmp_path: Path) -> None:
    rig, _ = serving()
    journal = Journal(tmp_path / "run.tputtui", rig.session.recorder, 0.0)
    rig.session.watch(journal.see)
    journal.start()
    rig.session.consider("max_num_seqs", 16)
    rig.run(2.0)
    rig.session.steer.limits.set("max_num_seqs", 16)
    rig.run(20.0)
    journal.close(PATIENCE_S)
    replay = Replay(read_log(tmp_path / "run.tputtui"), lambda: 0.0)
    replay.seek(1e9)
    replay.advance()
    live, kept = rig.session.latest.trials[-1], replay.latest.trials[-1]
    assert kept.foretold == pytest.approx(live.foretold)
    assert kept.foretold["tokens_per_s"] < -0.1

"""Which engine the tuner boots next: predicted before any boot is paid for."""

from __future__ import annotations

from typing import Any

import pytest

from tests.rig import Rig
from tests.test_tuner import CLOSED, SLOW
from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import EngineFacts, Report
from tputtui.experiments.setting import Setting
from tputtui.experiments.tuner.boots import BootQuestion, Boots, facts_of
from tputtui.experiments.tuner.plan import Plan, engines_of
from tputtui.frame import TunerState
from tputtui.predict.forecast import Forecast, Seen
from tputtui.profile import EngineSpec, EngineValue

FIRST = EngineSpec("shape:demo")
BLOCKS = FakeEngine.BOOTED.num_gpu_blocks


def facts(**more: Any) -> EngineFacts:
    fields: dict[str, Any] = dict(
        model="m", device="fake", dtype="bfloat16", ceilings=FakeEngine.CEILINGS, kv_tokens=32768,
        block_size=32, vocab_size=8192, boot_s=8.0, booted=FakeEngine.BOOTED,
        kv_block_bytes=1 << 16,
    )  # fmt: skip
    return EngineFacts(**(fields | more))


def told(**args: EngineValue) -> EngineFacts | None:
    return facts_of(EngineSpec("shape:demo", args), FIRST, facts())


# -- what arguments tell -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "blocks"),
    [
        ({"block_size": 64}, BLOCKS // 2),
        ({"kv_cache_dtype": "fp8"}, 2 * BLOCKS),
        ({"kv_cache_dtype": "auto"}, BLOCKS),
        ({"kv_cache_memory_bytes": 50 << 16}, 50),
        ({"num_gpu_blocks_override": 77}, 77),
        ({"block_size": 64, "kv_cache_dtype": "fp8_e4m3"}, BLOCKS),
        ({"max_num_seqs": 512}, BLOCKS),
    ],
)
def test_ceilings_and_kv_blocks_are_known_before_a_boot(
    args: dict[str, EngineValue], blocks: int
) -> None:
    found = told(**args)
    assert found is not None
    assert found.booted.num_gpu_blocks == pytest.approx(blocks, abs=1)
    assert found.block_size == args.get("block_size", 32)
    assert found.booted.max_num_seqs == found.ceilings.max_num_seqs == args.get("max_num_seqs", 256)
    # The other ceilings are above what was booted, and stay there.
    assert found.ceilings.scheduling_policy == 1


@pytest.mark.parametrize(
    "args",
    [
        {"dtype": "float16"},
        {"quantization": "fp8"},
        {"async_scheduling": True},
        {"gpu_memory_utilization": 0.8},
        {"kv_cache_dtype": "nvfp4"},
        {"max_num_seqs": 512, "enforce_eager": True},
    ],
)
def test_what_a_step_costs_after_another_boot_is_not_known(args: dict[str, EngineValue]) -> None:
    assert told(**args) is None


# -- the order -----------------------------------------------------------------------------------


def forecast_of(value: float, miss: float = -1.0) -> Forecast:
    seen = Seen(0.1, 0.2)
    return Forecast(value, miss, value, value, seen, seen, False, 0.01)


def boots(text: str) -> Boots:
    plan = Plan(vary="max_num_seqs=8,48", engines=text)
    present = Setting(FakeEngine.BOOTED, CLOSED)
    return Boots(plan, engines_of(plan, FIRST), present, facts())


def order(made: Boots) -> list[int]:
    return [made.next() for _ in list(made.left)]


def test_the_engine_that_promises_most_is_first_and_what_cannot_be_told_in_between() -> None:
    made = boots("num_gpu_blocks_override=90,200,400 enforce_eager=true")
    # Nothing is told of any of them: the order given.
    assert made.wanted(0, 7) == []
    made.take({}, [forecast_of(10.0)])
    assert order(made) == [1, 2, 3]
    made = boots("max_num_seqs=64,128,512,1024,2048")
    asked = made.wanted(0, 7)
    assert {each.engine for each, _ in asked} == {1, 2, 3, 4, 5}
    assert all(wanted.load.seed == 7 for _, wanted in asked)
    promised = {1: 8.0, 2: 12.0, 3: 10.1, 5: 14.0}
    forecasts = {BootQuestion(n, (0,), 0): forecast_of(v) for n, v in promised.items()}
    made.take(forecasts, [forecast_of(10.0), forecast_of(3.0)])
    # 14 and 12 promise more than 10; 10.1 is the same, and of the fourth nothing is known.
    assert order(made) == [5, 2, 3, 4, 1]


def test_one_that_meets_the_goals_comes_before_one_that_gives_more_and_misses_them() -> None:
    made = boots("max_num_seqs=64,128,512")
    forecasts = {
        BootQuestion(1, (0,), 0): forecast_of(50.0, miss=0.4),
        BootQuestion(2, (0,), 0): forecast_of(9.0),
        BootQuestion(2, (1,), 0): forecast_of(70.0, miss=0.4),
        BootQuestion(3, (0,), 0): forecast_of(50.0, miss=0.2),
    }
    made.take(forecasts, [forecast_of(40.0, miss=0.3)])
    assert order(made) == [2, 3, 1]


def test_without_predictions_they_are_booted_as_they_were_given() -> None:
    made = boots("max_num_seqs=64,128,512")
    assert order(made) == [1, 2, 3]
    made = boots("max_num_seqs=64,128,512")
    made.take({BootQuestion(3, (0,), 0): forecast_of(99.0)}, [])
    assert order(made) == [1, 2, 3]


# -- on an engine --------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in SLOW.items():
        monkeypatch.setattr(FakeEngine, name, seconds)


def tuned(engines: str, budget_s: float) -> tuple[TunerState, list[EngineValue]]:
    """A search that begins with a KV cache that is far too small; what was booted."""
    rig = Rig(CLOSED)
    booted: list[EngineValue] = []

    class Engine(FakeEngine):
        def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
            blocks = spec.args.get("num_gpu_blocks_override", 90)
            assert isinstance(blocks, int)
            booted.append(blocks)
            self.BOOTED = FakeEngine.BOOTED.with_value("num_gpu_blocks", blocks)
            self.CEILINGS = FakeEngine.CEILINGS.with_value("num_gpu_blocks", blocks)
            self._knobs = self.BOOTED
            return super().boot(spec, report)

    rig.host._make_engine = lambda served=False: Engine(rig.clock)
    rig.boot()
    rig.run(1.0)
    rig.session.steer.experiments.tune(
        Plan(vary="max_num_seqs=8,48", engines=engines, budget_s=budget_s)
    )
    while rig.session.steer.experiments.under_way:
        rig.run(2.0)
    state = rig.session.advance().tuner
    assert state is not None
    return state, booted


@pytest.mark.long
def test_the_engine_predicted_best_is_booted_first() -> None:
    state, booted = tuned("num_gpu_blocks_override=66,120,500", 900.0)
    assert booted[:4] == [90, 500, 120, 66]
    best = state.best_trial
    assert best is not None
    assert state.engines[best.engine] == "num_gpu_blocks_override=500"


def test_where_there_is_time_for_one_boot_it_is_the_one_that_promises_most() -> None:
    state, booted = tuned("num_gpu_blocks_override=66,120,500", 240.0)
    assert booted[:2] == [90, 500]
    assert not {66, 120} & set(booted)
    assert {trial.engine for trial in state.trials} == {0, 3}
    assert state.offered


def test_a_boot_that_leaves_no_time_for_a_trial_is_not_paid_for() -> None:
    state, booted = tuned("num_gpu_blocks_override=66,500", 160.0)
    assert booted == [90]
    left = "num_gpu_blocks_override=66, num_gpu_blocks_override=500"
    assert state.note == f"The time is up. There was no time to boot {left}."

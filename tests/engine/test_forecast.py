"""The quick forecast against vLLM's own scheduler, on a simulated device in virtual time."""

from __future__ import annotations

import msgspec
import pytest

from tests.engine.conftest import Bench
from tests.engine.test_simulated import Simulated
from tests.made import calibration
from tputtui.engine.orders import BeginLeg
from tputtui.experiments.tuner.scoring import score
from tputtui.goals import parse_goals
from tputtui.load.lengths import LogNormal
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.measure.window import latencies
from tputtui.predict.book import StepBook
from tputtui.predict.costs import learnt
from tputtui.predict.forecast import Wanted, forecast
from tputtui.predict.scheduler import Machine
from tputtui.profile import EngineSpec
from tputtui.simulate.simulation import Simulation

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

GOALS = parse_goals("ttft_p90=4s,tpot_p90=60ms")
LOAD = Workload(ClosedLoop(48), LogNormal(120, 0.6, 8, 900), LogNormal(32, 0.5, 4, 160), seed=5)
OPEN = msgspec.structs.replace(LOAD, arrivals=Poisson(10.0))
SETTINGS = [
    (LOAD, {"max_num_seqs": 256}),
    (LOAD, {"max_num_seqs": 16}),
    (LOAD, {"max_num_seqs": 4}),
    (LOAD, {"max_num_seqs": 64, "max_num_batched_tokens": 128}),
    (LOAD, {"max_num_seqs": 64, "num_gpu_blocks": 120}),
    (OPEN, {"max_num_seqs": 256}),
    (OPEN, {"max_num_seqs": 12}),
]
WARM_S, LENGTH_S = 5.0, 20.0


@pytest.fixture(autouse=True)
def nothing_else_is_up(bench: Bench) -> None:
    bench.close()


@pytest.mark.long
def test_the_quick_scheduler_gives_what_vllm_gives() -> None:
    """By the steps of the settings before; what the calibration says steps cost is not told.

    The second setting is a forecast by the first alone, of batches a third as large.
    """
    simulation, book = Simulation(calibration=calibration()), StepBook()
    told: list[tuple[dict[str, int], float, float, float, float, float, float]] = []
    with Simulated(EngineSpec("shape:demo"), LOAD, simulation) as run:
        facts = run.facts
        assert facts is not None
        assert not facts.overlapped
        for load, limits in SETTINGS:
            knobs = facts.booted.overridden(limits)
            began_s = run.clock()
            run.host.order(BeginLeg(knobs, load, "leg"))
            run.run(WARM_S + LENGTH_S)
            start_s, end_s = began_s + WARM_S, began_s + WARM_S + LENGTH_S
            seen = score(run.recorder, start_s, end_s, GOALS, must_keep_up=False).seen
            waits = latencies(run.recorder, start_s, end_s)
            tokens = run.recorder.steps.between(start_s, end_s)[:, 6].sum() / LENGTH_S
            if told:
                costs = learnt(book.kept, book.newest)
                assert costs is not None
                machine = Machine(facts.block_size)
                gives = forecast(Wanted(knobs, load, LENGTH_S), costs, machine, GOALS)
                told.append((limits, tokens, gives.tokens_per_s, seen.miss, gives.miss,
                             waits.tpot.p50, gives.tpot_s.p50))  # fmt: skip
            else:
                told.append((limits, 1, 1, 0, 0, 1, 1))
            book.follow(run.recorder)
    for i, (limits, tokens, predicted, miss, predicted_miss, tpot_s, predicted_tpot_s) in enumerate(
        told
    ):
        off = 0.3 if i == 1 else 0.1
        assert predicted == pytest.approx(tokens, rel=off), limits
        assert predicted_tpot_s == pytest.approx(tpot_s, rel=off), limits
        assert predicted_miss == pytest.approx(miss, abs=1.5 * off), limits

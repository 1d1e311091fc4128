"""One model over several workers: tensor parallel on the CPU, pipeline parallel without a model."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests import PATIENCE_S
from tests.engine import simulated as simulation
from tests.engine.conftest import Bench, Served
from tputtui.cli import main
from tputtui.engine.protocol import State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import TputError
from tputtui.load.lengths import Uniform
from tputtui.measure.samples import Outcome
from tputtui.profile import EngineSpec, EngineValue

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

LIMITS = {"max_num_seqs": 32, "max_num_batched_tokens": 1024, "max_model_len": 512}
RANKS: dict[str, EngineValue] = {"tensor_parallel_size": 2, "distributed_executor_backend": "mp"}


def workers() -> list[psutil.Process]:
    """The processes that vLLM spreads a model over."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "Worker" in " ".join(child.cmdline())]


def shared() -> set[str]:
    return {path.name for path in Path("/dev/shm").iterdir()}


@pytest.fixture
def ranks(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """Two ranks on the CPU, which asks for a NUMA node each unless it is told not to bind."""
    monkeypatch.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    # Two ranks of two threads each would wait for each other on two cores.
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    bench.close()
    before = shared()
    yield bench.serve("ranks", VllmEngine, EngineSpec("shape:demo", {**LIMITS, **RANKS}))
    bench.close()
    assert not workers()
    assert shared() <= before


@pytest.mark.long
def test_two_ranks_are_turned_watched_booted_anew_and_leave_nothing(ranks: Served) -> None:
    session, host = ranks.session, ranks.host
    assert len(workers()) == 2
    ranks.start(24, Uniform(16, 64), Uniform(8, 24), seed=31)
    ranks.turn_until(lambda: ranks.recorder.accounting.running >= 16, 100)
    session.steer.limits.set("max_num_seqs", 6)
    ranks.turn()
    assert host.status.knobs.max_num_seqs == 6
    ranks.turn_until(lambda: ranks.recorder.accounting.running <= 6, 200)
    ranks.turn(10)
    assert all(step.running <= 6 for step in ranks.steps[-10:])
    assert all(0 < step.kv_frac < 1 and step.generated_tokens for step in ranks.steps[-10:])
    ranks.drain(400)
    # Every token is counted once, not once a rank.
    assert {sample.outcome for sample in ranks.ended} == {Outcome.FINISHED}
    assert ranks.generated == sum(sample.wanted_tokens for sample in ranks.ended)
    assert ranks.generated == ranks.counted_by_vllm()
    # Another engine in the same process, on one rank: it needs no workers.
    alone = {k: v for k, v in session.engine.args.items() if k not in RANKS}
    session.steer.engine.boot_with({**alone, "max_num_seqs": 48}, {})
    ranks.turn()
    assert host.status.state is State.READY
    assert host.status.facts.ceilings.max_num_seqs == 48
    assert not workers()
    ranks.begin()
    ranks.start(8, Uniform(16, 64), Uniform(8, 24), seed=32)
    ranks.turn_until(lambda: len(ranks.ended) >= 8, 200)


@pytest.mark.long
def test_pipeline_stages_are_turned_and_lose_nothing(bench: Bench) -> None:
    spec = EngineSpec("shape:demo", {**LIMITS, "pipeline_parallel_size": 2})
    staged = bench.serve("staged", lambda: VllmEngine(simulation.executor_class()), spec)
    staged.start(48, Uniform(16, 64), Uniform(8, 24), seed=33)
    staged.turn_until(lambda: staged.recorder.accounting.running >= 32, 100)
    staged.session.steer.limits.set("max_num_seqs", 6)
    staged.session.steer.limits.set("max_num_batched_tokens", 128)
    staged.turn_until(lambda: staged.recorder.accounting.running <= 6, 400)
    staged.turn(20)
    assert all(s.prefill_tokens + s.decode_tokens <= 128 for s in staged.steps[-20:])
    staged.drain(2000)
    assert {sample.outcome for sample in staged.ended} == {Outcome.FINISHED}
    assert staged.generated == sum(sample.wanted_tokens for sample in staged.ended)
    bench.close()


def test_ray_is_refused_on_a_cpu_in_a_sentence() -> None:
    spec = EngineSpec("shape:demo", {**LIMITS, **RANKS, "distributed_executor_backend": "ray"})
    engine = VllmEngine()
    with pytest.raises(TputError, match=r"(?i)\bray\b") as refused:
        engine.boot(spec, lambda *_: None)
    engine.shutdown()
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "flags", [["--data-parallel-size", "2"], ["-dp", "4"], ["--data-parallel-size-local", "2"]]
)
def test_data_parallel_engines_are_refused_before_anything_is_booted(
    flags: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "shape:demo", *flags, "--duration", "1s"]) == 2
    assert "Add --served" in capsys.readouterr().err


def test_what_clears_shared_memory_away_after_us_outlives_the_terminal() -> None:
    """A terminal that closes with the program sends SIGHUP before there has been time for that."""
    program = """
from multiprocessing import resource_tracker as tracker
from pathlib import Path
from tputtui.engine.vllm.workers import start_tracker
start_tracker()
for pid in (tracker._resource_tracker._pid, "self"):
    print(Path(f"/proc/{pid}/status").read_text().partition("SigBlk:")[2].split()[0])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    theirs, ours = (int(mask, 16) >> (signal.SIGHUP - 1) & 1 for mask in done.stdout.split())
    assert (theirs, ours) == (1, 0)

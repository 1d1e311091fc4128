"""What only a GPU can show: limits turned under CUDA graphs, memory that comes back, NVML itself.

Skipped where there is none (`make test-gpu` where there is). The engines take most of the GPU's
memory, so nothing else may run there meanwhile.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.engine.conftest import Bench, Served, all_whole
from tests.terminal import Terminal
from tputtui.engine.protocol import State
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import UsageError
from tputtui.hardware.vendors import GpuReader
from tputtui.load.lengths import Uniform
from tputtui.measure.samples import Outcome
from tputtui.profile import EngineSpec, EngineValue

pytestmark = [
    pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="no NVIDIA driver here"),
    pytest.mark.timeout(600),
]

LIMITS: dict[str, EngineValue] = {
    "max_num_seqs": 64,
    "max_num_batched_tokens": 8192,
    "max_model_len": 4096,
}
LARGE = EngineSpec("shape:qwen3-8b", LIMITS)
SMALL = EngineSpec("shape:demo", LIMITS)
GB = 1e9


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def nvml() -> Iterator[GpuReader]:
    reader = GpuReader()
    yield reader
    reader.close()


@pytest.fixture
def large(bench: Bench) -> Served:
    return bench.serve("large", VllmEngine, LARGE)


@pytest.fixture
def small(bench: Bench) -> Served:
    return bench.serve("small", VllmEngine, SMALL)


@pytest.fixture
def told(record_property: Callable[[str, object], None]) -> Callable[[str, object], None]:
    """Figures for a report (--junitxml), beside what is asserted of them."""
    return record_property


@pytest.fixture
def nobody(bench: Bench) -> None:
    """No engine in this process: others have the GPU's memory."""
    bench.close()


def smi(*fields: str) -> dict[str, str]:
    """What nvidia-smi says of the first GPU."""
    asked = ["nvidia-smi", "-i", "0", f"--query-gpu={','.join(fields)}"]
    done = subprocess.run(
        [*asked, "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True
    )
    return dict(zip(fields, done.stdout.strip().split(", "), strict=True))


def used_bytes() -> float:
    return float(smi("memory.used")["memory.used"]) * 2**20


def whole(served: Served, counted: int) -> None:
    """Nothing was lost, by our count and by vLLM's, which stood at `counted` before."""
    all_whole(served)
    assert served.generated == sum(sample.output_tokens for sample in served.ended)
    assert served.generated == served.counted_by_vllm() - counted


def test_limits_turn_under_cuda_graphs_and_asynchronous_scheduling(large: Served) -> None:
    config, facts = large.llm_engine.vllm_config, large.host.status.facts
    assert facts.overlapped
    assert facts.device.startswith("NVIDIA")
    assert config.compilation_config.cudagraph_mode.name != "NONE"
    turn = large.session.steer.limits.set
    counted = large.counted_by_vllm()
    large.start(128, Uniform(100, 300), Uniform(40, 80), seed=1)
    large.turn_until(lambda: bool(large.steps) and large.steps[-1].running == 64, 200)
    turn("max_num_seqs", 16)
    large.turn_until(lambda: large.steps[-1].running <= 16, 200)
    large.turn(100)
    assert max(step.running for step in large.steps[-100:]) == 16
    turn("max_num_seqs", 48)
    large.turn_until(lambda: large.steps[-1].running == 48, 200)
    turn("max_num_batched_tokens", 128)
    # A step that had been scheduled before is still to come.
    large.turn(3)
    large.turn(100)
    taken = [step.prefill_tokens + step.decode_tokens for step in large.steps[-100:]]
    assert max(taken) == 128
    turn("max_num_batched_tokens", 8192)
    turn("max_num_seqs", 64)
    before = len(large.steps)
    large.turn(200)
    taken = [step.prefill_tokens + step.decode_tokens for step in large.steps[before:]]
    assert max(taken) > 128
    large.drain(at_most=400)
    whole(large, counted)


def test_limits_turned_at_random_lose_nothing(large: Served) -> None:
    turn, dice = large.session.steer.limits.set, random.Random(0)
    counted = large.counted_by_vllm()
    least = large.host.status.facts.floor("num_gpu_blocks", large.host.status.knobs)
    large.start(100, Uniform(10, 600), Uniform(10, 60), seed=2)
    for _ in range(300):
        name, low, high = dice.choice([
            ("max_num_seqs", 1, 64), ("max_num_batched_tokens", 64, 8192),
            ("long_prefill_token_threshold", 0, 512), ("num_gpu_blocks", least, 2 * least),
        ])  # fmt: skip
        turn(name, dice.randint(low, high))
        # Refused where there is nothing to do.
        with contextlib.suppress(UsageError):
            if dice.random() < 0.1:
                large.session.steer.engine.preempt()
            if dice.random() < 0.05:
                large.session.steer.engine.reset_prefix_cache()
        large.turn(dice.randint(1, 5))
    facts = large.host.status.facts
    for name, value in facts.booted.as_dict().items():
        if name not in facts.fixed:
            turn(name, value)
    large.drain(at_most=2000)
    whole(large, counted)


def test_a_length_lowered_cuts_what_is_past_it_and_the_slots_are_used_again(large: Served) -> None:
    large.start(64, Uniform(200, 400), Uniform(200, 400), seed=3)
    large.turn(150)
    large.session.steer.limits.set("max_model_len", 450)
    large.turn(5)
    assert max(large.lengths().values()) <= 450
    large.turn(200)
    outcomes = {sample.outcome for sample in large.ended}
    assert Outcome.CUT in outcomes
    assert large.steps[-1].running == 64
    large.session.steer.limits.set("max_model_len", 4096)
    large.drain(at_most=800)


def test_what_is_shown_is_what_nvidia_smi_shows(
    large: Served, nvml: GpuReader, told: Callable[[str, object], None]
) -> None:
    large.start(64, Uniform(100, 300), Uniform(100, 200), seed=4)
    found = []
    for _ in range(4):
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            large.turn()
        before = smi("memory.used", "power.draw", "temperature.gpu", "clocks.sm", "clocks.mem",
                     "utilization.gpu")  # fmt: skip
        found.append((before, nvml.read()[0]))
    fixed = smi("name", "driver_version", "memory.total", "power.limit", "clocks.max.sm")
    shown = found[-1][1]
    told("gpu", [fixed, *found])
    assert nvml.status == "ok"
    assert shown.name == fixed["name"]
    assert nvml.driver_version == fixed["driver_version"]
    assert shown.mem_total_bytes == float(fixed["memory.total"]) * 2**20
    assert shown.power_limit_w == pytest.approx(float(fixed["power.limit"]), abs=1)
    assert shown.sm_clock_max_mhz == float(fixed["clocks.max.sm"])
    for theirs, ours in found:
        assert ours.mem_used_bytes == pytest.approx(
            float(theirs["memory.used"]) * 2**20, abs=0.01 * shown.mem_total_bytes
        )
        assert ours.temp_c == pytest.approx(float(theirs["temperature.gpu"]), abs=5)
        assert ours.mem_clock_mhz == float(theirs["clocks.mem"])
        assert 0 < ours.power_w < 1.2 * shown.power_limit_w
    # Busy all along: a reading between two steps of the loop may be of a moment without any.
    assert max(ours.util_frac for _, ours in found) > 0.5
    joules = found[-1][1].energy_j - found[0][1].energy_j
    watts = [float(theirs["power.draw"]) for theirs, _ in found]
    assert min(watts) * 1.5 < joules < max(watts) * 8
    large.drain(at_most=600)


def test_boots_give_the_memory_back(large: Served, told: Callable[[str, object], None]) -> None:
    used, tokens, seconds = [], [], []
    for again in range(3):
        large.session.steer.engine.boot_with({**LIMITS, "max_num_seqs": 65 - again % 2}, {})
        large.turn(2)
        facts = large.host.status.facts
        assert large.host.status.state is State.READY
        assert facts.ceilings.max_num_seqs == 65 - again % 2
        used.append(used_bytes() / GB)
        tokens.append(facts.kv_tokens)
        seconds.append(facts.boot_s)
        large.start(64, Uniform(100, 300), Uniform(10, 20), seed=5)
        large.turn(50)
        large.drain(at_most=400)
    told("used GB", used)
    told("KV tokens", tokens)
    told("boot s", seconds)
    # What is left behind would be taken from the KV cache of the next.
    assert used == pytest.approx([used[0]] * 3, rel=0.01)
    assert tokens == pytest.approx([tokens[0]] * 3, rel=0.01)


def test_an_engine_that_is_closed_leaves_its_context_only(
    large: Served, bench: Bench, told: Callable[[str, object], None]
) -> None:
    assert used_bytes() > 20 * GB
    bench.close()
    told("left GB", used_bytes() / GB)
    assert used_bytes() < 3 * GB


def test_a_boot_that_does_not_fit_goes_back_to_what_ran(
    small: Served, told: Callable[[str, object], None]
) -> None:
    before = small.host.status.facts
    small.start(32, Uniform(100, 300), Uniform(10, 20), seed=6)
    small.turn(20)
    small.session.steer.engine.boot_with({**LIMITS, "num_gpu_blocks_override": 10_000_000}, {})
    small.turn(20)
    status = small.host.status
    told("refused", status.refused)
    assert status.state is State.RUNNING
    assert "memory" in status.refused.message
    assert status.facts.kv_tokens == pytest.approx(before.kv_tokens, rel=0.01)
    small.drain(at_most=400)


@pytest.mark.parametrize("isolate", ["", " --isolate"], ids=["in process", "isolated"])
@pytest.mark.parametrize("signalled", [signal.SIGKILL, signal.SIGHUP, signal.SIGTERM])
def test_a_program_that_dies_leaves_nothing_on_the_gpu(
    nobody: None, tmp_path: Path, isolate: str, signalled: signal.Signals
) -> None:
    before = used_bytes()
    cache = "--kv-cache-memory-bytes 20000000000"
    terminal = Terminal(f"shape:demo {cache}{isolate}", tmp_path)
    terminal.until("RUNNING", 120)
    assert used_bytes() > before + 10 * GB
    family = [psutil.Process(terminal.pid), *psutil.Process(terminal.pid).children(recursive=True)]
    family[0].send_signal(signalled)
    psutil.wait_procs(family, timeout=30)
    terminal.ended()
    assert not terminal.processes()
    end_s = time.monotonic() + 10
    while used_bytes() > before + 0.1 * GB and time.monotonic() < end_s:
        time.sleep(0.2)
    assert used_bytes() <= before + 0.1 * GB


def test_a_tuned_profile_is_verified_by_a_boot_with_its_values(
    nobody: None, tmp_path: Path, told: Callable[[str, object], None]
) -> None:
    profile = tmp_path / "tuned.yaml"
    tputtui = [str(Path(sys.executable).parent / "tputtui")]
    load = ["--load", "48", "--prompt-tokens", "100-300", "--output-tokens", "50-100"]
    ceilings = ["--max-num-seqs", "256", "--max-num-batched-tokens", "8192"]
    turned = ["--knob", "max_num_seqs=32", "--knob", "max_num_batched_tokens=2048"]
    done = subprocess.run(
        [*tputtui, "bench", "shape:qwen3-8b", *load, *ceilings, *turned, "--duration", "15s",
         "--save", str(profile), "--quiet"], cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    told("tuned", done.stdout)
    assert done.returncode == 0, done.stderr
    verified = subprocess.run(
        [*tputtui, "verify", str(profile), "--duration", "15s", "--quiet"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    told("verified", verified.stdout)
    assert verified.returncode == 0, verified.stdout + verified.stderr

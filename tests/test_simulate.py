"""What a step costs on a device that is not here, from its datasheet and from a calibration."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.made import calibration
from tputtui.errors import EngineError, ProfileError, UsageError
from tputtui.knobs import Knobs
from tputtui.profile import parse
from tputtui.simulate.calibration import calibration_at, calibration_text, save_calibration
from tputtui.simulate.clock import VirtualTime
from tputtui.simulate.cost import (
    ATTENTION_REACHED,
    BANDWIDTH_REACHED,
    COMPUTE_REACHED,
    Roofline,
)
from tputtui.simulate.design import designed
from tputtui.simulate.devices import DEVICES, device_named
from tputtui.simulate.fitted import Fitted, Measurement, fitted
from tputtui.simulate.memory import kv_bytes_available
from tputtui.simulate.simulation import simulation_of
from tputtui.simulate.sizes import Sizes
from tputtui.simulate.work import Work

# Llama 3.1 8B in bfloat16, by its published configuration.
LLAMA = Sizes(
    parameters=8.03e9,
    embedding=0.525e9,
    expert_parameters=0,
    experts=0,
    experts_used=0,
    head_parameters=0.525e9,
    weight_bytes=16.06e9,
    matrix_bytes=2,
    fp8_matrices=False,
    kv_bytes=131_072,
    windowed=0,
    window=0,
    attention_width=32 * 128 * 32,
    layers=32,
    hidden=4096,
    intermediate=14_336,
    vocabulary=128_256,
    dtype_bytes=2,
)
H100 = device_named("h100")


def replaced(**values: float) -> Sizes:
    return Sizes(**({name: getattr(LLAMA, name) for name in Sizes.__slots__} | values))


def test_devices_are_found_by_the_names_people_write() -> None:
    for text in ("h100", "H100", "nvidia-h100", "h100-sxm", " h100 "):
        assert device_named(text) is H100
    assert device_named("RTX 4090") is device_named("4090")
    with pytest.raises(UsageError, match="no device called 'h10'") as refused:
        device_named("h10")
    assert "h100" in refused.value.hint


def test_every_device_says_where_its_figures_were_seen() -> None:
    assert len(DEVICES) >= 12
    for device in DEVICES:
        assert device.seen
        assert not device.fp8_tflops or device.fp8_tflops >= 1.9 * device.bf16_tflops
        assert 16 <= device.memory_gib <= 300


def test_a_decode_reads_the_weights_and_a_prefill_computes() -> None:
    cost = Roofline(H100, LLAMA)
    one = cost.device_s(Work(1, 100))
    # All weights but the embedding, once.
    assert one > (16.06e9 - 1.05e9) / (3.35e12 * BANDWIDTH_REACHED)
    # Batching is nearly free while that is the longer part.
    assert cost.device_s(Work(32, 3200)) < 1.1 * one
    prompt = Work(0, 0, 1, 8192, 8192 * 4096)
    products = 2 * 8192 * (8.03e9 - 1.05e9) / (989.4e12 * COMPUTE_REACHED)
    assert products < cost.device_s(prompt) < 1.5 * products
    assert cost.device_s(Work()) == 0.0


def test_context_is_read_and_counts_in_a_decode() -> None:
    cost = Roofline(H100, LLAMA)
    short, long = cost.device_s(Work(64, 64 * 100)), cost.device_s(Work(64, 64 * 4100))
    read = 64 * 4000 * 131_072 / (3.35e12 * BANDWIDTH_REACHED)
    assert long - short == pytest.approx(read)
    windowed = Roofline(
        H100, replaced(windowed=1.0, window=500, windowed_width=LLAMA.attention_width)
    )
    assert windowed.device_s(Work(64, 64 * 4100)) == pytest.approx(
        windowed.device_s(Work(64, 64 * 9000))
    )


def test_a_state_is_read_and_written_once_a_step_however_long_its_sequence_is() -> None:
    # Qwen3-Next: 36 layers of 32 heads with 128 × 128 values, and inputs of a convolution.
    values, held = 36 * 32 * 128 * 128, 36 * 2 * (32 * 128 * 128 + 3 * 8192)
    sizes = replaced(state_bytes=float(held), state_values=float(values))

    def extra(work: Work, ranks: int = 1) -> float:
        with_states = dataclasses.replace(sizes, ranks=ranks)
        without = dataclasses.replace(with_states, state_bytes=0.0, state_values=0.0)
        return Roofline(H100, with_states).device_s(work) - Roofline(H100, without).device_s(work)

    moved = 64 * 2 * held / (3.35e12 * BANDWIDTH_REACHED)
    assert extra(Work(64, 64 * 100)) == pytest.approx(moved)
    assert extra(Work(64, 64 * 4100)) == pytest.approx(moved)
    assert extra(Work(64, 64 * 100), ranks=4) == pytest.approx(moved / 4)
    # A long prompt is read into one state: its arithmetic takes longer.
    products = 8192 * 3 * values
    multiplied = 2 * products / (989.4e12 * ATTENTION_REACHED)
    assert extra(Work(0, 0, 1, 8192, 8192 * 4096)) == pytest.approx(multiplied)


def test_a_compressed_cache_is_read_by_every_rank_and_multiplied_by_every_head() -> None:
    # DeepSeek-V3: 61 layers, 128 heads, 512 + 64 values cached, keys of 192, values of 128.
    sizes = replaced(
        layers=61, kv_bytes=61 * 576 * 2.0, attention_width=61 * 128 * 160.0,
        compressed_width=61 * 128 * (576 + 512) / 2, ranks=8,
    )  # fmt: skip
    cost = Roofline(H100, sizes)
    extra = cost.device_s(Work(64, 64 * 4100)) - cost.device_s(Work(64, 64 * 100))
    read = 64 * 4000 * 61 * 1152 / (3.35e12 * BANDWIDTH_REACHED)
    multiplied = 2 * 64 * 4000 * 61 * 128 * (576 + 512) / (989.4e12 * ATTENTION_REACHED) / 8
    assert extra == pytest.approx(read)
    assert multiplied < read < 8 * multiplied
    # On one device the heads' arithmetic takes longer than reading what they share.
    alone = Roofline(H100, dataclasses.replace(sizes, ranks=1))
    extra = alone.device_s(Work(64, 64 * 4100)) - alone.device_s(Work(64, 64 * 100))
    assert extra == pytest.approx(8 * multiplied)


def test_ranks_share_the_work_and_talk_for_it() -> None:
    work = Work(0, 0, 1, 8192, 8192 * 4096)
    one, four = (Roofline(H100, replaced(ranks=n, kv_ranks=n)).device_s(work) for n in (1, 4))
    assert one / 4 < four < one / 2


def test_fp8_halves_the_bytes_and_doubles_the_rate() -> None:
    eight = replaced(weight_bytes=8.55e9, matrix_bytes=1, fp8_matrices=True)
    decode, prompt = Work(1, 100), Work(0, 0, 1, 8192, 8192 * 4096)
    for work in (decode, prompt):
        ratio = Roofline(H100, LLAMA).device_s(work) / Roofline(H100, eight).device_s(work)
        assert 1.4 < ratio < 2.0
    # An A100 has no fp8 units: what it multiplies is bfloat16.
    a100 = device_named("a100")
    same = Roofline(a100, LLAMA).device_s(prompt) / Roofline(a100, eight).device_s(prompt)
    assert same == pytest.approx(1.0)


def test_experts_are_read_as_far_as_they_are_gone_through() -> None:
    mixture = replaced(
        parameters=30e9, expert_parameters=28e9, experts=128, experts_used=8, weight_bytes=60e9
    )
    assert mixture.touched(1) == pytest.approx(8 / 128)
    assert mixture.touched(10_000) == pytest.approx(1.0)
    assert mixture.active_parameters == pytest.approx(30e9 - 1.05e9 - 28e9 * 120 / 128)
    cost = Roofline(H100, mixture)
    assert 3 < cost.device_s(Work(256, 256)) / cost.device_s(Work(1, 1)) < 16


def test_the_cache_is_what_the_weights_leave() -> None:
    left = kv_bytes_available(H100, LLAMA, 0.9, 256, 2048)
    assert left + LLAMA.weight_bytes < H100.memory_gib * 2**30 * 0.9
    # As vLLM told it of an A100 80GB (vllm-project/vllm, issue 18322): 442,160 tokens.
    a100 = kv_bytes_available(device_named("a100"), LLAMA, 0.9, 256, 2048)
    assert a100 / LLAMA.kv_bytes == pytest.approx(442_160, rel=0.03)
    large = replaced(weight_bytes=141e9)
    with pytest.raises(EngineError, match=r"needs 13\d GiB on each of 1 × H100"):
        kv_bytes_available(H100, large, 0.9, 256, 2048)


def steps(seed: int, cost: Fitted, n: int = 60) -> list[Measurement]:
    """Measurements of loads of all sizes by known costs, with noise and outliers."""
    rng = np.random.default_rng(seed)
    rows = []
    batches = [(1, 0), (4, 0), (16, 0), (64, 0), (256, 0), (0, 16), (0, 256), (0, 1900)]
    for load, (decodes, prompt) in enumerate([*batches, (32, 200), (128, 900)]):
        for _ in range(n):
            context = int(decodes * rng.integers(20, 900))
            prefills = int(rng.integers(1, 4)) if prompt else 0
            tokens = prefills * prompt
            work = Work(decodes, context, prefills, tokens, tokens * prompt / 2)
            noise = math.exp(rng.normal(0, 0.03)) * (5 if rng.random() < 0.01 else 1)
            submitted = int(rng.integers(0, 4))
            rows.append(
                Measurement(
                    load,
                    work,
                    cost.device_s(work) * noise,
                    cost.host_s(work) * noise - 0.0001,
                    (0.0001 + submitted * cost.submit_s()) * noise,
                    submitted,
                )
            )
    return rows


@pytest.mark.parametrize("seed", range(3))
def test_the_costs_come_back_under_noise_and_outliers(seed: int) -> None:
    true = calibration().fitted
    found = fitted(steps(seed, true))
    for work in (
        Work(1, 50),
        Work(100, 30_000),
        Work(0, 0, 2, 700, 80_000),
        Work(50, 9000, 1, 500, 125_000),
    ):
        assert found.device_s(work) == pytest.approx(true.device_s(work), rel=0.08)
        assert found.host_s(work) == pytest.approx(true.host_s(work), rel=0.08)
    assert found.submit_s() == pytest.approx(true.submit_s(), rel=0.08)
    assert all(each.value_s >= 0 for each in (found.fixed, found.decode, *found.token))


def test_a_calibration_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = calibration()
    path = save_calibration(made, tmp_path / "cpu.yaml")
    assert calibration_at(path) == made
    read = simulation_of(str(path))
    assert read.badge("0.32.0") == "SIMULATED, calibrated ±4 %"
    assert read.badge("0.33.0") == "SIMULATED, calibrated ±4 % on vLLM 0.32.0"
    assert simulation_of("l4").badge("0.32.0") == "SIMULATED, datasheet roofline, not calibrated"
    with pytest.raises(ProfileError, match="exists already"):
        save_calibration(made, path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("value_s:", "value:", 1), "no such key"),
        (lambda text: text.replace("tputtui_calibration: 1", "tputtui_calibration: 9"), "version"),
        (lambda text: "a: [", "not readable as YAML"),
        (lambda text: "tputtui: 1\n", "is no calibration"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_in_a_sentence(
    tmp_path: Path, change: Callable[[str], str], said: str
) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(change(calibration_text(calibration())))
    with pytest.raises(ProfileError, match=said):
        calibration_at(path)
    with pytest.raises(ProfileError, match="No such file") as missing:
        calibration_at(tmp_path / "none.yaml")
    assert "tputtui calibrate" in missing.value.hint


def test_a_calibration_is_of_one_model_run_in_one_way() -> None:
    made = calibration()
    made.check(made.model, {"max_num_seqs": 7, "dtype": "float32"})
    with pytest.raises(UsageError, match="is of shape:demo, not of shape:qwen3-8b"):
        made.check("shape:qwen3-8b", {})
    with pytest.raises(UsageError, match="without --quantization, not with --quantization fp8"):
        made.check(made.model, {"quantization": "fp8"})


def test_a_calibration_brings_the_way_of_running_it_along() -> None:
    given = {"tensor_parallel_size": 2, "async_scheduling": False, "gpu_memory_utilization": 0.8}
    made = calibration(booted=given)
    assert made.defaults["tensor_parallel_size"] == 2
    assert made.defaults["max_num_seqs"] == 256
    # Scheduling is vLLM's to choose, and what memory there was stands as the cache's size.
    assert not {"async_scheduling", "gpu_memory_utilization"} & made.defaults.keys()
    made.check(made.model, {"tensor_parallel_size": 2})
    with pytest.raises(UsageError, match="with --tensor-parallel-size 2, not with"):
        made.check(made.model, {"tensor_parallel_size": 4})


def test_what_was_simulated_is_never_verified() -> None:
    profile = """
tputtui: 1
evidence:
  state: {state}
  tuned:
    date: '2026-11-26'
    window: {{phase: steady, length_s: 60, requests: 10}}
    figures: {{}}
    knobs: {{}}
    ceilings: {{}}
    load: 8 in flight
    seed: 0
    model: {{name: shape:demo}}
    machine: {{device: simulated H100, simulated: 'SIMULATED, not calibrated'}}
"""
    assert parse(profile.format(state="tuned live"), "p.yaml").evidence.simulated
    with pytest.raises(ProfileError, match="what was simulated is not verified"):
        parse(profile.format(state="verified"), "p.yaml")


def test_virtual_time_stands_still_but_for_what_is_waited_for() -> None:
    clock = VirtualTime(10.0)
    assert clock() == clock() == 10.0
    clock.wait_until(12.5)
    clock.wait_until(11.0)
    assert clock() == 12.5


@pytest.mark.parametrize(
    ("seqs", "tokens", "longest", "kv"),
    [(256, 2048, 2048, 32_768), (1024, 8192, 131_072, 460_000), (2, 64, 128, 512), (1, 16, 16, 64)],
)
def test_the_loads_of_a_calibration_fit_the_engine(
    seqs: int, tokens: int, longest: int, kv: int
) -> None:
    knobs = Knobs(seqs, tokens, longest, num_gpu_blocks=kv // 16 + 1)
    loads = designed(knobs, kv)
    assert len({load.label for load in loads}) == len(loads) >= 5
    for load in loads:
        text = msgspec.to_builtins(load.workload)
        assert text["arrivals"]["in_flight"] <= max(seqs, 2)
        least = text["prompt"].get("tokens", 1) + text["output"].get("tokens", 1)
        assert least <= longest

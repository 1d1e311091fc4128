"""A device that is not here under vLLM's own engine: its time is modelled, the rest is vLLM's."""

from __future__ import annotations

import io
import json
import math
import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.engine.conftest import Bench
from tests.made import calibration
from tputtui.cli.calibrate import calibration_of
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, Start
from tputtui.engine.protocol import EngineFacts, State
from tputtui.engine.virtual import VirtualHost
from tputtui.engine.vllm.measured import MeasuredEngine
from tputtui.engine.vllm.simulated import SimulatedEngine
from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.headless import calibrating
from tputtui.headless.progress import Progress
from tputtui.load.lengths import Fixed, LogNormal, Uniform
from tputtui.load.workload import ClosedLoop, Prefix, Workload
from tputtui.measure.samples import Outcome, RequestSample
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.session.session import Session
from tputtui.simulate.calibration import save_calibration
from tputtui.simulate.clock import RealTime, VirtualTime
from tputtui.simulate.cost import Roofline
from tputtui.simulate.simulation import Simulation, simulation_of
from tputtui.simulate.sizes import Sizes
from tputtui.simulate.work import Work

LLAMA = EngineSpec("shape:llama-3.1-8b", {"max_model_len": 8192})
LOAD = Workload(ClosedLoop(64), LogNormal(300, 0.7, 16, 4000), LogNormal(60, 0.5, 8, 400), seed=5)


class Simulated:
    """A session on a simulated device in virtual time."""

    def __init__(
        self,
        spec: EngineSpec = LLAMA,
        load: Workload = LOAD,
        simulation: Simulation | None = None,
        **args: EngineValue,
    ) -> None:
        simulation = simulation or simulation_of("h100")
        self.clock = VirtualTime()
        spec = spec.overridden(None, args)
        self.session = Session(
            lambda: SimulatedEngine(simulation, self.clock),
            Profile(spec, load),
            self.clock,
            make_host=lambda make, recorder, load, _: VirtualHost(make, recorder, load, self.clock),
        )
        host = self.session.host
        assert isinstance(host, VirtualHost)
        self.host, self.recorder = host, self.session.recorder
        self.host.order(Boot(Start(spec, {}), load=True))
        self.host.run_pass()
        if self.host.status.failure:
            raise self.host.status.failure

    def __enter__(self) -> Simulated:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.session.close(PATIENCE_S)

    @property
    def facts(self) -> EngineFacts | None:
        return self.host.status.facts

    def run(self, seconds: float) -> Frame:
        until_s = self.clock() + seconds
        while self.clock() < until_s:
            self.host.run_for(0.25)
            self.session.advance()
            assert self.recorder.accounting.balanced
            assert self.host.status.failure is None, self.host.status.failure
        return self.session.advance()

    def ended(self) -> list[RequestSample]:
        return [each for each in self.recorder.request_log if each.outcome is Outcome.FINISHED]


def sizes_of(run: Simulated) -> Sizes:
    """What the engine of `run` knows of its model."""
    engine: Any = run.host._engine
    sizes = engine._devices._sizes
    assert isinstance(sizes, Sizes)
    return sizes


@pytest.fixture(autouse=True)
def nothing_else_is_up(bench: Bench) -> None:
    bench.close()


def test_a_gpu_that_is_not_here_serves_in_its_own_time() -> None:
    with Simulated() as run:
        facts = run.facts
        assert facts.device == "simulated H100 SXM 80GB"
        assert facts.simulated == "SIMULATED, datasheet roofline, not calibrated"
        # As vLLM settles them by the memory, for its server.
        assert (facts.ceilings.max_num_seqs, facts.ceilings.max_num_batched_tokens) == (1024, 8192)
        assert facts.block_size == 16
        assert facts.overlapped
        assert 400_000 < facts.kv_tokens < 480_000
        frame = run.run(6.0)
        assert frame.t_s == pytest.approx(1006.0, abs=0.5)
        # The weights are read once a step; 64 sequences share that.
        assert 0.006 < frame.latencies.tpot.p50 < 0.02
        assert frame.figures.generated_per_s > 3000
        # vLLM's own times are of the same clock as ours.
        for request in run.ended()[-50:]:
            assert request.due_s <= request.scheduled_s <= request.first_token_s <= request.end_s
            assert request.due_s >= 1000
            assert request.end_s <= run.clock()


def test_the_same_run_gives_the_same_figures_to_the_last_digit() -> None:
    def figures() -> list[tuple[int, float, float]]:
        with Simulated() as run:
            run.run(2.0)
            return [(r.number, r.first_token_s, r.end_s) for r in run.recorder.request_log]

    first = figures()
    assert len(first) > 50
    assert figures() == first


def test_a_step_takes_what_the_model_of_its_cost_says() -> None:
    with Simulated(async_scheduling=False) as run:
        run.run(3.0)
        cost = Roofline(simulation_of("h100").device, sizes_of(run))
        rows = run.recorder.steps.between(-math.inf)
        steps = run.recorder.steps
        decodes = [row for row in rows if row[4] == 0 and row[5] > 0]
        assert len(decodes) > 50
        for row in decodes[-20:]:
            sequences, context, took_s = int(row[5]), int(row[14]), row[1]
            work = Work(sequences, context + sequences)
            assert took_s == pytest.approx(cost.device_s(work) + cost.host_s(work), rel=1e-6)
            # Its host's part is told as that.
            assert row[13] == pytest.approx(cost.host_s(work), rel=1e-6)
        assert steps.count


def test_scheduling_ahead_hides_the_hosts_time() -> None:
    def tokens_per_s(**args: bool) -> float:
        with Simulated(LLAMA, LOAD, None, **args) as run:
            return run.run(5.0).figures.generated_per_s

    ahead, after = tokens_per_s(), tokens_per_s(async_scheduling=False)
    assert 1.03 < ahead / after < 1.4


def test_limits_are_turned_as_on_any_engine() -> None:
    with Simulated() as run:
        run.run(4.0)
        run.session.steer.limits.set("max_num_seqs", 8)
        frame = run.run(8.0)
        assert frame.accounting.running == 8
        assert frame.accounting.waiting == 56
        assert frame.latencies.ttft.p50 > 0.5


def test_a_shared_prefix_is_found_in_the_cache() -> None:
    shared = Prefix(share=1.0, tokens=2048, groups=1)
    load = Workload(ClosedLoop(16), Fixed(64), Uniform(8, 64), prefix=shared, seed=3)
    with Simulated(load=load) as run:
        assert run.run(5.0).figures.cached_frac > 0.8


@pytest.mark.long
def test_two_ranks_read_half_each_and_hold_more() -> None:
    with Simulated() as one:
        alone = one.facts.kv_tokens, one.run(6.0).latencies.tpot.p50
    with Simulated(tensor_parallel_size=2) as two:
        assert two.facts.device == "2 × simulated H100 SXM 80GB"
        assert two.facts.kv_tokens > 2.2 * alone[0]
        assert 0.5 * alone[1] < two.run(6.0).latencies.tpot.p50 < 0.85 * alone[1]


QWEN_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "hidden_size": 256,
    "intermediate_size": 512, "moe_intermediate_size": 128, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096,
    "num_experts": 32, "num_experts_per_tok": 4, "max_position_embeddings": 4096,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
    "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip
GEMMA = {
    "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 256,
    "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096, "sliding_window": 128,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16",
    "layer_types": 5 * ["sliding_attention"] + ["full_attention"],
}  # fmt: skip


NEMOTRON = {
    "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "hidden_size": 2688,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "num_hidden_layers": 52, "n_routed_experts": 128, "num_experts_per_tok": 6,
    "moe_intermediate_size": 1856, "moe_shared_expert_intermediate_size": 3712,
    "intermediate_size": 1856, "num_attention_heads": 32, "num_key_value_heads": 2,
    "head_dim": 128, "mamba_num_heads": 64, "mamba_head_dim": 64, "ssm_state_size": 128,
    "n_groups": 8, "conv_kernel": 4, "vocab_size": 131072, "max_position_embeddings": 262144,
    "torch_dtype": "bfloat16", "tie_word_embeddings": False,
}  # fmt: skip
"""Dimensions of Nemotron 3 Nano."""


def folder_of(config: Mapping[str, object], folder: Path) -> EngineSpec:
    (folder / "config.json").write_text(json.dumps(config))
    return EngineSpec(str(folder), {"max_model_len": 2048})


@pytest.mark.long
def test_experts_are_counted_as_what_they_are(tmp_path: Path) -> None:
    with Simulated(folder_of(QWEN_MOE, tmp_path), simulation=simulation_of("l4")) as run:
        sizes = sizes_of(run)
        # Three matrices an expert.
        assert sizes.expert_parameters == 4 * 32 * 3 * 256 * 128
        assert (sizes.experts, sizes.experts_used) == (32, 4)
        assert sizes.embedding == sizes.head_parameters == 4096 * 256
        run.host.run_for(0.1)
        assert run.ended()


@pytest.mark.long
def test_layers_that_see_a_window_hold_less(tmp_path: Path) -> None:
    spec = folder_of(GEMMA, tmp_path)
    spec = EngineSpec(spec.model, {**spec.args, "max_num_batched_tokens": 256})
    load = Workload(ClosedLoop(4), Fixed(1500), Fixed(40))
    with Simulated(spec, load, simulation_of("l4")) as run:
        sizes = sizes_of(run)
        assert sizes.windowed == pytest.approx(5 / 6)
        assert sizes.window == 128
        # One table for both ends.
        assert sizes.embedding == 0
        assert sizes.head_parameters == 4096 * 256
        # A window of 128 tokens, and two steps of 256 under way: 40 blocks and a begun one.
        blocks = run.facts.kv_request_blocks
        assert sorted(blocks) == [*(5 * [-(-(127 + 2 * 256) // 16) + 1]), 2048 // 16]
        assert run.facts.floor("num_gpu_blocks", run.facts.booted) == sum(blocks) + 1
        run.host.run_for(0.1)
        assert run.ended()


@pytest.mark.parametrize(
    ("model", "ranks", "more"),
    [
        ("", 1, {}),
        pytest.param("shape:qwen3-coder-next", 4, {}, marks=pytest.mark.long),
        # A hit within a block copies the state that it goes on from.
        pytest.param(
            "shape:qwen3-coder-next", 4, {"prefix_match_unit": 16}, marks=pytest.mark.long
        ),
    ],
)
def test_the_smallest_cache_of_layers_of_several_kinds_still_serves_the_longest_request(
    model: str, ranks: int, more: dict[str, EngineValue], tmp_path: Path
) -> None:
    args: dict[str, EngineValue] = {
        "max_model_len": 4096,
        "max_num_batched_tokens": 256,
        "tensor_parallel_size": ranks,
    }
    spec = EngineSpec(model or folder_of(GEMMA, tmp_path).model, args | more)
    load = Workload(ClosedLoop(2), Fixed(3000), Fixed(90), prefix=Prefix(1.0, 1000, 1))
    with Simulated(spec, load, simulation_of("h100")) as run:
        least = run.facts.floor("num_gpu_blocks", run.facts.booted)
        assert least < run.facts.kv_groups * 4096 / run.facts.block_size
        run.session.steer.limits.set("num_gpu_blocks", least)
        for _ in range(400):
            if (frame := run.run(0.25)).accounting.finished > 4:
                break
        assert frame.accounting.finished > 4
        assert frame.status.knobs.num_gpu_blocks == least


@pytest.mark.long
def test_a_quantization_makes_the_weights_lighter_and_the_cache_larger() -> None:
    def of(**args: str) -> tuple[Any, int]:
        with Simulated(LLAMA, LOAD, None, **args) as run:
            return sizes_of(run), run.facts.kv_tokens

    (plain, tokens), (fp8, more) = of(), of(quantization="fp8", kv_cache_dtype="fp8")
    assert fp8.fp8_matrices
    assert 0.5 < fp8.weight_bytes / plain.weight_bytes < 0.6
    assert fp8.kv_bytes == plain.kv_bytes / 2
    assert more > 2.1 * tokens


@pytest.mark.long
def test_real_time_and_virtual_time_agree() -> None:
    load = Workload(ClosedLoop(8), Uniform(20, 200), Uniform(8, 40), seed=9)

    def medians(session: Session, began_s: float) -> list[float]:
        ended = [each for each in session.recorder.request_log if each.end_s > began_s + 0.5]
        assert len(ended) > 50
        return [statistics.median(values) for values in
                zip(*((each.tpot_s, each.e2e_s) for each in ended), strict=True)]  # fmt: skip

    with Simulated(load=load) as run:
        began_s = run.clock()
        run.run(3.0)
        virtual = medians(run.session, began_s)
    clock, spec = RealTime(), LLAMA
    session = Session(
        lambda: SimulatedEngine(simulation_of("h100"), clock), Profile(spec, load), clock
    )
    host = session.host
    assert isinstance(host, Host)
    host.order(Boot(Start(spec, {}), load=True))
    host.run_pass()
    began_s = clock()
    while clock() - began_s < 3.0:
        host.run_pass()
    paced = medians(session, began_s)
    host.close(0)
    host.run_pass()
    assert paced[0] == pytest.approx(virtual[0], rel=0.1)
    assert paced[1] == pytest.approx(virtual[1], rel=0.15)


def test_a_calibrated_device_is_booted_as_it_was_measured() -> None:
    simulation = Simulation(calibration=calibration())
    with Simulated(EngineSpec("shape:demo"), simulation=simulation) as run:
        facts = run.facts
        assert facts.simulated == "SIMULATED, calibrated ±4 %"
        assert facts.device == "simulated cpu"
        assert not facts.overlapped
        assert facts.ceilings.max_num_seqs == 256
        assert facts.kv_tokens == 32_736
        run.run(5.0)
        assert run.ended()


def test_vllm_has_its_own_clocks_back_afterwards() -> None:
    import vllm.v1.core.sched.scheduler as scheduler

    with Simulated() as run:
        assert scheduler.time.monotonic() == run.clock()
    assert scheduler.time is time


def test_a_mixture_of_experts_of_2026_boots_on_a_device_of_2026() -> None:
    engine = SimulatedEngine(simulation_of("b300"), VirtualTime())
    args: dict[str, EngineValue] = {"quantization": "fp8", "tensor_parallel_size": 2}
    facts = engine.boot(EngineSpec("shape:minimax-m2.5", args), lambda *_: None)
    sizes = engine._devices._sizes
    assert sizes is not None
    assert (sizes.experts, sizes.experts_used, sizes.layers) == (256, 8, 62)
    # Its card: 230 × 10⁹ parameters, of which a token passes through 10.
    assert sizes.parameters == pytest.approx(230e9, rel=0.01)
    assert sizes.active_parameters + sizes.head_parameters == pytest.approx(10e9, rel=0.1)
    assert facts.device == "2 × simulated B300 SXM 288GB"
    # Of a simulation neither kernels nor graphs are told, which are vLLM's for this CPU.
    assert facts.got["quantization"] == "fp8"
    assert "attention_backend" not in facts.got
    assert facts.capture_sizes == ()
    # 2 × 0.92 × 268.6 GiB without 230 GB of weights, at 62 × 2 × 8 × 128 × 2 bytes a token.
    assert facts.kv_tokens == pytest.approx(((2 * 0.92 * 268.6 * 2**30) - 230e9) / 253_952, rel=0.1)
    engine.shutdown()


def test_a_compressed_kv_cache_is_simulated_as_devices_have_it() -> None:
    spec = EngineSpec("shape:glm-4.7-flash", {"tensor_parallel_size": 2, "block_size": 64})
    load = Workload(ClosedLoop(8), Fixed(300), Fixed(5))
    with Simulated(spec, load, simulation_of("h100")) as run:
        sizes, facts = sizes_of(run), run.facts
        # Its card: 30 × 10⁹ parameters, of which a token passes through 3.
        assert sizes.parameters == pytest.approx(30e9, rel=0.01)
        assert 3e9 < sizes.active_parameters + sizes.head_parameters < 4e9
        # 512 + 64 values a token and layer, which each rank has whole.
        assert (sizes.kv_bytes, sizes.kv_ranks) == (47 * 576 * 2, 1)
        assert facts.kv_block_bytes == 2 * 64 * 47 * 576 * 2
        # vLLM's platform for CPUs would switch both off, take all of the length into one step, and
        # have blocks of 16 tokens.
        assert facts.got["enable_chunked_prefill"] == facts.got["enable_prefix_caching"] == "on"
        assert facts.ceilings.max_num_batched_tokens == 8192
        assert facts.block_size == 64
        run.host.run_for(0.1)
        assert run.ended()


def test_layers_with_a_state_instead_of_a_cache_are_simulated_as_devices_have_them() -> None:
    spec = EngineSpec("shape:qwen3-coder-next", {"tensor_parallel_size": 4})
    load = Workload(ClosedLoop(8), Fixed(300), Fixed(5))
    with Simulated(spec, load, simulation_of("h100")) as run:
        sizes, facts = sizes_of(run), run.facts
        # Its card: 80 × 10⁹ parameters, of which a token passes through 3.
        assert sizes.parameters == pytest.approx(80e9, rel=0.01)
        assert 3e9 < sizes.active_parameters + sizes.head_parameters < 4e9
        # One layer of four has a KV cache; the others 32 heads of 128 × 128 values, and the last
        # three inputs of a convolution over keys, queries and values. In bfloat16: vLLM's platform
        # for CPUs would take float32.
        state, inputs = 32 * 128 * 128, 3 * (2 * 16 * 128 + 32 * 128)
        assert sizes.kv_bytes == 12 * 2 * 2 * 256 * 2
        assert (sizes.state_values, sizes.state_bytes) == (36 * state, 36 * (state + inputs) * 2)
        # A block is as large as a state on one of four devices, in steps of 16 tokens of one head.
        of_token = 2 * 256 * 2
        assert facts.block_size == -(-(state + inputs) * 2 // 4 // (16 * of_token)) * 16 == 272
        assert facts.kv_groups == 4
        assert facts.kv_block_bytes == 4 * 12 * 272 * of_token
        # As vLLM counts: requests of 262,144 tokens take 964 blocks, and two for each state.
        longest, each = facts.booted.max_model_len, -(-262_144 // 272) + 3 * 2
        fit = facts.booted.num_gpu_blocks / each
        # One more for each kind of state: vLLM copies one that is hit within a block.
        assert (facts.kv_request_blocks, facts.kv_state_blocks) == ((964,), 3 * 3)
        assert facts.floor("num_gpu_blocks", facts.booted) == 964 + 9 + 1
        assert facts.floor("num_gpu_blocks", facts.booted.with_value("max_model_len", 100)) == 11
        assert not any(row.warns for row in facts.resolved)
        assert facts.kv_tokens == pytest.approx(fit * longest, rel=1e-3)
        run.host.run_for(0.1)
        assert run.ended()


@pytest.mark.long
def test_layers_that_are_one_half_each_are_counted_as_what_they_are(tmp_path: Path) -> None:
    spec = folder_of(NEMOTRON, tmp_path)
    load = Workload(ClosedLoop(8), Fixed(300), Fixed(5))
    with Simulated(spec, load, simulation_of("h100")) as run:
        sizes = sizes_of(run)
        # Its card: 31.6 × 10⁹ parameters, of which a token passes through 3.2, and 3.6 with tables.
        assert sizes.parameters == pytest.approx(31.6e9, rel=0.002)
        active = sizes.active_parameters + sizes.head_parameters
        assert active == pytest.approx(3.2e9, rel=0.01)
        assert active + sizes.embedding == pytest.approx(3.6e9, rel=0.01)
        assert sizes.embedding == sizes.head_parameters == 131_072 * 2688
        assert sizes.layers == 23 + 6
        assert sizes.kv_bytes == 6 * 2 * 2 * 128 * 2
        # Its states are kept in float32, the inputs of convolutions in bfloat16.
        state, inputs = 64 * 64 * 128, 3 * (64 * 64 + 2 * 8 * 128)
        assert sizes.state_bytes == 23 * (4 * state + 2 * inputs)
        run.host.run_for(0.1)
        assert run.ended()


@pytest.mark.parametrize(
    ("model", "args", "said"),
    [
        ("shape:llama-3.1-8b", {"speculative_config": {"method": "ngram"}}, "speculative decoding"),
        ("shape:llama-3.1-8b", {"enable_lora": True}, "LoRA cannot be simulated"),
        ("shape:llama-3.3-70b", {}, "needs 1[34]. GiB on each of 1 × H100 SXM 80GB"),
        (
            "shape:llama-3.1-8b",
            {"quantization": "experts_int8"},
            "experts_int8 cannot be simulated",
        ),
        ("shape:qwen3-8b", {}, "is of shape:demo, not of shape:qwen3-8b"),
    ],
)
def test_what_cannot_be_simulated_is_refused_in_a_sentence(
    model: str, args: dict[str, EngineValue], said: str
) -> None:
    calibrated = "is of shape" in said
    simulation = Simulation(calibration=calibration()) if calibrated else simulation_of("h100")
    engine = SimulatedEngine(simulation, VirtualTime())
    with pytest.raises(Exception, match=said) as refused:
        engine.boot(EngineSpec(model, args), lambda *_: None)
    engine.shutdown()
    assert getattr(refused.value, "exit_code", 70) in (2, 3)
    assert "\n" not in str(refused.value)


def test_a_simulation_verifies_nothing() -> None:
    with Simulated() as run:
        run.run(6.0)
        assert run.session.snapshot().evidence.simulated
        with pytest.raises(UsageError, match="verifies nothing"):
            run.session.steer.experiments.verify()
        assert run.host.status.state is State.RUNNING


@pytest.mark.long
def test_the_real_engine_is_calibrated_and_simulated_by_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As far as that goes in a few seconds: whether the parts fit, not how well they predict."""
    monkeypatch.setattr(calibrating, "PASSES", 1)
    monkeypatch.setattr(calibrating, "_WARM_S", 0.05)
    limits = {"max_num_seqs": 4, "max_num_batched_tokens": 128, "max_model_len": 256}
    spec = EngineSpec("shape:demo", {**limits, "async_scheduling": False})
    run = calibrating.Calibrating(MeasuredEngine(), 0.1, lambda: False)
    facts = run.boot(spec)
    rows = run.measure(Progress(io.StringIO(), quiet=True))
    run.close()
    assert {row.load for row in rows} == set(range(len(run.loads)))
    assert all(row.device_s > 0 and row.host_s > 0 for row in rows)
    # What was counted is what the limits allow.
    assert max(row.work.tokens for row in rows) == 128
    assert max(row.work.decodes for row in rows) == 4
    assert any(row.submitted for row in rows)
    found = calibration_of(spec, facts, rows, run.loads)
    path = save_calibration(found, tmp_path / "cpu.yaml")
    load = Workload(ClosedLoop(4), Uniform(8, 40), Uniform(4, 30), seed=2)
    with Simulated(EngineSpec("shape:demo"), load, simulation_of(str(path))) as simulated:
        assert simulated.facts.ceilings.max_num_seqs == 4
        assert simulated.facts.kv_tokens == facts.kv_tokens
        frame = simulated.run(5.0)
        alone_s = min(row.device_s for row in rows if row.work == Work(1, row.work.decode_context))
        assert 0.5 * alone_s < frame.latencies.tpot.p50 < 10 * alone_s

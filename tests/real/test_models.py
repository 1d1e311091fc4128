"""Models as their configurations describe them, on a device that is not here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.engine.test_simulated import GEMMA, Simulated, folder_of, sizes_of
from tputtui.engine.vllm.model import _bits_of_group, _bits_of_method
from tputtui.engine.vllm.simulated import SimulatedEngine
from tputtui.errors import UsageError
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile import EngineSpec
from tputtui.simulate.clock import VirtualTime
from tputtui.simulate.simulation import simulation_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

LOAD = Workload(ClosedLoop(4), Fixed(60), Fixed(8))
GEMMA4 = {
    "architectures": ["Gemma4ForCausalLM"], "model_type": "gemma4_text", "hidden_size": 256,
    "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 64, "global_head_dim": 128, "vocab_size": 4096,
    "vocab_size_per_layer_input": 4096, "hidden_size_per_layer_input": 0, "sliding_window": 128,
    "max_position_embeddings": 4096, "torch_dtype": "bfloat16", "num_kv_shared_layers": 0,
    "layer_types": 5 * ["sliding_attention"] + ["full_attention"],
}  # fmt: skip


def simulated(config: dict[str, object], folder: Path, **args: int) -> Simulated:
    spec = folder_of(config, folder)
    return Simulated(EngineSpec(spec.model, spec.args | args), LOAD, simulation_of("l4"))


# -- bits of a weight ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "inputs", "bits", "fp8"),
    [
        # NVFP4 as ModelOpt and as compressed-tensors write it.
        ({"num_bits": 4, "type": "float", "group_size": 16}, {"num_bits": 4}, 4.5, False),
        ({"num_bits": 4, "type": "float", "group_size": 16, "scale_dtype": "torch.float8_e4m3fn"},
         None, 4.5, False),
        # MXFP4, and W4A16 of whole numbers: a scale of two bytes.
        ({"num_bits": 4, "type": "float", "group_size": 32}, None, 4.25, False),
        ({"num_bits": 4, "type": "int", "group_size": 128}, None, 4.125, False),
        ({"num_bits": 4, "type": "int", "group_size": 128, "symmetric": False}, None, 4.15625,
         False),
        ({"num_bits": 8, "type": "float", "strategy": "channel", "group_size": None},
         {"num_bits": 8, "type": "float"}, 8, True),
        ({"num_bits": 8, "type": "int", "group_size": -1}, {"type": "int"}, 8, False),
        ({"num_bits": 8, "type": "float", "group_size": 32}, {"type": "float"}, 8.25, True),
    ],
)  # fmt: skip
def test_bits_group_and_scale_are_the_configurations_own(
    weights: dict[str, object], inputs: dict[str, object] | None, bits: float, fp8: bool
) -> None:
    assert _bits_of_group({"weights": weights, "input_activations": inputs}) == (bits, fp8)


@pytest.mark.parametrize(
    ("given", "bits"),
    [
        ({"bits": 4, "group_size": 128}, 4 + 20 / 128),
        ({"bits": 8, "group_size": 32}, 8 + 24 / 32),
        ({"bits": 3, "group_size": -1}, 3),
        ({"w_bit": 4, "q_group_size": 64}, 4 + 20 / 64),
        ({}, None),
    ],
)
def test_awq_and_gptq_say_their_bits_themselves(given: dict[str, int], bits: float | None) -> None:
    assert _bits_of_method(given) == bits


def test_a_group_without_weights_says_nothing() -> None:
    assert _bits_of_group({"weights": None, "input_activations": {"num_bits": 8}}) is None
    assert _bits_of_group(None) is None


@pytest.mark.long
def test_a_gptq_model_weighs_what_its_bits_are(tmp_path: Path) -> None:
    told = {"quant_method": "gptq", "bits": 8, "group_size": 32, "desc_act": False, "sym": True}
    with simulated(GEMMA | {"quantization_config": told}, tmp_path) as run:
        assert sizes_of(run).matrix_bytes == (8 + 24 / 32) / 8


# -- layers that are not alike -------------------------------------------------------------------


@pytest.mark.long
def test_each_layer_has_its_own_head_size(tmp_path: Path) -> None:
    with simulated(GEMMA4, tmp_path) as run:
        sizes = sizes_of(run)
        # Two bytes for keys and values of two heads, in five layers of 64 and one of 128.
        assert sizes.kv_bytes == 2 * 2 * 2 * (5 * 64 + 128)
        assert sizes.windowed == pytest.approx(5 * 64 / (5 * 64 + 128))
        assert sizes.attention_width == 4 * (5 * 64 + 128)
        assert sizes.windowed_width == 4 * 5 * 64
        run.host.run_for(0.1)
        assert run.ended()


@pytest.mark.long
def test_layers_that_share_a_cache_keep_none(tmp_path: Path) -> None:
    kinds = 2 * ["sliding_attention", "sliding_attention", "full_attention"]
    tokens = {}
    for shared in (0, 3):
        folder = tmp_path / str(shared)
        folder.mkdir()
        config = GEMMA4 | {"layer_types": kinds, "num_kv_shared_layers": shared}
        with simulated(config, folder) as run:
            tokens[shared] = run.facts.kv_tokens
            sizes = sizes_of(run)
            # Read they are all the same.
            assert sizes.kv_bytes == 2 * 2 * 2 * (4 * 64 + 2 * 128)
    assert tokens[3] == pytest.approx(2 * tokens[0], rel=0.01)


@pytest.mark.long
def test_inner_sizes_and_tables_for_each_layer(tmp_path: Path) -> None:
    config: dict[str, object] = {
        "architectures": ["Gemma3nForCausalLM"], "model_type": "gemma3n_text", "hidden_size": 256,
        "intermediate_size": [512, 512, 1024, 1024], "num_hidden_layers": 4, "vocab_size": 4096,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64, "sliding_window": 128,
        "vocab_size_per_layer_input": 4096, "hidden_size_per_layer_input": 32,
        "num_kv_shared_layers": 2, "laurel_rank": 8, "max_position_embeddings": 4096,
        "activation_sparsity_pattern": [0.0] * 4, "torch_dtype": "bfloat16",
        "layer_types": 2 * ["sliding_attention", "full_attention"],
    }  # fmt: skip
    with simulated(config, tmp_path) as run:
        sizes = sizes_of(run)
        assert sizes.intermediate == 1024
        # The table for each layer is looked up; the tied one is the output head.
        assert sizes.embedding == 4096 * 4 * 32
        assert sizes.head_parameters == 4096 * 256


@pytest.mark.parametrize("name", ["top_k_experts", "num_experts_per_tok", "moe_topk_experts"])
def test_experts_that_a_token_takes_are_found_under_any_name(name: str) -> None:
    from types import SimpleNamespace

    from tputtui.engine.vllm.model import _experts_used

    assert _experts_used(SimpleNamespace(**{name: 8, "num_experts": 128})) == 8


@pytest.mark.long
def test_without_its_window_a_layer_sees_everything(tmp_path: Path) -> None:
    found = []
    for off in (False, True):
        folder = tmp_path / str(off)
        folder.mkdir()
        # Below the window both are the same.
        with simulated(
            GEMMA | {"sliding_window": 1024}, folder, disable_sliding_window=off, max_model_len=512
        ) as run:
            run.run(2.0)
            found.append(sorted(each.tpot_s for each in run.ended()))
    windowed, full = (values[len(values) // 2] for values in found)
    assert full == pytest.approx(windowed, rel=1e-6)


# -- what cannot be ------------------------------------------------------------------------------


def refusal(config: Mapping[str, object], folder: Path, **args: int) -> Exception:
    spec = folder_of(config, folder)
    clock = VirtualTime()
    engine = SimulatedEngine(simulation_of("l4"), clock)
    with pytest.raises(Exception, match=r"\w") as refused:
        engine.boot(EngineSpec(spec.model, spec.args | args), lambda *_: None)
    engine.shutdown()
    return refused.value


def test_a_model_that_takes_more_than_text_is_refused_as_that(tmp_path: Path) -> None:
    text = {name: value for name, value in GEMMA.items() if name != "architectures"}
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 2, "intermediate_size": 64, "image_size": 28, "patch_size": 14,
    }  # fmt: skip
    config: dict[str, object] = {
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "text_config": text, "vision_config": vision, "torch_dtype": "bfloat16",
    }  # fmt: skip
    refused = refusal(config, tmp_path)
    assert isinstance(refused, UsageError)
    assert "takes more than text, which no cost is known of." in refused.message


def test_a_kv_cache_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    refused = refusal(GEMMA, tmp_path, kv_cache_memory_bytes=40 * 2**30)
    assert "A KV cache of 40.0 GiB does not fit" in str(refused)


def test_matrices_of_more_than_one_precision_are_refused(tmp_path: Path) -> None:
    groups = {
        "a": {"weights": {"num_bits": 4, "type": "int", "group_size": 128, "symmetric": True,
                          "strategy": "group"}, "targets": ["re:.*down_proj"]},
        "b": {"weights": {"num_bits": 8, "type": "int", "group_size": 128, "symmetric": True,
                          "strategy": "group"}, "targets": ["Linear"]},
    }  # fmt: skip
    told = {"quant_method": "compressed-tensors", "format": "pack-quantized",
            "config_groups": groups, "ignore": ["lm_head"]}  # fmt: skip
    refused = refusal(GEMMA | {"quantization_config": told}, tmp_path)
    assert "more than one precision" in str(refused)

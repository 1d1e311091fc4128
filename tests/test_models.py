"""The built-in shapes: what they put under a person's arguments, and their true size."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest

from tputtui.engine.models import is_shape, resolve, shapes
from tputtui.errors import UsageError
from tputtui.profile import EngineSpec


def test_shapes_are_shipped_with_a_config_each() -> None:
    found = shapes()
    assert set(found) >= {
        "demo", "llama-3.1-8b", "llama-3.3-70b", "qwen3-8b",
        "glm-4.7-flash", "minimax-m2.5", "qwen3-coder-next",
    }  # fmt: skip
    for folder in found.values():
        config = json.loads((folder / "config.json").read_text())
        assert config["architectures"]
        assert config["num_attention_heads"] % config["num_key_value_heads"] == 0


def test_only_the_prefix_makes_a_shape() -> None:
    assert is_shape("shape:demo")
    assert not is_shape("demo")
    assert not is_shape("org/shape:demo")


def test_other_models_are_left_as_they_are() -> None:
    spec = EngineSpec("meta-llama/Llama-3.1-8B-Instruct", {"max_num_seqs": 4})
    assert resolve(spec) == spec


def test_a_shape_becomes_its_folder_with_what_it_needs_underneath() -> None:
    resolved = resolve(EngineSpec("shape:qwen3-8b"))
    assert resolved.model == str(shapes()["qwen3-8b"])
    assert resolved.args == {
        "served_model_name": "shape:qwen3-8b",
        "load_format": "dummy",
        "skip_tokenizer_init": True,
    }


def test_a_person_s_arguments_go_on_top_of_a_shape_s_defaults() -> None:
    default = resolve(EngineSpec("shape:demo")).args
    spec = EngineSpec("shape:demo", {"max_num_seqs": 7, "block_size": None, "seed": 3})
    resolved = resolve(spec).args
    assert resolved == {**default, "max_num_seqs": 7, "block_size": None, "seed": 3}
    assert spec.args == {"max_num_seqs": 7, "block_size": None, "seed": 3}
    assert resolve(EngineSpec("shape:demo")).args == default


def test_an_unknown_shape_is_refused_with_the_nearest_or_all() -> None:
    with pytest.raises(UsageError, match=r"no built-in shape called 'llama-3\.1-7b'") as refusal:
        resolve(EngineSpec("shape:llama-3.1-7b"))
    assert refusal.value.hint == "Did you mean `llama-3.1-8b`?"
    with pytest.raises(UsageError) as refusal:
        resolve(EngineSpec("shape:"))
    assert all(name in refusal.value.hint for name in shapes())


@pytest.mark.engine
@pytest.mark.skipif(find_spec("transformers") is None, reason="transformers is not installed")
@pytest.mark.parametrize(
    ("name", "parameters", "within"),
    [
        # As their model cards count them; the demo is our own.
        ("demo", 5.11e6, 0.005),
        ("llama-3.1-8b", 8.03e9, 0.005),
        ("qwen3-8b", 8.19e9, 0.005),
        ("llama-3.3-70b", 70.55e9, 0.005),
        # These cards round.
        ("glm-4.7-flash", 30e9, 0.01),
        ("qwen3-coder-next", 80e9, 0.01),
        ("minimax-m2.5", 230e9, 0.01),
    ],
)
def test_shapes_have_as_many_parameters_as_the_models_they_are_named_for(
    name: str, parameters: float, within: float
) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(shapes()[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    counted = sum(parameter.numel() for parameter in model.parameters())
    assert counted == pytest.approx(parameters, rel=within)

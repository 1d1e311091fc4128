"""A tiny model with a tokenizer, and LoRA adapters for it: made by the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tputtui.engine.models import shapes

__all__ = ["make_adapter", "make_model"]

_TINY = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2,
    "num_key_value_heads": 1, "vocab_size": 512,
}  # fmt: skip


def make_adapter(folder: Path, seed: int, rank: int = 8) -> Path:
    """Write a LoRA adapter with random weights for the queries and values of the model."""
    import torch
    from safetensors.torch import save_file

    config = _config()
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    size = config.get("head_dim", hidden // heads)
    outputs = {"q_proj": heads * size, "v_proj": config["num_key_value_heads"] * size}
    random = torch.Generator().manual_seed(seed)
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        for module, out in outputs.items():
            at = f"base_model.model.model.layers.{layer}.self_attn.{module}"
            weights[f"{at}.lora_A.weight"] = torch.randn(rank, hidden, generator=random) / hidden
            weights[f"{at}.lora_B.weight"] = torch.randn(out, rank, generator=random)
    folder.mkdir(parents=True)
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "lora_dropout": 0.0,
                "bias": "none", "target_modules": sorted(outputs), "task_type": "CAUSAL_LM",
            }
        )
    )  # fmt: skip
    return folder


def make_model(folder: Path) -> Path:
    """Write the model's configuration with a tokenizer of single bytes beside it; no weights."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    vocabulary = {token: number for number, token in enumerate([*special, *letters])}
    tokenizer = Tokenizer(BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(special)
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>",
                "bos_token": "<bos>", "pad_token": "<pad>", "unk_token": "<unk>",
            }
        )
    )  # fmt: skip
    (folder / "config.json").write_text(json.dumps(_config()))
    return folder


def _config() -> dict[str, Any]:
    """The built-in demo with one narrow layer."""
    config: dict[str, Any] = json.loads((shapes()["demo"] / "config.json").read_text())
    return config | _TINY

"""LoRA adapters for a built-in shape, and a tiny model with a tokenizer: made by the tests."""

from __future__ import annotations

import json
from pathlib import Path

from tputtui.engine.models import shapes

__all__ = ["make_adapter", "make_model"]


def make_adapter(folder: Path, seed: int, rank: int = 8, shape: str = "demo") -> Path:
    """Write a LoRA adapter with random weights for the queries and values of a shape."""
    import torch
    from safetensors.torch import save_file

    config = json.loads((shapes()[shape] / "config.json").read_text())
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


def make_model(folder: Path, shape: str = "demo") -> Path:
    """Write a shape's configuration with a tokenizer of single bytes beside it; no weights."""
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
    config = (shapes()[shape] / "config.json").read_text()
    (folder / "config.json").write_text(config)
    return folder

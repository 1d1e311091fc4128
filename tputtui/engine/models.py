"""Built-in shapes: real architectures with published dimensions and random weights.

A shape is a `config.json` shipped in the package. It needs no weights, no tokenizer and no
network, so limits can be tuned before the weights are available. Importing it needs no vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from tputtui.engine.config_file import expanded
from tputtui.engine.serve_flags import parted
from tputtui.engine.target import is_server, target_of
from tputtui.errors import UsageError, nearest
from tputtui.profile import EngineSpec, EngineValue
from tputtui.redact import secret_in

__all__ = ["PREFIX", "check_no_secret", "is_shape", "resolve", "shapes"]

PREFIX = "shape:"

_EVERY_SHAPE: dict[str, EngineValue] = {"load_format": "dummy", "skip_tokenizer_init": True}
_OWN: dict[str, dict[str, EngineValue]] = {
    # The model is so small that a CPU serves thousands of tokens/s. The KV cache is so small
    # (32 Ki tokens) that a person can watch it fill up. Compiling would cost 20 s for 5 %.
    "demo": {
        "enforce_eager": True,
        "block_size": 32,
        "kv_cache_memory_bytes": 64 * 2**20,
        "dtype": "float32",
        "max_num_seqs": 256,
        "max_num_batched_tokens": 2048,
        "max_model_len": 2048,
    },
}


def is_shape(model: str) -> bool:
    """Whether MODEL names a built-in shape."""
    return model.startswith(PREFIX)


def shapes() -> dict[str, Path]:
    """Name to folder of every built-in shape."""
    root = Path(str(resources.files("tputtui"))) / "engine" / "shapes"
    return {path.parent.name: path.parent for path in sorted(root.glob("*/config.json"))}


def resolve(spec: EngineSpec) -> EngineSpec:
    """`spec` with a shape's name replaced by its folder, and the shape's arguments as defaults.

    The arguments of a `--config FILE` are added, those of the HTTP server left out. Raises
    UsageError for a shape or folder that does not exist, and for an argument that holds a secret.
    vLLM itself checks a hub id.
    """
    own, _ = parted(expanded(spec.args))
    spec = EngineSpec(spec.model, {name: own[name] for name in own if name != "model"})
    check_no_secret(spec.args)
    if is_server(spec.model):
        target_of(spec)
        return spec
    if not is_shape(spec.model):
        model = _existing(spec.model)
        return spec if model == spec.model else EngineSpec(model, spec.args)
    name = spec.model.removeprefix(PREFIX)
    known = shapes()
    if name not in known:
        raise UsageError(
            f"There is no built-in shape called {name!r}.",
            nearest(name, known) or f"Known: {', '.join(known)}.",
        )
    under: dict[str, EngineValue] = {"served_model_name": spec.model, **_EVERY_SHAPE}
    return EngineSpec(str(known[name]), {**under, **_OWN.get(name, {}), **spec.args})


def check_no_secret(args: Mapping[str, EngineValue]) -> None:
    """Raise UsageError if an argument holds a secret; the message does not contain the secret."""
    where = secret_in(args)
    if where is not None:
        raise UsageError(
            f"The engine argument {where} holds a secret: it would be read in the list of "
            "processes and saved in profiles.",
            "Set HF_TOKEN in the environment, or `hf auth login` once; vLLM finds it there.",
        )


def _existing(model: str) -> str:
    """Check and expand a path; a model that is not written as a path is returned unchanged."""
    if not model.startswith(("/", "./", "../", "~")) and model not in (".", ".."):
        return model
    folder = Path(model).expanduser()
    hint = "MODEL is a local folder, a hub id (org/name), shape:NAME, or server:URL."
    if not folder.exists():
        raise UsageError(f"There is no folder {model}.", hint)
    if folder.is_dir() and not any(folder.glob("*.json")):
        raise UsageError(f"{model} is no model: it has no config.json.", hint)
    return str(folder)

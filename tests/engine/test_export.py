"""Exported files as vLLM's own parser of `vllm serve` reads them, against the profile itself."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.test_export import JSON, TEXTS, TUNED, made, run_shell, use_of_env
from tputtui import profile
from tputtui.engine import flags, models
from tputtui.engine.vllm.args import argument_parser, import_vllm, parse_arguments, prepare
from tputtui.export import export
from tputtui.export.startup import start_up
from tputtui.profile import EngineSpec, EngineValue, Profile

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

EXAMPLES = 1000 if "FAULT_SEQUENCES" in os.environ else 50
DEMO = str(models.shapes()["demo"])


@pytest.fixture(scope="module", autouse=True)
def vllm(environment: None) -> None:
    prepare(EngineSpec("shape:demo"))
    import_vllm()


@functools.cache
def serve_parser() -> Any:
    """The parser of the command `vllm serve` (0.32; its own module before was another)."""
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser
    except ImportError:
        from vllm.entrypoints.openai.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser(prog="vllm serve")
    serve = parser.add_subparsers(dest="subparser").add_parser("serve")

    def refuse(message: str) -> None:
        raise ValueError(message)

    parser.error = serve.error = refuse
    make_arg_parser(serve)
    return parser


def served(words: list[str]) -> Any:
    """EngineArgs that `vllm serve` makes of these words; the model may be in front."""
    from vllm.engine.arg_utils import EngineArgs

    found = serve_parser().parse_args(words)
    if found.model_tag is not None:
        found.model = found.model_tag
    return EngineArgs.from_cli_args(found)


def served_by(found: Profile, name: str, folder: Path) -> Any:
    """EngineArgs of a production that starts from `found` exported in that format."""
    text = export(found, name)
    if name == "vllm":
        path = folder / "served.yaml"
        path.write_text(text, encoding="utf-8")
        return served(["serve", "--config", str(path)])
    if name == "env":
        return served(run_shell(use_of_env(text, folder), folder=folder))
    return served(run_shell(text))


def direct(found: Profile) -> Any:
    """EngineArgs of a boot in process with the profile's own values."""
    return parse_arguments(models.resolve(start_up(found).spec))


def agree(found: Profile, folder: Path) -> Any:
    """All of them agree; what they agree on."""
    booted = direct(found)
    for name in ("vllm", "command", "env"):
        assert served_by(found, name, folder) == booted, name
    return booted


def test_every_tuned_value_reaches_vllm(tmp_path: Path) -> None:
    booted = agree(made(knobs=TUNED, model=DEMO), tmp_path)
    assert booted.model == DEMO
    assert booted.max_num_seqs == 48
    assert booted.max_num_batched_tokens == 1024
    assert booted.max_model_len == 512
    assert booted.long_prefill_token_threshold == 128
    assert booted.num_gpu_blocks_override == 400
    assert int(booted.watermark * 400) == 7
    assert booted.enable_prefix_caching is False
    assert booted.scheduling_policy == "priority"
    assert booted.scheduler_reserve_full_isl is False


def test_arguments_that_differ_are_not_equal() -> None:
    # What the other tests rest on.
    one = direct(made({"compilation_config": {"cudagraph_mode": "NONE"}}, model=DEMO))
    other = direct(made({"compilation_config": {"cudagraph_mode": "FULL"}}, model=DEMO))
    assert one != other
    assert one != direct(made(model=DEMO))
    assert direct(made({"seed": 1}, model=DEMO)) != direct(made({"seed": 2}, model=DEMO))


def test_what_a_file_of_false_and_null_would_do_and_ours_does_not(tmp_path: Path) -> None:
    # The traps themselves, so that it is noticed should vLLM mend them.
    path = tmp_path / "naive.yaml"
    off = {"enable_prefix_caching": False, "load_format": None}
    naive = {"model": DEMO} | {key.replace("_", "-"): value for key, value in off.items()}
    path.write_text(yaml.safe_dump(naive))
    read = served(["serve", "--config", str(path)])
    assert read.enable_prefix_caching == direct(made(model=DEMO)).enable_prefix_caching
    assert read.enable_prefix_caching is not False
    assert read.load_format == "None"
    booted = agree(made(off, model=DEMO), tmp_path)
    assert booted.enable_prefix_caching is False
    assert booted.load_format == "auto"


@pytest.mark.parametrize("name", sorted(profile.shipped()))
def test_a_shipped_profile_is_the_same_in_every_format(name: str, tmp_path: Path) -> None:
    found = profile.load(profile.shipped()[name])
    assert agree(found, tmp_path).max_num_seqs == found.knobs["max_num_seqs"]


@pytest.mark.parametrize(
    "args",
    [
        {"served_model_name": ["a b", "it's", "$HOME `id`", "c.d", "1", "yes", "1e3", "x\ny\x85"]},
        {"hf_overrides": {"a": None, "b": [1, {"c": True}], "d": 1e-07, "": "$(id)'\n"}},
        {"hf_overrides": {}},
        {"compilation_config": {"pass_config": {"fuse_norm_quant": False}}},
        {"compilation_config.pass_config.fuse_norm_quant": False, "max_num_seqs": 3},
        {"compilation_config.pass_config.fuse_norm_quant": True, "enforce_eager": True},
        {"compilation_config.pass_config": {"fuse_norm_quant": True}, "seed": 3},
        {"compilation_config.cudagraph_capture_sizes": [1, 2], "seed": 3},
        {"cudagraph_capture_sizes": [1]},
        {"max_model_len": -1},
        {"max_num_batched_tokens": "4k", "kv_cache_memory_bytes": "2G"},
        {"-tp": 2, "-q": "fp8", "-cc": {"cudagraph_mode": "NONE"}},
        {"device_ids": "0,1", "ignore_patterns": ["*.pt", "a b"]},
    ],
)
def test_what_is_hard_to_spell_comes_to_the_same(
    args: dict[str, EngineValue], tmp_path: Path
) -> None:
    written = {key: value for key, value in args.items() if "." not in key}
    found = made(args, model=DEMO)
    if written == args:
        agree(found, tmp_path)
        return
    # A boot in process cannot take it: the same, spelt as one mapping, is what it has to be.
    nested: dict[str, Any] = dict(written)
    for key, value in args.items():
        *outer, last = key.split(".")
        if outer:
            inner = nested.setdefault(outer[0], {})
            for part in outer[1:]:
                inner = inner.setdefault(part, {})
            inner[last] = value
    booted = direct(made(nested, model=DEMO))
    for name in ("vllm", "command", "env"):
        assert served_by(found, name, tmp_path) == booted, name


def test_a_policy_and_switches_reach_vllm_both_ways(tmp_path: Path) -> None:
    for value in (0, 1):
        knobs = {
            "enable_prefix_caching": value,
            "scheduling_policy": value,
            "scheduler_reserve_full_isl": value,
        }
        booted = agree(made(knobs=knobs, model=DEMO), tmp_path)
        assert booted.enable_prefix_caching is bool(value)
        assert booted.scheduling_policy == ["fcfs", "priority"][value]
        assert booted.scheduler_reserve_full_isl is bool(value)


def test_the_module_of_the_server_takes_the_file_as_well(tmp_path: Path) -> None:
    # `python -m vllm.entrypoints.openai.api_server --config FILE`, with no word `serve` in front.
    from vllm.engine.arg_utils import EngineArgs

    found = made({"enforce_eager": True}, TUNED, DEMO)
    path = tmp_path / "served.yml"
    path.write_text(export(found, "vllm"))
    parsed = argument_parser().parse_args(["--config", str(path)])
    assert EngineArgs.from_cli_args(parsed) == direct(found)


NAMES = TEXTS.filter(lambda word: not word.startswith("-"))
SIZES = st.lists(st.integers(1, 512), min_size=1, max_size=4)
BOOLS = ("enforce_eager", "enable_chunked_prefill", "disable_cascade_attn", "async_scheduling",
         "enable_expert_parallel", "kv_sharing_fast_prefill", "enable_prefix_caching")  # fmt: skip
INTS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size", "seed",
        "kv_cache_memory_bytes", "tensor_parallel_size", "stream_interval")  # fmt: skip
FLOATS = ("gpu_memory_utilization", "cpu_offload_gb", "watermark", "mm_processor_cache_gb")
CHOICES = {
    "dtype": ["auto", "half", "float16", "bfloat16", "float32"],
    "kv_cache_dtype": ["auto", "fp8", "fp8_e5m2"],
    "scheduling_policy": ["fcfs", "priority"],
    "logprobs_mode": ["raw_logits", "processed_logprobs"],
    "prefix_caching_hash_algo": ["sha256", "xxhash_cbor"],
}
ARGS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(BOOLS, st.none() | st.booleans()),
        **dict.fromkeys(INTS, st.none() | st.integers(1, 1 << 40)),
        **dict.fromkeys(FLOATS, st.floats(0, 1e6, allow_nan=False)),
        **{name: st.none() | st.sampled_from(words) for name, words in CHOICES.items()},
        "cudagraph_capture_sizes": SIZES,
        "served_model_name": NAMES | st.lists(NAMES, min_size=1, max_size=3),
        "ignore_patterns": st.lists(NAMES, min_size=1, max_size=3),
        "hf_overrides": st.dictionaries(TEXTS, JSON, max_size=3),
        "additional_config": st.dictionaries(TEXTS, JSON, max_size=3),
        "override_generation_config": st.dictionaries(TEXTS, JSON, max_size=3),
        "compilation_config": st.fixed_dictionaries(
            {},
            optional={
                "cudagraph_mode": st.sampled_from(["NONE", "FULL", "PIECEWISE"]),
                "cudagraph_capture_sizes": SIZES,
                "pass_config": st.fixed_dictionaries(
                    {}, optional={"fuse_norm_quant": st.booleans()}
                ),
                "custom_ops": st.sampled_from([[], ["none"], ["all", "-rms_norm"]]),
            },
        ),
    },
)
LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "max_num_seqs": st.integers(1, 4096),
        "max_num_batched_tokens": st.integers(1, 1 << 17),
        "max_model_len": st.integers(2, 1 << 20),
        "long_prefill_token_threshold": st.integers(0, 1 << 17),
        "num_gpu_blocks": st.integers(2, 1 << 20),
        "watermark_blocks": st.integers(0, 1 << 20),
        "enable_prefix_caching": st.integers(0, 1),
        "scheduling_policy": st.integers(0, 1),
        "scheduler_reserve_full_isl": st.integers(0, 1),
    },
)


@given(ARGS, LIMITS)
@example({}, TUNED)
@settings(max_examples=EXAMPLES, deadline=None)
def test_any_profile_is_the_same_to_vllm_in_every_format(
    tmp_path_factory: pytest.TempPathFactory, args: dict[str, EngineValue], knobs: dict[str, int]
) -> None:
    booted = agree(made(args, knobs, DEMO), tmp_path_factory.getbasetemp())
    for name, value in knobs.items():
        match name:
            case "max_num_seqs" | "max_num_batched_tokens" | "max_model_len":
                assert getattr(booted, name) == value
            case "num_gpu_blocks":
                assert booted.num_gpu_blocks_override == value
            case "watermark_blocks" if "num_gpu_blocks" in knobs:
                assert int(booted.watermark * knobs["num_gpu_blocks"]) == value
            case "enable_prefix_caching" | "scheduler_reserve_full_isl":
                assert getattr(booted, name) is bool(value)
            case "scheduling_policy":
                assert booted.scheduling_policy == ("priority" if value else "fcfs")
            case "long_prefill_token_threshold":
                longest = booted.max_model_len or value
                assert booted.long_prefill_token_threshold == min(value, longest)


def test_a_key_that_vllm_does_not_know_is_refused_by_all(tmp_path: Path) -> None:
    found = made({"max_num_sqs": 3}, model=DEMO)
    assert flags.to_argv(found.engine.args) == ["--max-num-sqs", "3"]
    for name in ("vllm", "command", "env"):
        with pytest.raises(ValueError, match="unrecognized arguments: --max-num-sqs"):
            served_by(found, name, tmp_path)

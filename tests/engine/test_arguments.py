"""Engine arguments judged by vLLM's own parser, without booting."""

from __future__ import annotations

import pytest

from tputtui.engine import flags
from tputtui.engine.vllm.args import check_arguments
from tputtui.errors import UsageError
from tputtui.profile import EngineSpec

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def check(*words: str) -> None:
    check_arguments(EngineSpec("shape:demo", flags.from_argv(words)))


@pytest.mark.parametrize(
    "line",
    [
        "--max-num-seqs 8",
        "--max_num_seqs 8",
        "--max-num-batched-tokens=4k",
        "-tp 2",
        "-O3",
        "--no-enable-prefix-caching",
        "--cudagraph-capture-sizes 1 2 4",
        "--compilation-config.cudagraph_mode NONE",
        "--compilation-config.pass_config.fuse_norm_quant true",
        '--compilation-config {"mode":0}',
    ],
)
def test_what_vllm_takes_is_taken(line: str) -> None:
    check(*line.split())


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        # The first two are prefixes that argparse would take for the whole flag.
        ("--max-num-seq", "--max-num-seqs"),
        ("--max-num-batched-token", "--max-num-batched-tokens"),
        ("--max-num-sequences", "--max-num-seqs"),
        ("--quantisation", "--quantization"),
        ("--no-enable-prefix-cachin", "--no-enable-prefix-caching"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest(unknown: str, meant: str) -> None:
    with pytest.raises(UsageError) as refusal:
        check(unknown, "4")
    assert refusal.value.message == f"vLLM has no flag {unknown}."
    assert refusal.value.hint == f"Did you mean `{meant}`?"


def test_a_flag_like_no_other_is_refused_with_where_to_look() -> None:
    with pytest.raises(UsageError, match="vLLM has no flag --xyzzy") as refusal:
        check("--xyzzy")
    assert "--help=all" in refusal.value.hint


@pytest.mark.parametrize(
    ("line", "flag", "why"),
    [
        ("--max-num-seqs many", "--max-num-seqs", "'many'"),
        ("--max-num-seqs 1.5", "--max-num-seqs", "'1.5'"),
        ("--max-num-seqs", "--max-num-seqs", "takes a value"),
        ("--dtype float8", "--dtype", "invalid choice: 'float8'"),
        ("--seed 1e3", "--seed", "'1e3'"),
        ('--compilation-config {"nope":3}', "--compilation-config", "nope Unexpected keyword"),
        ("--compilation-config {nope", "--compilation-config", "Invalid JSON"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused_with_its_flag_in_one_sentence(
    line: str, flag: str, why: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        check(*line.split())
    assert flag in refusal.value.message
    assert why in refusal.value.message
    assert "\n" not in refusal.value.message
    assert "http" not in refusal.value.message


def test_a_stray_word_is_refused_in_a_sentence() -> None:
    with pytest.raises(UsageError) as refusal:
        check("--enforce-eager", "some-model")
    assert refusal.value.message == "'some-model' is not expected behind --enforce-eager, a switch."
    assert refusal.value.hint == "MODEL comes first, once."


def test_a_profile_s_wrong_value_is_refused_likewise() -> None:
    with pytest.raises(UsageError, match="--max-num-seqs"):
        check_arguments(EngineSpec("shape:demo", {"max_num_seqs": "lots"}))
    with pytest.raises(UsageError, match="vLLM has no flag --max-num-sqs"):
        check_arguments(EngineSpec("shape:demo", {"max_num_sqs": 3}))

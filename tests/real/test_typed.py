"""What people mistype, and numbers as they write them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.terminal import environment
from tputtui.engine.arguments import value_of
from tputtui.engine.protocol import Argument
from tputtui.errors import UsageError
from tputtui.knobs import parse_value, whole_number
from tputtui.session.guard import parse_guard

SCRIPT = """
import sys
from tputtui.cli import main
code = main(sys.argv[1:])
assert "vllm" not in sys.modules
sys.exit(code)
"""


def refused(*words: str, tmp_path: Path) -> str:
    """What is said of words that are refused, without vLLM having been imported."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, env=environment(tmp_path), cwd=tmp_path, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        (["--goals", "ttft_p99=1s"], "no flag --goals.", "`--goal`"),
        (["--lod", "8/s"], "no flag --lod.", "`--load`"),
        (["--prompt_token=8"], "no flag --prompt_token.", "`--prompt-tokens`"),
        (["bench", "--virtul"], "no flag --virtul.", "`--virtual`"),
        (["bench", "--duratoin", "3s"], "no flag --duratoin.", "`--duration`"),
        (["tune", "demo", "--goals", "ttft_p99=1s"], "no flag --goals.", "`--goal`"),
        (["config", "show", "--gaurd", "kv=1"], "no flag --gaurd.", "`--guard`"),
        (["server:host:8000", "--lod", "8/s"], "no flag --lod.", "`--load`"),
        (["--virtual", "shape:demo"], "no flag --virtual here.", "`tputtui bench`, `tputtui tune`"),
        (["profils", "list"], "no command 'profils'.", "`profiles`"),
        (["bnch"], "no command 'bnch'.", "`bench`"),
    ],
)
def test_a_mistyped_word_of_ours_is_named_before_vllm_is_imported(
    words: list[str], said: str, hint: str, tmp_path: Path
) -> None:
    told = refused(*words, tmp_path=tmp_path)
    assert told.count("\n") == 2
    assert said in told
    assert hint in told


@pytest.mark.engine
@pytest.mark.long
@pytest.mark.timeout(900)
def test_what_vllm_says_when_it_is_asked_about_a_flag_reaches_nobody(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tputtui", "bench", "shape:demo", "--max-num-sqs=3"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(tmp_path),
        cwd=tmp_path, timeout=PATIENCE_S,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "asking vLLM about --max-num-sqs …",
        "tputtui: vLLM has no flag --max-num-sqs.",
        "         Did you mean `--max-num-seqs`?",
    ]


@pytest.mark.parametrize("flag", ["--load-format=auto", "--seed=1", "--no-enable-prefix-caching"])
def test_flags_of_vllm_that_are_like_ours_are_vllms(flag: str, tmp_path: Path) -> None:
    assert "needs a terminal" in refused(flag, tmp_path=tmp_path)


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("foo=1", "no guard for 'foo'", "kv=0.97"),
        ("kvs=0.9", "no guard for 'kvs'", "`kv`"),
        ("tfft_p99=2s", "no guard for 'tfft_p99'", "`ttft`"),
        ("kv=2", "a share from 0 to 1", "kv=0.97"),
        ("itl_p99=9ms", "many inter-token latencies", "tpot"),
    ],
)
def test_a_guard_says_what_it_takes(text: str, said: str, hint: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_guard(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4k", 4000),
        ("4K", 4096),
        ("1.5k", 1500),
        ("2m", 2_000_000),
        ("1M", 1_048_576),
        ("1 024", 1024),
        ("1,024", 1024),
        ("-1", -1),
    ],
)
def test_a_number_is_the_same_on_the_board_in_the_form_and_in_a_flag(text: str, value: int) -> None:
    assert parse_value("max_num_batched_tokens", text) == value
    argument = Argument("max_num_batched_tokens", "whole", "", "", "", ())
    assert value_of(argument, text) == value


@pytest.mark.engine
@pytest.mark.parametrize("text", ["4k", "4K", "1.5k", "2m", "1M", "3g", "1T", "1.5K"])
def test_it_is_the_number_that_vllm_reads(text: str) -> None:
    from argparse import ArgumentTypeError

    from vllm.utils.argparse_utils import human_readable_int

    try:
        theirs = human_readable_int(text)
    except ArgumentTypeError:
        theirs = None
    assert whole_number(text) == theirs

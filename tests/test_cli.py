"""The command line without a screen: what it answers at once, and what it refuses."""

import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests import PATIENCE_S
from tputtui import __version__

ROOT = Path(__file__).parent.parent


def run(*words: str, env: dict[str, str] | None = None) -> CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tputtui", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | (env or {}),
        timeout=PATIENCE_S,
    )


def test_version_and_help_answer_without_torch_vllm_textual_or_numpy() -> None:
    for words, says in ((["--version"], __version__), (["--help"], "MODEL")):
        code = (
            f"import sys; sys.argv = ['tputtui', *{words}]\n"
            "from tputtui.cli import main\n"
            "try:\n    main()\nexcept SystemExit:\n    pass\n"
            "heavy = {'torch', 'vllm', 'textual', 'numpy'} & set(sys.modules)\n"
            "assert not heavy, heavy"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert says in done.stdout


def test_help_imports_nothing_that_takes_long() -> None:
    script = (
        "import sys\nfrom tputtui.cli import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print(*sorted(sys.modules), sep=chr(10), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    loaded = set(done.stderr.split())
    assert "tputtui.cli.run" in loaded
    heavy = {
        "aiohttp", "asyncio", "jinja2", "matplotlib", "numpy", "psutil", "rich", "textual", "torch",
        "vllm",
    }  # fmt: skip
    assert not loaded & heavy


@pytest.mark.parametrize(
    ("words", "says", "code"),
    [
        (["--load", "many"], "'many' is not a load", 2),
        (["--load=-3"], "'-3'", 2),
        (["--prompt-tokens", "abc"], "'abc' is not a length", 2),
        (["--output-tokens", "9-3"], "min 9 is above max 3", 2),
        (["--load-seed", "x"], "--load-seed", 2),
        (["--limit", "max_num_seq=3"], "`max_num_seqs`", 2),
        (["--limit", "max_num_seqs=0"], "too low", 2),
        (["--prefix", "shares=1"], "'shares=1'", 2),
        (["--sessions", "turns=2"], "think is missing", 2),
        (["--length-pairs", "9"], "'9' is not a pair", 2),
        (["--trace", "/no/such.csv"], "/no/such.csv", 2),
        (["--trace", "BAD"], "bad.csv: line 2", 2),
        (["--trace", "UNTIMED", "--load", "recorded"], "no times", 2),
        (["--load", "recorded"], "need a trace", 2),
        (["--goal", "ttft=3"], "names no percentile", 2),
        (["--goal", "ttft_p99=3"], "no unit", 2),
        (["--price-per-hour", "cheap"], "'cheap' is not a price", 2),
        (["--theme", "drak"], "`dark`", 2),
        (["--guard", "foo=1"], "no guard for 'foo'", 2),
        (["bench", "--guard", "kv=0.9"], "It is one of `tputtui`", 2),
        (["bench", "--hold"], "no flag --hold here", 2),
        (["--profile", "chta"], "`chat`", 2),
        (["--profile", "/no/such.yaml"], "No such file", 2),
        (["shape:demo2"], "`demo`", 2),
        (["./no-such-model"], "no folder ./no-such-model", 2),
        # In a process of its own: tests/engine/test_arguments.py has many that vLLM is asked about.
        pytest.param(
            ["shape:demo", "--max-num-seq", "3"], "`--max-num-seqs`", 2, marks=pytest.mark.long
        ),
        ([], "needs a terminal", 2),
        (["verify", "chat", "--simulate"], "It is one of `tputtui`, `tputtui bench`", 2),
        (["tune", "--max-num-seqs", "64", "chta"], "no profile called 'chta'", 2),
        (["tune"], "`tputtui tune` needs PROFILE.", 2),
        (["verify"], "`tputtui verify` needs PROFILE.", 2),
        (["report", "--formt", "md"], "Did you mean `--format`?", 2),
        (["report", "last", "x"], "`tputtui report` has no use for 'x'.", 2),
        (["profiles", "lst"], "Did you mean `list`?", 2),
        (["profiles"], "For example: tputtui profiles show chat", 2),
        (["bench", "--format", "xml"], "'xml' is none of table, json, jsonl, csv", 2),
        (["bench", "--format"], "It takes table or json or jsonl or csv.", 2),
        (["tune", "--seed", "1.5"], "'1.5' is not a whole number", 2),
        (["verify", "x", "--quality", "y", "--no-quality"], "exclude each other", 2),
    ],
)
def test_bad_input_is_a_sentence_and_code_2(
    words: list[str], says: str, code: int, tmp_path: Path
) -> None:
    bad, untimed = tmp_path / "bad.csv", tmp_path / "untimed.jsonl"
    bad.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,many,3\n")
    untimed.write_text('{"prompt_tokens": 5, "output_tokens": 5}\n')
    words = [{"BAD": str(bad), "UNTIMED": str(untimed)}.get(word, word) for word in words]
    done = run(*words, env={"XDG_STATE_HOME": str(tmp_path)})
    assert says in done.stderr, done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(("tputtui: ", "asking vLLM"))


def test_a_folder_that_is_no_model_is_a_sentence(tmp_path: Path) -> None:
    done = run(str(tmp_path))
    assert "no config.json" in done.stderr
    assert done.returncode == 2


def test_the_rooms_below_the_screen_load_no_engine_and_no_screen() -> None:
    code = (
        "import sys, tputtui.session.session, tputtui.profile, tputtui.hardware\n"
        "bad = {'torch', 'vllm', 'textual', 'rich', 'tputtui.engine.vllm.inproc'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_screen_loads_no_engine() -> None:
    code = (
        "import sys, tputtui.ui.app\n"
        "bad = {'torch', 'vllm', 'tputtui.engine.vllm.inproc', 'tputtui.engine.fake'}\n"
        "assert not bad & set(sys.modules), bad & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_log_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--hold", env={"XDG_STATE_HOME": str(tmp_path / "file")})
    assert done.returncode == 2
    assert "XDG_STATE_HOME" in done.stderr

"""vLLM's arguments as people write them: any spelling, in a file, in a whole line pasted."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests import PATIENCE_S
from tests.terminal import environment
from tputtui import profile
from tputtui.cli.main import main
from tputtui.cli.pasted import pasted
from tputtui.engine import flags, models
from tputtui.engine.config_file import read_config_file
from tputtui.engine.parallel import check_in_process
from tputtui.engine.vllm.simulated import check_possible
from tputtui.errors import ProfileError, UsageError
from tputtui.export import export
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.profile.flag_kinds import (
    APPENDED,
    FRACTIONS,
    JSON_LISTS,
    ONE,
    SEVERAL,
    SWITCHES,
    WHOLE,
)
from tputtui.profile.spelling import OTHER_NAMES, canonical, ceiling_of, named
from tputtui.redact import secret_in

LINE = """\
VLLM_LOGGING_LEVEL=INFO vllm serve shape:qwen3-8b \\\r
  --host 0.0.0.0 --port 8123 --tool-call-parser hermes --enable-auto-tool-choice \\\r
  --api-key sk-0123456789abcdefghij \\\r
  -tp 2 --max-model-len 8k -O3 -cc.pass_config.fuse_norm_quant true --no-enable-prefix-caching\r
"""
MEANT = {
    "tensor_parallel_size": 2,
    "max_model_len": 8000,
    "optimization_level": 3,
    "enable_prefix_caching": False,
    "compilation_config": {"pass_config": {"fuse_norm_quant": True}},
}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-tp 2", "--tensor-parallel-size=2"),
        ("-dp 02", "--data_parallel_size 2"),
        ("-O3", "--optimization-level 3"),
        ("-O 3", "-O=3"),
        ("-n2", "--nnodes 2"),
        ("-ep", "--enable-expert-parallel"),
        ("-cc.mode=3", '--compilation-config {"mode":3}'),
        ("-cc.pass_config.x=1 -cc.mode 3", '-cc {"pass_config":{"x":1},"mode":3}'),
        ("-cc.splitting_ops+ a,b", '-cc {"splitting_ops":["a","b"]}'),
        ("-sc.method ngram", '--speculative-config {"method":"ngram"}'),
        ("--max-model-len 8k", "--max-model-len 8000"),
        ("--max-model-len 8K", "--max_model_len=8192"),
        ("--max-model-len auto", "--max-model-len=-1"),
        ("--max-num-seqs 1 -tp 4 --max_num_seqs 2", "-tp 4 --max-num-seqs 2"),
        ("--device-memory-utilization 0.5", "--gpu-memory-utilization 0.5"),
        ("--enable-prefix-caching --no-enable-prefix-caching", "--no-enable-prefix-caching"),
    ],
)
def test_an_argument_is_the_same_however_it_is_spelt(one: str, other: str) -> None:
    assert flags.from_argv(shlex.split(one)) == flags.from_argv(shlex.split(other, posix=False))


def test_what_follows_a_dot_replaces_the_argument_as_for_vllm() -> None:
    args = flags.from_argv(["-cc.mode", "3", "-cc", '{"backend":"eager"}'])
    assert args == {"compilation_config": {"mode": 3}}


@pytest.mark.engine
def test_the_names_and_numbers_are_those_of_vllms_parser() -> None:
    from tputtui.engine.vllm.args import argument_parser, prepare

    prepare(EngineSpec("shape:demo"))
    actions = argument_parser()._actions
    unknown = set(OTHER_NAMES.values()) - {action.dest for action in actions}
    assert unknown == {"api_server_count"}  # of the server
    for action in actions:
        for option in action.option_strings:
            if not option.startswith("--no-"):
                assert named(option) == action.dest, option
        assert not action.dest.startswith("no_")


@pytest.mark.engine
def test_the_kinds_of_flags_are_those_of_vllms_parser() -> None:
    from tputtui.engine.vllm.args import argument_parser, prepare

    prepare(EngineSpec("shape:demo"))
    for action in argument_parser()._actions:
        name, kind = action.dest, getattr(action.type, "__name__", "")
        if name in ("help", "hf_token", "model_tag"):
            continue
        if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
            assert name in SWITCHES, name
        elif action.nargs == "+":
            assert name in SEVERAL, name
        elif kind == "int" or "human" in kind:
            assert name in WHOLE, name
        elif kind == "float":
            assert name in FRACTIONS, name
        else:
            assert name in ONE | WHOLE | FRACTIONS | JSON_LISTS | APPENDED, name


@pytest.mark.engine
@pytest.mark.parametrize(
    "words",
    [
        "-cc.mode 3 -cc.pass_config.fuse_norm_quant true -tp 02 -O3 --max-model-len 8k -ep",
        "-sc.method ngram -sc.num_speculative_tokens 4 --seed 7 -q fp8",
        "-cc.splitting_ops+ a,b -cc.mode 1 --compilation-config.mode 2 -ac.backend FLASH_ATTN",
        '--hf-overrides.a.b 1k --limit-mm-per-prompt {"image":2} -dcp 2',
        "--served-model-name a b --max-model-len -1",
    ],
)
def test_the_canonical_spelling_is_to_vllm_what_was_typed(words: str) -> None:
    from tputtui.engine.vllm.args import argument_parser, prepare

    prepare(EngineSpec("shape:demo"))
    argv = shlex.split(words, posix=False)
    parser = argument_parser()
    again = flags.to_argv(flags.from_argv(argv))
    assert vars(parser.parse_args(again)) == vars(parser.parse_args(argv))


def test_no_check_looks_at_the_spelling() -> None:
    for argv in (["-dp=2"], ["--data-parallel-size=02"], ["-dpl", "2"], ["--nnodes", "2"]):
        with pytest.raises(UsageError, match=r"in (one|this) process"):
            check_in_process(flags.from_argv(argv))
    found = secret_in(flags.from_argv(["--model-loader-extra-config.hf_token", "hush-hush"]))
    assert found == "model_loader_extra_config"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("--speculative-config.method ngram --speculative-config.num_speculative_tokens 4",
         "speculative decoding"),
        ('-sc {"method":"ngram"}', "speculative decoding"),
        ("-sc.method=ngram", "speculative decoding"),
        ("--spec-method ngram --spec-tokens 4", "speculative decoding"),
        ("-dcp 2 -tp 16", "context parallelism"),
        ("--decode_context_parallel_size=02", "context parallelism"),
        ("-pcp=2", "context parallelism"),
        ("--kv-transfer-config.kv_connector NixlConnector", "KV transfer"),
        ("--ec-transfer-config.role both", "encoder outputs"),
        ("--offload-backend prefetch", "offloading weights"),
        ("--cpu-offload-gb 1", "offloading weights"),
        ("--cpu-offload-gb=0.5", "offloading weights"),
        ("--kv-offloading-size 1", "KV offloading"),
        ("--enable-lora", "LoRA"),
        ("--enable-dbo", "dual batch overlap"),
    ],
)  # fmt: skip
def test_what_cannot_be_simulated_is_known_by_any_spelling(line: str, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        check_possible(flags.from_argv(line.split()))


@pytest.mark.parametrize(
    "line",
    ["-dcp 1", "--offload-backend auto", "--no-enable-lora", "--cpu-offload-gb 0", "-tp 8 -pp 2"],
)
def test_what_changes_nothing_is_no_reason_to_refuse(line: str) -> None:
    check_possible(flags.from_argv(line.split()))


def test_profiles_that_spell_apart_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text('tputtui: 1\nengine: {-tp: 2, -cc.mode: 3, max-model-len: "8k", no-x: true}\n')
    b.write_text(
        "tputtui: 1\nengine: {tensor_parallel_size: 2, max_model_len: 8000, x: false,"
        " compilation_config: {mode: 3}}\n"
    )
    assert main(["profiles", "diff", str(a), str(b)]) == 0
    assert capsys.readouterr().out == "the same\n"


@pytest.mark.parametrize("one", ["-tp: 2", "tensor-parallel-size: 2"])
def test_an_argument_that_stands_twice_is_refused_by_both_names(one: str) -> None:
    with pytest.raises(ProfileError, match="stands twice"):
        profile.parse(f"tputtui: 1\nengine: {{tensor_parallel_size: 4, {one}}}\n", "p.yaml")


def test_a_ceiling_in_words_is_a_ceiling() -> None:
    text = 'tputtui: 1\nengine: {max_model_len: "8k"}\nlimits: {max_model_len: 32768}\n'
    with pytest.raises(ProfileError, match="above its ceiling"):
        profile.parse(text, "p.yaml")


@pytest.mark.parametrize("automatic", ["-1", '"auto"', "null"])
def test_automatic_is_no_number(automatic: str) -> None:
    text = f"tputtui: 1\nengine: {{max_model_len: {automatic}}}\nknobs: {{max_model_len: 4096}}\n"
    found = profile.parse(text, "p.yaml")
    assert ceiling_of(found.engine.args, "max_model_len") is None
    assert "--max-model-len 4096" in export(found, "command")


# -- files and lines -----------------------------------------------------------------------------


def shown(*words: str, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, str], str]:
    """(rows of `config show`, what went to stderr)"""
    assert main(["config", "show", *words]) == 0
    out, err = capsys.readouterr()
    return {row.split()[0]: row.split(maxsplit=1)[1] for row in out.splitlines() if row}, err


def test_a_line_in_a_file_is_taken_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_LOGGING_LEVEL", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    file = tmp_path / "start.sh"
    file.write_bytes(b"#!/bin/sh\nset -e\n" + LINE.encode())
    rows, err = shown(f"@{file}", capsys=capsys)
    assert rows["model"] == "shape:qwen3-8b"
    assert {
        name.removeprefix("engine."): json.loads(value.removeprefix("flag"))
        for name, value in rows.items()
        if name.startswith("engine.")
    } == MEANT
    assert rows["serve.port"].split() == ["flag", "8123"]
    assert "serve.api_key" not in rows
    assert err.count("\n") == 2
    assert "set for this run, and kept in no profile: VLLM_LOGGING_LEVEL." in err
    assert "no effect here" in err
    assert "sk-0123" not in err
    assert os.environ["VLLM_LOGGING_LEVEL"] == "INFO"


@pytest.mark.parametrize(
    "before",
    [
        "vllm serve shape:demo",
        "VLLM_USE_V1=1 CUDA_VISIBLE_DEVICES=0 vllm serve shape:demo",
        "$ vllm serve shape:demo",
        "env A=b nohup vllm serve shape:demo",
        "uv run vllm serve shape:demo",
        "venv/bin/vllm serve shape:demo",
        "python3 -m vllm.entrypoints.openai.api_server --model shape:demo",
        "docker run --rm --gpus all -v a:b -p 1:2 --env A=b vllm/vllm-openai:v0.10.1 shape:demo",
        "docker run --entrypoint vllm vllm/vllm-openai:latest serve shape:demo",
        "podman run rocm/vllm:latest vllm serve shape:demo",
        "kubectl run x --image=vllm/vllm-openai -- vllm serve shape:demo",
        "sudo -u vllm vllm serve shape:demo",
        "uv run --with vllm vllm serve shape:demo",
        "uvx --from vllm vllm serve shape:demo",
        "conda run -n vllm vllm serve shape:demo",
        "numactl -N 0 timeout 300 vllm serve shape:demo",
        "python -m vllm serve shape:demo",
        "ExecStart=venv/bin/vllm serve shape:demo",
    ],
)
def test_what_stands_before_the_model_falls_away(
    before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    words = pasted([*shlex.split(before), "--seed", "3"]).words
    assert words[-3:] == ["shape:demo", "--seed", "3"]
    assert words[0] in ("shape:demo", "--model")


def test_variables_of_a_script_are_put_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PORT", raising=False)
    file = tmp_path / "run.sh"
    file.write_text(
        "MODEL=shape:demo  # ours\nexport N=3\nvllm serve $MODEL --seed ${N} --port ${PORT:-81}\n"
    )
    assert pasted([f"@{file}"]).words == ["shape:demo", "--seed", "3", "--port", "81"]


def test_a_line_without_vllm_in_front_is_a_model_and_its_flags(tmp_path: Path) -> None:
    file = tmp_path / "line"
    file.write_text("shape:demo \\\n  --seed 3\n")
    assert pasted([f"@{file}", "-tp", "1"]).words == ["shape:demo", "--seed", "3", "-tp", "1"]


@pytest.mark.parametrize(
    "words",
    [
        ["bash", "-lc", "cd /app && exec vllm serve shape:demo --seed 3 > log 2>&1 &"],
        ["docker", "run", "--entrypoint", "bash", "vllm/vllm-openai", "-c",
         "vllm serve shape:demo --seed 3"],
        ["vllm serve shape:demo --seed 3"],
    ],
)  # fmt: skip
def test_a_line_in_quotes_is_read_as_its_shell_would(words: list[str]) -> None:
    assert pasted(words).words == ["shape:demo", "--seed", "3"]


@pytest.mark.parametrize("words", [["vllm serve 'x"], ["bash", "-c", "vllm serve 'x"]])
def test_a_quote_that_is_not_closed_is_a_sentence(words: list[str]) -> None:
    with pytest.raises(UsageError, match="line 1: a ' is opened and not closed"):
        pasted(words)


def test_flags_of_ours_may_stand_in_front() -> None:
    words = ["--simulate", "h100", "vllm", "serve", "shape:demo", "--seed", "3"]
    assert pasted(words).words == ["--simulate", "h100", "shape:demo", "--seed", "3"]


@pytest.mark.parametrize(
    "script",
    [
        "nohup vllm serve shape:demo --seed 3 > log 2>&1 &",
        "source venv/bin/activate && vllm serve shape:demo --seed 3 >log",
        'cd "$(dirname "$0")"\nif true; then\n  vllm serve shape:demo --seed 3 &>log &\nfi',
        "ARGS='--seed 3'\nEXTRA=\nvllm serve shape:demo $ARGS $EXTRA \"$@\"",
        'ARGS=(--seed 3)\nvllm serve "${MODEL:-shape:demo}" "${ARGS[@]}"',
        "(vllm serve shape:demo --seed ${SEED:=3}; echo done)",
        "\ufeff# of mine\r\nvllm serve shape:demo \\\r\n  --seed 3\r\n",
        "echo 'vllm serve starts'\npkill -f vllm serve\nvllm serve shape:demo --seed 3 | tee log",
    ],
)
def test_a_script_is_read_as_a_shell_would_and_flags_of_ours_stand_behind(
    script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MODEL", "SEED"):
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "start.sh"
    file.write_bytes(script.encode())
    found = pasted([f"@{file}", "--simulate", "h100"])
    assert found.words == ["shape:demo", "--seed", "3", "--simulate", "h100"]


def test_what_only_a_shell_knows_may_stand_in_a_flag_of_the_server(tmp_path: Path) -> None:
    file = tmp_path / "start.sh"
    file.write_text('vllm serve shape:demo --api-key "$(cat key)" --seed 3 --port=$((8000 + 1))\n')
    assert pasted([f"@{file}"]).words == ["shape:demo", "--seed", "3"]


def test_variables_that_the_line_would_find_are_set(tmp_path: Path) -> None:
    file = tmp_path / "start.sh"
    file.write_text(
        "VLLM_A=not\nexport VLLM_B=1 OTHER=2\nexport HF_HOME=$UNSET\nexport CUDA_X=$(nproc)\n"
        "VLLM_C=3 vllm serve shape:demo\n"
    )
    assert pasted([f"@{file}"]).variables == {"VLLM_B": "1", "VLLM_C": "3"}
    line = "docker run -e VLLM_A=1 --env VLLM_B=2 --env=VLLM_C=3 -eVLLM_D=4 vllm/vllm-openai m"
    assert pasted(line.split()).variables == {
        "VLLM_A": "1", "VLLM_B": "2", "VLLM_C": "3", "VLLM_D": "4",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("vllm serve shape:demo -tp $(nvidia-smi -L | wc -l)", "line 1: what stands in $(…)"),
        ("vllm serve a\n\nvllm serve b", "starts several servers, on lines 1, 3"),
        ("image: vllm/vllm-openai\ncommand: --model x", "no line that starts a server"),
        ("vllm serve shape:demo --api-key hush-hush --hf-overrides '{", "line 1: a ' is opened"),
        ("A=a\0b vllm serve shape:demo", "not a text file"),
        ("#" * (1 << 20) + "\n", "larger than such a file can be"),
    ],
)
def test_a_script_that_cannot_be_told_is_refused_without_its_secrets(
    written: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "start.sh"
    file.write_text(written)
    with pytest.raises(UsageError) as refusal:
        pasted([f"@{file}"])
    assert said in refusal.value.message
    assert "hush" not in refusal.value.message


@pytest.mark.parametrize("path", ["/dev/zero", "fifo"])
def test_what_is_no_small_file_is_not_waited_for(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.symlink("/dev/zero", tmp_path / "zero.yaml")
    os.mkfifo(tmp_path / "fifo.yaml")
    monkeypatch.chdir(tmp_path)
    config = {"/dev/zero": "zero.yaml", "fifo": "fifo.yaml"}[path]
    for words in ([f"@{path}"], ["--config", config], ["--profile", f"./{config}"]):
        if path == "fifo" and words[0].startswith("@"):
            # A pipe that nobody writes to has ended.
            assert main(["config", "show", *words]) == 2
        elif path != "fifo":
            assert main(["config", "show", *words]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        ("--port 8000 shape:qwen3-8b", {"serve.port": "flag  8000"}),
        ("--enforce-eager shape:qwen3-8b", {"engine.enforce_eager": "flag  true"}),
        ("-O3 --enable-auto-tool-choice shape:qwen3-8b", {"engine.optimization_level": "flag  3"}),
        ("--middleware a.b --middleware c.d shape:qwen3-8b",
         {"serve.middleware": 'flag  ["a.b", "c.d"]'}),
        ("--model shape:qwen3-8b --seed 3", {"engine.seed": "flag  3"}),
        ('shape:qwen3-8b --allowed-origins ["*"]', {"serve.allowed_origins": 'flag  ["*"]'}),
        ("shape:qwen3-8b --gpu-memory-utilization 0.90 --port 08123",
         {"engine.gpu_memory_utilization": "flag  0.9", "serve.port": "flag  8123"}),
    ],
)  # fmt: skip
def test_model_stands_anywhere_and_values_have_their_kind(
    words: str, rows: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found, _ = shown(*words.split(), capsys=capsys)
    assert found["model"] == "shape:qwen3-8b"
    assert {name: " ".join(found[name].split()) for name in rows} == {
        name: " ".join(value.split()) for name, value in rows.items()
    }


@pytest.mark.parametrize(
    ("words", "said", "hint"),
    [
        ("shape:demo --enable-chunked-prefill False", "'False' is not expected behind", "--no-en"),
        ("shape:demo --port", "--port takes a value", "--help"),
        ("shape:demo --seed 3 4", "'4' is one too many", "MODEL"),
        ("shape:demo --model shape:qwen3-8b", "MODEL is given twice", "Keep one"),
        ("shape:demo -x 3", "vLLM has no flag -x", "dashes"),
        ("shape:demo -max-model-len 8192", "vLLM has no flag -max-model-len", "--max-model-len"),
        ("shape:demo --data-parallel-rank 1", "--data-parallel-rank 1", "attach"),
        ("shape:demo --node-rank 1", "--node-rank 1", "attach"),
    ],
)
def test_words_that_fit_nowhere_are_named(
    words: str, said: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", *words.split()]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert hint in told


def test_a_flag_that_this_vllm_has_no_more_is_left_out_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows, err = shown("shape:demo", "--disable-log-requests", "--port", "1", capsys=capsys)
    assert "no flag of the vLLM installed here, and left out: --disable-log-requests" in err
    assert "serve.disable_log_requests" not in rows
    assert rows["serve.port"].split() == ["flag", "1"]


def test_a_false_in_a_config_file_counts_as_for_vllm_and_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("enable-prefix-caching: false\nno-async-scheduling: true\n")
    rows, err = shown("shape:demo", "--config", str(config), capsys=capsys)
    assert "engine.enable_prefix_caching" not in rows
    assert rows["engine.async_scheduling"].endswith("false")
    assert "enable-prefix-caching: `vllm serve` passes over a `false`" in err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: null", "seed has no value"),
        ("-tp: 2", "-tp is no long name"),
        ("max-num-seqs: 1\nmax_num_seqs: 2", "stands twice"),
        ("bogus-flag: 3", "no flag --bogus-flag"),
    ],
)
def test_a_config_file_is_checked_at_the_door(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(text)
    assert main(["config", "show", "shape:demo", "--config", str(config)]) == 2
    assert said in capsys.readouterr().err


def test_nan_is_no_json_and_what_is_saved_is_read_back(tmp_path: Path) -> None:
    found = Profile(EngineSpec("shape:demo", flags.from_argv(["--hf-overrides", '{"x":NaN}'])))
    assert profile.parse(profile.dump(found), "x") == found
    deep = "[" * 100_000
    told = flags.from_argv(["--hf-overrides", '{"a":' + deep])["hf_overrides"]
    assert isinstance(told, str)
    assert told.endswith(deep)


SAME = [
    ("gpu_memory_utilization: '0.90'", "gpu_memory_utilization: 0.9"),
    ("seed: '1'", "seed: 1"),
    ("max_num_seqs: 64.0", "max_num_seqs: 64"),
    ("seed: null", "{}"),
    ("served_model_name: [a]", "served_model_name: a"),
    ("compilation_config: '{\"mode\": 3}'", "compilation_config: {mode: 3}"),
    ("config: c.yaml", "seed: 3"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_vllm_takes_alike_is_the_same(
    one: str,
    other: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text("seed: 3\n")
    for name, text in (("a", one), ("b", other)):
        engine = text if text.startswith("{") else f"{{{text}}}"
        (tmp_path / f"{name}.yaml").write_text(f"tputtui: 1\nengine: {engine}\n")
    assert main(["profiles", "diff", "./a.yaml", "./b.yaml"]) == 0, capsys.readouterr().out
    assert main(["profiles", "validate", "./a.yaml"]) == 0


def test_profiles_show_and_diff_keep_keys_to_themselves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(
        "tputtui: 1\nengine: {hf_overrides: {token: hush-hush-1}}\n"
        "serve: {api_key: [hush-hush-2], ssl_keyfile_password: hush-3, port: 1}\n"
    )
    for words in (["show", str(file)], ["show", str(file), "--format", "json"],
                  ["diff", str(file), "demo"]):  # fmt: skip
        main(["profiles", *words])
    out, err = capsys.readouterr()
    assert "hush" not in out + err
    assert "port: 1" in out


def test_a_secret_among_the_servers_flags_is_not_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text('tputtui: 1\nserve: {tool_server: "http://u:pw-hush@h/", port: 1}\n')
    rows, err = shown("--profile", str(file), capsys=capsys)
    assert "serve.tool_server" not in rows
    assert "hush" not in err
    assert "serve.port" in rows


def test_lists_reach_vllm_as_it_takes_them(tmp_path: Path) -> None:
    serve: dict[str, EngineValue] = {
        "middleware": ["a.b", "c.d"],
        "allowed_origins": ["*"],
        "port": 8123,
    }
    found = Profile(EngineSpec("shape:demo"), serve=serve)
    told = export(found, "command")
    assert told.count("--middleware") == 2
    assert "--allowed-origins '[\"*\"]'" in told
    with pytest.raises(UsageError, match="middleware"):
        export(found, "vllm")


@pytest.mark.parametrize("words", [[], ["demo"], ["org/vllm", "--seed", "1"], ["vllm"]])
def test_what_is_no_line_of_vllms_is_left_alone(words: list[str]) -> None:
    assert pasted(words) == (words, {})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["@nowhere"], "nowhere: No such file"),
        (["@empty"], "no line that starts a server"),
        (["@quote"], "line 1: a ' is opened and not closed"),
        (["vllm", "bench", "serve"], "`vllm bench` is not a line"),
        (["shape:demo", "--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["shape:demo", "--config", "empty"], "ends in .yaml"),
        (["shape:demo", "--config", "list.yaml"], "expected keys and values"),
        (["shape:demo", "--config", "ours.yaml"], "a profile of tputtui"),
        (["shape:demo", "--config", "two.yaml"], "cannot name another one"),
        (["shape:demo", "--config", "dp.yaml"], "--data-parallel-size 2"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(
    words: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").write_text("\n# nothing\n")
    (tmp_path / "quote").write_text("vllm serve 'x\n")
    (tmp_path / "list.yaml").write_text("- a\n")
    (tmp_path / "ours.yaml").write_text("tputtui: 1\n")
    (tmp_path / "two.yaml").write_text("config: other.yaml\n")
    (tmp_path / "dp.yaml").write_text("data-parallel-size: 2\n")
    done = subprocess.run(
        [sys.executable, "-m", "tputtui", "bench", *words], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, env=environment(tmp_path), cwd=tmp_path,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_config_file_stands_below_flags_and_above_a_profile(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, start = tmp_path / "vllm.yaml", tmp_path / "p.yaml"
    config.write_text(
        "model: shape:qwen3-8b\nmax-num-seqs: 64\nmax_num_batched_tokens: 2048\nport: 9000\n"
        "no-enable-prefix-caching: true\nenable-lora: false\nmiddleware: []\n"
    )
    start.write_text("tputtui: 1\nengine: {model: shape:demo, max_num_seqs: 7, seed: 1}\n")
    rows, err = shown(
        "--profile", str(start), "--config", str(config), "--max-num-seqs", "32", capsys=capsys
    )
    source = f"--config {config}"
    assert rows["model"] == "shape:qwen3-8b"
    assert rows["engine.max_num_seqs"].split() == ["flag", "32"]
    assert rows["engine.max_num_batched_tokens"] == f"{source}  2048"
    assert rows["engine.enable_prefix_caching"] == f"{source}  false"
    assert rows["engine.seed"].split() == ["profile", "1"]
    assert rows["serve.port"] == f"{source}  9000"
    assert "engine.config" not in rows
    assert "--port is of vLLM's HTTP server" in err


def test_a_config_file_in_a_profile_is_opened_for_a_boot_and_an_export(tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text("max-num-seqs: 64\nport: 9000\nseed: 3\n")
    spec = EngineSpec("shape:demo", {"config": str(config), "seed": 4})
    resolved = models.resolve(spec)
    assert resolved.args["max_num_seqs"] == 64
    assert resolved.args["seed"] == 4
    assert not {"config", "port"} & resolved.args.keys()
    assert "--port 9000" in export(Profile(spec), "command")


def test_vllm_reads_a_config_file_the_same(tmp_path: Path) -> None:
    config = tmp_path / "vllm.yaml"
    config.write_text(yaml.safe_dump({"max-num-seqs": "1k", "compilation_config": {"mode": 1}}))
    found = read_config_file(str(config))
    assert found == {"max_num_seqs": 1000, "compilation_config": {"mode": 1}}


# -- the server's flags --------------------------------------------------------------------------


def test_flags_of_the_server_are_kept_and_written_into_exports_without_the_key() -> None:
    text = (
        "tputtui: 1\nengine: {model: shape:demo}\n"
        "serve: {host: 0.0.0.0, port: 8123, api_key: sk-hush, tool-call-parser: hermes}\n"
    )
    found = profile.parse(text, "p.yaml")
    assert found.serve["tool_call_parser"] == "hermes"
    assert profile.parse(profile.dump(found), "p.yaml") == found
    for form in ("command", "env", "vllm", "compose", "k8s"):
        written = export(found, form)
        assert "hermes" in written, form
        assert "8123" in written, form
        assert "sk-hush" not in written, form
    compose = yaml.safe_load(export(found, "compose"))["services"]["vllm"]
    assert compose["ports"] == ["8123:8123"]
    assert "http://localhost:8123/health" in compose["healthcheck"]["test"]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("serve: {port: 1}", 0, ""),
        ("engine: {port: 1}", 0, ""),
        ("serve: {prot: 1}", 2, "did you mean `port`?"),
        ("serve: {max_num_seqs: 1}", 2, "under `engine:`"),
        ("serve: {port: [[1]]}", 2, "serve."),
    ],
)
def test_validate_knows_which_flags_are_the_servers(
    text: str, code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"tputtui: 1\n{text}\n")
    assert main(["profiles", "validate", str(file)]) == code
    assert said.lower() in capsys.readouterr().err.lower()


def test_a_key_that_is_typed_is_kept_out_of_everything(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "show", "shape:demo", "--api-key", "hush-hush", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert "hush-hush" not in out + err
    assert "--api-key is of vLLM's HTTP server, and has no effect here; it is not kept." in err


def test_canonical_leaves_alone_what_it_does_not_know() -> None:
    args = {"revision": "0123", "tokenizer": "4k", "seed": None, "-xyz": 1}
    assert canonical(args) == args

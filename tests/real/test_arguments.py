"""vLLM's arguments as people write them: any spelling, in a file, in a whole line pasted."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

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
from tputtui.errors import ProfileError, UsageError
from tputtui.export import export
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.spelling import NUMBERS, OTHER_NAMES, canonical, ceiling_of, named
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
def test_an_argument_is_the_same_however_it_is_spelt(one, other):
    assert flags.from_argv(shlex.split(one)) == flags.from_argv(shlex.split(other, posix=False))


def test_what_follows_a_dot_replaces_the_argument_as_for_vllm():
    args = flags.from_argv(["-cc.mode", "3", "-cc", '{"backend":"eager"}'])
    assert args == {"compilation_config": {"mode": 3}}


@pytest.mark.engine
def test_the_names_and_numbers_are_those_of_vllms_parser():
    from tputtui.engine.vllm_args import argument_parser, prepare

    prepare(EngineSpec("shape:demo"))
    actions = argument_parser()._actions
    unknown = set(OTHER_NAMES.values()) - {action.dest for action in actions}
    assert unknown == {"api_server_count"}  # of the server
    for action in actions:
        for option in action.option_strings:
            if not option.startswith("--no-"):
                assert named(option) == action.dest, option
        assert not action.dest.startswith("no_")
        if "human" in getattr(action.type, "__name__", ""):
            assert action.dest in NUMBERS, action.dest


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
def test_the_canonical_spelling_is_to_vllm_what_was_typed(words):
    from tputtui.engine.vllm_args import argument_parser, prepare

    prepare(EngineSpec("shape:demo"))
    argv = shlex.split(words, posix=False)
    parser = argument_parser()
    again = flags.to_argv(flags.from_argv(argv))
    assert vars(parser.parse_args(again)) == vars(parser.parse_args(argv))


def test_no_check_looks_at_the_spelling():
    for argv in (["-dp=2"], ["--data-parallel-size=02"], ["-dpl", "2"], ["--nnodes", "2"]):
        with pytest.raises(UsageError, match=r"in (one|this) process"):
            check_in_process(flags.from_argv(argv))
    found = secret_in(flags.from_argv(["--model-loader-extra-config.hf_token", "hush-hush"]))
    assert found == "model_loader_extra_config"


def test_profiles_that_spell_apart_are_the_same(tmp_path, capsys):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text('tputtui: 1\nengine: {-tp: 2, -cc.mode: 3, max-model-len: "8k", no-x: true}\n')
    b.write_text(
        "tputtui: 1\nengine: {tensor_parallel_size: 2, max_model_len: 8000, x: false,"
        " compilation_config: {mode: 3}}\n"
    )
    assert main(["profiles", "diff", str(a), str(b)]) == 0
    assert capsys.readouterr().out == "the same\n"


@pytest.mark.parametrize("one", ["-tp: 2", "tensor-parallel-size: 2"])
def test_an_argument_that_stands_twice_is_refused_by_both_names(one):
    with pytest.raises(ProfileError, match="stands twice"):
        profile.parse(f"tputtui: 1\nengine: {{tensor_parallel_size: 4, {one}}}\n", "p.yaml")


def test_a_ceiling_in_words_is_a_ceiling():
    text = 'tputtui: 1\nengine: {max_model_len: "8k"}\nknobs: {max_model_len: 32768}\n'
    with pytest.raises(ProfileError, match="above its ceiling"):
        profile.parse(text, "p.yaml")


@pytest.mark.parametrize("automatic", ["-1", '"auto"', "null"])
def test_automatic_is_no_number(automatic):
    text = f"tputtui: 1\nengine: {{max_model_len: {automatic}}}\nknobs: {{max_model_len: 4096}}\n"
    found = profile.parse(text, "p.yaml")
    assert ceiling_of(found.engine.args, "max_model_len") is None
    assert "--max-model-len 4096" in export(found, "command")


# -- files and lines -----------------------------------------------------------------------------


def shown(*words, capsys):
    """(rows of `config show`, what went to stderr)"""
    assert main(["config", "show", *words]) == 0
    out, err = capsys.readouterr()
    return {row.split()[0]: row.split(maxsplit=1)[1] for row in out.splitlines() if row}, err


def test_a_line_in_a_file_is_taken_whole(tmp_path, capsys, monkeypatch):
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
    assert err.count("\n") == 1
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
        "/opt/venv/bin/vllm serve shape:demo",
        "python3 -m vllm.entrypoints.openai.api_server --model shape:demo",
        "docker run --rm --gpus all -v a:b -p 1:2 --env A=b vllm/vllm-openai:v0.10.1 shape:demo",
    ],
)
def test_what_stands_before_the_model_falls_away(before, monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    words = pasted([*shlex.split(before), "--seed", "3", ">", "log", "2>&1", "&"])
    assert words[-3:] in (["shape:demo", "--seed", "3"],)
    assert words[0] in ("shape:demo", "--model")


def test_variables_of_a_script_are_put_in(tmp_path, monkeypatch):
    monkeypatch.delenv("PORT", raising=False)
    file = tmp_path / "run.sh"
    file.write_text(
        "MODEL=shape:demo  # ours\nexport N=3\nvllm serve $MODEL --seed ${N} --port ${PORT:-81}\n"
    )
    assert pasted([f"@{file}"]) == ["shape:demo", "--seed", "3", "--port", "81"]


def test_a_line_without_vllm_in_front_is_a_model_and_its_flags(tmp_path):
    file = tmp_path / "line"
    file.write_text("shape:demo \\\n  --seed 3\n")
    assert pasted([f"@{file}", "-tp", "1"]) == ["shape:demo", "--seed", "3", "-tp", "1"]


@pytest.mark.parametrize("words", [[], ["demo"], ["org/vllm", "--seed", "1"], ["vllm"]])
def test_what_is_no_line_of_vllms_is_left_alone(words):
    assert pasted(words) == words


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["@nowhere"], "nowhere: No such file"),
        (["@empty"], "no line that starts a server"),
        (["@quote"], "no closing quotation"),
        (["vllm", "bench", "serve"], "`vllm bench` is not a line"),
        (["shape:demo", "--config", "nowhere.yaml"], "nowhere.yaml: No such file"),
        (["shape:demo", "--config", "empty"], "ends in .yaml"),
        (["shape:demo", "--config", "list.yaml"], "expected keys and values"),
        (["shape:demo", "--config", "ours.yaml"], "a profile of tputtui"),
        (["shape:demo", "--config", "two.yaml"], "cannot name another one"),
        (["shape:demo", "--config", "dp.yaml"], "--data-parallel-size 2"),
    ],
)
def test_what_cannot_be_read_is_told_in_a_sentence(words, said, tmp_path):
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


def test_a_config_file_stands_below_flags_and_above_a_profile(tmp_path, capsys):
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


def test_a_config_file_in_a_profile_is_opened_for_a_boot_and_an_export(tmp_path):
    config = tmp_path / "vllm.yaml"
    config.write_text("max-num-seqs: 64\nport: 9000\nseed: 3\n")
    spec = EngineSpec("shape:demo", {"config": str(config), "seed": 4})
    resolved = models.resolve(spec)
    assert resolved.args["max_num_seqs"] == 64
    assert resolved.args["seed"] == 4
    assert not {"config", "port"} & resolved.args.keys()
    assert "--port 9000" in export(Profile(spec), "command")


def test_vllm_reads_a_config_file_the_same(tmp_path):
    config = tmp_path / "vllm.yaml"
    config.write_text(yaml.safe_dump({"max-num-seqs": "1k", "compilation_config": {"mode": 1}}))
    found = read_config_file(str(config))
    assert found == {"max_num_seqs": 1000, "compilation_config": {"mode": 1}}


# -- the server's flags --------------------------------------------------------------------------


def test_flags_of_the_server_are_kept_and_written_into_exports_without_the_key():
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
def test_validate_knows_which_flags_are_the_servers(text, code, said, tmp_path, capsys):
    file = tmp_path / "p.yaml"
    file.write_text(f"tputtui: 1\n{text}\n")
    assert main(["profiles", "validate", str(file)]) == code
    assert said.lower() in capsys.readouterr().err.lower()


def test_a_key_that_is_typed_is_kept_out_of_everything(tmp_path, capsys):
    assert main(["config", "show", "shape:demo", "--api-key", "hush-hush", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert "hush-hush" not in out + err
    assert "--api-key is of vLLM's HTTP server, and has no effect here; it is not kept." in err


def test_canonical_leaves_alone_what_it_does_not_know():
    args = {"revision": "0123", "tokenizer": "4k", "seed": None, "-xyz": 1}
    assert canonical(args) == args

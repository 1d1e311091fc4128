"""Exports: every tuned value as a flag in every format, and nothing that gets out of its place."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from tests.test_profile import evidence_of
from tputtui import profile
from tputtui.cli import main
from tputtui.engine.flags import known_flags, to_argv
from tputtui.engine.models import shapes
from tputtui.errors import UsageError
from tputtui.export import FORMATS, export
from tputtui.export.startup import start_up
from tputtui.knobs import KNOBS
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.profile.evidence import Change, Evidence
from tputtui.profile.spelling import canonical

TUNED = {
    "max_num_seqs": 48,
    "max_num_batched_tokens": 1024,
    "max_model_len": 512,
    "long_prefill_token_threshold": 128,
    "num_gpu_blocks": 400,
    "watermark_blocks": 7,
    "enable_prefix_caching": 0,
    "scheduling_policy": 1,
    "scheduler_reserve_full_isl": 0,
    "num_speculative_tokens": 2,
    "max_num_queued_reqs": 96,
    "max_num_queued_tokens": 9000,
    "prefill_schedule_interval": 4,
}
"""All of them. As start-up flags:"""
FLAGS = [
    "--max-num-seqs", "48", "--max-num-batched-tokens", "1024", "--max-model-len", "512",
    "--long-prefill-token-threshold", "128", "--num-gpu-blocks-override", "400",
    "--watermark", "0.01875", "--no-enable-prefix-caching", "--scheduling-policy", "priority",
    "--no-scheduler-reserve-full-isl",
    "--speculative-config", '{"num_speculative_tokens_per_batch_size": [[1, 48, 2]]}',
    "--max-num-queued-reqs", "96", "--max-num-queued-tokens", "9000",
    "--prefill-schedule-interval", "4",
]  # fmt: skip

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
"""Whatever can be a word of a command."""
HOSTILE = (
    "one\ntensor-parallel-size: 8\n# two\r\nthree # four\x85five\u2028six\u2029---\n"
    "!!python/object/apply:os.system ['true']\n&a *a\ttab $(touch gone) `touch gone`\x07"
)


def made(
    args: dict[str, Any] | None = None,
    knobs: dict[str, int] | None = None,
    model: str = "org/model",
    **others: Any,
) -> Profile:
    return Profile(EngineSpec(model, args or {}), knobs=knobs or {}, **others)


def measured(vllm: str = "0.32.0", **changes: Any) -> Evidence:
    """Evidence of an engine of that version, its one measurement changed."""
    found = evidence_of(tokens_per_s=1234.5)
    machine = msgspec.structs.replace(found.tuned.machine, versions={"vllm": vllm})
    changes = {"machine": machine, **changes}
    return Evidence(found.state, tuned=msgspec.structs.replace(found.tuned, **changes))


# -- reading them as production does ---------------------------------------------------------------


def run_shell(script: str, shell: str = "bash", folder: Path | None = None) -> list[str]:
    """What `script` calls `vllm` with; it must print nothing else."""
    told = "vllm() { printf '%s\\0' \"$@\"; }\n" + script
    done = subprocess.run(
        [shell], input=told.encode(), capture_output=True, cwd=folder, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.stderr == b""
    assert done.returncode == 0
    return done.stdout.decode().split("\0")[:-1]


def use_of_env(text: str, folder: Path, name: str = "served.env") -> str:
    """A file of the format env in `folder`, and what its first line says to do with it."""
    (folder / name).write_text(text, encoding="utf-8")
    return text.partition("\n")[0].removeprefix("# ").replace("THIS_FILE", name)


def flags_of_config(text: str) -> list[str]:
    """vLLM's own way from a config file to flags (0.32, `load_config_file`)."""
    words = []
    for key, value in yaml.safe_load(text).items():
        if value is False:
            continue
        words.append(f"--{key}")
        if isinstance(value, list):
            words += map(str, value)
        elif value is not True:
            words.append(json.dumps(value) if isinstance(value, dict) else str(value))
    assert words[0] == "--model"
    return words[1:]


def expanded(word: str) -> str:
    """What Kubernetes makes of a word of `args`, with no variable of that name: `$$` is `$`."""
    return re.sub(r"\$(\$|\([^)]*\)?)?", lambda m: "$" if m[0] == "$$" else m[0], word)


def interpolated(word: str) -> str:
    """What Compose makes of a word; a single dollar sign would be a variable, or an error."""
    assert "$" not in word.replace("$$", "")
    return word.replace("$$", "$")


def documents(text: str) -> list[Any]:
    """Read as YAML 1.1 and as 1.2, which take different words for numbers: both must be one."""
    old = list(yaml.safe_load_all(text))
    assert old == list(YAML(typ="safe", pure=True).load_all(text))
    return old


def service_of(text: str) -> dict[str, Any]:
    (document,) = documents(text)
    assert document.keys() == {"services", "volumes"}
    assert document["services"].keys() == {"vllm"}
    service: dict[str, Any] = document["services"]["vllm"]
    return service


def container_of(text: str) -> dict[str, Any]:
    container: dict[str, Any]
    (container,) = documents(text)[0]["spec"]["template"]["spec"]["containers"]
    return container


def words_of(text: str, name: str, folder: Path) -> list[str]:
    """[model, *flags] that production starts vLLM with."""
    match name:
        case "vllm":
            return flags_of_config(text)
        case "command":
            words = run_shell(text)
        case "env":
            words = run_shell(use_of_env(text, folder), folder=folder)
        case "compose":
            return [interpolated(word) for word in service_of(text)["command"]]
        case "k8s":
            return [expanded(word) for word in container_of(text)["args"]]
    assert words.pop(0) == "serve"
    return words


def body_of(text: str) -> str:
    """All but the comment at its top."""
    lines = text.split("\n")
    while lines[0].startswith("#"):
        lines.pop(0)
    return "\n".join(lines)


def comment_of(text: str) -> str:
    return text.removesuffix(body_of(text))


# -- tuned values ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_every_limit_is_a_flag_in_every_format(name: str, tmp_path: Path) -> None:
    assert set(TUNED) == {knob.name for knob in KNOBS}
    words = words_of(export(made(knobs=TUNED), name), name, tmp_path)
    assert words == ["org/model", *FLAGS]


@pytest.mark.parametrize("name", FORMATS)
def test_a_tuned_value_takes_the_place_of_its_ceiling(name: str, tmp_path: Path) -> None:
    ceilings = {"max_num_seqs": 256, "enable_prefix_caching": True, "seed": 7}
    text = export(made(ceilings, {"max_num_seqs": 48, "enable_prefix_caching": 0}), name)
    words = words_of(text, name, tmp_path)
    assert words == [
        "org/model", "--max-num-seqs", "48", "--no-enable-prefix-caching", "--seed", "7",
    ]  # fmt: skip


def test_switches_that_are_on_are_said_too(tmp_path: Path) -> None:
    knobs = {"enable_prefix_caching": 1, "scheduler_reserve_full_isl": 1, "scheduling_policy": 0}
    words = words_of(export(made(knobs=knobs), "vllm"), "vllm", tmp_path)
    assert " ".join(words[1:]) == (
        "--enable-prefix-caching --scheduler-reserve-full-isl --scheduling-policy fcfs"
    )


DRAFTS = "num_speculative_tokens_per_batch_size"
NGRAM = {"method": "ngram", "num_speculative_tokens": 3}


@pytest.mark.parametrize(
    ("args", "most", "schedule"),
    [
        ({"speculative_config": NGRAM}, 0, [[1, 4096, 0]]),
        ({"speculative_config": NGRAM, "max_num_seqs": 64}, 2, [[1, 64, 2]]),
        ({"--speculative-config": json.dumps(NGRAM), "max_num_seqs": 64}, 2, [[1, 64, 2]]),
        ({"-sc": json.dumps(NGRAM), "max_num_seqs": 64}, 2, [[1, 64, 2]]),
        # A schedule of a person's own is lowered where it is above.
        ({"speculative_config": {**NGRAM, DRAFTS: [[1, 4, 3], [5, 64, 1]]}}, 2,
         [[1, 4, 2], [5, 64, 1]]),
    ],
)  # fmt: skip
def test_a_number_of_draft_tokens_is_a_schedule_in_the_speculative_config(
    args: dict[str, Any], most: int, schedule: list[list[int]]
) -> None:
    found = yaml.safe_load(export(made(args, {"num_speculative_tokens": most}), "vllm"))
    assert found["speculative-config"] == {**NGRAM, DRAFTS: schedule}


def test_draft_tokens_that_were_not_turned_leave_the_speculative_config_as_it_is() -> None:
    found = yaml.safe_load(export(made({"speculative_config": NGRAM}), "vllm"))
    assert found["speculative-config"] == NGRAM


KNOB_VALUES = st.fixed_dictionaries(
    {},
    optional={
        "max_num_seqs": st.integers(1, 4096),
        "max_num_batched_tokens": st.integers(1, 1 << 17),
        "max_model_len": st.integers(1 << 17, 1 << 20),
        "long_prefill_token_threshold": st.integers(0, 1 << 17),
        "num_gpu_blocks": st.integers(2, 1 << 20),
        "watermark_blocks": st.just(0),
        "enable_prefix_caching": st.integers(0, 1),
        "scheduling_policy": st.integers(0, 1),
        "scheduler_reserve_full_isl": st.integers(0, 1),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
WORDS = TEXTS.filter(lambda word: not word.startswith("-"))
VALUES = (
    st.none() | st.booleans() | st.integers(0) | st.floats(0, allow_infinity=False) | WORDS
    | st.lists(WORDS | st.integers(0), min_size=1, max_size=3)
    | st.dictionaries(TEXTS, JSON, max_size=3)
)  # fmt: skip
KEYS = st.from_regex(r"x_[a-z_]{1,8}(\.[a-z_]{1,8})?", fullmatch=True)
"""No limit among them."""


@given(st.dictionaries(KEYS, VALUES, max_size=4), KNOB_VALUES, WORDS.filter(bool))
@example({"x_a": "$$(HOME) ${HOME} $"}, {}, 'org/it\'s $HOME `id` "!" \\ \n')
@example({"x_a": ["y", "1e3", "0o17", "~", "2026-11-25"]}, {}, "yes")
@settings(max_examples=80, deadline=None)
def test_all_formats_say_the_same_words(
    tmp_path_factory: pytest.TempPathFactory,
    args: dict[str, EngineValue],
    knobs: dict[str, int],
    model: str,
) -> None:
    model = "org/" + model
    folder = tmp_path_factory.getbasetemp()
    expected = dict(args)
    for name, value in knobs.items():
        argument = next(knob.argument for knob in KNOBS if knob.name == name)
        said = [False, True] if name != "scheduling_policy" else ["fcfs", "priority"]
        is_number = name.startswith(("max", "num", "long"))
        expected[argument] = value if is_number else said[value]
    if "watermark_blocks" in knobs:
        expected["watermark"] = 0.0
    for name in FORMATS:
        words = words_of(export(made(args, knobs, model), name), name, folder)
        assert words == [model, *to_argv(canonical(expected))], name


# -- the watermark ---------------------------------------------------------------------------------


def fraction_of(found: Profile) -> float | None:
    """The watermark as vLLM gets it from an exported file, None for none."""
    words = flags_of_config(export(found, "vllm"))
    return float(words[words.index("--watermark") + 1]) if "--watermark" in words else None


@given(st.integers(2, 1 << 24).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n))))
@example((1, 30_000))
@example((131_071, 262_144))
@settings(max_examples=200, deadline=None)
def test_the_fraction_comes_to_the_same_blocks_by_vllms_own_rounding(
    blocks_of: tuple[int, int],
) -> None:
    blocks, total = blocks_of
    fraction = fraction_of(made(knobs={"watermark_blocks": blocks, "num_gpu_blocks": total}))
    # As vLLM takes it (0.32, config/scheduler.py), and rounds it (v1/core/kv_cache_manager.py).
    assert 0 <= fraction < 1
    assert int(fraction * total) == blocks


def test_how_many_blocks_there_are_is_found_wherever_the_profile_says_it() -> None:
    tuned = {"watermark_blocks": 12}
    known = measured(ceilings={"num_gpu_blocks": 1000})
    given_up = {"num_gpu_blocks_override": 500}
    assert int(fraction_of(made(knobs=tuned, evidence=known)) * 1000) == 12
    assert int(fraction_of(made(given_up, tuned)) * 500) == 12
    # The one in force counts before one that is booted, and that before one measured once.
    assert int(fraction_of(made(given_up, tuned, evidence=known)) * 500) == 12
    lowered = made(given_up, {**tuned, "num_gpu_blocks": 200}, evidence=known)
    assert int(fraction_of(lowered) * 200) == 12


@pytest.mark.parametrize("name", FORMATS)
def test_a_watermark_of_an_unknown_cache_is_left_out_and_said_so(name: str) -> None:
    for evidence in (None, evidence_of(tokens_per_s=1.0)):
        text = export(made(knobs={"watermark_blocks": 12}, evidence=evidence), name)
        assert "watermark_blocks 12 is left out" in comment_of(text)
        assert "watermark" not in body_of(text).lower()


def test_no_watermark_needs_no_size_of_the_cache() -> None:
    assert fraction_of(made(knobs={"watermark_blocks": 0})) == 0.0
    assert fraction_of(made()) is None


# -- vLLM's config file ----------------------------------------------------------------------------


def config_of(args: dict[str, Any], **others: Any) -> Any:
    return yaml.safe_load(export(made(args, **others), "vllm"))


def test_what_is_off_is_written_as_no_and_what_is_none_is_left_out() -> None:
    document = config_of({"enable_prefix_caching": False, "quantization": None, "seed": 0})
    assert document == {"model": "org/model", "no-enable-prefix-caching": True, "seed": 0}
    text = export(made({"quantization": None}), "vllm")
    assert "null" not in text
    assert "None" not in text


def test_mappings_and_lists_survive_and_keys_inside_become_a_mapping() -> None:
    inner = {"cudagraph_mode": "NONE", "pass_config": {"fuse_norm_quant": False}, "sizes": [1, 2]}
    args = {"compilation_config": inner, "cudagraph_capture_sizes": [1, 2, 4]}
    document = config_of(args | {"speculative_config.draft_model": "a_b"})
    assert document == {
        "model": "org/model",
        "compilation-config": inner,
        "cudagraph-capture-sizes": [1, 2, 4],
        "speculative-config": {"draft_model": "a_b"},
    }


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("value", "word"), [(True, "true"), (False, "false"), ([1, 2], "[1, 2]"), ({}, "{}"), (7, "7")]
)
def test_a_key_inside_an_argument_always_has_a_value(
    name: str, value: object, word: str, tmp_path: Path
) -> None:
    # `--compilation-config.x` alone would swallow the next flag.
    key = "compilation_config.pass_config"
    words = words_of(export(made({key: value, "seed": 3}), name), name, tmp_path)
    inner = f'{{"pass_config": {word}}}'
    assert words[1:] == ["--seed", "3", "--compilation-config", inner]


@pytest.mark.parametrize("text", ["yes", "null", "1e3", "007", "0x10", "12:30", "~", "", "# x"])
def test_words_that_yaml_would_take_for_something_else_stay_words(text: str) -> None:
    assert config_of({"served_model_name": text})["served-model-name"] == text


def test_numbers_are_written_as_vllm_reads_them() -> None:
    words = flags_of_config(export(made({"a": 1e-05, "b": 2**40, "c": 0.9, "d": -1}), "vllm"))
    assert words == ["org/model", "--a", "1e-05", "--b", "1099511627776", "--c", "0.9", "--d", "-1"]


@pytest.mark.parametrize("value", ["-x", "--x"])
def test_a_value_that_the_config_file_cannot_hold_is_refused_with_a_hint(value: str) -> None:
    with pytest.raises(UsageError, match="engine: served_model_name") as refusal:
        export(made({"served_model_name": value}), "vllm")
    assert "command" in refusal.value.hint


@pytest.mark.parametrize("name", sorted(profile.shipped()))
def test_a_shipped_profile_holds_only_vllms_own_keys(name: str) -> None:
    found = profile.load(profile.shipped()[name])
    document = yaml.safe_load(export(found, "vllm"))
    spec = start_up(found).spec
    assert {key for key in document if not key.startswith("no-")} >= {
        key.replace("_", "-") for key, value in spec.args.items() if value is not False
    }
    ours = {"tputtui", "about", "engine", "knobs", "load", "goal", "price_per_hour", "evidence"}
    assert not ours & document.keys()
    if known := known_flags():
        assert {f"--{key.removeprefix('no-')}" for key in document} <= known


def test_a_profile_with_everything_exports_vllms_keys_alone() -> None:
    found = made(
        {"seed": 1}, TUNED, about="All of it", evidence=measured(), price_per_hour=2.5,
        goals=profile.parse("tputtui: 1\ngoal: {ttft_p99: 1s}", "x").goals,
    )  # fmt: skip
    assert yaml.safe_load(export(found, "vllm")) == {
        "model": "org/model", "seed": 1, "max-num-seqs": 48, "max-num-batched-tokens": 1024,
        "max-model-len": 512, "long-prefill-token-threshold": 128, "num-gpu-blocks-override": 400,
        "watermark": 0.01875, "no-enable-prefix-caching": True, "scheduling-policy": "priority",
        "no-scheduler-reserve-full-isl": True,
        "speculative-config": {"num_speculative_tokens_per_batch_size": [[1, 48, 2]]},
        "max-num-queued-reqs": 96, "max-num-queued-tokens": 9000, "prefill-schedule-interval": 4,
    }  # fmt: skip


# -- the comment -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
@given(st.text(max_size=60))
@example(HOSTILE)
@example("bell \x07, null \0, delete \x7f, lone \ud800, none \uffff")
@settings(max_examples=50, deadline=None)
def test_nothing_a_profile_says_of_itself_gets_out_of_the_comment(name: str, about: str) -> None:
    plain = export(made({"seed": 1}, TUNED), name)
    text = export(made({"seed": 1}, TUNED, about=about), name)
    assert body_of(text) == body_of(plain)
    assert comment_of(text).count("\n") == comment_of(plain).count("\n")
    assert comment_of(text).replace("\n", "").isprintable()
    if name not in ("command", "env"):
        assert documents(text) == documents(plain)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_that_was_measured_gets_out_of_the_comment(name: str) -> None:
    found = evidence_of(tokens_per_s=1.0).tuned
    machine = msgspec.structs.replace(
        found.machine, device=HOSTILE, gpus=[HOSTILE], versions={"vllm": HOSTILE}
    )
    worst = measured(machine=machine, date=HOSTILE, load=HOSTILE)
    text = export(made({"seed": 1}, TUNED, evidence=worst), name)
    plain = export(made({"seed": 1}, TUNED), name)
    assert body_of(text) == body_of(plain)
    assert comment_of(text).count("\n") == comment_of(plain).count("\n")


@pytest.mark.parametrize("name", ["command", "env"])
def test_a_comment_runs_nothing(name: str, tmp_path: Path) -> None:
    text = export(made({"seed": 1}, about=HOSTILE), name)
    script = text if name == "command" else use_of_env(text, tmp_path)
    assert run_shell(script, folder=tmp_path) == ["serve", "org/model", "--seed", "1"]
    assert not (tmp_path / "gone").exists()


def test_the_comment_tells_what_it_came_from() -> None:
    assert "# Not measured yet.\n" in export(made(), "vllm")
    text = export(made(about="Night shift", evidence=measured()), "vllm")
    assert "# Exported by tputtui: Night shift\n" in text
    assert "# Tuned live on 2026-11-25: vLLM 0.32.0, cpu, 1,234 tokens/s under 96 in" in text


def test_what_was_verified_is_told_before_what_was_tuned() -> None:
    tuned = measured("0.31.0").tuned
    both = Evidence("verified", tuned=tuned, verified=measured("0.32.0").tuned,
                    difference={"tokens_per_s": Change(0.0, "the same")})  # fmt: skip
    text = export(made(evidence=both), "compose")
    assert "# Verified on 2026-11-25: vLLM 0.32.0" in text
    assert service_of(text)["image"] == "vllm/vllm-openai:v0.32.0"


def test_what_a_person_has_to_know_is_said() -> None:
    few = export(made(knobs={"max_num_seqs": 64, "max_num_batched_tokens": 16}), "vllm")
    assert "does not boot with fewer batched tokens (16) than sequences (64)" in few
    assert "random weights" in export(made(model="shape:demo"), "command")
    assert "priority that clients send" in export(made(knobs={"scheduling_policy": 1}), "env")
    for silent in ("boot", "random", "clients"):
        assert silent not in export(made(knobs={"scheduling_policy": 0}), "vllm")


def test_a_long_prefill_threshold_above_the_length_is_written_as_the_length() -> None:
    # The same to every request that is admitted; above it vLLM does not boot.
    knobs = {"max_model_len": 256, "long_prefill_token_threshold": 400}
    for tuned in (knobs, dict(reversed(knobs.items()))):
        document = config_of({"max_model_len": 2048}, knobs=tuned)
        assert (document["max-model-len"], document["long-prefill-token-threshold"]) == (256, 256)


def test_no_more_active_sequences_are_written_than_there_are() -> None:
    document = config_of({"max_num_active_seqs": 128}, knobs={"max_num_seqs": 64})
    assert (document["max-num-seqs"], document["max-num-active-seqs"]) == (64, 64)


@pytest.mark.parametrize("name", FORMATS)
def test_tuned_sequences_can_be_active_ones_below_what_was_booted(
    name: str, tmp_path: Path
) -> None:
    tuned = made({"max_num_seqs": 256}, {"max_num_seqs": 48})
    words = words_of(export(tuned, name, active_seqs=True), name, tmp_path)
    assert words == ["org/model", "--max-num-seqs", "256", "--max-num-active-seqs", "48"]


def test_what_was_booted_is_known_by_the_evidence_or_left_to_vllm() -> None:
    knobs = {"max_num_seqs": 48}
    evidence = measured(ceilings={"max_num_seqs": 128})
    assert start_up(made(knobs=knobs, evidence=evidence), active_seqs=True).spec.args == {
        "max_num_seqs": 128, "max_num_active_seqs": 48,
    }  # fmt: skip
    unknown = start_up(made(knobs=knobs), active_seqs=True)
    assert unknown.spec.args == {"max_num_active_seqs": 48}
    assert any("does not say what was booted" in note for note in unknown.notes)
    at_the_ceiling = made({"max_num_seqs": 48}, knobs)
    assert start_up(at_the_ceiling, active_seqs=True).spec.args == {"max_num_seqs": 48}


def test_active_sequences_are_not_written_for_a_vllm_without_them() -> None:
    for version in ("0.19.1", "0.30.0"):
        found = made({"max_num_seqs": 256}, {"max_num_seqs": 48}, evidence=measured(version))
        with pytest.raises(UsageError, match=f"vLLM {version} has no --max-num-active-seqs"):
            export(found, "vllm", active_seqs=True)
    newer = made({"max_num_seqs": 256}, {"max_num_seqs": 48}, evidence=measured("0.31.0"))
    assert "max-num-active-seqs: 48" in export(newer, "vllm", active_seqs=True)
    few = made({"max_num_seqs": 256}, {"max_num_seqs": 48, "max_num_batched_tokens": 128})
    assert "leave out --active-seqs" in start_up(few, active_seqs=True).refused
    assert not start_up(few).refused


# -- the shell -------------------------------------------------------------------------------------

ODD: dict[str, Any] = {
    "served_model_name": ["it's", 'a "b"', "$HOME", "`id`", "!x", "a\nb", "*", "\\", "# c"],
    "hf_overrides": {"$(id)": "it's", "x": [1, None, True]},
    "gpu_memory_utilization": 0.9,
    "enforce_eager": True,
    "enable_prefix_caching": False,
    "quantization": None,
    "tokenizer": "--odd",
}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_command_runs_as_it_stands(shell: str) -> None:
    words = run_shell(export(made(ODD, {"max_num_seqs": 3}), "command"), shell)
    assert words == ["serve", "org/model", *to_argv(ODD), "--max-num-seqs", "3"]


def test_a_command_has_one_flag_a_line() -> None:
    text = export(made({"seed": 1, "cudagraph_capture_sizes": [1, 2], "dtype": None}), "command")
    assert body_of(text) == (
        "vllm serve org/model \\\n  --seed 1 \\\n  --cudagraph-capture-sizes 1 2\n"
    )
    assert body_of(export(made(), "command")) == "vllm serve org/model\n"


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_an_environment_file_is_used_as_its_first_line_says(shell: str, tmp_path: Path) -> None:
    text = export(made(ODD, {"max_num_seqs": 3}), "env")
    words = run_shell(use_of_env(text, tmp_path), shell, tmp_path)
    assert words == ["serve", "org/model", *to_argv(ODD), "--max-num-seqs", "3"]


def test_an_environment_file_has_each_single_value_by_its_name(tmp_path: Path) -> None:
    args = {
        "enable_prefix_caching": False,
        "enforce_eager": True,
        "dtype": "it's",
        "compilation_config.cudagraph_mode": "NONE",
        "quantization": None,
        "cudagraph_capture_sizes": [1, 2],
    }
    (tmp_path / "x.env").write_text(export(made(args, {"max_num_seqs": 3}), "env"))
    script = "set -a; . ./x.env; env -0"
    done = subprocess.run(
        ["sh", "-c", script], capture_output=True, cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}
    )
    found = dict(line.split("=", 1) for line in done.stdout.decode().split("\0") if line)
    expected = {
        "MODEL": "org/model",
        "ENABLE_PREFIX_CACHING": "false",
        "ENFORCE_EAGER": "true",
        "DTYPE": "it's",
        "COMPILATION_CONFIG__CUDAGRAPH_MODE": "NONE",
        "MAX_NUM_SEQS": "3",
    }
    assert {key: found.get(key) for key in expected} == expected
    assert set(found) - {"PATH", "PWD", "OLDPWD", "SHLVL", "_", "SERVE_ARGS"} == set(expected)


@pytest.mark.parametrize("key", ["$(touch gone)", "a; touch gone #", "x.y;z"])
def test_a_key_that_is_no_name_of_a_variable_is_no_variable(key: str, tmp_path: Path) -> None:
    text = export(made({key: "x"}), "env")
    words = run_shell(use_of_env(text, tmp_path), folder=tmp_path)
    assert words == ["serve", "org/model", *to_argv(canonical({key: "x"}))]
    assert [path.name for path in tmp_path.iterdir()] == ["served.env"]
    assert body_of(text).count("\n") == 2


# -- containers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "gpus"),
    [
        ({}, 1),
        ({"tensor_parallel_size": 4}, 4),
        ({"-tp": 2, "-pp": 3, "-dp": 4}, 24),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "data_parallel_size": 2}, 8),
        ({"tensor_parallel_size": 2, "prefill_context_parallel_size": 2}, 4),
        # It shares the GPUs of tensor parallelism.
        ({"tensor_parallel_size": 4, "decode_context_parallel_size": 2}, 4),
        ({"tensor_parallel_size": None}, 1),
    ],
)
def test_one_copy_takes_as_many_gpus_as_its_parallelism(
    args: dict[str, int | None], gpus: int
) -> None:
    resources = service_of(export(made(args), "compose"))["deploy"]["resources"]
    (device,) = resources["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": gpus, "capabilities": ["gpu"]}
    limits = {"nvidia.com/gpu": str(gpus)}
    assert container_of(export(made(args), "k8s"))["resources"] == {
        "limits": limits,
        "requests": limits,
    }


@pytest.mark.parametrize(
    ("version", "tag"),
    [
        ("0.32.0", "v0.32.0"),
        ("0.32.0+cpu", "v0.32.0"),
        ("0.33.0rc1", "latest"),
        ("0.1.dev1+g12ab", "latest"),
        ("", "latest"),
        ("evil:tag\n", "latest"),
    ],
)
def test_the_image_is_of_the_version_it_was_measured_with(version: str, tag: str) -> None:
    found = made(evidence=measured(version))
    assert service_of(export(found, "compose"))["image"] == f"vllm/vllm-openai:{tag}"
    assert container_of(export(found, "k8s"))["image"] == f"vllm/vllm-openai:{tag}"


def test_without_evidence_the_image_is_the_newest() -> None:
    assert service_of(export(made(), "compose"))["image"] == "vllm/vllm-openai:latest"
    assert container_of(export(made(), "k8s"))["image"] == "vllm/vllm-openai:latest"


def test_a_compose_service_is_reached_watched_and_restarted() -> None:
    service = service_of(export(made(), "compose"))
    assert service["command"] == ["org/model"]
    assert service["ports"] == ["8000:8000"]
    assert service["ipc"] == "host"
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][:2] == ["CMD", "curl"]
    assert service["healthcheck"]["test"][-1] == "http://localhost:8000/health"
    assert service["healthcheck"]["start_period"] == "1800s"
    assert service["volumes"] == ["huggingface:/root/.cache/huggingface"]
    assert service["environment"] == {"HF_TOKEN": "${HF_TOKEN:-}"}


def model_folder(parent: Path, name: str) -> Path:
    folder = parent / name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize("name", ["My-Model", "qwen3:0.6b", "a $HOME b"])
def test_compose_mounts_a_local_folder_where_the_command_looks_for_it(
    name: str, tmp_path: Path
) -> None:
    folder = model_folder(tmp_path, name)
    service = service_of(export(made(model=str(folder)), "compose"))
    assert [interpolated(word) for word in service["command"]] == [f"/models/{name}"]
    cache, mounted = service["volumes"]
    assert cache == "huggingface:/root/.cache/huggingface"
    assert {key: interpolated(str(value)) for key, value in mounted.items()} == {
        "type": "bind", "source": str(folder), "target": f"/models/{name}", "read_only": "True",
    }  # fmt: skip


def test_kubernetes_mounts_a_local_folder_from_a_claim(tmp_path: Path) -> None:
    folder = model_folder(tmp_path, "My-Model")
    deployment, _ = documents(export(made(model=str(folder)), "k8s"))
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == ["/models/My-Model"]
    assert {"name": "models", "mountPath": "/models"} in container["volumeMounts"]
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "models"}}
    assert claim in pod["volumes"]


def test_a_model_of_the_hub_is_mounted_from_nowhere() -> None:
    deployment, _ = documents(export(made(), "k8s"))
    pod = deployment["spec"]["template"]["spec"]
    assert [volume["name"] for volume in pod["volumes"]] == ["shm", "cache"]
    assert [mount["name"] for mount in pod["containers"][0]["volumeMounts"]] == ["shm", "cache"]


@pytest.mark.parametrize("written", ["./models/mine", "models/mine", "~/models/mine"])
def test_a_folder_is_given_by_its_whole_path_and_is_no_name_of_the_hub(
    written: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = model_folder(tmp_path, "models/mine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    found = made(model=written)
    assert config_of({}, model=written) == {"model": str(folder)}
    assert service_of(export(found, "compose"))["command"] == ["/models/mine"]
    assert container_of(export(found, "k8s"))["args"] == ["/models/mine"]


def test_a_built_in_shape_is_its_folder() -> None:
    found = made(model="shape:demo", knobs={"max_num_seqs": 3})
    document = yaml.safe_load(export(found, "vllm"))
    assert document["model"] == str(shapes()["demo"])
    assert document["served-model-name"] == "shape:demo"
    assert document["load-format"] == "dummy"
    assert document["max-num-seqs"] == 3
    assert service_of(export(found, "compose"))["command"][0] == "/models/demo"


def test_kubernetes_gets_a_deployment_with_three_probes_and_a_service_in_front() -> None:
    deployment, service = documents(export(made(model="org/Qwen3-0.6B"), "k8s"))
    assert (deployment["kind"], deployment["apiVersion"]) == ("Deployment", "apps/v1")
    assert (service["kind"], service["apiVersion"]) == ("Service", "v1")
    labels = {"app": "vllm-qwen3-0-6b"}
    assert deployment["metadata"] == {"name": labels["app"], "labels": labels}
    assert service["metadata"] == deployment["metadata"]
    assert deployment["spec"]["selector"] == {"matchLabels": labels}
    assert deployment["spec"]["template"]["metadata"]["labels"] == labels
    assert service["spec"]["selector"] == labels
    assert deployment["spec"]["strategy"] == {"type": "Recreate"}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert port == {"name": "http", "containerPort": 8000}
    assert service["spec"]["ports"] == [{"name": "http", "port": 8000, "targetPort": port["name"]}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": "/health", "port": port["name"]}
    start = container["startupProbe"]
    assert start["periodSeconds"] * start["failureThreshold"] == 1800


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120))
@example("org/" + "a" * 55 + "-" + "b" * 20)
@example("...")
@example("Übermodell/ÄÖ")
@settings(max_examples=120, deadline=None)
def test_every_model_makes_a_name_that_kubernetes_takes(model: str) -> None:
    # A hub id is written unlike a path.
    deployment, service = documents(export(made(model=f"org/{model}"), "k8s"))
    names = [deployment["metadata"]["name"], service["metadata"]["name"],
             *deployment["spec"]["selector"]["matchLabels"].values()]  # fmt: skip
    assert len(set(names)) == 1
    # RFC 1035, as a Service wants it, is RFC 1123 with a letter at its front.
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", names[0])


def test_dollar_signs_reach_vllm_as_they_were() -> None:
    odd = {"a": "$(HOME)", "b": "$$(HOME)", "c": "$$", "d": "${HOME}", "e": "x$", "f": "$$$("}
    for name, words in (
        ("compose", service_of(export(made(odd), "compose"))["command"]),
        ("k8s", container_of(export(made(odd), "k8s"))["args"]),
    ):
        undone = interpolated if name == "compose" else expanded
        assert [undone(word) for word in words] == ["org/model", *to_argv(odd)], name
    # Escaped, also where a variable of that name is set.
    assert container_of(export(made({"a": "$(HOME)"}), "k8s"))["args"][-1] == "$$(HOME)"


# -- the tools that read them, where they are ------------------------------------------------------

WORST = {
    # Words that one reader of YAML or another takes for something else.
    "served_model_name": ["y", "no", "1e3", "0o17", "1_000", "2026-11-25", "12:30", "~", "=", "5."],
    "hf_overrides": {"a": {"b": [1, None]}, "c": "$(HOME) $$ ${HOME}"},
    "gpu_memory_utilization": 1e-05,
    "tensor_parallel_size": 2,
}


def has_compose() -> bool:
    docker = shutil.which("docker")
    return bool(docker) and not subprocess.run(
        [docker, "compose", "version"], capture_output=True
    ).returncode  # fmt: skip


@pytest.mark.parametrize("local", [False, True])
def test_docker_compose_takes_it(local: bool, tmp_path: Path) -> None:
    if not has_compose():
        pytest.skip("docker compose is not here")
    model = str(model_folder(tmp_path, "qwen3:0.6b")) if local else "org/model"
    file = tmp_path / "compose.yaml"
    file.write_text(export(made(WORST, TUNED, model, about=HOSTILE), "compose"))
    done = subprocess.run(
        ["docker", "compose", "-f", str(file), "config", "-q"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("local", [False, True])
def test_kubectl_reads_every_part_of_it(local: bool, tmp_path: Path) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("kubectl is not here")
    model = str(model_folder(tmp_path, "qwen3:0.6b")) if local else "org/model"
    text = export(made(WORST, TUNED, model, about=HOSTILE), "k8s")
    for written, change in zip(text.split("\n---\n"), (IMAGE, SELECTOR), strict=True):
        file = tmp_path / f"{change[0]}.yaml"
        file.write_text(written)
        # Read into kubectl's own types and written out of them, with no cluster: what it does not
        # know is gone then.
        done = subprocess.run(
            ["kubectl", "set", change[0], "--local", "-f", str(file), change[1], "-o", "json"],
            capture_output=True,
            text=True,
        )
        assert done.stderr == ""
        _assert_within(yaml.safe_load(written), json.loads(done.stdout), "")


IMAGE, SELECTOR = ("image", "vllm=other"), ("selector", "app=other")
"""What is changed of a Deployment and of a Service, so that kubectl reads and writes them."""


def _assert_within(part: Any, whole: Any, place: str) -> None:
    """All of `part` stands in `whole`, which may have more."""
    if isinstance(part, dict):
        for key, value in part.items():
            assert key in whole, f"{place}.{key}"
            _assert_within(value, whole[key], f"{place}.{key}")
    elif isinstance(part, list):
        assert len(part) == len(whole), place
        for number, (one, other) in enumerate(zip(part, whole, strict=True)):
            _assert_within(one, other, f"{place}[{number}]")
    else:
        is_changed = place.endswith(".image") or place == ".spec.selector.app"
        assert whole == ("other" if is_changed else part), place


# -- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"), [("vlm", "`vllm`"), ("k8", "`k8s`"), ("helm", "compose"), ("", "compose")]
)
def test_an_unknown_format_is_refused_with_those_there_are(name: str, hint: str) -> None:
    with pytest.raises(UsageError, match="no format called") as refusal:
        export(made(), name)
    assert hint in refusal.value.hint


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", ["-zz", "-zz3", "-zz.mode"])
def test_an_unknown_short_flag_is_refused_with_a_hint(name: str, key: str) -> None:
    with pytest.raises(UsageError, match=r"engine: -zz\d? is a short flag") as refusal:
        export(made({key: 3}), name)
    assert "long name" in refusal.value.hint


@pytest.mark.parametrize("name", FORMATS)
def test_short_flags_are_written_long(name: str, tmp_path: Path) -> None:
    words = words_of(export(made({"-tp": 2, "-q": "fp8", "-O": 2}), name), name, tmp_path)
    assert " ".join(words[1:]) == (
        "--tensor-parallel-size 2 --quantization fp8 --optimization-level 2"
    )


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    for model in (str(tmp_path), str(tmp_path / "gone"), "shape:dmeo"):
        with pytest.raises(UsageError) as refusal:
            export(made(model=model), "compose")
        assert refusal.value.hint


# -- the command line ------------------------------------------------------------------------------


@pytest.fixture
def saved(tmp_path: Path) -> str:
    return str(profile.save(made({"seed": 1}, TUNED), tmp_path / "mine.yaml"))


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["profiles", "export", *words])
    told = capsys.readouterr()
    return code, told.out, told.err


@pytest.mark.parametrize("name", FORMATS)
def test_export_prints_what_it_would_write(
    saved: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out.yaml"
    code, out, err = run(capsys, saved, "--format", name)
    assert (code, err) == (0, "")
    assert out == export(profile.load(Path(saved)), name)
    assert run(capsys, saved, "--format", name, "-o", str(target)) == (0, f"{target}\n", "")
    assert target.read_text() == out


def test_vllms_config_file_is_the_default(saved: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, saved)[1] == run(capsys, saved, "--format", "vllm")[1]


def test_an_existing_file_is_kept_unless_forced(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "served.yaml"
    target.write_text("mine")
    code, out, err = run(capsys, saved, "-o", str(target))
    assert (code, out) == (2, "")
    assert f"{target} exists already" in err
    assert target.read_text() == "mine"
    assert run(capsys, saved, "-o", str(target), "--force")[0] == 0
    assert yaml.safe_load(target.read_text())["max-num-seqs"] == 48
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.yaml", "served.yaml"]


@pytest.mark.parametrize("name", ["served.conf", "served", "served.yaml.txt"])
def test_a_name_that_vllm_would_not_read_is_refused(
    saved: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / name
    code, out, err = run(capsys, saved, "-o", str(target))
    assert (code, out) == (2, "")
    assert ".yaml or .yml" in err
    assert not target.exists()
    assert run(capsys, saved, "--format", "env", "-o", str(target))[0] == 0


def test_a_format_that_there_is_not_ends_with_exit_code_2(
    saved: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profiles", "export", saved, "--format", "helm"]) == 2
    assert "compose" in capsys.readouterr().err


def test_a_profile_that_cannot_be_exported_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = profile.save(made({"-zz": 3}), tmp_path / "short.yaml")
    code, out, err = run(capsys, str(path))
    assert (code, out) == (2, "")
    assert "-zz is a short flag" in err
    assert "long name" in err

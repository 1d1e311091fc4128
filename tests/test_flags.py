"""vLLM's flags as a mapping and back."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tputtui.cli.arguments import typed_arguments
from tputtui.cli.user_config import read_config
from tputtui.engine.config_file import read_config_file
from tputtui.engine.flags import dropped_keys, from_argv, known_flags, to_argv
from tputtui.errors import ProfileError, UsageError
from tputtui.profile import EngineValue, parse


@pytest.mark.parametrize(
    ("line", "args"),
    [
        ("", {}),
        ("--max-num-seqs 128", {"max_num_seqs": 128}),
        ("--max-num-seqs=128", {"max_num_seqs": 128}),
        ("--max_num_seqs 128", {"max_num_seqs": 128}),
        ("--gpu-memory-utilization 0.85", {"gpu_memory_utilization": 0.85}),
        ("--enforce-eager", {"enforce_eager": True}),
        ("--no-enable-prefix-caching", {"enable_prefix_caching": False}),
        ("--seed -1", {"seed": -1}),
        ("--cudagraph-capture-sizes 1 2 4", {"cudagraph_capture_sizes": [1, 2, 4]}),
        ("--served-model-name a b", {"served_model_name": ["a", "b"]}),
        ("-tp 2", {"tensor_parallel_size": 2}),
        ("-tp=2", {"tensor_parallel_size": 2}),
        ("-O3", {"optimization_level": 3}),
        ("--max-model-len 4k", {"max_model_len": 4000}),
        ('--hf-overrides {"a":[1,2]}', {"hf_overrides": {"a": [1, 2]}}),
        (
            "--enforce-eager --seed 3 -tp 2",
            {"enforce_eager": True, "seed": 3, "tensor_parallel_size": 2},
        ),
    ],
)
def test_flags_become_keys_and_values(line: str, args: dict[str, EngineValue]) -> None:
    assert from_argv(line.split()) == args


@pytest.mark.parametrize("written", ["1.50", "007", "1e3", "-0", "2_048", "0x10", "1.", ".5"])
def test_a_number_that_would_be_written_differently_stays_as_it_was(written: str) -> None:
    assert from_argv(["--x", written]) == {"x": written}
    assert to_argv({"x": written}) == ["--x", written]


def test_what_follows_a_dot_is_a_key_inside_an_argument() -> None:
    line = ["--compilation-config.pass_config.fuse_norm_quant", "true"]
    args = from_argv(line)
    assert args == {"compilation_config": {"pass_config": {"fuse_norm_quant": True}}}
    assert from_argv(to_argv(args)) == args


@pytest.mark.parametrize(
    ("line", "lost"),
    [
        ('--compilation-config {"mode":3} --compilation-config.cudagraph_mode NONE', ["mode"]),
        ('-cc.mode 3 --compilation-config.cudagraph_mode NONE', ["mode"]),
        ('-cc.mode 3 -cc.cudagraph_mode NONE', []),
        ('--compilation-config {"mode":3} --compilation-config.mode 0', []),
        ("-O3 --compilation-config.cudagraph_mode NONE", []),
    ],
)  # fmt: skip
def test_a_key_that_vllm_leaves_out_is_named(line: str, lost: list[str]) -> None:
    names = [f"compilation_config.{key}" for key in lost]
    assert dropped_keys(line.split()) == names
    told: list[str] = []
    typed_arguments(line.split(), told.append)
    assert [name for name in names if name in " ".join(told)] == names
    assert bool(told) == bool(lost)


def test_a_file_says_that_a_key_would_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = "compilation_config: {mode: 3}, compilation_config.cudagraph_mode: NONE"
    with pytest.raises(ProfileError, match=r"engine.compilation_config.mode: it stands beside"):
        parse(f"tputtui: 1\nengine: {{{both}}}", "my.yaml")
    file = tmp_path / "config.yaml"
    file.write_text(f"{{{both}}}")
    told: list[str] = []
    args = read_config_file(str(file), told.append)
    assert args == {"compilation_config": {"cudagraph_mode": "NONE"}}
    assert "compilation_config.mode: left out, as by vLLM" in told[0]
    file.write_text(f"engine: {{{both}}}")
    monkeypatch.setenv("TPUTTUI_CONFIG", str(file))
    with pytest.raises(UsageError, match=r"compilation_config.mode: left out, as by vLLM"):
        read_config()


def test_the_last_of_the_same_flag_counts() -> None:
    assert from_argv(["--seed", "1", "--seed", "2"]) == {"seed": 2}
    assert from_argv(["--x", "--no-x"]) == {"x": False}
    assert from_argv(["--x", "--no-x", "--x"]) == {"x": True}


def test_a_value_that_looks_like_a_flag_is_given_with_an_equals_sign() -> None:
    assert from_argv(["--chat-template=--odd"]) == {"chat_template": "--odd"}
    assert to_argv({"chat_template": "--odd"}) == ["--chat-template=--odd"]


@pytest.mark.parametrize("argv", [["stray"], ["7"], ["stray", "--seed", "1"]])
def test_a_word_before_any_flag_is_told_apart(argv: list[str]) -> None:
    with pytest.raises(UsageError, match=f"'{argv[0]}' is not expected here") as refusal:
        from_argv(argv)
    assert refusal.value.hint == "MODEL comes first, once."


@pytest.mark.parametrize(
    ("args", "argv"),
    [
        ({"x": None}, []),
        ({"x": True, "y": False}, ["--x", "--no-y"]),
        ({"max_num_seqs": 8}, ["--max-num-seqs", "8"]),
        ({"max-num-seqs": 8}, ["--max-num-seqs", "8"]),
        ({"x": ["a", 1]}, ["--x", "a", "1"]),
        ({"x": {"a_b": [1, None]}}, ["--x", '{"a_b": [1, null]}']),
        ({"-tp": 2}, ["-tp", "2"]),
    ],
)
def test_a_mapping_becomes_words(args: dict[str, EngineValue], argv: list[str]) -> None:
    assert to_argv(args) == argv


names = st.from_regex(r"[a-z]{2,6}(_[a-z]{1,5}){0,3}", fullmatch=True)
names = names.filter(lambda name: not name.startswith("no_"))
numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
words = st.from_regex(r"[A-Za-z/][\w./:-]{0,12}", fullmatch=True)
json = st.recursive(
    st.none() | st.booleans() | numbers | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
values = st.one_of(
    st.booleans(),
    numbers,
    words,
    st.dictionaries(st.text(max_size=5), json),
    st.lists(numbers | words, min_size=2, max_size=5),
)


@given(st.dictionaries(names, values, max_size=6))
def test_words_made_of_a_mapping_read_back_as_the_same_mapping(
    args: dict[str, EngineValue],
) -> None:
    again = from_argv(to_argv(args))
    assert again == args
    assert {key: type(value) for key, value in again.items()} == {
        key: type(value) for key, value in args.items()
    }


flags = st.from_regex(r"--?[A-Za-z][\w.-]{0,12}", fullmatch=True)
anything = st.one_of(
    flags,
    st.text(max_size=8),
    numbers.map(str),
    st.tuples(flags, st.text(max_size=6)).map("=".join),
    # Several values of which one looks like a flag: nothing can be told apart by then.
).filter(lambda word: "=-" not in word and word.partition("=")[0] != "--")


@given(flags, st.lists(anything, max_size=8))
def test_reading_what_was_written_changes_nothing_more(first: str, rest: list[str]) -> None:
    try:
        args = from_argv([first, *rest])
    except UsageError:
        assume(False)
    assert from_argv(to_argv(args)) == args


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_known_flags_are_read_from_the_installed_vllm() -> None:
    known = known_flags()
    assert {
        "--max-num-seqs",
        "--max-num-batched-tokens",
        "--max-model-len",
        "--tensor-parallel-size",
        "-tp",
        "--enable-prefix-caching",
    } <= known
    assert "--max-num-seq" not in known

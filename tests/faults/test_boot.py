"""Boots that go wrong: what is said, where it is said, the exit code, and what is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path

import pytest

from tests.faults import fault
from tests.terminal import Terminal
from tputtui.engine.vllm.args import sentences
from tputtui.errors import EngineError

pytestmark = [pytest.mark.pty, pytest.mark.engine]


def leaves(terminal: Terminal, code: int, *words: str) -> str:
    """The program has left with `code`, has said `words`, and nothing else is left of it."""
    left = terminal.ended()
    terminal.restored()
    assert f"exit={code}" in left, left
    for word in words:
        assert word in " ".join(left.split()), left
    assert "Traceback" not in left
    return left


# -- before there is a screen --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("./no-such-model", ("There is no folder ./no-such-model.", "MODEL is a local folder")),
        ("./empty", ("./empty is no model: it has no config.json.",)),
        ("shape:dmeo", ("no built-in shape called 'dmeo'", "Did you mean `demo`?")),
        ("--hf-token canary-in-plain-sight", ("hf_token holds a secret", "HF_TOKEN")),
    ],
)
def test_what_can_be_known_at_once_is_told_before_the_screen(
    tmp_path: Path, arguments: str, words: tuple[str, ...]
) -> None:
    (tmp_path / "empty").mkdir()
    leaves(Terminal(arguments, tmp_path), 2, *words)


def test_without_vllm_a_sentence_says_how_to_install_it(tmp_path: Path) -> None:
    terminal = Terminal("", tmp_path, env=fault("no-vllm"))
    leaves(terminal, 3, "vLLM is not installed here.", "pip install 'tputtui[cuda]'")


# -- on the screen, which stays ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("old-vllm", r"vLLM 0\.9\.2 is too old"),
        ("broken-vllm", r"vLLM could not be imported: libcudart\.so\.99"),
        ("dying-vllm", r"this build of vLLM does not run here"),
    ],
)
def test_a_vllm_that_cannot_be_used_is_told_on_a_screen_that_stays(
    tmp_path: Path, name: str, message: str
) -> None:
    terminal = Terminal("", tmp_path, env=fault(name))
    terminal.until(message)
    terminal.until(r"b boot again")
    terminal.press("b")
    terminal.until(r"importing")
    terminal.until(message)
    terminal.press("q")
    left = leaves(terminal, 3)
    assert re.search(message, left)


@pytest.mark.long
def test_a_model_that_vllm_does_not_know_leaves_with_its_words(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text('{"architectures": ["NoSuchModel"]}')
    terminal = Terminal("./model --skip-tokenizer-init", tmp_path)
    leaves(terminal, 2, "vLLM refuses to configure ./model", "MODEL is a local folder")


def test_memory_that_runs_out_while_loading_is_told_and_given_back(tmp_path: Path) -> None:
    # 32 GB of weights, where the address space ends after 12.
    terminal = Terminal("shape:qwen3-8b --dtype float32", tmp_path, before="ulimit -v 12000000")
    terminal.until(r"✖ FAILED")
    assert re.search(r"(?i)alloc|memory", terminal.text)
    terminal.press("q")
    leaves(terminal, 3, "--gpu-memory-utilization")


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param("importing torch", marks=pytest.mark.long),
        "importing vLLM",
        pytest.param("checking engine", marks=pytest.mark.long),
        pytest.param("loading the model", marks=pytest.mark.long),
    ],
)
def test_ctrl_c_leaves_in_every_stage_of_a_boot(tmp_path: Path, stage: str) -> None:
    terminal = Terminal("--load 8", tmp_path)
    terminal.until(stage)
    terminal.press("\x03")
    leaves(terminal, 0, "log")


@pytest.mark.parametrize(
    ("arguments", "leave"),
    [
        pytest.param("--load 8", "SIGTERM", marks=pytest.mark.long),
        ("bench --duration 3s", "SIGTERM"),
        pytest.param("--load 8", "q", marks=pytest.mark.long),
        pytest.param("--load 8 --isolate", "SIGTERM", marks=pytest.mark.long),
        pytest.param("bench --duration 3s", "\x03", marks=pytest.mark.long),
    ],
)
def test_a_boot_that_waits_inside_torch_for_ever_can_be_left(
    tmp_path: Path, arguments: str, leave: str
) -> None:
    terminal = Terminal(arguments, tmp_path, env=fault("boot-waits"))
    terminal.until("loading the model")
    for _ in range(2):
        if leave.startswith("SIG"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(terminal.pid, getattr(signal, leave))
        else:
            terminal.press(leave)
    left = terminal.ended()
    terminal.restored()
    assert re.search(r"exit=(0|130)\b", left), left
    assert "Traceback" not in left


def test_what_is_long_to_say_ends_with_a_sentence() -> None:
    # As torch 2.11 says it, on an H200.
    text = (
        "CUDA out of memory. Tried to allocate 152.59 GiB. GPU 0 has a total capacity of 139.80 GiB"
        " of which 138.47 GiB is free. Including non-PyTorch memory, this process has 1.32 GiB"
        " memory in use. Of the allocated memory 433.54 MiB is allocated by PyTorch, with"
        " 140.00 MiB allocated in private pools (e.g., CUDA Graphs), and 81.5 MiB is reserved by"
        " PyTorch but unallocated."
    )
    with pytest.raises(EngineError) as told, sentences("It did not fit", "A hint."):
        raise RuntimeError(text)
    assert told.value.message == f"It did not fit: {text.partition(' Of the')[0]}"
    with pytest.raises(EngineError) as told, sentences("No", "A hint."):
        raise RuntimeError("word " * 100)
    assert told.value.message.endswith("word …")

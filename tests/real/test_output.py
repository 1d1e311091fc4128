"""Standard output that takes nothing, or no more: a full disk, `| head -1`, an old locale."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TextIO

import pytest

from tests import PATIENCE_S
from tests.faults import PACED
from tests.terminal import PROGRAM, environment


def started(
    *words: str,
    tmp_path: Path,
    stdout: int | TextIO,
    stderr: int | TextIO = subprocess.PIPE,
    **variables: str | None,
) -> Popen[str]:
    return subprocess.Popen(
        [str(PROGRAM), *words], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, text=True,
        env=environment(tmp_path) | variables, cwd=tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["--version"],
        ["bench", "--help"],
        ["help"],
        ["help", "load"],
        ["config", "show"],
        ["config", "path"],
        ["profiles", "list"],
        ["profiles", "show", "demo", "--format", "json"],
        ["completion", "bash"],
        ["attach", "localhost:9", "--for", "2s"],
    ],
)
def test_output_to_a_full_disk_is_one_sentence_and_code_74(
    words: list[str], buffered: bool, tmp_path: Path
) -> None:
    unbuffered = "" if buffered else "1"
    with open("/dev/full", "w") as full:
        running = started(*words, tmp_path=tmp_path, stdout=full, PYTHONUNBUFFERED=unbuffered)
        _, told = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 74
    assert told == (
        "tputtui: The output could not be written: No space left on device.\n"
        "         Make room where it goes, or send it to another place.\n"
    )


@pytest.mark.parametrize("words", [["--help"], ["config", "show"], ["help", "load"]])
def test_a_reader_who_has_had_enough_hears_nothing_more(words: list[str], tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    running = started(*words, tmp_path=tmp_path, stdout=writer)
    os.close(writer)
    _, told = running.communicate(timeout=PATIENCE_S)
    assert (running.returncode, told) == (0, "")


def test_a_sentence_that_cannot_be_written_changes_no_exit_code(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        running = started("profiles", "show", "none", tmp_path=tmp_path, stdout=full, stderr=full)
        assert running.wait(PATIENCE_S) == 2


def test_a_pipe_that_does_not_block_gets_all_of_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    running = started("profiles", "schema", tmp_path=tmp_path, stdout=writer)
    os.close(writer)
    with running, os.fdopen(reader) as text:
        assert text.read().rstrip().endswith("}")
    assert running.returncode == 0


def test_a_locale_without_a_character_gets_its_number(tmp_path: Path) -> None:
    running = started(
        "profiles", "list", tmp_path=tmp_path, stdout=subprocess.PIPE, PYTHONIOENCODING="ascii"
    )
    text, _ = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 0
    assert r"\u2013" in text


def test_figures_that_cannot_be_printed_are_in_the_report_still(tmp_path: Path) -> None:
    words = ["--load", "8", "--duration", "2s", "--quiet"]
    with open("/dev/full", "w") as full:
        running = started("bench", *words, tmp_path=tmp_path, stdout=full, stderr=PIPE, **PACED)
        _, told = running.communicate(timeout=PATIENCE_S)
    assert running.returncode == 74
    said, hint = told.splitlines()
    assert said == "tputtui: The output could not be written: No space left on device."
    path = hint.split("`")[1].removeprefix("tputtui report ")
    page = started("report", path, "--format", "md", tmp_path=tmp_path, stdout=subprocess.PIPE)
    assert "tokens/s" in page.communicate(timeout=PATIENCE_S)[0]

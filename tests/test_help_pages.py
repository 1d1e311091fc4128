"""Every `--help` page: an example first, 80 columns at most, and lines that a shell takes."""

from __future__ import annotations

import argparse
import importlib
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from tputtui.cli import report
from tputtui.cli.page import WIDTH, Page
from tputtui.cli.words import COMMANDS


def pages() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Name and parser of every page, those of sub-commands too."""
    for name in ("run", *COMMANDS):
        made = importlib.import_module(f"tputtui.cli.{name}").parser()
        yield name, made
        for action in made._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from ((f"{name} {word}", sub) for word, sub in action.choices.items())


PAGES = dict(pages())


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("columns", ["40", "200"])
def test_a_page_begins_with_an_example_and_fits_80_columns(
    name: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    lines = PAGES[name].format_help().splitlines()
    assert lines[0].startswith("  tputtui ")
    # A command that is longer goes on behind a backslash.
    assert lines[1] == "" or lines[0].endswith("\\")
    assert [line for line in lines if len(line) > WIDTH] == []


def test_every_command_has_a_page() -> None:
    assert {name.partition(" ")[0] for name in PAGES} == {"run", *COMMANDS}


@pytest.mark.parametrize("name", PAGES)
def test_the_example_is_of_its_own_command_and_can_be_parsed(name: str) -> None:
    page = PAGES[name]
    assert isinstance(page, Page)
    words = shlex.split(page.example)
    assert words[0] == "tputtui"
    if name != "run":
        assert words[1] == name.partition(" ")[0]


def test_a_long_line_is_broken_where_a_shell_and_a_reader_take_it() -> None:
    made = Page(
        prog="x",
        example="tputtui x",
        epilog="examples:\n"
        "  tputtui model --tensor-parallel-size 2 --load 8/s --prompt-tokens 400~0.9[16-4096] -v\n"
        "  name   " + "word " * 20 + "\n\nA paragraph " + "that goes on " * 10 + "\nand on.",
    )
    text = made.format_help()
    assert "--load 8/s --prompt-tokens \\\n" not in text
    assert "      --prompt-tokens 400~0.9[16-4096] -v" in text
    assert "\n         word word" in text
    assert all(len(line) <= WIDTH for line in text.splitlines())


# -- report ------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("html", "markdown"):
        monkeypatch.setattr(
            f"tputtui.report.pages.{name}", lambda recording, name=name: f"<{name}>"
        )
    monkeypatch.setattr("tputtui.record.reading.read_log", lambda path: SimpleNamespace(path=path))
    return tmp_path / "20261129-120000.jsonl.zst"


def test_a_terminal_gets_the_name_of_a_file_and_never_html(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert report.run([str(log)]) == 0
    said = capsys.readouterr().out
    assert "<html>" not in said
    assert said.strip().endswith("20261129-120000.html")
    assert Path("20261129-120000.html").read_text() == "<html>"


def test_markdown_is_printed_and_a_pipe_gets_what_it_asks_for(
    log: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    report.run([str(log), "--format", "md"])
    assert capsys.readouterr().out == "<markdown>"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    report.run([str(log)])
    assert capsys.readouterr().out == "<html>"

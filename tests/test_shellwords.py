"""Shell scripts as far as they say which commands would run, held against bash itself."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tputtui.cli.shellwords import UNKNOWN, commands

ENVIRONMENT = {"HOME": "/root", "PATH": "/usr/bin:/bin", "TWO": "a b"}
SCRIPTS = {
    "quotes": """show 'a $HOME "b"' "a $HOME 'b'" a\\ b '' "" x"y"z'w'""",
    "continued": "show a \\\n  b\\\nc \\\r\n",
    "comments": "# no\nshow a#b c # d\n#show x\nshow '# e'",
    "variables": 'N=3\nM=\'x  y\'\nshow $N ${N} $M "$M" ${N}5 $TWO "${TWO}" $NONE "$NONE" .',
    "defaults": 'show ${NONE:-d} ${NONE-d} "${TWO:-d}" ${NONE:-"x y"} ${TWO:+set} ${NONE:+set} .',
    "assigned": 'show ${P:=8000} $P "${P:-1}"',
    "empty": 'E=""\nshow ${E:-d} ${E-d} "${E-d}" $E .',
    "redirected": "show a >log b 2>&1\nshow c 2>err d\nshow e &>>all f\nshow g < /dev/null h",
    "separated": "true && show a; show b | cat\n(show c)\nshow d & wait\nif true; then show e; fi",
    "arrays": 'A=(--x "1 2" $TWO)\nA+=(z)\nshow "${A[@]}" .\nshow ${A[@]} .',
    "called": 'show "$@" a $* b $1 c',
    "json": """show '{"a": {"b": 1},\n  "c": "$HOME"}' --x""",
    "appended": "A=x\nA+=y\nshow $A",
    "dollars": "show a$ $ '$' \\$HOME \"\\$HOME\" 100%",
}
# Each call is a line in the file OUT, its words apart by a character that nobody types.
BEFORE = 'show() { printf "%s\\037" "$@" >> "$OUT"; printf "\\036" >> "$OUT"; }\n'


def shown(script: str) -> list[list[str]]:
    return [each.words for each in commands(script, ENVIRONMENT)]


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_words_are_those_that_bash_would_pass(name: str, tmp_path: Path) -> None:
    script = SCRIPTS[name].replace("\\\r\n", "\\\n")
    out = tmp_path / "out"
    subprocess.run(
        ["bash", "-c", BEFORE + script], cwd=tmp_path, env={**ENVIRONMENT, "OUT": str(out)},
        stdout=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    meant = [call.split("\x1f")[:-1] for call in out.read_text().split("\x1e")[:-1]]
    found = [words[words.index("show") + 1 :] for words in shown(SCRIPTS[name]) if "show" in words]
    assert sorted(found) == sorted(meant)


def test_what_only_a_shell_can_work_out_is_marked() -> None:
    assert shown('show $(nproc) `x` $((1+1)) "$(a "b")" c') == [
        ["show", UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "c"]
    ]


def test_only_what_is_exported_is_found_by_a_command() -> None:
    script = "A=1\nexport B=2\nC=3\nexport C\nrun\nset -a\nD=4\nrun"
    first, _, second = commands(script, {})
    assert first.exported == {"B": "2", "C": "3"}
    assert second.exported == {"A": "1", "B": "2", "C": "3", "D": "4"}


def test_each_command_knows_its_line() -> None:
    script = "# one\nA=1\n\nrun a \\\n  b\nrun c"
    assert [each.line for each in commands(script, {})] == [4, 6]


@pytest.mark.parametrize(
    ("script", "said"),
    [("x\nrun 'a", "line 2: a ' is"), ('run "a', 'line 1: a " is'), ("run ${a", "line 1: a ${ is"),
     ("a\nb\nrun `a", "line 3: a ` is")],
)  # fmt: skip
def test_a_quote_that_is_not_closed_is_named_by_its_line(script: str, said: str) -> None:
    with pytest.raises(ValueError, match="is opened and not closed") as refusal:
        shown(script)
    assert said in str(refusal.value)

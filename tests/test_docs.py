"""Every command that the README, the docs and `tputtui help` show is run, or has its reason here.

What boots runs on the deterministic engine (`PACED`), what is simulated on vLLM's own scheduler.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.faults import PACED
from tests.served import Servers
from tests.terminal import PROGRAM, Terminal, environment
from tests.test_served import server
from tputtui.cli.help import TOPICS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]


class Screen(NamedTuple):
    """In a terminal, until this is on the screen; then it is left. long: another one is like it."""

    until: str = r"▶ RUNNING"
    long: bool = False


class Run(NamedTuple):
    """In a shell; `long`: takes a minute. env: {} where vLLM itself is wanted."""

    code: int = 0
    paced: bool = True
    long: bool = False


class Elsewhere(NamedTuple):
    """The test that runs it."""

    test: str


class Not(NamedTuple):
    """Why nothing runs it."""

    reason: str


LIKE = Screen(long=True)
SIMULATED = Run(paced=False, long=True)
UNDECIDED = 1
"""A second is too short for a goal."""
LONG_BENCH = Run(code=UNDECIDED, long=True)
SYNOPSIS = Not("a form, whose instances are run")
INDEX = Not("needs a package index or the repository's address")
REAL = Not("needs a model with a tokenizer; tests/engine/test_real_requests.py serves such files")
DOCKER = Not("needs Docker and a GPU; the Dockerfile is linted")
SHOWN: dict[str, Screen | Run | Elsewhere | Not] = {
    # README
    "git clone URL tputtui && cd tputtui && make demo": INDEX,
    "make demo-h100": Screen(r"SIMULATED[^\n]+▶ RUNNING", long=True),
    "pip install dist/tputtui-*.whl && tputtui MODEL": INDEX,
    "tputtui [MODEL] [options] [any vLLM engine flag]": SYNOPSIS,
    "tputtui vllm serve MODEL --max-num-seqs 256 --port 8000": Screen(),
    "tputtui --simulate h100 shape:llama-3.1-8b": Screen(r"SIMULATED", long=True),
    "tputtui bench --profile chat --duration 60s": LONG_BENCH,
    "tputtui bench MODEL --goal ttft_p99=500ms --format json > result.json": LONG_BENCH,
    "tputtui tune chat --goal ttft_p99=500ms,tpot_p99=50ms > tuned.yaml": Elsewhere(
        "tests/test_tune_command.py::test_the_program_is_interrupted_and_goes_on_where_it_was"
    ),
    "tputtui verify tuned.yaml": Elsewhere(
        "tests/test_verify.py::test_the_command_writes_both_into_the_file_and_keeps_its_comments"
    ),
    "tputtui profiles export tuned.yaml --format vllm > serve.yaml": Run(),
    "tputtui profiles export tuned.yaml --active-seqs --format command": Run(),
    "tputtui attach gpu1:8000": Screen(r"live"),
    "tputtui server:gpu1:8000 --load 8/s": Screen(),
    "tputtui replay · report · compare · calibrate · config · completion": SYNOPSIS,
    # docs/requests.md
    "tputtui MODEL --requests batch.jsonl --load 4/s": REAL,
    "tputtui bench MODEL --requests 'gateway.jsonl repeat' --load 'recorded x2' --force-lengths": (
        REAL
    ),
    "tputtui --profile replay": LIKE,
    # docs/profiles.md
    "tputtui verify tuned.yaml --quality builtin": Elsewhere(
        "tests/test_quality_gate.py::test_the_command_compares_answers_and_writes_counts_alone"
    ),
    "tputtui verify tuned.yaml --quality prompts.jsonl -o verified.yaml": Elsewhere(
        "tests/test_quality_gate.py::test_the_command_compares_answers_and_writes_counts_alone"
    ),
    # docs/command-lines.md
    "tputtui vllm serve shape:demo --max-num-seqs 64 --port 8000": LIKE,
    "tputtui VLLM_LOGGING_LEVEL=INFO vllm serve shape:demo --port 8000": LIKE,
    "tputtui python3 -m vllm.entrypoints.openai.api_server --model shape:demo": LIKE,
    "tputtui docker run --gpus all -p 8000:8000 vllm/vllm-openai:latest --model shape:demo": LIKE,
    "tputtui @start.sh": Screen(),
    "tputtui bench @start.sh --duration 60s": Run(),
    "tputtui config show @start.sh": Run(),
    # docs/commands.md
    "tputtui bench --profile tuned.yaml --format csv --quiet >> results.csv": Run(),
    # docs/install.md
    "git clone URL tputtui && cd tputtui": INDEX,
    "make demo": Not("`.ci/run` sets a fresh clone up; the screen is every other test's"),
    'make demo ARGS="MODEL"': Not("as `make demo`"),
    "make wheel": Elsewhere("tests/test_packaging.py::test_wheel_has_every_data_file"),
    "pip install dist/tputtui-*.whl": Elsewhere(
        "tests/test_packaging.py::test_installed_wheel_is_the_one_that_runs"
    ),
    "pip install 'optuna>=5.0'": INDEX,
    "tputtui MODEL": LIKE,
    "pip install 'tputtui[cuda] @ git+URL'": INDEX,
    "docker build -t tputtui .": DOCKER,
    "docker run -it --rm --gpus all -v ~/.cache/huggingface:/root/.cache/huggingface tputtui "
    "MODEL": DOCKER,
    "tputtui completion bash": Run(),
    # docs/servers.md
    "tputtui server:localhost:8000 --control-token-file ~/.tputtui-control --load 8/s": Elsewhere(
        "tests/real/test_plugin_server.py::test_limits_are_changed_under_load_and_nothing_is_lost"
    ),
    "tputtui attach localhost:8000 --control-token-file ~/.tputtui-control": Elsewhere(
        "tests/real/test_plugin_server.py::test_live_traffic_is_watched_and_a_change_judged_by_it"
    ),
    "tputtui MODEL --served --data-parallel-size 2 --max-num-seqs 128": Elsewhere(
        "tests/real/test_spawned.py::test_it_is_tuned_live_and_booted_anew"
    ),
    "tputtui verify --served tuned.yaml": Elsewhere(
        "tests/real/test_spawned.py::test_a_profile_is_measured_as_it_is_served"
    ),
    "tputtui bench --served --duration 60s": Elsewhere(
        "tests/real/test_spawned.py::test_it_ends_when_we_are_killed"
    ),
    "tputtui attach": Elsewhere(
        "tests/test_attach_here.py::test_the_command_lists_it_and_hides_its_key"
    ),
    "tputtui attach gpu{1..16}:8000 --every 2s": Screen(r"live"),
    "tputtui attach gpu1:8000 gpu2:8000 --for 30s --format json": Run(),
    "tputtui server:gpu1:8000 --load 8/s --prompt-tokens 400": LIKE,
    "tputtui bench server:gpu1:8000 --profile chat": LONG_BENCH,
    # docs/speculation.md
    "tputtui MODEL --speculative-config '{\"method\": \"ngram\", \"num_speculative_tokens\": 3, "
    "\"prompt_lookup_max\": 4}'": Elsewhere(
        "tests/engine/test_speculation.py"
        "::test_draft_tokens_are_turned_under_load_and_counted_as_vllm_counts"
    ),
    # docs/simulate.md
    "tputtui bench --simulate l4 --virtual shape:qwen3-8b --max-model-len 16k": SIMULATED,
    "tputtui tune chat shape:llama-3.1-8b --simulate h100 --virtual": SIMULATED,
    "tputtui calibrate MODEL -o gpu.yaml": Elsewhere(
        "tests/test_calibrate.py::"
        "test_an_engine_of_known_costs_is_predicted_by_what_was_measured_of_it"
    ),
    "tputtui --simulate gpu.yaml MODEL": Elsewhere(
        "tests/engine/test_simulated.py::test_a_calibrated_device_is_booted_as_it_was_measured"
    ),
    # docs/tuner.md
    "tputtui tune mine.yaml --find load --budget 20min -o tuned.yaml --verify": Elsewhere(
        "tests/test_tune_command.py::"
        "test_it_is_verified_and_written_with_the_comments_of_its_start"
    ),
    "tputtui tune mine.yaml --load 60/s --goal ttft_p90=1s --vary max_num_queued_reqs=32..512 "
    "--search grid": Elsewhere(
        "tests/test_tune_command.py::test_how_much_to_shed_is_searched_as_any_limit_is"
    ),
    # CONTRIBUTING.md
    "make setup": Not("runs before every test"),
    "make screenshots": Not("draws the pictures that the pages show; takes minutes"),
    # tputtui help
    "tputtui profiles list | show | diff A B | validate | export | schema": SYNOPSIS,
    "tputtui verify PROFILE": SYNOPSIS,
    "tputtui bench [MODEL] --duration 60s --format table|json|jsonl|csv": SYNOPSIS,
    "tputtui tune PROFILE --goal ttft_p99=500ms,tpot_p99=50ms --budget 10min > tuned.yaml": (
        SYNOPSIS
    ),
    "tputtui replay [FILE]": SYNOPSIS,
    "tputtui VLLM_LOGGING_LEVEL=INFO python3 -m vllm.entrypoints.openai.api_server "
    "--model MODEL": LIKE,
    "tputtui docker run --gpus all vllm/vllm-openai:latest --model MODEL": LIKE,
    "tputtui MODEL --config c.yaml": Screen(),
    "tputtui report [FILE] -o page.html | page.md": SYNOPSIS,
    "tputtui compare A B [--setting-a N --setting-b N]": SYNOPSIS,
    "tputtui --simulate h100 MODEL": SYNOPSIS,
    "tputtui bench --simulate l4 --virtual MODEL": SYNOPSIS,
    "tputtui attach URL [URL …]": SYNOPSIS,
    "tputtui server:URL --load 8/s": SYNOPSIS,
}  # fmt: skip
SCRIPT = """\
#!/bin/bash
PORT=8000
# what serves in production
vllm serve shape:demo \\
    --max-num-seqs 64 \\
    --port $PORT
"""
PROFILE = """\
tputtui: 1
engine: {model: shape:demo, max_num_seqs: 64}
limits: {max_num_seqs: 32}
load:
  arrivals: {kind: closed, in_flight: 8}
  prompt: {kind: fixed, tokens: 32}
  output: {kind: fixed, tokens: 8}
"""


def shown() -> Iterator[str]:
    """Commands on the pages, in blocks of code, and in `tputtui help`."""
    for page in PAGES:
        for block in re.findall(r"^```\n(.*?)^```$", page.read_text(), re.M | re.S):
            yield from commands(block)
    for _, text in TOPICS.values():
        yield from commands(text())


def commands(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if re.match(r"\s*(tputtui|make|git|pip|docker) ", line):
            yield re.split(r"  +| #", line.strip())[0]


def run_by(kind: type[object]) -> list[Any]:
    return [
        pytest.param(command, marks=[pytest.mark.long] if getattr(how, "long", False) else [])
        for command, how in SHOWN.items()
        if isinstance(how, kind)
    ]


def test_every_command_that_is_shown_is_run_or_has_its_reason() -> None:
    assert set(shown()) == set(SHOWN)


@pytest.mark.parametrize("command", run_by(Elsewhere))
def test_the_test_that_runs_it_exists(command: str) -> None:
    how = SHOWN[command]
    assert isinstance(how, Elsewhere)
    file, _, name = how.test.partition("::")
    assert f"def {name}(" in (ROOT / file).read_text()


def test_every_picture_and_page_that_is_linked_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "start.sh").write_text(SCRIPT)
    (tmp_path / "c.yaml").write_text("max-num-seqs: 64\nport: 8000\n")
    (tmp_path / "tuned.yaml").write_text(PROFILE)
    return tmp_path


@pytest.fixture
def servers() -> Iterator[list[str]]:
    with Servers(server(every_s=0.001), server(every_s=0.001)) as servers:
        yield [each.url.removeprefix("http://") for each in servers.servers]


def as_run(command: str, servers: list[str]) -> str:
    """The command with a model and addresses that are there, and seconds instead of minutes."""
    if command == "make demo-h100":
        found = re.search(r"^H100 := (.*)", (ROOT / "Makefile").read_text(), re.M)
        assert found
        return f"tputtui {found[1]}"
    words = command.replace("gpu{1..16}:8000", " ".join(servers))
    words = words.replace("gpu1:8000", servers[0]).replace("gpu2:8000", servers[1])
    words = re.sub(r"\bMODEL\b", "shape:demo", words)
    words = words.replace("--duration 60s", "--duration 1s").replace("--for 30s", "--for 3s")
    if " bench " in words and "--duration" not in words:
        words = words.replace(" bench ", " bench --duration 1s ")
    return words


@pytest.mark.pty
@pytest.mark.parametrize("command", run_by(Screen))
def test_a_screen_that_is_shown_comes_up(command: str, folder: Path, servers: list[str]) -> None:
    how = SHOWN[command]
    assert isinstance(how, Screen)
    arguments = as_run(command, servers).removeprefix("tputtui ")
    terminal = Terminal(arguments, folder, env=None if "--simulate" in arguments else PACED)
    terminal.until(how.until)
    terminal.press("q")
    left = terminal.ended()
    terminal.restored()
    assert "exit=0" in left
    assert "Traceback" not in left


@pytest.mark.pty
@pytest.mark.parametrize("command", run_by(Run))
def test_a_command_that_is_shown_does_what_it_says(
    command: str, folder: Path, servers: list[str]
) -> None:
    how = SHOWN[command]
    assert isinstance(how, Run)
    env = environment(folder, PACED if how.paced else None)
    env["PATH"] = f"{PROGRAM.parent}:{env['PATH']}"
    done = subprocess.run(
        ["bash", "-c", as_run(command, servers)], cwd=folder, env=env, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == how.code, done.stderr
    assert "Traceback" not in done.stderr
    written = re.search(r">>? *(\S+)$", command)
    assert (folder / written[1]).read_text() if written else done.stdout

"""`--served`: vLLM's own server as a child, tuned live, booted anew, and gone with us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import msgspec
import psutil
import pytest

from tests import PATIENCE_S
from tests.test_profile import evidence_of
from tputtui import cli, profile
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, HoldLoad, RunLoad, Start
from tputtui.engine.protocol import EngineFacts, State
from tputtui.engine.served.spawned import SpawnedEngine, sockets_below
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.profile.evidence import TUNED, Evidence
from tputtui.session.session import Session

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]


def children() -> list[str]:
    """Command lines of the servers that this process has started, and of their own."""
    below = psutil.Process().children(recursive=True)
    lines = []
    for process in below:
        try:
            lines.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return [line for line in lines if "engine.vllm.serve" in line or "EngineCore" in line]


class Run:
    """A session on a server of its own, its engine thread run by hand."""

    def __init__(self, **args: EngineValue) -> None:
        spec = EngineSpec("shape:demo", {"max_num_seqs": 32, **args})
        load = Workload(ClosedLoop(12), prompt=Fixed(40), output=Fixed(20), seed=3)
        self.session = Session(SpawnedEngine, Profile(spec, load), time.monotonic)
        assert isinstance(self.session.host, Host)
        self.host = self.session.host
        self.host.order(Boot(Start(spec, {}), load=False))
        self.host.run_pass()

    @property
    def facts(self) -> EngineFacts:
        assert self.host.status.failure is None, self.host.status.failure
        facts = self.host.status.facts
        assert facts is not None
        return facts

    def until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, self.host.status
            self.host.run_pass()
            assert self.host.status.failure is None, self.host.status.failure

    def drain(self) -> None:
        self.host.order(HoldLoad())
        self.host.run_pass()
        self.until(lambda: self.host.status.state is State.READY)

    def close(self) -> None:
        self.host.close(5)
        self.host.run_pass()


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    made = Run(**getattr(request, "param", {}))
    yield made
    made.close()
    assert not children()


@pytest.mark.long
@pytest.mark.parametrize(
    "run", [{}, {"data_parallel_size": 2}], indirect=True, ids=["one engine", "two engines"]
)
def test_it_is_tuned_live_and_booted_anew(run: Run) -> None:
    facts, books = run.facts, run.session.recorder
    assert facts.model == "shape:demo"
    assert facts.ceilings.max_num_seqs == 32
    fronts = {"max_num_queued_reqs", "max_num_queued_tokens"} if facts.engines > 1 else set()
    fixed = facts.fixed.keys() - {"prefill_schedule_interval", "num_speculative_tokens"}
    assert fixed == {"max_model_len"} | fronts
    assert {"max_num_seqs", "block_size"} <= {each.name for each in facts.arguments}
    run.host.order(RunLoad())
    run.until(lambda: books.accounting.finished >= 24)
    run.session.steer.limits.set("max_num_seqs", 4)
    run.until(lambda: books.accounting.finished >= 60)
    rows = books.steps.between(time.monotonic() - 0.5)
    assert max(rows[:, 2]) <= 4 * facts.engines
    # Above the ceiling: the server is booted anew, the load goes on with it.
    run.session.steer.engine.boot_higher("max_num_seqs", 48)
    run.until(lambda: run.host.status.facts is not facts and run.host.status.facts is not None)
    assert run.facts.ceilings.max_num_seqs == 48
    run.until(lambda: books.accounting.finished >= 90)
    run.drain()
    assert books.accounting.balanced
    # Tokens whose step the old server had not told of when it ended are in no step.
    assert books.generated_tokens > 20 * books.accounting.finished - 48


NGRAM: EngineValue = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}


@pytest.mark.long
@pytest.mark.parametrize("run", [{"speculative_config": NGRAM}], indirect=True)
def test_drafts_are_turned_and_what_they_switch_off_is_told(run: Run) -> None:
    facts, books = run.facts, run.session.recorder
    rows = {row.name: row for row in facts.resolved}
    assert rows["async_scheduling"].warns
    assert rows["async_scheduling"].why.startswith("Async scheduling not supported with ngram")
    helps = {each.name: each.help for each in facts.arguments}
    assert helps["block_size"].startswith("Size of a contiguous cache block")
    assert facts.ceilings.num_speculative_tokens == 3
    run.host.order(RunLoad())
    for turn, number in enumerate((3, 0, 2), 1):
        run.session.steer.limits.set("num_speculative_tokens", number)
        run.until(partial(lambda least: books.accounting.finished >= least, 24 * turn))
        knobs = run.host.status.knobs
        assert knobs is not None
        assert knobs.num_speculative_tokens == number
    run.drain()
    assert books.accounting.balanced


@pytest.mark.long
def test_what_vllm_refuses_is_a_failure_that_leaves_nothing_behind() -> None:
    run = Run(tensor_parallel_size=-3)
    assert run.host.status.failure is not None
    message = run.host.status.failure.message
    assert message.startswith("vLLM's server did not come up: ")
    assert "\n" not in message
    run.close()
    assert not children()


@pytest.mark.long
def test_ray_on_a_cpu_is_refused_in_a_sentence_and_nothing_of_it_stays() -> None:
    pytest.importorskip("ray")
    from vllm.platforms import current_platform

    if current_platform.ray_device_key:
        pytest.skip("vLLM runs under Ray here")
    shared = set(os.listdir("/dev/shm"))
    run = Run(data_parallel_size=2, data_parallel_backend="ray")
    assert run.host.status.failure is not None
    assert run.host.status.failure.message == (
        "vLLM's server did not come up: vLLM's cpu backend does not run under Ray."
    )
    run.close()
    assert not children()
    assert not [each for each in psutil.Process().children(recursive=True) if "ray" in each.name()]
    assert set(os.listdir("/dev/shm")) <= shared


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose name leaves room for that of vLLM's sockets."""
    with tempfile.TemporaryDirectory(prefix="t") as name:
        yield Path(name)


def left_behind(
    state: Path, temporary: Path, told: tuple[str, ...], number: signal.Signals
) -> tuple[int, int]:
    """Processes below a bench that says one of `told`, and those left once it has got the signal.

    It has left no file in `temporary` either.
    """
    words = [sys.executable, "-m", "tputtui", "bench", "--served", "--duration", "10min"]
    env = os.environ | {"XDG_STATE_HOME": str(state), "TMPDIR": str(temporary)}
    program = subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True)
    assert program.stderr is not None
    for line in program.stderr:
        if any(each in line for each in told):
            break
    below = psutil.Process(program.pid).children(recursive=True)
    program.send_signal(number)
    program.communicate()
    _, left = psutil.wait_procs(below, timeout=PATIENCE_S)
    assert not list(temporary.glob("tputtui-*"))
    return len(below), len(left)


@pytest.mark.long
def test_it_ends_when_we_are_killed(tmp_path: Path, temporary: Path) -> None:
    below, left = left_behind(tmp_path, temporary, ("warming up", "settling"), signal.SIGKILL)
    assert below
    assert not left


@pytest.mark.long
def test_leaving_while_it_boots_leaves_nothing_either(tmp_path: Path, temporary: Path) -> None:
    _, left = left_behind(tmp_path, temporary, ("loads the model",), signal.SIGTERM)
    assert not left


DEAF = """
import signal, sys, time
from tputtui.engine.vllm import serve
def deaf(words, file):
    signal.signal(signal.SIGTERM, lambda *_: None)
    print("up", flush=True)
    while True:
        time.sleep(1)
serve._LOOK_S, serve._GRACE_S, serve._serve = 0.05, 0.5, deaf
serve.main()
"""
PARENT = """
import os, subprocess, sys
words = [sys.executable, "-c", sys.argv[1], str(os.getpid()), sys.argv[2]]
child = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_server_that_misses_the_one_signal_is_ended_all_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "tputtui-x"
    folder.mkdir()
    (folder / "control").touch()
    words = [sys.executable, "-c", PARENT, DEAF, str(folder / "failure")]
    told = subprocess.run(words, capture_output=True, text=True, check=False).stdout
    end_s = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(int(told)) and time.monotonic() < end_s:
        time.sleep(0.05)
    assert not psutil.pid_exists(int(told))
    assert not folder.exists()


@pytest.mark.long
def test_a_profile_is_measured_as_it_is_served(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    base = Profile(
        EngineSpec("shape:demo"),
        Workload(ClosedLoop(12), prompt=Fixed(40), output=Fixed(20)),
        knobs={"max_num_seqs": 16},
        evidence=Evidence(TUNED, tuned=evidence_of(tokens_per_s=900.0).tuned),
    )
    profile.save(base, file)
    assert cli.main(["verify", "--served", str(file), "--duration", "6s", "--quiet"]) == 0
    kept = profile.load(file).evidence
    assert kept is not None
    assert kept.served is not None
    assert kept.served.ceilings["max_num_seqs"] == 16
    assert kept.state == TUNED
    assert "tokens_per_s" in kept.served_difference
    assert "on vLLM's own server" in capfd.readouterr().out
    # Nothing to stand beside.
    profile.save(msgspec.structs.replace(base, evidence=None), tmp_path / "bare.yaml")
    assert cli.main(["verify", "--served", str(tmp_path / "bare.yaml")]) == 2


def test_below_a_long_tmpdir_the_servers_processes_meet_elsewhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"/{uuid.uuid4()}"
    fits = "/x" + "y" * (107 - len(name) - 2)
    assert sockets_below(fits) == {}
    found = sockets_below(f"{fits}z")
    assert found == {"VLLM_RPC_BASE_PATH": "/tmp"}
    monkeypatch.setenv("VLLM_RPC_BASE_PATH", "/mine")
    assert sockets_below(f"{fits}z") == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--served", "--isolate"], "Leave --isolate out"),
        (["--served", "--simulate", "h100"], "Leave --served or --simulate out"),
        (["--served", "server:localhost:8000"], "Leave --served out"),
        (["--data-parallel-size", "2"], "Add --served"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", *words]) == 2
    assert says in capsys.readouterr().err

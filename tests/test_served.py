"""A server in place of an engine: what is sent, what is counted, what goes wrong. Real sockets."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import PATIENCE_S
from tests.realserver import TEMPLATE, write_tokenizer
from tests.served import Completions, FakeServer, Servers, exposition
from tests.terminal import PROGRAM, environment
from tputtui import profile
from tputtui.attach.access import Access
from tputtui.engine.host import Host
from tputtui.engine.models import resolve
from tputtui.engine.orders import Boot, HoldLoad, SetLimits, Start, StopLoad
from tputtui.engine.protocol import State
from tputtui.engine.served.engine import ServedEngine
from tputtui.errors import UsageError
from tputtui.knobs import UNTOLD
from tputtui.load.lengths import Fixed
from tputtui.load.requests.file import RequestFile, Sampling
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Accounting
from tputtui.measure.window import figures, latencies
from tputtui.profile import EngineSpec, EngineValue

MODELS = msgspec.json.encode({"data": [{"id": "the-model", "max_model_len": 4096}]})
LOAD = Workload(ClosedLoop(4), prompt=Fixed(10), output=Fixed(6))


def server(**more: Any) -> FakeServer:
    routes = {"/v1/models": MODELS, "/version": b'{"version": "0.33.0"}', **more.pop("routes", {})}
    return FakeServer(completions=Completions(**more), routes=routes)


class Driven:
    """A host that drives a fake server, turned here."""

    def __init__(self, servers: Servers, load: Workload = LOAD) -> None:
        self.recorder = Recorder()
        self.servers = servers
        (address,) = servers.addresses
        self.host = Host(
            lambda: ServedEngine(address, Access()), self.recorder, load, time.monotonic
        )
        self.host.order(Boot(Start(EngineSpec("server:x"), {}), load=True))
        self.began_s = time.monotonic()

    def until(self, done: Callable[[], bool], most_s: float = PATIENCE_S) -> Driven:
        end_s = time.monotonic() + most_s
        while not done():
            assert time.monotonic() < end_s, self.host.status
            self.host.run_pass(min(0.01, max(0.0, self.host.run_pass())))
        return self

    def ended(self, n: int) -> Driven:

        def account() -> Accounting:
            return self.recorder.accounting

        self.until(lambda: account().issued - account().in_flight >= n)
        self.host.order(HoldLoad())
        return self.until(lambda: account().in_flight == 0)

    def close(self) -> None:
        self.host.close(1.0)
        self.host.run_pass()


@pytest.fixture
def driven(request: pytest.FixtureRequest) -> Iterator[Callable[..., Driven]]:
    made = []

    def drive(fake: FakeServer, load: Workload = LOAD) -> Driven:
        servers = Servers(fake)
        servers.__enter__()
        made.append((servers, Driven(servers, load)))
        return made[-1][1]

    yield drive
    for servers, each in made:
        each.close()
        servers.__exit__()


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"usage": "final"},
        {"usage": "continuous", "a_chunk": 4},
        {"usage": "final", "a_chunk": 4},
        {"usage": ""},
    ],
)
def test_every_token_is_counted_as_the_server_counts_it(
    driven: Callable[..., Driven], how: dict[str, Any]
) -> None:
    fake = server(**how)
    run = driven(fake).ended(20)
    account = run.recorder.accounting
    assert account.balanced
    assert account.finished == account.issued >= 20
    assert run.recorder.generated_tokens == fake.completions.generated == 6 * account.issued
    asked = fake.completions.asked[0]
    assert asked["model"] == "the-model"
    assert len(asked["prompt"]) == 10
    assert (asked["max_tokens"], asked["ignore_eos"]) == (6, True)


def test_what_requests_carry_is_asked_of_the_server(driven: Callable[..., Driven]) -> None:
    fake = server()
    load = from_texts(
        LOAD, {"lora": "a=0.5", "priority": "7=0.5", "structured": "share=0.5 regex=a+",
               "answers": "logprobs=3"},
    )  # fmt: skip
    run = driven(fake, load).ended(60)
    bodies = fake.completions.asked
    assert {body["model"] for body in bodies} == {"the-model", "a"}
    assert {body["priority"] for body in bodies} == {0, 7}
    assert {body["logprobs"] for body in bodies} == {3}
    formed = [body for body in bodies if "structured_outputs" in body]
    assert 0 < len(formed) < len(bodies)
    assert not any(body["ignore_eos"] for body in formed)
    assert all(body["ignore_eos"] for body in bodies if body not in formed)
    adapters = Counter(label.adapter for label in run.recorder.labels)
    assert adapters.keys() == {"", "a"}
    assert run.recorder.accounting.balanced


def test_requests_that_are_given_up_are_hung_up(driven: Callable[..., Driven]) -> None:
    fake = server(every_s=0.05)
    load = from_texts(LOAD, {"output": "400", "prompt": "10", "cancel": "share=1 after=0.2s"})
    run = driven(fake, load)
    run.until(lambda: run.recorder.accounting.cancelled >= 8)
    run.host.order(HoldLoad())
    run.until(lambda: run.recorder.accounting.in_flight == 0)
    books = run.recorder.accounting
    assert books.balanced
    assert (books.failed, books.aborted, books.finished) == (0, 0, 0)
    assert books.cancelled == books.issued


@pytest.mark.parametrize(
    ("tokenize", "size"),
    [
        (b'{"tokens": [5, 49999, 7]}', 50_000),
        (b'{"tokens": []}', 256),
        (b"<html>", 256),
        (None, 256),
    ],
)
def test_no_token_is_sent_that_the_model_may_not_have(
    driven: Callable[..., Driven], tokenize: bytes | None, size: int
) -> None:
    """A server without a tokenizer looks at no id: one too high would kill it."""
    fake = server(routes={"/tokenize": tokenize} if tokenize else {})
    run = driven(fake).ended(20)
    assert run.host.status.facts.vocab_size == size
    assert size // 2 < fake.completions.highest < size


def test_what_the_server_tells_is_known_and_the_rest_is_not(driven: Callable[..., Driven]) -> None:
    run = driven(server())
    run.until(lambda: run.host.status.facts is not None)
    facts = run.host.status.facts
    assert facts.model == "the-model"
    assert facts.versions == {"vllm": "0.33.0"}
    assert facts.ceilings.max_model_len == 4096
    assert facts.ceilings.num_gpu_blocks == 1000
    assert facts.ceilings.max_num_seqs == UNTOLD
    assert not facts.stepped
    assert "server" in facts.fixed["max_num_seqs"]
    # What it tells of its configuration; what it was asked for, it does not.
    assert facts.got == {"block_size": "16"}
    assert [(row.asked, row.warns) for row in facts.resolved] == [(None, False)]


def test_a_chunk_with_nothing_in_it_is_no_first_token(driven: Callable[..., Driven]) -> None:
    run = driven(server(empty_first=True, first_s=0.1, usage="final")).ended(4)
    first = run.recorder.first_tokens.between(0)
    assert len(first) == run.recorder.accounting.issued
    assert (first[:, 2] >= 0.1).all()


def test_latencies_are_those_of_the_stream(driven: Callable[..., Driven]) -> None:
    run = driven(server(first_s=0.05, every_s=0.02)).ended(12)
    found = latencies(run.recorder, 0.0, time.monotonic())
    assert found.itl.n == 5 * run.recorder.accounting.issued
    # How much later than the server's own pauses they come is the machine's affair.
    assert found.itl.p50 >= 0.02
    assert found.tpot.p50 >= 0.02
    assert found.ttft.p50 >= 0.05
    for request in run.recorder.request_log:
        after_first_s = request.end_s - request.first_token_s
        assert after_first_s <= request.end_s - run.began_s - 0.05
    seen = figures(run.recorder, run.began_s, time.monotonic())
    assert seen.kv_frac == pytest.approx(0.25)
    assert seen.sequences_frac != seen.sequences_frac


@pytest.mark.parametrize("forced", [False, True])
def test_real_requests_end_where_the_server_ends_them(
    driven: Callable[..., Driven], tmp_path: Path, forced: bool
) -> None:
    write_tokenizer(tmp_path, TEMPLATE)
    line = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 9, "top_p": 0.5,
            "stop": ["END"]}  # fmt: skip
    path = tmp_path / "chats.jsonl"
    path.write_text("\n".join([json.dumps(line)] * 30))
    file = RequestFile(
        str(path), str(tmp_path), force_lengths=forced, sampling=Sampling(temperature=0.2)
    )
    fake = server(ends_at=5)
    run = driven(fake, Workload(ClosedLoop(4), requests=file))
    run.until(lambda: run.host.status.load_run.ended and not run.recorder.accounting.in_flight)
    account = run.recorder.accounting
    assert (account.finished, account.issued) == (30, 30)
    assert dict(run.recorder.stops) == {"length" if forced else "stop": 30}
    assert run.recorder.generated_tokens == fake.completions.generated == 30 * (9 if forced else 5)
    asked = fake.completions.asked[0]
    assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (0.2, 0.5, 9)
    assert asked.get("ignore_eos", False) is forced
    assert asked.get("stop") == (None if forced else ["END"])
    assert len(asked["prompt"]) == len("<user>hello</s><assistant>") - len("</s>") + 1


def test_what_becomes_of_a_request_is_told_apart(driven: Callable[..., Driven]) -> None:
    fake = server(fails={2: 400, 3: 503, 4: 500, 5: "broken", 6: "late"})
    account = driven(fake).ended(9).recorder.accounting
    assert account.rejected == 3
    assert account.failed == 2
    assert account.balanced
    assert account.finished == account.issued - 5


def test_a_load_that_is_stopped_hangs_up(driven: Callable[..., Driven]) -> None:
    fake = server(every_s=0.5)
    run = driven(fake)
    run.until(lambda: run.recorder.accounting.running == 4)
    run.host.order(StopLoad())
    run.until(lambda: run.recorder.accounting.in_flight == 0)
    assert run.recorder.accounting.aborted == 4
    assert run.recorder.accounting.balanced


def test_a_server_that_is_gone_is_a_failure_in_a_sentence(driven: Callable[..., Driven]) -> None:
    fake = server(every_s=0.01)
    with Servers(fake) as servers:
        run = Driven(servers)
        run.until(lambda: run.recorder.accounting.finished > 2)
        servers.kill(0)
    run.until(lambda: run.host.status.state is State.FAILED)
    assert "is gone: " in run.host.status.failure.message
    assert run.recorder.accounting.balanced
    run.close()


def test_a_server_that_is_not_there_does_not_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tputtui.engine.served.engine._FIRST_ANSWER_S", 0.3)
    with Servers(server()) as servers:
        pass
    run = Driven(servers)
    run.until(lambda: run.host.status.state is State.FAILED)
    assert "cannot be reached" in run.host.status.failure.message
    run.close()


@pytest.mark.long
def test_a_thousand_streams_at_once(driven: Callable[..., Driven]) -> None:
    load = Workload(ClosedLoop(1000), prompt=Fixed(4), output=Fixed(4))
    fake = server(first_s=1.0)
    run = driven(fake, load)
    run.until(lambda: run.recorder.accounting.waiting == 1000)
    run.ended(1000)
    account = run.recorder.accounting
    assert account.balanced
    assert account.finished == account.issued
    assert run.recorder.generated_tokens == fake.completions.generated


RUNTIME = {"/v1/runtime_config": b'{"max_num_seqs": 256, "max_num_running_seqs": 64}'}


def test_a_limit_that_the_server_offers_is_turned_there(driven: Callable[..., Driven]) -> None:
    fake = server(routes=RUNTIME)
    run = driven(fake)
    run.until(lambda: run.host.status.facts is not None)
    facts, knobs = run.host.status.facts, run.host.status.knobs
    assert (knobs.max_num_seqs, facts.ceilings.max_num_seqs) == (64, 256)
    assert "max_num_seqs" not in facts.fixed
    run.host.order(SetLimits(knobs.with_value("max_num_seqs", 16)))
    run.until(lambda: run.host.status.knobs.max_num_seqs == 16)
    assert fake.patched == [{"max_num_running_seqs": 16}]


def test_a_limit_that_the_server_refuses_stays(driven: Callable[..., Driven]) -> None:
    fake = server(routes=RUNTIME)
    fake.patch_status = 403
    run = driven(fake)
    run.until(lambda: run.host.status.facts is not None)
    run.host.order(SetLimits(run.host.status.knobs.with_value("max_num_seqs", 16)))
    run.until(lambda: any("refuses" in mark.text for mark in run.recorder.marks))
    assert run.host.status.knobs.max_num_seqs == 64
    assert run.host.status.state is State.RUNNING


def test_the_same_load_is_measured_without_a_screen(tmp_path: Path) -> None:
    with Servers(server(every_s=0.002)) as servers:
        url = servers.servers[0].url
        words = [f"server:{url}", "--load", "4", "--prompt-tokens", "10", "--output-tokens", "6"]
        saved = tmp_path / "found.yaml"
        done = subprocess.run(
            [PROGRAM, "bench", *words, "--duration", "1s", "--format", "json", "--save", saved],
            env=environment(tmp_path), capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["measured"]["figures"]["tokens_per_s"]["value"] > 100
    assert "max_num_seqs" not in told["measured"]["limits"]
    found = profile.load(saved)
    assert found.engine == EngineSpec(f"server:{url}")
    assert found.knobs == {"max_model_len": 4096}
    # The run can be looked at again in every form.
    log = told["files"]["session"]
    for words in (["report", log, "-o", "page.html"], ["report", log, "-o", "page.md"],
                  ["compare", log, log]):  # fmt: skip
        done = subprocess.run(
            [PROGRAM, *words], cwd=tmp_path, env=environment(tmp_path), capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    assert "4611686018427387904" not in (tmp_path / "page.md").read_text()
    assert "4611686018427387904" not in done.stdout


@pytest.mark.parametrize(
    ("fate", "how"), [(400, "were rejected"), pytest.param(500, "failed", marks=pytest.mark.long)]
)
def test_a_run_in_which_nothing_was_served_is_no_success(
    fate: int, how: str, tmp_path: Path
) -> None:
    class Always(dict[int, object]):
        def get(self, key: object, default: object = None) -> int | None:
            return fate if key else None

    with Servers(server(fails=Always())) as servers:
        words = [f"server:{servers.servers[0].url}", "--load", "2/s", "--output-tokens", "6"]
        done = subprocess.run(
            [PROGRAM, "bench", *words, "--duration", "3s", "--quiet"], stdin=subprocess.DEVNULL,
            env=environment(tmp_path), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 1, done.stderr
    told = re.search(rf"nothing was served: ([\d,]+) of [\d,]+ requests {how}\.", done.stderr)
    assert told, done.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ({"max_num_seqs": 4}, "where the server is started"),
        ({"token_file": "/nowhere"}, "cannot be read"),
    ],
)
def test_arguments_that_are_not_for_a_server_are_refused(
    args: dict[str, EngineValue], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        resolve(EngineSpec("server:h:1", args))
    with pytest.raises(UsageError):
        resolve(EngineSpec("server:"))


def test_fake_servers_are_like_the_real_one() -> None:
    names = {line.split("{")[0] for line in exposition(1.0).decode().splitlines()[3:] if line}
    real = (Path(__file__).parent / "data" / "vllm-0.32-metrics.txt").read_text()
    assert all(f"\n{name}{{" in real for name in names)


@pytest.mark.parametrize("name", [pytest.param("chat", marks=pytest.mark.long), "demo"])
def test_of_a_profile_a_server_takes_load_and_goals(name: str, tmp_path: Path) -> None:
    with Servers(server(every_s=0.002)) as servers:
        url = servers.servers[0].url
        words = [f"server:{url}", "--profile", name, "--duration", "1s", "--format", "json"]
        done = subprocess.run(
            [PROGRAM, "bench", *words, "--load", "4", "--output-tokens", "6"],
            env=environment(tmp_path), capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "left out" in line]
    assert f"left out of {name}: engine.max_num_seqs," in line
    assert "limits.max_num_seqs" in line
    told = json.loads(done.stdout)
    # As the server says, not as the profile would have it.
    assert told["measured"]["limits"]["max_model_len"] == 4096
    assert "max_num_seqs" not in told["measured"]["limits"]
    assert "400~0.9" in told["measured"]["load"] or name == "demo"


@pytest.mark.parametrize(
    "words",
    [
        ["--max-num-seqs", "4"],
        ["--limit", "max_model_len=100"],
    ],
)
def test_what_is_typed_for_a_server_and_is_not_its_to_set_is_refused(
    words: list[str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [PROGRAM, "bench", "server:localhost:9", "--profile", "chat", "--quiet", *words],
        env=environment(tmp_path), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "is given where the server is started, not here." in done.stderr
    assert done.stderr.count("\n") == 2

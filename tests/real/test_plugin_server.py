"""Our plugin inside vLLM's own server: limits changed under load, and nobody hurt by it."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import PATIENCE_S
from tests.realserver import Server, serving, write_model
from tputtui import cli
from tputtui.attach.access import Access
from tputtui.attach.address import parse_addresses
from tputtui.attach.here import serving_here
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, HoldLoad, RunLoad, Start
from tputtui.engine.protocol import EngineFacts, State
from tputtui.engine.served.engine import ServedEngine
from tputtui.engine.served.live import LiveEngine
from tputtui.engine.wire import CONTROL, LEASE, PATH
from tputtui.errors import KnobError, OthersError, UsageError
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import above
from tputtui.profile import EngineSpec, Profile
from tputtui.session.session import Session

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900)]

TOKEN = "a control token that nobody guesses"
ENGINES = [1, pytest.param(2, marks=pytest.mark.long)]


class Driven:
    """A session on the server, its engine thread turned by hand."""

    def __init__(
        self, server: Server, token: str = TOKEN, kind: type[ServedEngine] = ServedEngine
    ) -> None:
        (address,) = parse_addresses([server.url])
        spec = EngineSpec(f"server:{server.url}")
        load = Workload(ClosedLoop(12), prompt=Fixed(40), output=Fixed(20), seed=3)
        self.session = Session(
            lambda: kind(address, Access(), token), Profile(spec, load), time.monotonic
        )
        assert isinstance(self.session.host, Host)
        self.host = self.session.host
        self.host.order(Boot(Start(spec, {}), load=False))
        self.host.run_pass()
        assert self.host.status.failure is None, self.host.status.failure

    @property
    def facts(self) -> EngineFacts:
        facts = self.host.status.facts
        assert facts is not None
        return facts

    def turn_until(self, done: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, self.host.status
            self.host.run_pass()
            assert self.host.status.failure is None, self.host.status.failure

    def run(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.turn_until(lambda: time.monotonic() > end)

    def drain(self) -> None:
        self.host.order(HoldLoad())
        self.host.run_pass()
        self.turn_until(lambda: self.host.status.state is State.READY)

    def close(self) -> None:
        self.host.close(5)
        self.host.run_pass()


@pytest.fixture(scope="module", params=ENGINES)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with served(tmp_path_factory.mktemp("plugin"), request.param) as server:
        yield server


@contextlib.contextmanager
def served(folder: Path, engines: int, **environment: str) -> Iterator[Server]:
    """vLLM's server with the plugin inside and so many engines, each with a front of its own."""
    write_model(folder / "model")
    token = folder / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    words = f"""--model {folder / "model"} --served-model-name tiny --enforce-eager --dtype float32
        --max-num-seqs 32 --max-num-batched-tokens 512 --max-model-len 512 --block-size 32
        --kv-cache-memory-bytes {32 * 2**20}""".split()
    if engines > 1:
        words += ["--data-parallel-size", str(engines), "--api-server-count", str(engines)]
    environment = {
        "VLLM_PLUGINS": "tputtui",
        "TPUTTUI_CONTROL_TOKEN_FILE": str(token),
        "TPUTTUI_BOUNDS": "max_num_batched_tokens=64..512",
        **environment,
    }
    with serving(words, folder / "server.log", environment) as server:
        yield server


@pytest.fixture
def driven(server: Server) -> Iterator[Driven]:
    made = Driven(server)
    yield made
    made.close()


def asked(
    server: Server, method: str, route: str = "", body: object = None, **headers: str
) -> tuple[int, Any]:
    """Status and answer of one of the plugin's routes."""
    data = None if body is None else json.dumps(body).encode()
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(f"{server.url}{PATH}{route}", data, sent, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def engines(server: Server) -> list[dict[str, Any]]:
    status, about = asked(server, "GET")
    assert status == 200
    found: list[dict[str, Any]] = about["engines"]
    return found


CONTROLS = {CONTROL.replace("-", "_"): TOKEN}


@pytest.mark.long
def test_every_engine_is_told_with_its_limits(server: Server) -> None:
    for engine in engines(server):
        assert engine["limits"]["max_num_seqs"] == 32
        assert engine["bounds"] == {"max_num_batched_tokens": [64, 512]}
        assert engine.get("holder", "") == ""
        assert engine["got"]["max_num_seqs"] == "32"
        assert engine["got"]["enable_prefix_caching"] == "on"
        # The model is in a process of its own, which keeps its attention backend to itself.
        assert "attention_backend" not in engine["got"]
    # What nobody asked for is left out of what was asked for.
    given = asked(server, "GET")[1]["asked"]
    assert given["max_num_seqs"] == "32"
    assert "enable_prefix_caching" not in given


def test_limits_are_changed_under_load_and_nothing_is_lost(driven: Driven, server: Server) -> None:
    steer, recorder = driven.session.steer, driven.session.recorder
    count = driven.facts.engines
    # With a front of its own for each engine, nobody counts all requests.
    fronts = {"max_num_queued_reqs", "max_num_queued_tokens"} if count > 1 else set()
    fixed = driven.facts.fixed.keys() - {"prefill_schedule_interval", "num_speculative_tokens"}
    assert fixed == {"max_model_len"} | fronts
    driven.host.order(RunLoad())
    driven.turn_until(lambda: recorder.accounting.finished >= 24)
    rng = random.Random(5)
    for _ in range(300 if count > 1 else 12):
        name, value = rng.choice(
            [("max_num_seqs", rng.randint(1, 32)), ("max_num_batched_tokens", rng.randint(64, 512)),
             ("enable_prefix_caching", rng.randint(0, 1)), ("watermark_blocks", rng.randint(0, 3))]
        )  # fmt: skip
        steer.limits.set(name, value)
        driven.run(0.05)
        assert {engine["limits"][name] for engine in engines(server)} == {value}
    steer.limits.set("max_num_seqs", 2)
    steer.limits.set("max_num_batched_tokens", 512)
    driven.run(1.5)
    since_s = time.monotonic()
    driven.turn_until(lambda: len(recorder.steps.between(since_s)) > 5)
    rows = recorder.steps.between(since_s)
    assert len(rows) > 5
    assert max(rows[:, 2]) <= 2 * count  # running
    driven.drain()
    books = recorder.accounting
    assert books.balanced
    assert books.finished == books.issued
    assert recorder.generated_tokens == 20 * books.finished


def test_arrivals_are_refused_by_the_front_and_by_nobody_once_the_board_is_gone(
    server: Server,
) -> None:
    driven = Driven(server)
    if driven.facts.engines > 1:
        with pytest.raises(KnobError, match="2 front processes"):
            driven.session.steer.limits.set("max_num_queued_reqs", 4)
        driven.close()
        return
    steer, recorder = driven.session.steer, driven.session.recorder
    driven.host.order(RunLoad())
    driven.turn_until(lambda: recorder.accounting.finished >= 12)
    assert recorder.accounting.rejected == 0
    steer.limits.set("max_num_queued_reqs", 4)
    driven.turn_until(lambda: recorder.accounting.rejected >= 20)
    running = recorder.steps.between(time.monotonic() - 0.5)[:, 2]
    assert max(running) <= 4
    steer.limits.set("max_num_queued_reqs", "none")
    steer.limits.set("max_num_queued_tokens", 60)  # prompts of 40: two at most
    rejected = recorder.accounting.rejected
    driven.turn_until(lambda: recorder.accounting.rejected >= rejected + 10)
    steer.limits.set("max_num_queued_tokens", "none")
    driven.run(1.0)  # those refused before come back
    rejected = recorder.accounting.rejected
    driven.run(1.5)
    assert recorder.accounting.rejected == rejected
    steer.limits.set("max_num_queued_reqs", 1)
    driven.run(0.1)
    driven.drain()
    books = recorder.accounting
    assert books.balanced
    assert books.issued == books.finished + books.rejected
    driven.close()
    assert engines(server)[0]["limits"]["max_num_queued_reqs"] == 0
    after = Driven(server)
    after.host.order(RunLoad())
    after.turn_until(lambda: after.session.recorder.accounting.finished >= 24)
    assert after.session.recorder.accounting.rejected == 0
    after.drain()
    after.close()


@pytest.mark.long
def test_steps_are_seen_one_by_one(driven: Driven) -> None:
    recorder, one = driven.session.recorder, driven.facts.engines == 1
    assert driven.facts.stepped is one
    driven.host.order(RunLoad())
    driven.turn_until(lambda: recorder.accounting.finished >= 60)
    driven.drain()
    # What is still on its way to us.
    driven.host.order(RunLoad())
    driven.run(0.5)
    driven.drain()
    rows = recorder.steps.between(0.0)
    # No more prefill than prompts have tokens: their first blocks may have been cached.
    assert 0 < rows[:, 4].sum() <= 40 * recorder.accounting.finished
    if one:
        assert max(rows[:, 2]) == 12
        assert max(rows[:, 4] + rows[:, 5]) <= 512
    assert 0 < max(rows[:, 10]) < 1


@pytest.mark.long
def test_a_second_controller_a_wrong_token_and_what_is_out_of_bounds_are_refused(
    driven: Driven, server: Server
) -> None:
    status, problem = asked(server, "POST", "/control", {"holder": "bob"}, **CONTROLS)
    assert status == 409
    assert "controls this server" in problem["message"]
    wrong = {CONTROL.replace("-", "_"): "another token of some length"}
    routes: tuple[tuple[str, str, object], ...] = (
        ("POST", "/control", {"holder": "bob"}), ("PATCH", "/limits", {"limits": {}}),
        ("PUT", "/control", None), ("DELETE", "/control", None), ("POST", "/preempt", None),
    )  # fmt: skip
    for method, route, body in routes:
        for headers in (wrong, {}):
            status, problem = asked(server, method, route, body, **headers)
            assert status == 403, (method, route)
        if route != "/control" or method != "POST":
            lease = {LEASE.replace("-", "_"): "guessed"}
            status, problem = asked(server, method, route, body, **CONTROLS, **lease)
            assert status == 409, (method, route, problem)
    with pytest.raises(Exception, match="operator allows"):
        driven.host._engine.apply(driven.facts.booted.with_value("max_num_batched_tokens", 32))
    for wrong_body in ("no", {"limits": {"a": "b"}}, {"limits": {"max_num_seqs": 8, "x": 9e99}}):
        assert asked(server, "PATCH", "/limits", wrong_body, **CONTROLS)[0] == 400


@pytest.mark.long
def test_an_engine_that_is_killed_ends_the_run_and_says_so(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("killed")
    with served(folder, 2) as server:
        driven = Driven(server)
        recorder = driven.session.recorder
        driven.host.order(RunLoad())
        driven.turn_until(lambda: recorder.accounting.finished >= 24)
        (engine,) = (each for each in server.members() if "EngineCore_DP1" in titled(each))
        engine.kill()
        end = time.monotonic() + PATIENCE_S
        while driven.host.status.failure is None:
            assert time.monotonic() < end, server.tail()
            driven.host.run_pass()
        assert driven.host.status.state is State.FAILED
        assert "is gone" in driven.host.status.failure.message
        books = recorder.accounting
        assert books.balanced
        assert books.failed
        driven.close()


def titled(process: psutil.Process) -> str:
    """A process's title; vLLM gives its own."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@pytest.mark.long
def test_a_controller_that_dies_leaves_everything_as_it_was(server: Server) -> None:
    before = [engine["limits"] for engine in engines(server)]
    status, taken = asked(server, "POST", "/control", {"holder": "bob"}, **CONTROLS)
    assert status == 200
    lease = {LEASE.replace("-", "_"): taken["lease"]}
    limits = {"limits": {"max_num_seqs": 4}}
    assert asked(server, "PATCH", "/limits", limits, **CONTROLS, **lease)[0] == 200
    assert {engine["limits"]["max_num_seqs"] for engine in engines(server)} == {4}
    # The engines are idle, and nobody asks: the front looks after it.
    deadline = time.monotonic() + PATIENCE_S
    while "is gone; back: max_num_seqs 4 → 32" not in server.log.read_text():
        assert time.monotonic() < deadline, server.tail()
        time.sleep(0.5)
    assert [engine["limits"] for engine in engines(server)] == before
    assert all(not engine.get("holder") for engine in engines(server))


@pytest.mark.long
def test_the_engines_stand_still_while_paused(driven: Driven) -> None:
    recorder = driven.session.recorder
    driven.host.order(RunLoad())
    driven.turn_until(lambda: recorder.accounting.finished >= 12)
    driven.session.steer.engine.toggle()
    driven.host.run_pass()
    assert driven.host.status.state is State.PAUSED
    time.sleep(0.5)
    steps = driven.host._engine._inside  # type: ignore[attr-defined]
    steps.arrived()
    time.sleep(0.5)
    assert not any(batch.rows for batch in steps.arrived())
    driven.session.steer.engine.toggle()
    finished = recorder.accounting.finished
    driven.turn_until(lambda: recorder.accounting.finished > finished)
    driven.drain()
    assert recorder.accounting.balanced
    assert recorder.accounting.finished == recorder.accounting.issued


def test_without_the_token_it_can_only_be_watched(server: Server) -> None:
    driven = Driven(server, token="")
    try:
        assert "--control-token-file" in driven.facts.fixed["max_num_seqs"]
        driven.host.order(RunLoad())
        driven.turn_until(lambda: driven.session.recorder.steps.count > 20)
        with pytest.raises(UsageError, match="cannot be paused"):
            driven.session.steer.engine.toggle()
        driven.drain()
    finally:
        driven.close()


@pytest.mark.long
def test_other_peoples_requests_are_spared(driven: Driven, server: Server) -> None:
    body = {"model": "tiny", "prompt": "Tune me", "max_tokens": 400, "ignore_eos": True}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.get, "/v1/completions", body)
        deadline = time.monotonic() + PATIENCE_S
        while not (refused := not_emptied(driven)):
            assert not answer.done()
            assert time.monotonic() < deadline
        assert "request of others under way" in refused
        # A leg of ours begins beside it, and takes nothing from it.
        driven.session.steer.load.restart()
        driven.run(0.3)
        got = json.loads(answer.result(PATIENCE_S))
    assert got["usage"]["completion_tokens"] == 400
    driven.drain()
    assert not not_emptied(driven)


@pytest.mark.long
def test_their_cost_is_asked_for_first_and_then_done_anyway(driven: Driven, server: Server) -> None:
    steer, recorder = driven.session.steer, driven.session.recorder
    body = {"model": "tiny", "prompt": "Tune me", "max_tokens": 400, "ignore_eos": True}
    done = threading.Event()

    def others() -> list[int]:
        lengths = []
        while not done.is_set():
            answer = json.loads(server.get("/v1/completions", body))
            lengths.append(answer["usage"]["completion_tokens"])
        return lengths

    def change(limit: int) -> None:
        steer.limits.set("max_num_seqs", limit)
        driven.turn_until(lambda: str(limit) in recorder.marks[-1].text)

    with ThreadPoolExecutor(4) as pool:
        theirs = [pool.submit(others) for _ in range(4)]
        try:
            for act in (steer.engine.toggle, steer.engine.reset_prefix_cache,
                        steer.experiments.sweep):  # fmt: skip
                driven.turn_until(lambda: recorder.others == 4)
                with pytest.raises(OthersError, match="4 requests of others under way"):
                    act()
            # A fast engine may have shrunk its batch before the next look.
            while True:
                driven.turn_until(lambda: above(recorder.accounting, recorder.engines, 1) > 0)
                change(1)
                with pytest.raises(UsageError) as refused:
                    steer.engine.preempt()
                if isinstance(refused.value, OthersError):
                    break
                change(32)
            assert "some would wait" in str(refused.value)
            steer.engine.preempt(anyway=True)
            steer.engine.reset_prefix_cache(anyway=True)
            driven.turn_until(lambda: "prefix cache emptied" in recorder.marks[-1].text)
            assert any("preempted now" in mark.text for mark in recorder.marks)
            change(32)
        finally:
            done.set()
            lengths = [each.result(PATIENCE_S) for each in theirs]
    assert {length for each in lengths for length in each} == {400}


@pytest.mark.long
def test_live_traffic_is_watched_and_a_change_judged_by_it(server: Server) -> None:
    body = {"model": "tiny", "prompt": "Tune me", "max_tokens": 40, "ignore_eos": True}
    done = threading.Event()

    def others() -> int:
        sent = 0
        while not done.is_set():
            server.get("/v1/completions", body)
            sent += 1
        return sent

    driven = Driven(server, kind=LiveEngine)
    session, recorder = driven.session, driven.session.recorder
    with closing(driven), ThreadPoolExecutor(6) as pool:
        theirs = [pool.submit(others) for _ in range(6)]
        try:
            driven.turn_until(lambda: recorder.accounting.finished >= 20)
            assert driven.facts.live
            assert driven.host.status.state is State.RUNNING
            driven.turn_until(lambda: 0 < recorder.accounting.in_flight <= 6)
            session.steer.limits.set("max_num_seqs", 2)
            for act in (session.steer.load.toggle, session.steer.experiments.compare):
                with pytest.raises(UsageError, match="sends no requests"):
                    act()
            driven.turn_until(lambda: session.advance().window.settled)
            driven.turn_until(lambda: session.advance().latencies.ttft.n >= 20)
            frame = session.latest
            assert frame.figures.generated_per_s > 0
            assert frame.latencies.tpot.p50 > 0
            assert max(each.running for each in frame.engines) <= 2
            with pytest.raises(UsageError, match="live traffic") as refused:
                session.save(server.log.parent / "none.yaml")
            assert "--max-num-seqs 2" in refused.value.hint
        finally:
            done.set()
            sent = sum(each.result(PATIENCE_S) for each in theirs)
        driven.turn_until(lambda: recorder.accounting.in_flight == 0)
    books = recorder.accounting
    assert books.balanced
    assert 0 < books.finished <= sent
    ended = list(recorder.request_log)
    assert {(each.prompt_tokens, each.output_tokens) for each in ended} == {(7, 40)}
    assert all(each.due_s < each.first_token_s < each.end_s for each in ended)
    assert {engine["limits"]["max_num_seqs"] for engine in engines(server)} == {32}


def not_emptied(driven: Driven) -> str:
    """Why the prefix cache is not emptied now; empty where it is."""
    try:
        driven.host._engine._inside.act("reset_prefix_cache")  # type: ignore[attr-defined]
    except UsageError as error:
        return error.message
    return ""


@pytest.mark.long
def test_it_is_found_without_an_address(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    port = int(server.url.rpartition(":")[2])
    (found,) = (each for each in serving_here() if each.port == port)
    assert (found.kind, found.model, found.limits) == ("vLLM", "tiny", "can be changed")
    assert found.start == ""
    assert cli.main(["attach"]) == 0
    printed = capsys.readouterr().out
    assert f"{port}  tiny " in printed
    assert TOKEN not in printed


@pytest.mark.long
def test_requests_of_others_are_told_with_their_times(server: Server) -> None:
    _, before = asked(server, "GET", "/requests")
    body = {"model": "tiny", "prompt": "Tune me", "max_tokens": 9, "ignore_eos": True}
    for _ in range(3):
        server.get("/v1/completions", body)
    deadline = time.monotonic() + PATIENCE_S
    theirs: list[list[Any]] = []
    since = before["next"]
    while len(theirs) < 3:
        assert time.monotonic() < deadline
        _, told = asked(server, "GET", f"/requests?since={since}")
        since = told["next"]
        # Those that ended shortly before are told as well.
        theirs += [row for row in told["rows"] if row[4:6] == [7, 9]]
        time.sleep(0.1)
    assert len(theirs) == 3
    for end_s, e2e_s, ttft_s, queued_s, _, _, _, reason in theirs:
        assert 0 <= queued_s <= ttft_s <= e2e_s < PATIENCE_S
        assert end_s > 0
        assert reason == "length"

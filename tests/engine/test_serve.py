"""vLLM's own server, started from an exported file: it serves, and at the tuned limits."""

from __future__ import annotations

import ast
import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tests.realserver import Server, serving, write_model
from tputtui import profile
from tputtui.attach.access import Access
from tputtui.attach.address import parse_addresses
from tputtui.attach.fleet import Fleet, Looked
from tputtui.attach.poller import Poller
from tputtui.attach.track import Standing
from tputtui.cli import main
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, HoldLoad, Start
from tputtui.engine.served.engine import ServedEngine
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.window import latencies
from tputtui.profile import EngineSpec, EngineValue, Profile

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(900)]

CEILINGS = {"max_num_seqs": 64, "max_num_batched_tokens": 1024, "max_model_len": 512}
TUNED = {
    "max_num_seqs": 12,
    "max_num_batched_tokens": 384,
    "max_model_len": 256,
    "long_prefill_token_threshold": 100,
    "num_gpu_blocks": 60,
    "watermark_blocks": 3,
    "enable_prefix_caching": 0,
    "scheduling_policy": 1,
    "scheduler_reserve_full_isl": 0,
}
NAME = "tiny: the model's own"
"""A name that YAML has to quote."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny model")
    write_model(folder)
    return folder


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The config file, by way of the command line."""
    args: dict[str, EngineValue] = {
        **CEILINGS,
        "enforce_eager": True,
        "dtype": "float32",
        "block_size": 32,
        "kv_cache_memory_bytes": 64 * 2**20,
        "served_model_name": NAME,
        "hf_overrides": {"rope_theta": 20000.0},
        "quantization": None,
    }
    folder = tmp_path_factory.mktemp("exported")
    tuned = Profile(EngineSpec(str(model), args), knobs=TUNED, about="Served\nmodel: not this")
    source = profile.save(tuned, folder / "mine.yaml")
    target = folder / "served.yaml"
    assert main(["profiles", "export", str(source), "--format", "vllm", "-o", str(target)]) == 0
    return target


@pytest.fixture(scope="module")
def server(exported: Path, environment: None) -> Iterator[Server]:
    """Up; ended with all that it started, and nothing of it is left."""
    with serving(["--config", str(exported)], exported.with_suffix(".log")) as server:
        yield server


@pytest.fixture(autouse=True)
def told(server: Server) -> Iterator[None]:
    """Beside a test that fails pytest shows what was written after it."""
    yield
    sys.stdout.write(server.tail())


def test_the_server_names_the_model_as_the_profile_does(server: Server, model: Path) -> None:
    (card,) = json.loads(server.get("/v1/models"))["data"]
    assert card["id"] == NAME
    assert card["root"] == str(model)
    assert card["max_model_len"] == TUNED["max_model_len"]


def test_a_completion_comes_back_with_its_tokens(server: Server) -> None:
    body = {"model": NAME, "prompt": "Tune me", "max_tokens": 9, "ignore_eos": True}
    answer = json.loads(server.get("/v1/completions", body))
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "length"
    assert choice["text"]
    # One token a byte.
    assert answer["usage"]["prompt_tokens"] == len("Tune me")
    assert answer["usage"]["completion_tokens"] == 9


def test_the_tuned_length_is_the_longest_that_is_taken(server: Server) -> None:
    asked = {"model": NAME, "max_tokens": 9, "ignore_eos": True}
    answer = json.loads(server.get("/v1/completions", asked | {"prompt": "a" * 250}))
    assert answer["usage"]["completion_tokens"] == 6
    assert answer["usage"]["total_tokens"] == TUNED["max_model_len"]
    # What the engine that it was tuned on was booted with would take it.
    with pytest.raises(urllib.error.HTTPError) as refusal:
        server.get("/v1/completions", asked | {"prompt": "a" * 300})
    with refusal.value as answer:
        assert answer.code == 400
        assert "256" in answer.read().decode()


def test_the_log_tells_every_tuned_limit_as_an_argument_that_is_no_default(
    server: Server, model: Path
) -> None:
    log = re.sub(r"\x1b\[[0-9;]*m", "", server.log.read_text())
    (line,) = (line for line in log.splitlines() if "non-default args: " in line)
    told = ast.literal_eval(line.partition("non-default args: ")[2])
    expected = {
        "model": str(model),
        "served_model_name": [NAME],
        "max_num_seqs": 12,
        "max_num_batched_tokens": 384,
        "max_model_len": 256,
        "long_prefill_token_threshold": 100,
        "num_gpu_blocks_override": 60,
        "enable_prefix_caching": False,
        "scheduling_policy": "priority",
        "scheduler_reserve_full_isl": False,
        "enforce_eager": True,
        "dtype": "float32",
        "hf_overrides": {"rope_theta": 20000.0},
    }
    assert {key: told.get(key) for key in expected} == expected
    assert int(told["watermark"] * 60) == 3
    assert "quantization" not in told


def test_the_metrics_show_the_cache_as_tuned(server: Server) -> None:
    metrics = server.get("/metrics")
    assert "vllm:num_requests_running" in metrics
    (cache,) = re.findall(r"^vllm:cache_config_info\{(.*)\} 1\.0$", metrics, re.MULTILINE)
    labels = dict(re.findall(r'(\w+)="([^"]*)"', cache))
    assert labels["enable_prefix_caching"] == "False"
    assert labels["num_gpu_blocks"] == "60"
    assert labels["block_size"] == "32"


def test_the_same_prompt_again_finds_no_prefix(server: Server) -> None:
    body = {"model": NAME, "prompt": "b" * 200, "max_tokens": 2, "ignore_eos": True}
    for _ in range(2):
        server.get("/v1/completions", body)
    hits = re.findall(
        r"^vllm:prefix_cache_hits_total\{.*\} (.*)$", server.get("/metrics"), re.MULTILINE
    )
    assert {float(value) for value in hits} <= {0.0}


def test_attach_counts_what_a_driven_load_was_served(server: Server) -> None:
    """The server's own counters against the tokens that we counted, over the same requests."""
    (address,) = parse_addresses([server.url])
    poller = Poller((address,), Access(), 0.25)
    fleet = Fleet((address,), poller, 0.25)
    recorder = Recorder()
    load = Workload(ClosedLoop(8), prompt=Fixed(40), output=Fixed(20), seed=3)
    host = Host(lambda: ServedEngine(address, Access()), recorder, load, time.monotonic)

    def turned_until(done: Callable[[], bool]) -> Looked:
        end = time.monotonic() + PATIENCE_S
        while not done():
            assert time.monotonic() < end, host.status
            host.run_pass()
        return fleet.look()

    poller.start()
    try:
        while fleet.look().servers[0].standing is not Standing.LIVE:
            time.sleep(0.05)
        before = _generated(fleet.look())
        host.order(Boot(Start(EngineSpec(f"server:{server.url}"), {}), load=True))
        turned_until(lambda: recorder.accounting.finished >= 60)
        host.order(HoldLoad())
        turned_until(lambda: recorder.accounting.in_flight == 0)
        seen = recorder.generated_tokens
        end = time.monotonic() + PATIENCE_S
        # One token was asked for to see that ids are taken.
        while not seen <= _generated(fleet.look()) - before <= seen + 1:
            assert time.monotonic() < end, (seen, _generated(fleet.look()) - before)
            time.sleep(0.1)
        (told,) = fleet.look().servers
    finally:
        host.close(5)
        host.run_pass()
        poller.stop()
    account, facts = recorder.accounting, host.status.facts
    assert account.balanced
    assert account.finished == account.issued
    assert seen == 20 * account.finished
    assert facts.model == told.model == NAME
    assert facts.vocab_size == 256
    assert facts.ceilings.max_model_len == TUNED["max_model_len"]
    assert facts.ceilings.num_gpu_blocks == 60
    # What the client waited for is more than what the server says of itself, and not by much.
    ours = latencies(recorder, 0.0, time.monotonic())
    theirs = told.latencies["ttft"]
    assert 0.8 * theirs.mean < float(recorder.first_tokens.between(0)[:, 2].mean())
    assert told.latencies["itl"].p50.low <= 2 * ours.itl.p50
    assert told.window.generated_per_s > 0


def _generated(looked: Looked) -> float:
    reading = looked.servers[0].reading
    return reading.engines["0"].counters["generated"] if reading else 0.0

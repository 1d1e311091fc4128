"""The chat route of vLLM's own server: what it renders and counts, our books have."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.realserver import TEMPLATE, Server, serving, write_model, write_tokenizer
from tputtui.attach.access import Access
from tputtui.attach.address import parse_addresses
from tputtui.engine.host import Host
from tputtui.engine.orders import Boot, Start
from tputtui.engine.served.engine import ServedEngine
from tputtui.load.requests.file import RequestFile
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.recorder import Recorder
from tputtui.profile import EngineSpec

pytestmark = [pytest.mark.engine, pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("chat")
    write_model(folder / "model")
    write_tokenizer(folder / "model", TEMPLATE)
    words = f"""--model {folder / "model"} --served-model-name tiny --enforce-eager --dtype float32
        --max-num-seqs 8 --max-num-batched-tokens 512 --max-model-len 512 --block-size 32
        --generation-config vllm --kv-cache-memory-bytes {32 * 2**20}""".split()
    with serving(words, folder / "server.log", {"VLLM_PLUGINS": ""}) as server:
        yield server


def served(server: Server, path: Path, lines: list[Any]) -> Recorder:
    """Every line of the file, served to its end."""
    path.write_text("\n".join(map(json.dumps, lines)))
    (address,) = parse_addresses([server.url])
    recorder = Recorder()
    load = Workload(ClosedLoop(6), requests=RequestFile(str(path)))
    host = Host(lambda: ServedEngine(address, Access()), recorder, load, time.monotonic)
    host.order(Boot(Start(EngineSpec(f"server:{server.url}"), {}), load=True))
    end_s = time.monotonic() + PATIENCE_S
    while not (host.status.load_run.ended and not recorder.accounting.in_flight):
        assert time.monotonic() < end_s, host.status
        assert host.status.failure is None, host.status.failure
        host.run_pass(min(0.01, max(0.0, host.run_pass())))
    host.close(5)
    host.run_pass()
    return recorder


def test_the_servers_own_counts_of_chats_are_ours(server: Server, tmp_path: Path) -> None:
    user = {"role": "user", "content": "how are you"}
    schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"enum": ["yes"]}}}
    chat = {"messages": [user], "max_tokens": 24, "temperature": 1.0, "seed": 1}
    lines = [chat] * 20 + [{**chat, "response_format": schema}] * 10
    recorder = served(server, tmp_path / "chats.jsonl", lines)
    account = recorder.accounting
    assert (account.finished, account.issued, account.balanced) == (30, 30, True)
    # One token a byte, and the template's own: as many as the server says.
    rendered = len("<user>how are you") + 1 + len("<assistant>")
    assert {sample.prompt_tokens for sample in recorder.request_log} == {rendered}
    formed = [s.output_tokens for s in recorder.request_log if s.output_tokens < 24]
    # `"yes"` is five bytes, and the end of the answer.
    assert formed.count(6) >= 10
    assert sum(s.output_tokens for s in recorder.request_log) == recorder.generated_tokens
    assert recorder.requests.by_server
    assert recorder.requests.undone == ()


def test_a_conversation_and_a_chat_without_a_length(server: Server, tmp_path: Path) -> None:
    said = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "old"},
            {"from": "human", "value": "b"}]  # fmt: skip
    lines = [{"conversations": said}, {"messages": [{"role": "user", "content": "c"}]}]
    recorder = served(server, tmp_path / "talk.jsonl", lines)
    account = recorder.accounting
    assert account.balanced
    # A first answer may be as long as the model can go on: then no second turn fits.
    assert account.finished >= 2
    assert account.finished + account.rejected == account.issued == 3
    for sample in recorder.request_log:
        assert sample.prompt_tokens + sample.output_tokens <= 512
    assert set(dict(recorder.stops)) <= {"stop", "length"}

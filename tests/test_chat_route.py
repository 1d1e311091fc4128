"""Servers with a chat route: which route a request takes, and what of an answer is told apart."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import zstandard

from tests.realserver import TEMPLATE, write_tokenizer
from tests.served import Completions, Servers
from tests.terminal import environment
from tests.test_served import LOAD, Driven, driven, server
from tputtui.engine.orders import StopLoad
from tputtui.engine.protocol import State
from tputtui.engine.served.routes import CHAT, COMPLETIONS, find_routes
from tputtui.engine.served.words import text_of
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.spoken import spoken
from tputtui.load.sections import from_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.samples import StepSample

__all__ = ["driven"]

SECRET = "canary-canary-canary"
USER = {"role": "user", "content": SECRET}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}

Drive = Callable[..., Driven]


def write(folder: Path, *lines: Any, **fields: Any) -> Workload:
    path = folder / "requests.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    return Workload(ClosedLoop(4), requests=RequestFile(str(path), **fields))


def whole(run: Driven) -> Driven:
    """Every line of the file, served to its end."""
    return run.until(
        lambda: run.host.status.load_run.ended and not run.recorder.accounting.in_flight
    )


def of(run: Driven) -> Completions:
    (each,) = run.servers.servers
    assert each.completions is not None
    return each.completions


async def test_a_route_that_fails_and_closes_its_connection_is_no_server_that_is_gone() -> None:
    """As vLLM's chat route without a tokenizer: 500, and whoever asks next on it is cut off."""
    asked: list[str] = []
    serving: list[asyncio.Task[Any] | None] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError):  # the client has closed it
            await answer(reader, writer)
        writer.transport.abort()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        failed = False
        while head := await reader.readuntil(b"\r\n\r\n"):
            asked.append(head.split()[1].decode())
            if failed:
                break
            (size,) = re.findall(rb"(?i)content-length: (\d+)", head)
            await reader.readexactly(int(size))
            failed = asked[-1] == CHAT
            body = b"data: [DONE]\n\n"
            line = b"500 Internal Server Error" if failed else b"200 OK"
            kind = b"text/event-stream"
            writer.write(
                b"HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s"
                % (line, kind, len(body), body)
            )

    async def no_tokenizer(*_: object) -> tuple[int, str]:
        return 404, ""

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as listening:
        url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        async with aiohttp.ClientSession() as session:
            routes = await find_routes(session, url, "one", "tiny", no_tokenizer)
        # Else its socket is closed by whoever collects garbage next.
        await asyncio.gather(*filter(None, serving))
        await asyncio.sleep(0)
    assert (routes.ids, routes.chat) == (True, False)
    # Asked with fields of vLLM's, and without; one of them again on a connection of its own.
    assert asked == [COMPLETIONS, CHAT, CHAT, CHAT]


def test_chats_go_to_the_chat_route_as_they_are(driven: Drive, tmp_path: Path) -> None:
    asked = {"role": "assistant", "tool_calls": [CALL]}
    got = {"role": "tool", "tool_call_id": "c", "content": "3"}
    line = {"messages": [USER, asked, got], "tools": [TOOL], "temperature": 0.5, "top_k": 3,
            "response_format": SCHEMA, "max_tokens": 6,
            "chat_template_kwargs": {"a": 1}}  # fmt: skip
    run = whole(driven(server(chat=True, tell_prompt=77), write(tmp_path, *[line] * 20)))
    account = run.recorder.accounting
    assert (account.finished, account.issued, account.balanced) == (20, 20, True)
    body = of(run).asked[0]
    assert body["messages"] == [USER, {**asked, "content": ""}, got]
    assert (body["tools"], body["response_format"]) == ([TOOL], SCHEMA)
    assert (body["temperature"], body["top_k"], body["max_tokens"]) == (0.5, 3, 6)
    assert body["chat_template_kwargs"] == {"a": 1}
    assert "prompt" not in body
    assert "ignore_eos" not in body
    # How long they are is the server's to say, and what it carries is not called missing.
    assert {sample.prompt_tokens for sample in run.recorder.request_log} == {77}
    assert run.recorder.generated_tokens == of(run).generated == 120
    assert run.recorder.requests.undone == ()
    assert run.recorder.requests.mean_tokens == 77
    assert "20 of 77" in dict(spoken(run.recorder.requests, ()))["prompts"]
    assert "by the server" in dict(spoken(run.recorder.requests, ()))["prompts"]


def test_where_the_server_counts_nothing_lengths_are_estimates(
    driven: Drive, tmp_path: Path
) -> None:
    load = write(tmp_path, *[{"messages": [USER], "max_tokens": 6}] * 4)
    counts = whole(driven(server(chat=True, usage=""), load)).recorder.requests
    assert counts.estimated
    assert counts.mean_tokens == len(SECRET) / 4
    assert "about" in dict(spoken(counts, ()))["prompts"]


def test_a_chat_without_a_length_is_ended_by_the_server(driven: Drive, tmp_path: Path) -> None:
    run = driven(server(chat=True, ends_at=5), write(tmp_path, *[{"messages": [USER]}] * 8))
    whole(run)
    assert dict(run.recorder.stops) == {"stop": 8}
    assert not any("max_tokens" in body for body in of(run).asked)
    assert run.recorder.generated_tokens == 40


def test_with_a_tokenizer_token_ids_are_sent(driven: Drive, tmp_path: Path) -> None:
    write_tokenizer(tmp_path, TEMPLATE)
    load = write(tmp_path, {"messages": [USER], "max_tokens": 4}, tokenizer=str(tmp_path))
    run = whole(driven(server(chat=True), load))
    (body,) = of(run).asked
    assert len(body["prompt"]) > len(SECRET)
    assert not run.recorder.requests.by_server


def test_with_a_tokenizer_a_server_that_takes_no_ids_gets_the_chat(
    driven: Drive, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path, TEMPLATE)
    load = write(tmp_path, {"messages": [USER], "max_tokens": 4}, tokenizer=str(tmp_path))
    run = whole(driven(server(chat=True, takes_ids=False), load))
    (body,) = of(run).asked
    assert body["messages"] == [USER]


@pytest.mark.parametrize("takes_ids", [True, False])
def test_a_text_is_a_completion_or_else_a_chat(
    driven: Drive, tmp_path: Path, takes_ids: bool
) -> None:
    lines = [{"prompt": SECRET, "max_tokens": 3}, {"prompt": [5, 6, 7], "max_tokens": 3}]
    run = whole(driven(server(chat=True, takes_ids=takes_ids), write(tmp_path, *lines)))
    account, asked = run.recorder.accounting, of(run).asked
    if takes_ids:
        assert sorted(map(str, (body["prompt"] for body in asked))) == ["[5, 6, 7]", SECRET]
        assert account.finished == 2
    else:
        assert [body["messages"] for body in asked] == [[USER]]
        # Ids mean nothing to a server that takes text.
        assert (account.finished, account.rejected) == (1, 1)


def test_without_a_chat_route_and_a_tokenizer_the_load_ends_with_a_sentence(
    driven: Drive, tmp_path: Path
) -> None:
    run = driven(server(), write(tmp_path, {"messages": [USER]}))
    run.until(lambda: run.host.status.load_failure is not None)
    assert "need a tokenizer" in run.host.status.load_failure.message
    assert run.recorder.accounting.issued == 0


@pytest.mark.parametrize("strict", [False, True])
def test_synthetic_requests_are_text_where_no_ids_are_taken(driven: Drive, strict: bool) -> None:
    fake = server(chat=True, takes_ids=False, strict=strict, tell_prompt=14, usage="final")
    run = driven(fake).ended(20)
    facts = run.host.status.facts
    assert "approximate" in facts.notice
    assert not facts.takes_ids
    texts = [body["messages"][0]["content"] for body in of(run).asked]
    assert {len(text.split()) for text in texts} == {10}
    assert len(set(texts)) == len(texts)
    assert ("ignore_eos" in of(run).asked[0]) is not strict
    account = run.recorder.accounting
    assert account.finished == account.issued >= 20
    assert {sample.prompt_tokens for sample in run.recorder.request_log} == {14}
    assert run.recorder.generated_tokens == of(run).generated == 6 * account.issued


def test_fewer_prompt_tokens_than_estimated_are_no_negative_step(driven: Drive) -> None:
    fake = server(chat=True, takes_ids=False, tell_prompt=2, usage="final")
    run = driven(fake).ended(20)
    prefill = [StepSample(*row).prefill_tokens for row in run.recorder.steps.between(0)]
    assert min(prefill) >= 0
    assert max(prefill) > 0


def test_ids_are_sent_where_both_routes_are_there(driven: Drive) -> None:
    run = driven(server(chat=True)).ended(8)
    assert all(len(body["prompt"]) == 10 for body in of(run).asked)
    assert run.host.status.facts.notice == ""


def test_equal_beginnings_stay_equal_as_text() -> None:
    first, second = text_of([5, 999, 7, 8]), text_of([5, 999, 7, 9])
    assert first.split()[:3] == second.split()[:3]
    assert first != second


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_the_answer_after_reasoning_is_told_apart(driven: Drive, tmp_path: Path, name: str) -> None:
    fake = server(chat=True, reasoning=name, first_s=0.1, every_s=0.2)
    load = write(tmp_path, *[{"messages": [USER], "max_tokens": 4}] * 4)
    run = whole(driven(fake, load))
    counts, log = run.recorder.requests, run.recorder.request_log
    assert counts.reasoned == 4
    for sample in log:
        # The first token of reasoning is the first token.
        assert sample.first_token_s - sample.due_s >= 0.1
    first_s = sum(sample.first_token_s - sample.due_s for sample in log) / 4
    assert counts.answer_mean_s > first_s
    assert "reasoning" in dict(spoken(counts, ()))["answers"]


def test_a_tool_call_is_content(driven: Drive, tmp_path: Path) -> None:
    fake = server(chat=True, tools=True, usage="", ends_at=5)
    run = whole(driven(fake, write(tmp_path, *[{"messages": [USER]}] * 4)))
    assert dict(run.recorder.stops) == {"tool_calls": 4}
    assert run.recorder.generated_tokens == 20
    assert len(run.recorder.first_tokens.between(0)) == 4
    assert run.recorder.requests.reasoned == 0


def test_a_conversation_goes_on_with_the_servers_answer(driven: Drive, tmp_path: Path) -> None:
    line = {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "old"},
                              {"from": "human", "value": "b"}]}  # fmt: skip
    run = whole(driven(server(chat=True, ends_at=3), write(tmp_path, line)))
    first, second = (body["messages"] for body in of(run).asked)
    assert first == [{"role": "user", "content": "a"}]
    assert second == [*first, {"role": "assistant", "content": "xxx"},
                      {"role": "user", "content": "b"}]  # fmt: skip


def test_what_requests_carry_is_asked_in_a_chats_own_words(driven: Drive) -> None:
    texts = {"answers": "logprobs=3", "priority": "7=1", "structured": "share=1 regex=a+"}
    run = driven(server(chat=True, takes_ids=False), from_texts(LOAD, texts)).ended(4)
    body = of(run).asked[0]
    assert (body["logprobs"], body["top_logprobs"], body["priority"]) == (True, 3, 7)
    assert body["structured_outputs"] == {"regex": "a+"}
    assert body["ignore_eos"] is False


def test_a_server_without_any_route_says_what_it_refused(driven: Drive) -> None:
    run = driven(server(takes_ids=False))
    run.until(lambda: run.host.status.state is State.FAILED)
    assert "no prompt of token ids: 404" in run.host.status.failure.message
    assert "no chat: 404" in run.host.status.failure.message


def test_chats_under_way_are_hung_up(driven: Drive, tmp_path: Path) -> None:
    fake = server(chat=True, every_s=0.5, ends_at=100)
    run = driven(fake, write(tmp_path, *[{"messages": [USER]}] * 4))
    run.until(lambda: run.recorder.accounting.running == 4)
    run.host.order(StopLoad())
    run.until(lambda: run.recorder.accounting.in_flight == 0)
    assert run.recorder.accounting.balanced


def test_nothing_of_a_chat_is_in_a_representation(driven: Drive, tmp_path: Path) -> None:
    from tputtui.load.requests.unrendered import UnrenderedPrompt

    prompt = UnrenderedPrompt([USER], tools=[TOOL])
    assert SECRET not in repr(prompt)
    assert prompt.length >= len(SECRET) // 4


def test_a_run_on_a_server_writes_nothing_of_a_chat(tmp_path: Path) -> None:
    """Not even where the server quotes what it refuses, and answers with the same words."""
    write(tmp_path, *[{"messages": [USER], "max_tokens": 4}] * 40)
    home = environment(tmp_path)
    with Servers(server(chat=True, fails={2: SECRET, 3: SECRET}, word=SECRET)) as servers:
        words = [f"server:{servers.servers[0].url}", "--load", "4", "--duration", "30s"]
        done = subprocess.run(
            [sys.executable, "-m", "tputtui", "bench", *words, "--requests", "requests.jsonl",
             "--format", "json", "--save", "saved.yaml"],
            env=home, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
    told = json.loads(done.stdout)
    assert told["accounting"]["finished"] == 38, done.stderr
    assert told["accounting"]["rejected"] == 2
    assert told["requests"]["by_server"]
    assert SECRET not in done.stdout + done.stderr
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    logs = 0
    for path in written:
        if path.name == "requests.jsonl":
            continue
        data = path.read_bytes()
        if path.suffix == ".zst":
            with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as file:
                data = file.read()
            logs += 1
        assert SECRET.encode() not in data, path
    assert logs

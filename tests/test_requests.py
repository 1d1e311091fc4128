"""Real requests: files in many formats, read, rendered, sent, and counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.realserver import DEAF_TEMPLATE, write_tokenizer
from tests.rig import Rig
from tputtui.errors import UsageError
from tputtui.load.carrier import Form
from tputtui.load.generator import Generator
from tputtui.load.lengths import Fixed
from tputtui.load.request import RequestSpec
from tputtui.load.requests.ask import Ask, Takes
from tputtui.load.requests.file import RequestFile, Sampling
from tputtui.load.requests.notation import describe_requests, parse_requests, parse_sampling
from tputtui.load.requests.reading import Reader, check_requests
from tputtui.load.requests.rendering import ChatTokenizer, tokenizer_for
from tputtui.load.sections import from_texts, to_texts
from tputtui.load.workload import ClosedLoop, Constant, Recorded, Workload

USER = {"role": "user", "content": "hello"}
CHAT = {"messages": [USER], "max_tokens": 7}
VOCABULARY = 258
LONG = 4096

Write = Callable[..., RequestFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(*lines: Any, **fields: Any) -> RequestFile:
        path = tmp_path / "requests.jsonl"
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("\n".join(texts) + "\n")
        return RequestFile(str(path), **fields)

    return write


def asks(file: RequestFile) -> list[Ask]:
    reader = Reader(file)
    try:
        return [read.ask for read in reader]
    finally:
        reader.close()


def only(file: RequestFile) -> Ask:
    (ask,) = asks(file)
    return ask


def generator(file: RequestFile, tokenizer: str, arrivals: Any = None) -> Generator:
    """A generator that waits for its renderer, as in virtual time."""
    load = Workload(arrivals or ClosedLoop(1), requests=file)
    made = Generator(load, VOCABULARY, tokenizer, patient=True)
    made.resume(0.0)
    return made


def served(made: Generator, limit: int = LONG, answer: tuple[int, ...] = ()) -> list[RequestSpec]:
    """Every request of a load, each answered before the next."""
    sent: list[RequestSpec] = []
    now_s = 0.0
    while not made.exhausted:
        due = made.due(now_s, 0, limit)
        for request in due:
            made.ended(request.number, now_s, request.output_tokens, answer)
        sent += due
        now_s += 1.0
        assert now_s < PATIENCE_S
    return sent


def text_of(request: RequestSpec, tokenizer: str) -> str:
    return str(ChatTokenizer(tokenizer)._tokenizer.decode(request.ids()))


# -- formats -------------------------------------------------------------------------------------


def test_a_batch_file_of_openais_is_read_with_its_tools_and_sampling(write: Write) -> None:
    tool = {"type": "function", "function": {"name": "weather"}}
    inner = {**CHAT, "tools": [tool], "temperature": 0.5, "top_p": 1, "stop": "END"}
    ask = only(write({"custom_id": "a", "url": "/v1/chat/completions", "body": inner}))
    assert ask.turns[0].messages == (USER,)
    assert ask.turns[0].max_tokens == 7
    assert ask.tools == (tool,)
    assert ask.sampling == {"temperature": 0.5, "top_p": 1.0, "stop": ["END"]}


def test_what_is_not_carried_is_named(write: Write) -> None:
    ask = only(
        write({**CHAT, "n": 3, "response_format": {"type": "json_object"}, "logprobs": True})
    )
    assert ask.undone == ("response_format", "logprobs", "n")
    assert ask.missing(Takes(forms=False, several=False), by_server=False) == ask.undone
    assert ask.missing(Takes(several=False), by_server=False) == ("n",)
    assert ask.missing(Takes(several=False), by_server=True) == ("n",)
    assert ask.missing(Takes(), by_server=False) == ()
    assert only(write({**CHAT, "best_of": 4})).missing(Takes(), by_server=False) == ("best_of",)
    plain = only(write({**CHAT, "n": 1, "response_format": {"type": "text"}, "logprobs": False}))
    assert plain.undone == ()


@pytest.mark.parametrize(
    ("asked", "form", "logprobs"),
    [
        ({"response_format": {"type": "json_object"}}, Form(schema='{"type":"object"}'), None),
        ({"response_format": {"type": "json_schema", "json_schema": {"schema": {"enum": [1]}}}},
         Form(schema='{"enum":[1]}'), None),
        ({"response_format": {"type": "text"}, "logprobs": False}, None, None),
        ({"response_format": {"type": "grammar", "grammar": "x"}, "logprobs": "yes"}, None, None),
        ({"response_format": {"type": "json_schema", "json_schema": "no"}}, None, None),
        ({"logprobs": True}, None, 0),
        ({"logprobs": True, "top_logprobs": 4}, None, 4),
        ({"logprobs": 2}, None, 2),
    ],
)  # fmt: skip
def test_a_form_and_logprobs_are_carried(
    write: Write, tokenizer: str, asked: dict[str, Any], form: Form | None, logprobs: int | None
) -> None:
    made = generator(write({**CHAT, **asked}), tokenizer)
    (request,) = served(made)
    assert (request.carried.form, request.carried.logprobs) == (form, logprobs)
    undone = [name for name, _ in made.counts.undone]
    assert ("response_format" in undone) is (
        form is None and asked.get("response_format", {}).get("type") not in (None, "text")
    )


def test_several_answers_and_a_bias_are_asked_for_as_recorded(write: Write, tokenizer: str) -> None:
    made = generator(
        write(
            {**CHAT, "n": 3, "logit_bias": {"65": 5, "66": -200}},
            {**CHAT, "logit_bias": {"65": 5, str(VOCABULARY): 5}},
            CHAT,
        ),
        tokenizer,
    )
    first, foreign, plain = served(made)
    assert (first.carried.n, foreign.carried.n, plain.carried.n) == (3, 1, 1)
    assert first.serving.sampling["logit_bias"] == {65: 5.0, 66: -100.0}
    # A token that the model does not have: the bias was recorded for another model.
    assert "logit_bias" not in foreign.serving.sampling
    assert dict(made.counts.undone) == {"logit_bias": 1}


@pytest.mark.parametrize("value", [{"a": 1}, {"1": "x"}, [1], "5"])
def test_a_bad_bias_is_a_bad_line(write: Write, value: Any) -> None:
    with pytest.raises(UsageError, match="logit_bias: expected token ids, each with a number"):
        only(write({**CHAT, "logit_bias": value}))


def test_a_load_that_asks_for_more_wins(write: Write, tokenizer: str) -> None:
    file = write({**CHAT, "logprobs": True, "response_format": {"type": "json_object"}})
    load = from_texts(Workload(ClosedLoop(1), requests=file), {"answers": "logprobs=5"})
    made = Generator(load, VOCABULARY, tokenizer, patient=True)
    made.resume(0.0)
    (request,) = made.due(0.0, 0, LONG)
    assert request.carried.logprobs == 5
    assert request.carried.form is not None


def test_a_prompt_is_text_or_token_ids(write: Write) -> None:
    texts = asks(
        write({"prompt": "a b"}, {"prompt": ["a b"]}, {"prompt": [1, 2]}, {"prompt": [[3]]})
    )
    assert [ask.prompt for ask in texts] == ["a b", "a b", (1, 2), (3,)]


def test_the_last_message_of_the_assistant_is_the_recorded_answer(write: Write) -> None:
    ask = only(write({"messages": [USER, {"role": "assistant", "content": "hi there"}]}))
    assert ask.turns[0].messages == (USER,)
    assert ask.turns[0].answer == "hi there"


def test_other_benchmarks_inputs_are_told_by_their_keys(write: Write) -> None:
    file = write(
        {"prompt": "x", "output_tokens": 10},
        {"prompt": "x", "output_tokens_count": 11, "prompt_tokens_count": 1},
        {"text": "x", "output_length": 12},
        {"input": "x", "max_output_tokens": 13},
    )
    reader = Reader(file)
    found = [(ask.turns[0].messages, ask.turns[0].output_tokens) for _, ask in reader]
    reader.close()
    said = ({"role": "user", "content": "x"},)
    assert found == [(said, 10), (said, 11), (said, 12), (said, None)]
    assert list(reader.formats) == ["vllm bench custom", "GuideLLM", "AIPerf", "responses"]


def test_a_conversation_of_aiperfs_waits_between_its_turns(write: Write) -> None:
    turns = [{"text": "a", "timestamp": 1500}, {"text": "b", "delay": 250}]
    ask = only(write({"session_id": "s", "turns": turns}))
    assert [turn.wait_s for turn in ask.turns] == [0.0, 0.25]
    assert ask.at_s == 1.5


@pytest.mark.parametrize("layout", ["lines", "array", "pretty"])
def test_sharegpt_is_read_with_all_its_turns(write: Write, layout: str) -> None:
    said = [("system", "be brief"), ("human", "one"), ("gpt", "1"), ("human", "two"), ("gpt", "2")]
    entry = {"conversations": [{"from": who, "value": what} for who, what in said]}
    text = {
        "lines": json.dumps(entry) + "\n" + json.dumps(entry),
        "array": json.dumps([entry, entry]),
        "pretty": json.dumps([entry, entry], indent=2),
    }[layout]
    for ask in asks(write(text)):
        assert [turn.answer for turn in ask.turns] == ["1", "2"]
        assert [message["role"] for message in ask.turns[0].messages] == ["system", "user"]
        assert ask.turns[1].messages == ({"role": "user", "content": "two"},)


def test_logs_of_gateways_have_times_and_usage(write: Write) -> None:
    ours = {"startTime": 1_700_000_000.5, "messages": [USER], "completion_tokens": 5,
            "model_parameters": {"temperature": 0, "max_tokens": 9}}  # fmt: skip
    theirs = {"timestamp": "2023-11-14T22:13:30.5Z", "request": {**CHAT},
              "response": {"body": {"usage": {"completion_tokens": 6}}}}  # fmt: skip
    in_ms = {"created": 1_700_000_020_500, "messages": [USER], "usage": {"completion_tokens": 4}}
    found = asks(write(ours, theirs, in_ms))
    assert [ask.at_s - found[0].at_s for ask in found] == [0.0, 10.0, 20.0]
    assert [ask.turns[0].output_tokens for ask in found] == [5, 6, 4]
    assert found[0].sampling == {"temperature": 0.0}
    assert found[0].turns[0].max_tokens == 9


def test_parts_of_text_are_joined_and_arguments_of_tools_become_objects(write: Write) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    ask = only(
        write({"messages": [{"role": "user", "content": parts},
                            {"role": "assistant", "tool_calls": [call]},
                            {"role": "tool", "content": "2"}]})
    )  # fmt: skip
    first, second, _ = ask.turns[0].messages
    assert first["content"] == "a\nb"
    assert second["tool_calls"][0]["function"]["arguments"] == {"x": 1}


# -- bad lines -----------------------------------------------------------------------------------

SECRET = "canary-in-the-line"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (f'{{"messages": "{SECRET}', "no JSON"),
        (f'["{SECRET}"]', "not an object"),
        ({SECRET: 1}, "no known kind of request"),
        ({"messages": [{"role": SECRET}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"image_url": SECRET}]}]}, "no text"),
        ({"messages": [USER], "max_tokens": SECRET}, "max_tokens: expected a whole number"),
        ({"messages": [USER], "temperature": SECRET}, "temperature: expected a number"),
        ({"prompt": {SECRET: 1}}, "prompt: expected"),
        ({"custom_id": "1", "body": SECRET}, "body: expected an object"),
        ({"custom_id": "1", "url": "/v1/embeddings", "body": {"input": SECRET}}, "generates text"),
        ({"timestamp": SECRET, "messages": [USER]}, "timestamp: no time"),
        ({"conversations": [{"from": SECRET, "value": "x"}]}, "turn 1: from"),
        ({"turns": [{"text": SECRET, "image": SECRET}]}, "not sent"),
    ],
)
def test_a_bad_line_is_named_without_what_it_holds(write: Write, line: Any, says: str) -> None:
    file = write(CHAT, line if isinstance(line, str) else json.dumps(line), CHAT)
    reader = Reader(file)
    assert len(list(reader)) == 2
    reader.close()
    assert reader.skipped == 1
    assert reader.first_bad.startswith("line 2: ")
    assert says in reader.first_bad
    assert SECRET not in reader.first_bad


def test_too_large_a_share_of_bad_lines_ends_the_load(write: Write, tokenizer: str) -> None:
    lines = [CHAT] * 40 + ["{"] * 3
    assert len(asks(write(*lines, bad=0.5))) == 40
    made = generator(write(*lines), tokenizer)
    served(made)
    assert made.exhausted
    assert "3 of 43 lines cannot be used; line 41: no JSON" in str(made.failure)


def test_a_file_without_one_usable_line_is_told_before_a_start(write: Write) -> None:
    with pytest.raises(UsageError, match="2 of 2 lines cannot be used"):
        check_requests(write("{", "{"), "here", recorded=False)
    with pytest.raises(UsageError, match="no requests"):
        check_requests(write(""), "here", recorded=False)
    with pytest.raises(UsageError, match="No such file"):
        check_requests(RequestFile("/nowhere/x.jsonl"), "here", recorded=False)
    with pytest.raises(UsageError, match="need a tokenizer"):
        check_requests(write(CHAT), "", recorded=False)
    with pytest.raises(UsageError, match="has no times to replay"):
        check_requests(write(CHAT), "here", recorded=True)
    timed = {"startTime": 5.0, "messages": [USER]}
    with pytest.raises(UsageError, match="has no end"):
        check_requests(write(timed, timed, repeat=True), "here", recorded=True)


def test_a_line_of_gigabytes_is_skipped_in_pieces(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tputtui.load.requests.reading.MAX_BYTES", 1000)
    reader = Reader(write(CHAT, '"' + "x" * 5000 + '"', CHAT))
    assert len(list(reader)) == 2
    reader.close()
    assert "line 2: longer than" in reader.first_bad


def test_a_file_is_read_as_it_is_needed(write: Write, tokenizer: str) -> None:
    made = generator(write(*[CHAT] * 5000), tokenizer)
    assert len(made.due(0.0, 0, LONG)) == 1
    assert made.counts.lines < 2000


# -- rendering -----------------------------------------------------------------------------------


def test_prompts_are_made_by_the_models_own_template(write: Write, tokenizer: str) -> None:
    (request,) = served(generator(write(CHAT), tokenizer))
    assert text_of(request, tokenizer) == "<user>hello</s><assistant>"
    assert request.prompt_tokens == len(request.ids()) == len(request.token_ids())
    assert request.output_tokens == 7
    assert request.serving.natural
    assert request.serving.detokenize


def test_tools_reach_the_template_and_one_that_leaves_them_out_is_told(
    write: Write, tokenizer: str, tmp_path: Path
) -> None:
    file = write({**CHAT, "tools": [{"type": "function", "function": {"name": "weather"}}]})
    made = generator(file, tokenizer)
    (request,) = served(made)
    assert text_of(request, tokenizer).startswith("<t>weather</t><user>")
    assert not made.counts.ignores_tools
    deaf = tmp_path / "deaf.jinja"
    deaf.write_text(DEAF_TEMPLATE)
    made = generator(RequestFile(file.path, chat_template=str(deaf)), tokenizer)
    (request,) = served(made)
    assert text_of(request, tokenizer).startswith("<user>")
    assert made.counts.ignores_tools
    assert made.counts.with_tools == 1


def test_a_chat_that_the_template_refuses_is_a_bad_line(
    write: Write, tokenizer: str, tmp_path: Path
) -> None:
    picky = tmp_path / "picky.jinja"
    picky.write_text("{{ raise_exception(messages[0].content) }}")
    made = generator(write(CHAT, chat_template=str(picky)), tokenizer)
    assert served(made) == []
    assert made.counts.first_bad == "line 1: the chat template refuses it (TemplateError)"


def test_a_text_that_the_tokenizer_refuses_is_a_bad_line(
    write: Write, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tokenizer_for(tokenizer, "")
    real = shared._tokenizer

    def picky(text: str, **options: Any) -> Any:
        if SECRET in text:
            raise TypeError(f"not {text}")
        return real(text, **options)

    monkeypatch.setattr(shared, "_tokenizer", picky)
    made = generator(write({"prompt": "ok"}, {"prompt": SECRET}, {"prompt": "ok"}), tokenizer)
    assert len(served(made)) == 2
    assert made.counts.first_bad == "line 2: the tokenizer refuses it (TypeError)"
    assert made.failure is None


def test_without_a_template_chats_end_the_load_and_prompts_do_not(
    write: Write, tmp_path: Path
) -> None:
    write_tokenizer(tmp_path)
    assert len(served(generator(write({"prompt": "abc"}), str(tmp_path)))) == 1
    made = generator(write(CHAT), str(tmp_path))
    assert served(made) == []
    assert "has no chat template" in str(made.failure)


def test_tokens_that_the_model_does_not_have_are_dropped(write: Write, tokenizer: str) -> None:
    made = generator(write({"prompt": [1, 2]}, {"prompt": [1, VOCABULARY]}), tokenizer)
    assert len(served(made)) == 1
    assert "line 2: has tokens that are not in" in made.counts.first_bad


def test_prompts_that_do_not_fit_are_dropped_and_outputs_are_shortened(
    write: Write, tokenizer: str
) -> None:
    long = {"messages": [{"role": "user", "content": "x" * 500}]}
    made = generator(write(long, {**CHAT, "max_tokens": 1000}, {"messages": [USER]}), tokenizer)
    shortened, open_ended = served(made, limit=100)
    room = 100 - shortened.prompt_tokens
    assert (shortened.output_tokens, shortened.clamped) == (room, True)
    assert (open_ended.output_tokens, open_ended.clamped) == (room, False)
    counts = made.counts
    assert (counts.too_long, counts.shortened, counts.rendered) == (1, 1, 3)


def test_lengths_are_forced_as_recorded(write: Write, tokenizer: str) -> None:
    answered = {"messages": [USER, {"role": "assistant", "content": "12345"}], "max_tokens": 9}
    recorded = {"prompt": "x", "output_tokens": 4}
    file = write(answered, recorded, CHAT, {"messages": [USER]}, force_lengths=True)
    made = generator(file, tokenizer)
    requests = served(made, limit=100)
    assert [request.output_tokens for request in requests[:3]] == [5, 4, 7]
    assert [request.serving.natural for request in requests] == [False, False, False, True]
    assert made.counts.undone == (("a forced length", 1),)


def test_sampling_is_as_recorded_and_ours_goes_on_top(write: Write, tokenizer: str) -> None:
    line = {**CHAT, "temperature": 0.1, "top_p": 0.5, "stop": ["x"]}
    (request,) = served(generator(write(line), tokenizer))
    assert request.serving.sampling == {"temperature": 0.1, "top_p": 0.5, "stop": ["x"]}
    file = write(line, sampling=Sampling(temperature=0.7), detokenize=False)
    (request,) = served(generator(file, tokenizer))
    assert request.serving.sampling["temperature"] == 0.7
    # vLLM looks for stop strings in the text.
    assert request.serving.detokenize


def test_nothing_of_a_request_is_in_its_repr(write: Write, tokenizer: str) -> None:
    (request,) = served(generator(write({**CHAT, "stop": [SECRET]}), tokenizer))
    assert "hello" not in repr(request)
    assert SECRET not in repr(request)
    assert str(request.ids()[:3])[1:-1] not in repr(request)


# -- arrivals ------------------------------------------------------------------------------------


def test_conversations_go_on_with_the_engines_own_answers(write: Write, tokenizer: str) -> None:
    said = [("human", "one"), ("gpt", "recorded"), ("human", "two")]
    entry = {"conversations": [{"from": who, "value": what} for who, what in said]}
    answer = tuple(ChatTokenizer(tokenizer).text("mine"))
    first, second = served(generator(write(entry), tokenizer), answer=answer)
    assert text_of(first, tokenizer) == "<user>one</s><assistant>"
    assert text_of(second, tokenizer) == "<user>one</s><assistant>mine</s><user>two</s><assistant>"
    assert (first.turn, second.turn) == (0, 1)
    assert second.ids()[: first.prompt_tokens] == first.ids()


def test_recorded_times_are_kept_also_when_the_file_is_repeated(
    write: Write, tokenizer: str
) -> None:
    lines = [{"startTime": 100.0 + at, "messages": [USER]} for at in (0, 1, 4)]
    made = generator(write(*lines, repeat=True), tokenizer, Recorded(2.0))
    due = [request.due_s for request in made.due(6.0, 0, LONG)]
    # The second round begins one mean gap, of 2 s, after the last request; twice as fast.
    assert due == pytest.approx([0.0, 0.5, 2.0, 3.0, 3.5, 5.0, 6.0])


def test_our_own_arrivals_take_one_request_after_another(write: Write, tokenizer: str) -> None:
    made = generator(write(*[CHAT] * 10), tokenizer, Constant(2.0))
    assert [request.due_s for request in made.due(2.0, 0, LONG)] == [0.5, 1.0, 1.5, 2.0]
    assert made.next_due_s(4) == 2.5


def test_an_engine_never_waits_and_what_is_due_stays_due(
    write: Write, tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = generator(write(CHAT, CHAT), tokenizer, Constant(1.0))
    made._real._patient = False
    renderer = made._real._renderer
    ready = renderer.ready.copy()
    renderer.ready.clear()
    monkeypatch.setattr(renderer, "read_all", False)
    assert made.due(3.0, 0, LONG) == []
    assert 3.0 < made.next_due_s(0) < 3.1
    renderer.ready.extend(ready)
    assert [request.due_s for request in made.due(3.2, 0, LONG)] == [1.0, 2.0][: len(ready)]
    assert made.counts.late == 1


def test_a_load_changed_to_a_file_and_back_loses_nothing(write: Write, tokenizer: str) -> None:
    file = write(*[CHAT] * 3, repeat=True)
    plain = from_texts(Workload(ClosedLoop(1), requests=file), {"prompt": "8", "output": "4"})
    assert plain.requests is None
    made = Generator(plain, VOCABULARY, tokenizer, patient=True)
    made.resume(0.0)
    assert made.due(0.0, 0, LONG)[0].serving is None
    made.change(Workload(ClosedLoop(1), requests=file), 1.0)
    assert made.due(1.0, 0, LONG)[0].serving is not None
    made.change(plain, 2.0)
    assert made.due(2.0, 0, LONG)[0].serving is None
    assert made.counts is None


def test_a_run_counts_why_answers_stopped(write: Write, tokenizer: str) -> None:
    file = write(*[{**CHAT, "max_tokens": 20}] * 30, "{", tokenizer=tokenizer)
    rig = Rig(Workload(ClosedLoop(4), requests=file))
    rig.boot()
    rig.run(60.0)
    frame = rig.session.advance()
    assert frame.accounting.finished == 30
    assert dict(frame.stops) == {"length": 15, "stop": 15}
    assert frame.requests.lines == 31
    assert frame.status.load_run.ended


# -- notation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "batch.jsonl",
        "'my batch.jsonl' repeat force-lengths no-detokenize",
        "batch.jsonl temperature=0.7 top_p=0.9 seed=12345678",
        "batch.jsonl tokenizer=/models/a chat-template=t.jinja bad=0.2",
    ],
)
def test_a_file_of_requests_is_written_as_it_is_read(text: str) -> None:
    file = parse_requests(text)
    assert parse_requests(describe_requests(file)) == file
    load = Workload(ClosedLoop(1), requests=file)
    assert from_texts(load, to_texts(load)) == load


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a.jsonl forcelengths", "Did you mean `force-lengths`"),
        ("my batch.jsonl", "quotes of its own"),
        ("a.jsonl temperature=hot", "temperature is no number"),
        ("a.jsonl top_p=2", "top_p"),
        ("a.jsonl bad=2", "bad"),
        ("'a", "Quote a path"),
    ],
)
def test_a_bad_text_gets_a_sentence(text: str, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_requests(text)
    assert says in str(refused.value)


def test_sampling_is_parsed() -> None:
    assert parse_sampling("temperature=0.7,top_p=0.9") == Sampling(temperature=0.7, top_p=0.9)
    assert parse_sampling("none") is None
    with pytest.raises(UsageError, match="is not known here"):
        parse_sampling("temprature=1")


def test_a_load_has_either_a_file_of_requests_or_lengths() -> None:
    file = RequestFile("x")
    with pytest.raises(ValueError, match="brings everything but the arrivals"):
        Workload(ClosedLoop(1), requests=file, prompt=Fixed(1))

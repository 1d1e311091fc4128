"""Traces as they are published and exported, and what is typed for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tputtui.errors import UsageError
from tputtui.load.notation import parse_arrivals
from tputtui.load.sections import from_texts
from tputtui.load.source import Replayed, check_trace
from tputtui.load.traces import Trace, TraceRecord
from tputtui.load.workload import ClosedLoop, Recorded, TraceFile, Workload

BAILIAN = (
    '{"chat_id": 3, "parent_chat_id": -1, "timestamp": 61.5, "input_length": 12,'
    ' "output_length": 8, "type": "text", "turn": 1, "hash_ids": [40]}\n'
    '{"chat_id": 4, "parent_chat_id": 3, "timestamp": 63.0, "input_length": 37,'
    ' "output_length": 9, "type": "text", "turn": 2, "hash_ids": [40, 41, 42]}\n'
)


def replayed(path: Path) -> Workload:
    return Workload(Recorded(), trace=TraceFile(str(path)))


def test_bailian_has_blocks_of_16_tokens_and_times_in_seconds(tmp_path: Path) -> None:
    path = tmp_path / "bailian.jsonl"
    path.write_text(BAILIAN)
    trace = Trace(path)
    assert trace.format == "bailian"
    assert list(trace) == [
        TraceRecord(0.0, 12, 8, (40,), block_tokens=16),
        TraceRecord(1.5, 37, 9, (40, 41, 42), block_tokens=16),
    ]
    source = Replayed(TraceFile(str(path)), "")
    first, second = source.take(), source.take()
    source.close()
    assert [piece.tokens for piece in first.pieces] == [12]
    assert [piece.tokens for piece in second.pieces] == [16, 16, 5]
    # The same block begins both prompts.
    assert first.pieces[0][1:3] == second.pieces[0][1:3]


def test_whole_numbers_that_pandas_wrote_as_floats_are_whole_numbers(tmp_path: Path) -> None:
    csv, jsonl = tmp_path / "burst.csv", tmp_path / "own.jsonl"
    csv.write_text("Timestamp,Request tokens,Response tokens\n5.0,472.0,18.0\n6.5,7.00,3.\n")
    jsonl.write_text('{"at_s": 1, "prompt_tokens": 472.0, "output_tokens": 18.0}\n')
    assert list(Trace(csv)) == [TraceRecord(0.0, 472, 18), TraceRecord(1.5, 7, 3)]
    assert list(Trace(jsonl)) == [TraceRecord(0.0, 472, 18)]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "Timestamp,Request tokens,Response tokens\n5,472.5,18\n", "found '472.5'"),
        ("a.csv", "Timestamp,Request tokens,Response tokens\n5,.0,18\n", "found '.0'"),
        ("a.csv", "Timestamp,Request tokens,Response tokens\n5,,18\n", "found ''"),
        ("a.jsonl", '{"prompt_tokens": 4.5, "output_tokens": 1}\n', "found 4.5"),
        ("a.jsonl", '{"prompt_tokens": 4.0, "output_tokens": "x"}\n', "output_tokens: expected"),
    ],
)
def test_what_is_no_whole_number_is_named(name: str, text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=said):
        list(Trace(tmp_path / name))


@pytest.mark.parametrize(
    ("second", "hint"),
    [
        ('{"session_id": "a", "delay": 50, "input_length": 9, "output_length": 3}', "delays"),
        ('{"timestamp": 9, "text_input": "words", "output_length": 3}', "lengths in tokens"),
    ],
)
def test_a_conversation_of_aiperf_is_refused_before_anything_starts(
    second: str, hint: str, tmp_path: Path
) -> None:
    path = tmp_path / "sessions.jsonl"
    first = '{"session_id": "a", "timestamp": 0, "input_length": 9, "output_length": 3,'
    path.write_text(f'{first} "hash_ids": [1]}}\n{second}\n')
    with pytest.raises(UsageError, match="line 2") as caught:
        check_trace(replayed(path), "")
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("my trace.csv", "'my trace.csv'"),
        ("logs of May/a b.csv repeat", "'logs of May/a b.csv'"),
        ("my trace.csv tokenizer=/m", "'my trace.csv'"),
    ],
)
def test_a_path_with_spaces_says_how_it_is_quoted(text: str, quoted: str) -> None:
    load = Workload(ClosedLoop(1), trace=TraceFile("x"))
    with pytest.raises(UsageError, match="means nothing here") as caught:
        from_texts(load, {"trace": text})
    assert f'--trace "{quoted}"' in caught.value.hint
    put_right = text.replace(quoted.strip("'"), quoted)
    trace = from_texts(load, {"trace": put_right}).trace
    assert trace is not None
    assert trace.path == quoted.strip("'")


@pytest.mark.parametrize("text", ["inf", "inf/s", "infinity", "constant:inf/s"])
def test_an_endless_rate_is_told_as_what_it_means_here(text: str) -> None:
    with pytest.raises(UsageError, match="has no end") as caught:
        parse_arrivals(text)
    assert "in flight" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("96.5", "it must be a whole number or a curve"),
        ("nan", "is not a load"),
        ("1e9", "it must be at most 1,000,000"),
        ("recorded x0", "it must be more than 0"),
        ("recorded xnan", "is not a load"),
    ],
)
def test_a_load_out_of_bounds_is_said_in_words(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        parse_arrivals(text)
    assert "`" not in caught.value.message


def test_a_whole_number_may_have_a_point() -> None:
    assert parse_arrivals("96.0") == parse_arrivals("96") == ClosedLoop(96)

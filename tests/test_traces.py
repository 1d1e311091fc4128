"""Traces of real requests: every kind read as it is written, every fault told with its place."""

import importlib
import json
import math
import os
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import ijson
import pytest

from tputtui.errors import UsageError
from tputtui.load import trace_lines
from tputtui.load.traces import Trace, TraceRecord

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n"
BURSTGPT = "Timestamp,Model,Request tokens,Response tokens\n5,ChatGPT,472,18\n"
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}\n'
OWN = '{"at_s": 0, "prompt_tokens": 12, "output_tokens": 3}\n'
TALK = {"conversations": [{"value": "one two"}, {"value": "three"}]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str | bytes], Path]:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "trace.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.fixture
def tokenizer(tmp_path: Path) -> str:
    """One token a word, in a folder; asks for cutting and filling up, which falsify lengths."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {"[UNK]": 0, "one": 1, "two": 2, "three": 3, "four": 4}
    made = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.enable_truncation(3)
    made.enable_padding(length=3)
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    return str(folder)


def fault(path: Path, tokenizer: str = "") -> UsageError:
    """The error of reading the whole trace; it names the file and gives advice."""
    with pytest.raises(UsageError) as caught:
        list(Trace(path, tokenizer))
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value


def test_azure_2023_with_all_seven_digits(write: Callable[[str | bytes], Path]) -> None:
    trace = Trace(
        write(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2023-11-16 18:15:46.6805900,374,44\n"
            "2023-11-16 18:15:46.6805901,396,109\n"
            "2023-11-16 18:15:50.9951690,879,55\n"
            "2023-11-17 00:00:00,91,16\n"
        )
    )
    assert (trace.format, trace.timed) == ("azure", True)
    assert list(trace) == [
        TraceRecord(0.0, 374, 44),
        TraceRecord(1e-7, 396, 109),
        TraceRecord(4.314579, 879, 55),
        TraceRecord(20653.31941, 91, 16),
    ]


def test_azure_2024_with_zones(write: Callable[[str | bytes], Path]) -> None:
    trace = Trace(
        write(
            "TIMESTAMP,ContextTokens,GeneratedTokens\n"
            "2024-05-10 00:00:00.009930+00:00,2162,5\n"
            "2024-05-10 00:00:01+00:00,2399,6\n"
            "2024-05-10 02:00:02.5+0200,76,15\n"
            "2024-05-10T00:00:03Z,7,8\n"
            "2024-05-10 00:00:04,9,10\n"
        )
    )
    assert [r.at_s for r in trace] == [0.0, 0.99007, 2.49007, 2.99007, 3.99007]


@pytest.mark.parametrize(
    "text",
    [
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n"
        '45.5,"GPT-4, turbo",1087,0,1087,API log\n',
        "Log Type,Response tokens,Elapsed time,Session ID,Timestamp,Request tokens\n"
        "API log,18,1.5,,5,472\n"
        "API log,0,,7,45.5,1087\n",
        '"Response tokens", "Timestamp",Request tokens\n18,5, 472\n0, 45.5,1087\n',
    ],
)
def test_burstgpt_columns_are_found_by_name_and_a_failure_is_one_token(
    write: Callable[[str | bytes], Path], text: str
) -> None:
    trace = Trace(write(text))
    assert (trace.format, trace.timed) == ("burstgpt", True)
    assert list(trace) == [TraceRecord(0.0, 472, 18), TraceRecord(40.5, 1087, 1)]


def test_mooncake_is_blocks_of_512_tokens_and_a_rest_of_its_own(
    write: Callable[[str | bytes], Path],
) -> None:
    trace = Trace(
        write(
            '{"timestamp": 27482, "input_length": 1025, "output_length": 52,'
            ' "hash_ids": [46, 47, 2353]}\n'
            '{"timestamp": 30535, "input_length": 1025, "output_length": 0, "hash_ids": [46]}\n'
            '{"hash_ids": [], "output_length": 9, "input_length": 0, "timestamp": 3.06e4,'
            ' "session": "a"}\n'
        )
    )
    assert (trace.format, trace.timed) == ("mooncake", True)
    assert list(trace) == [
        TraceRecord(0.0, 1025, 52, (46, 47, 2353)),
        TraceRecord(3.053, 1025, 1, (46,)),
        TraceRecord(3.118, 1, 9),
    ]


def test_our_own_lines(write: Callable[[str | bytes], Path]) -> None:
    trace = Trace(
        write(
            '{"at_s": 0.5, "prompt_tokens": 128, "output_tokens": 64}\n'
            '{"at_s": 2, "prompt_tokens": 300, "output_tokens": 1,'
            ' "prefix": "sys-a", "prefix_tokens": 256}\n'
            '{"at_s": 2.0, "prompt_token_ids": [5, 6, 7], "output_tokens": 0}\n'
            '{"at_s": 3, "prompt_token_ids": [], "output_tokens": 2}\n'
            '{"at_s": 4, "prompt_tokens": 8, "output_tokens": 2,'
            ' "prefix": "none", "prefix_tokens": 0}\n'
        )
    )
    assert (trace.format, trace.timed) == ("tputtui", True)
    assert list(trace) == [
        TraceRecord(0.0, 128, 64),
        TraceRecord(1.5, 300, 1, prefix="sys-a", prefix_tokens=256),
        TraceRecord(1.5, 3, 1, token_ids=(5, 6, 7)),
        TraceRecord(2.5, 1, 2),
        TraceRecord(3.5, 8, 2),
    ]


def test_our_own_lines_without_times(write: Callable[[str | bytes], Path]) -> None:
    trace = Trace(write('{"prompt_tokens": 12, "output_tokens": 3}\n' * 2))
    assert not trace.timed
    assert [math.isnan(r.at_s) for r in trace] == [True, True]
    assert [r[1:3] for r in trace] == [(12, 3)] * 2


def test_sharegpt_is_the_first_two_turns_in_tokens(
    write: Callable[[str | bytes], Path], tokenizer: str
) -> None:
    entries = [
        {"id": "a", "conversations": []},
        {"id": "b", "conversations": [{"from": "human", "value": "one"}]},
        {
            "id": "c",
            "conversations": [
                {"from": "human", "value": "one two three four"},
                {"from": "gpt", "value": "two two five two two"},
                {"from": "human", "value": "one"},
            ],
        },
        {"id": "d"},
        {"conversations": [{"from": "gpt", "value": "four"}, {"value": ""}]},
        {"conversations": [{"value": ""}, {"value": "one"}]},
    ]
    trace = Trace(write(json.dumps(entries, indent=1)), tokenizer)
    assert (trace.format, trace.timed) == ("sharegpt", False)
    assert [r[1:7] for r in trace] == [
        (4, 5, (), (1, 2, 3, 4), "", 0),
        (1, 1, (), (4,), "", 0),
        (1, 1, (), (), "", 0),
    ]
    assert all(math.isnan(r.at_s) for r in trace)


def test_a_tokenizer_may_be_named_by_its_file(
    write: Callable[[str | bytes], Path], tokenizer: str
) -> None:
    trace = Trace(write(json.dumps([TALK])), f"{tokenizer}/tokenizer.json")
    assert [r.prompt_tokens for r in trace] == [2]


def test_the_pure_python_json_reader_tells_the_same(
    write: Callable[[str | bytes], Path], tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pure = importlib.import_module("ijson.backends.python")
    monkeypatch.setattr(ijson, "basic_parse", pure.basic_parse)
    good = json.dumps([TALK] * 3)
    assert len(list(Trace(write(good), tokenizer))) == 3
    error = fault(write(good[:-30]), tokenizer)
    assert "entry 3: bad JSON" in error.message
    assert "cut short" in error.hint
    error = fault(write('[{"conversations": [{"value": "\\ud83d"}, {"value": ""}]}]'), tokenizer)
    assert "entry 1: turn 1: the tokenizer failed" in error.message
    assert "entry 1: bad JSON" in fault(write(b'[{"a": "\xff"}]'), tokenizer).message


@pytest.mark.parametrize("good", [AZURE, BURSTGPT, MOONCAKE, OWN, json.dumps([TALK])])
def test_byte_order_marks_carriage_returns_and_blank_lines_change_nothing(
    write: Callable[[str | bytes], Path], tokenizer: str, good: str
) -> None:
    plain = [r[1:] for r in Trace(write(good), tokenizer)]
    assert len(plain) == 1
    dressed = "\ufeff\r\n\r\n" + good.replace("\n", "\r\n") + "  \r\n\r\n"
    assert [r[1:] for r in Trace(write(dressed), tokenizer)] == plain
    assert [r[1:] for r in Trace(write(good.rstrip("\n")), tokenizer)] == plain


def test_any_number_of_readings_are_the_same_and_independent(
    write: Callable[[str | bytes], Path],
) -> None:
    trace = Trace(write(BURSTGPT + "7,ChatGPT,1,2\n9,ChatGPT,3,4\n"))
    half_read = iter(trace)
    next(half_read)
    first = list(trace)
    assert [r[:3] for r in first] == [(0, 472, 18), (2, 1, 2), (4, 3, 4)]
    assert list(trace) == first
    assert next(half_read).at_s == 2
    assert list(zip(trace, trace, strict=True)) == [(r, r) for r in first]


def test_closing_lets_go_of_the_file_and_a_new_reading_begins_at_the_first_record(
    write: Callable[[str | bytes], Path],
) -> None:
    path = write(OWN * 3)
    trace = Trace(path)
    assert open_descriptors(path) == 0
    reading = iter(trace)
    assert open_descriptors(path) == 0
    next(reading)
    assert open_descriptors(path) == 1
    trace.close()
    assert open_descriptors(path) == 0
    assert list(reading) == []
    assert len(list(trace)) == 3
    trace.close()


def open_descriptors(path: Path) -> int:
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(link) and os.path.samefile(link, path) for link in links)


def test_a_file_is_read_as_it_is_needed(write: Callable[[str | bytes], Path]) -> None:
    path = write(OWN * 1_000 + "rubbish\n")
    records = iter(Trace(path))
    assert len(list(islice(records, 1_000))) == 1_000
    with pytest.raises(UsageError, match="line 1001: bad JSON"):
        next(records)


def test_a_file_that_is_gone_is_told_when_it_is_read(write: Callable[[str | bytes], Path]) -> None:
    path = write(OWN)
    trace = Trace(path)
    path.unlink()
    with pytest.raises(UsageError, match="No such file"):
        list(trace)


@pytest.mark.parametrize(
    ("text", "at_s"),
    [
        (BURSTGPT + "3,ChatGPT,1,1\n6,ChatGPT,1,1\n5.5,ChatGPT,1,1\n", [0, 0, 1, 1]),
        (AZURE + "2023-11-16 18:15:46,1,1\n2023-11-16 18:15:47.68,1,1\n", [0, 0, 1]),
        (MOONCAKE.replace("0,", "50,", 1) + MOONCAKE, [0, 0]),
        (OWN.replace("0,", "9,", 1) + OWN + OWN.replace("0,", "10,", 1), [0, 0, 1]),
    ],
)
def test_times_never_fall(write: Callable[[str | bytes], Path], text: str, at_s: list[int]) -> None:
    assert [r.at_s for r in Trace(write(text))] == at_s


TOO_MANY = "16777217"

FAULTS = [
    # The good beginning, the bad line after it, what is said of that line.
    (AZURE, "2023-11-16 18:15:47,1,abc", "GeneratedTokens: expected a whole number, found 'abc'"),
    (AZURE, "2023-11-16 18:15:47,1.5,2", "ContextTokens: expected a whole number, found '1.5'"),
    (AZURE, "2023-11-16 18:15:47,,2", "ContextTokens: expected a whole number, found ''"),
    (AZURE, "2023-11-16 18:15:47,nan,2", "ContextTokens: expected a whole number, found 'nan'"),
    (AZURE, "2023-11-16 18:15:47,1_0,2", "ContextTokens: expected a whole number, found '1_0'"),
    (AZURE, "2023-11-16 18:15:47,٣,2", "ContextTokens: expected a whole number, found '٣'"),
    (AZURE, "2023-11-16 18:15:47,-1,2", "ContextTokens: expected 0 or more, found -1"),
    (AZURE, f"2023-11-16 18:15:47,{TOO_MANY},2", "ContextTokens: expected 16777216 or less"),
    (AZURE, f"2023-11-16 18:15:47,{'9' * 5000},2", "ContextTokens: expected a whole number"),
    (AZURE, "2023-11-16 18:1", "expected 3 columns, found 1"),
    (AZURE, "2023-11-16 18:15:47,1,2,3", "expected 3 columns, found 4"),
    (AZURE, "2023-02-30 00:00:00,1,2", "TIMESTAMP: expected a time like 2023-11-16 18:15:46.68"),
    (AZURE, "2023-11-16,1,2", "TIMESTAMP: expected a time"),
    (AZURE, "1700158546.68,1,2", "TIMESTAMP: expected a time"),
    (AZURE, "2023-11-16 18:15:47+99:00,1,2", "TIMESTAMP: expected a time"),
    (BURSTGPT, "x,ChatGPT,1,1", "Timestamp: expected a number of seconds, 0 or more, found 'x'"),
    (BURSTGPT, "nan,ChatGPT,1,1", "Timestamp: expected a number"),
    (BURSTGPT, "inf,ChatGPT,1,1", "Timestamp: expected a number"),
    (BURSTGPT, "-1,ChatGPT,1,1", "Timestamp: expected a number"),
    (BURSTGPT, "1_0,ChatGPT,1,1", "Timestamp: expected a number"),
    (BURSTGPT, "9" * 400 + ",ChatGPT,1,1", "Timestamp: expected a number"),
    (BURSTGPT, "6,ChatGPT,1,-1", "Response tokens: expected 0 or more, found -1"),
    (BURSTGPT, '6,"ChatGPT,1,1', "bad CSV"),
    (BURSTGPT, b"6,Chat\xffGPT,1,1", "not text in UTF-8"),
    (MOONCAKE, MOONCAKE[:30], "bad JSON: input data was truncated"),
    (MOONCAKE, MOONCAKE.replace("}", "} x"), "bad JSON: "),
    (MOONCAKE, MOONCAKE.replace("600", "NaN"), "bad JSON: "),
    (MOONCAKE, MOONCAKE.replace("600", '"abc"'), "input_length: expected a whole number, found 'a"),
    (MOONCAKE, MOONCAKE.replace("600", "600.5"), "input_length: expected a whole number, found 60"),
    (MOONCAKE, MOONCAKE.replace("600", "null"), "input_length: expected a whole number, found nul"),
    (MOONCAKE, MOONCAKE.replace("600", "-600"), "input_length: expected 0 or more, found -600"),
    (MOONCAKE, MOONCAKE.replace("600", TOO_MANY), "input_length: expected 16777216 or less, found"),
    (MOONCAKE, MOONCAKE.replace("600", "512"), "hash_ids: expected 1 for 512 tokens, found 2"),
    (MOONCAKE, MOONCAKE.replace("[1, 2]", "[1, -2]"), "hash_ids: expected 0 or more, found -2"),
    (MOONCAKE, MOONCAKE.replace("[1, 2]", '"x"'), "hash_ids: expected a list, found 'x'"),
    (MOONCAKE, MOONCAKE.replace("[1, 2]", "[1, [2]]"), "hash_ids: expected a whole number, found "),
    (MOONCAKE, MOONCAKE.replace("0,", "-1,", 1), "timestamp: expected 0 or more, found -1"),
    (MOONCAKE, MOONCAKE.replace("0,", "1e999,", 1), "timestamp: number out of range"),
    (
        MOONCAKE,
        MOONCAKE.replace("600", '"a"').replace("}", ""),
        "input_length: expected a whole nu",
    ),
    (MOONCAKE, MOONCAKE.replace("}", ', "a": ' + "[" * 9999), "bad JSON: "),
    (MOONCAKE, "[1, 2]", "expected an object in braces, found array"),
    (MOONCAKE, b'{"\xff": 1}', "not text in UTF-8"),
    (OWN, '{"at_s": 1, "output_tokens": 3}', "expected prompt_tokens or prompt_token_ids, found n"),
    (
        OWN,
        OWN.replace("}", ', "prompt_token_ids": [1]}'),
        "expected prompt_tokens or prompt_token_i",
    ),
    (OWN, '{"prompt_tokens": 1, "output_tokens": 3}', "at_s: missing, unlike in the first record"),
    (OWN.replace('"at_s": 0, ', ""), OWN, "at_s: found, unlike in the first record"),
    (OWN, OWN.replace("}", ', "prefix": "a"}'), "prefix_tokens: missing"),
    (OWN, OWN.replace("}", ', "prefix_tokens": 1}'), "prefix: missing"),
    (OWN, OWN.replace("}", ', "prefix": "a", "prefix_tokens": 13}'), "prefix_tokens: expected at "),
    (OWN, OWN.replace("}", ', "prefix": 5, "prefix_tokens": 1}'), "prefix: expected text, found 5"),
    (
        OWN,
        '{"at_s": 1, "output_tokens": 3, "prompt_token_ids": [1], "prefix": "a", '
        '"prefix_tokens": 1}',
        "prefix: found beside prompt_token_ids",
    ),
    (OWN, OWN.replace("0,", "null,", 1), "at_s: expected a number, found null"),
    (OWN, OWN.replace('"prompt_tokens": 12', '"prompt_token_ids": [1.5]'), "prompt_token_ids: exp"),
]


@pytest.mark.parametrize(("good", "bad", "what"), FAULTS)
def test_a_bad_line_is_told_with_its_number_and_column(
    write: Callable[[str | bytes], Path], good: str, bad: str | bytes, what: str
) -> None:
    bad = bad if isinstance(bad, bytes) else bad.encode()
    number = good.count("\n") + 2
    path = write(good.encode() + b"\n" + bad.rstrip(b"\n") + b"\n")
    assert fault(path).message.startswith(f"{path}: line {number}: {what}")
    # Bad from the start: opening is enough to be told.
    kept = good.splitlines(keepends=True)[0] if good in (AZURE, BURSTGPT) else ""
    if what.startswith("at_s: "):
        return
    with pytest.raises(UsageError):
        Trace(write(kept.encode() + bad + b"\n"))


def test_a_last_line_that_just_ends_may_have_been_cut_short(
    write: Callable[[str | bytes], Path],
) -> None:
    assert "cut short" in fault(write(AZURE + "2023-11-16 18:1")).hint
    assert "cut short" not in fault(write(AZURE + "2023-11-16 18:1\n")).hint
    assert "cut short" in fault(write(OWN + OWN[:20])).hint


@pytest.mark.parametrize(
    ("text", "what", "hint"),
    [
        (AZURE.replace("Gen", "gen"), "line 1: no column `GeneratedTokens`", "GeneratedTokens"),
        (BURSTGPT.replace("Response ", ""), "line 1: no column `Response tokens`", "Response tok"),
        (MOONCAKE.replace("hash_ids", "hash_id"), "line 1: hash_ids: missing", "`hash_ids`?"),
        (MOONCAKE.replace(', "hash_ids": [1, 2]', ""), "line 1: hash_ids: missing", "Mooncake"),
        (OWN.replace("output_tokens", "output_token"), "line 1: output_token: no such key", "ns`?"),
        (OWN.replace("}", ', "x": 1}'), "line 1: x: no such key", "tputtui"),
        ("timestamp,contexttokens,generatedtokens\n", "found the header `timestamp,con", "Azure. "),
        ("time,in,out\n1,2,3\n", "line 1: no known kind of trace: found the header", "Mooncake ("),
        ('{"hashid": 1, "len_input": 3}\n', "found the keys `hashid,len_input`", "Known traces: "),
        ("{}\n", "line 1: no known kind of trace: found the keys", "Known traces: "),
        ("{\n", "line 1: bad JSON", "one line"),
        ("{" * 9999, "line 1: bad JSON", "one line"),
        ("", "empty", "Known traces: "),
        (" \r\n\n", "empty", "Known traces: "),
        (AZURE.splitlines()[0], "no records", "at least one"),
        (b"\x1f\x8b\x08\x00", "gzip", "Unpack"),
        (AZURE.encode("utf-16"), "UTF-16", "Unpack"),
        (b"caf\xe9,tokens\n", "line 1: not text in UTF-8", "Known traces: "),
    ],
)
def test_a_file_of_no_known_kind_is_told_with_the_kinds_there_are(
    write: Callable[[str | bytes], Path], text: str | bytes, what: str, hint: str
) -> None:
    path = write(text)
    with pytest.raises(UsageError) as caught:
        Trace(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert what in caught.value.message
    assert hint in caught.value.hint


def test_what_is_no_file_is_told(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, what in [
        (tmp_path / "none", "No such file"),
        (tmp_path, "a directory"),
        (pipe, "not a regular file"),
        (tmp_path / "a\0b", "null"),
    ]:
        assert what in fault(path).message


SHAREGPT_FAULTS = [
    ("5", "expected an object, found 5"),
    ('{"conversations": 1.5}', "conversations: expected a list, found 1.5"),
    ('{"conversations": [1, 2]}', "turn 1: expected an object, found 1"),
    ('{"conversations": [{"value": "one"}, {"text": "a"}]}', "turn 2: value: missing"),
    ('{"conversations": [{"value": null}, {}]}', "turn 1: value: expected text, found null"),
    ('{"conversations": [{"value": [5]}, {}]}', "turn 1: value: expected text, found a list"),
    ('{"conversations": [{"value": NaN}]}', "bad JSON: lexical error"),
    ('{"conversations"}', "bad JSON: parse error"),
    ('{"a": ' + "[" * 100_000, "nested more than 100 deep"),
    (b'{"conversations": [{"value": "\xff"}]}', "bad JSON: lexical error: invalid bytes in UTF8"),
]


@pytest.mark.parametrize(("bad", "what"), SHAREGPT_FAULTS)
def test_a_bad_entry_is_told_with_its_number(
    write: Callable[[str | bytes], Path], tokenizer: str, bad: str | bytes, what: str
) -> None:
    bad = bad if isinstance(bad, bytes) else bad.encode()
    good = json.dumps(TALK).encode()
    path = write(b"[" + good + b', {"conversations": []}, ' + bad + b", " + good + b"]")
    assert fault(path, tokenizer).message.startswith(f"{path}: entry 3: {what}")
    with pytest.raises(UsageError, match="entry 1: "):
        Trace(write(b"[" + bad + b"]"), tokenizer)


def test_an_array_that_ends_too_soon_or_goes_on_is_told(
    write: Callable[[str | bytes], Path], tokenizer: str
) -> None:
    good = json.dumps([TALK] * 2)
    error = fault(write(good[:-1]), tokenizer)
    assert "entry 3: bad JSON" in error.message
    assert "cut short" in error.hint
    assert (
        "entry 3: bad JSON: parse error: trailing garbage"
        in fault(write(good + " 1"), tokenizer).message
    )
    assert "no records" in fault(write("[]"), tokenizer).message


def test_an_array_of_something_else_is_told(
    write: Callable[[str | bytes], Path], tokenizer: str
) -> None:
    error = fault(write('[{"conversation": [1, 2]}]'), tokenizer)
    assert "entry 1: conversations: missing, found `conversation`" in error.message
    assert "`conversations`?" in error.hint


def test_sharegpt_says_which_tokenizer_it_needs(
    write: Callable[[str | bytes], Path],
    tokenizer: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = write(json.dumps([TALK]))
    error = fault(path)
    assert "needs a tokenizer" in error.message
    assert "tokenizer.json" in error.hint

    def refused(name: str) -> str:
        with pytest.raises(UsageError) as caught:
            Trace(path, name)
        assert "hub" in caught.value.hint
        return caught.value.message

    assert f"no file {tmp_path}/tokenizer.json" in refused(str(tmp_path))
    assert "no file" in refused("./nowhere")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert f"Tokenizer {tmp_path}: " in refused(str(tmp_path))

    from tokenizers import Tokenizer

    def unreachable(name: str) -> None:
        raise OSError(f"cannot reach {name}\nfor a long reason")

    monkeypatch.setattr(Tokenizer, "from_pretrained", unreachable)
    assert refused("some/model") == "Tokenizer some/model: cannot reach some/model."


def test_what_would_not_fit_in_memory_is_refused_before_it_is_read(
    write: Callable[[str | bytes], Path], tokenizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trace_lines, "MAX_BYTES", 1 << 20)
    monkeypatch.setattr("tputtui.load.sharegpt.MAX_BYTES", 1 << 20)
    path = write(OWN + '{"at_s": 1, "prefix": "' + "x" * 8_000_000)
    with peak_below(3_000_000):
        assert fault(path).message == f"{path}: line 2: longer than 1 MiB."
    talk = json.dumps(TALK)
    path = write(f'[{talk}, {{"a": "' + "x" * 8_000_000)
    with peak_below(3_000_000):
        assert "entry 2: longer than 1 MiB" in fault(path, tokenizer).message
    long = f'{{"a": "{"x" * 700_000}", "conversations": []}}, '
    assert len(list(Trace(write(f"[{talk}, {long * 9} {talk}]"), tokenizer))) == 2


def azure_lines(i: int) -> str:
    return (
        f"2023-11-16 {i // 36000:02}:{i // 600 % 60:02}:{i // 10 % 60:02}.{i % 10}805900,9{i},7\n"
    )


def burstgpt_lines(i: int) -> str:
    return f"{i * 0.5},{'a long name ' * 20},{i % 4000 + 1},{i % 400}\n"


def mooncake_lines(i: int) -> str:
    ids = ", ".join(str(block + i) for block in range(14))
    return f'{{"timestamp": {i}, "input_length": 6955, "output_length": 9, "hash_ids": [{ids}]}}\n'


def our_lines(i: int) -> str:
    return (
        f'{{"at_s": {i}, "prompt_tokens": 300, "output_tokens": 64,'
        f' "prefix": "sys-{i}", "prefix_tokens": 100}}\n'
    )


@pytest.mark.parametrize(
    ("header", "line", "n"),
    [
        (AZURE, azure_lines, 150_000),
        (BURSTGPT, burstgpt_lines, 100_000),
        ("", mooncake_lines, 100_000),
        ("", our_lines, 100_000),
    ],
    ids=["azure", "burstgpt", "mooncake", "tputtui"],
)
@pytest.mark.long
def test_memory_stays_flat_however_long_the_trace(
    tmp_path: Path, header: str, line: Callable[[int], str], n: int
) -> None:
    path = tmp_path / "trace"
    with path.open("w") as file:
        file.write(header)
        file.writelines(map(line, range(n)))
    assert path.stat().st_size > 5_000_000
    with peak_below(1_000_000):
        assert sum(1 for _ in Trace(path)) == n + (header != "")


@pytest.mark.long
def test_memory_stays_flat_however_long_the_array(tmp_path: Path, tokenizer: str) -> None:
    path = tmp_path / "trace"
    turns = [{"from": "human", "value": "one two "}, {"from": "gpt", "value": "four " * 20}]
    entry = json.dumps({"id": "x", "conversations": turns + [turns[1]] * 30})
    with path.open("w") as file:
        file.write(f"[{entry}")
        file.writelines(f",\n{entry}" for _ in range(6_999))
        file.write("]")
    assert path.stat().st_size > 20_000_000
    with peak_below(2_000_000):
        assert sum(r.output_tokens for r in Trace(path, tokenizer)) == 20 * 7_000


@contextmanager
def peak_below(n_bytes: int) -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < n_bytes
    finally:
        tracemalloc.stop()

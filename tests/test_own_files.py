"""Classes of traffic with a file of their own: a trace, or real requests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec
import pytest
from textual.widgets import Label

from tests.rig import Rig
from tests.screens import on_screen
from tests.test_load_editor import opened
from tests.test_own_arrivals import BASE, Client, kinds
from tests.test_screen import app_after
from tputtui import cli
from tputtui.cli.asked import asked_of
from tputtui.cli.bench import parser
from tputtui.cli.options import parsed
from tputtui.errors import ProfileError, UsageError
from tputtui.load.generator import Generator
from tputtui.load.members import members_of
from tputtui.load.merged import MergedGenerator, generator_of
from tputtui.load.notation import describe_all_arrivals
from tputtui.load.preview import preview
from tputtui.load.requests.counts import RequestCounts, together
from tputtui.load.sections import describe, form_of, from_texts, to_texts
from tputtui.load.workload import Recorded, Workload
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.document import dump, parse
from tputtui.profile.files import beside
from tputtui.ui.panels.drafts import _real
from tputtui.ui.screens.load import LoadEditor

CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 7}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Thirty requests, one each second, with lengths of their own."""
    path = tmp_path / "my trace.jsonl"
    path.write_text("".join(
        json.dumps({"at_s": float(i), "prompt_tokens": 200 + i, "output_tokens": 11}) + "\n"
        for i in range(30)
    ))  # fmt: skip
    return path


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Twenty chats without times."""
    path = tmp_path / "chats.jsonl"
    path.write_text((json.dumps(CHAT) + "\n") * 20)
    return path


def load_of(classes: str, **texts: str) -> Workload:
    return from_texts(BASE, {"classes": classes, **texts})


def started(load: Workload, tokenizer: str = "", vocab_size: int = 8192) -> MergedGenerator:
    make = partial(Generator, vocab_size=vocab_size, tokenizer=tokenizer, patient=True)
    generator = generator_of(load, make)
    assert isinstance(generator, MergedGenerator)
    generator.resume(0.0)
    return generator


# -- what is sent --------------------------------------------------------------------------------


def test_a_trace_at_its_own_times_beside_drawn_requests(trace: Path) -> None:
    generator = started(load_of(f"old at=recorded x2 trace='{trace}' priority=3; new share=1"))
    requests = generator.due(60.0, 0, 4096)
    old = [r for r in requests if r.carried.label.traffic == "old"]
    assert [(r.due_s, r.prompt_tokens, r.output_tokens) for r in old] == [
        (i / 2, 200 + i, 11) for i in range(30)
    ]
    assert {r.carried.priority for r in old} == {3}
    new = [r for r in requests if r.carried.label.traffic == "new"]
    assert {(r.prompt_tokens, r.output_tokens) for r in new} == {(100, 50)}
    assert len(new) > 400
    # The rest of the load goes on; and that the file has ended is told once.
    assert not generator.exhausted
    assert generator.newly_over() == ["class old"]
    assert generator.newly_over() == []


def test_the_load_ends_with_the_last_of_its_files(trace: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.jsonl"
    short.write_text('{"at_s": 0, "prompt_tokens": 9, "output_tokens": 9}\n' * 3)
    load = load_of(f"a at=recorded trace='{trace}'; b at=2 trace={short}", arrivals="0")
    client = Client(started(load), takes_s=0.5)
    client.run(20)
    assert not client.generator.exhausted
    client.run(20)
    assert client.generator.exhausted
    assert client.generator.failure is None
    assert kinds(client.sent) == {"a": 30, "b": 3}
    client.generator.restart()
    client.generator.resume(client.now_s)
    assert not client.generator.exhausted
    client.run(40)
    assert kinds(client.sent) == {"a": 60, "b": 6}


def test_a_file_that_cannot_be_read_on_ends_the_load(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"at_s": 0, "prompt_tokens": 9, "output_tokens": 9}\n' * 3 + "{oops\n")
    generator = started(load_of(f"a at=2/s trace={bad}; b share=1"))
    generator.due(30.0, 0, 4096)
    assert generator.exhausted
    assert generator.failure is not None
    assert "bad.jsonl" in str(generator.failure)


def test_real_requests_in_one_class_beside_drawn_ones(chats: Path, tokenizer: str) -> None:
    client = Client(started(load_of(f"real at=3 requests={chats}; rest share=1"), tokenizer, 258))
    client.run(1)
    assert client.under_way()["real"] == 3
    real = [r for r in client.sent if r.carried.label.traffic == "real"]
    assert all(r.serving is not None and r.output_tokens == 7 for r in real)
    assert all(r.serving is None for r in client.sent if r.carried.label.traffic == "rest")
    client.run(30)
    counts = client.generator.counts
    assert counts is not None
    assert (counts.lines, kinds(client.sent)["real"]) == (20, 20)
    client.generator.close()


def test_two_files_of_real_requests_are_counted_together(
    chats: Path, tokenizer: str, tmp_path: Path
) -> None:
    more = tmp_path / "more.jsonl"
    more.write_text((json.dumps(CHAT) + "\n") * 5 + "{oops\n")
    text = f"a at=2 requests={chats}; b at=2 requests={more} bad=1"
    client = Client(started(load_of(text, arrivals="0"), tokenizer, 258))
    client.run(40)
    assert client.generator.exhausted
    assert kinds(client.sent) == {"a": 20, "b": 5}
    counts = client.generator.counts
    assert counts is not None
    assert (counts.lines, counts.skipped, counts.rendered) == (26, 1, 25)
    assert dict(counts.formats) == {"messages": 25}
    assert counts.first_bad
    client.generator.close()


def test_counts_of_one_file_stay_as_they_are() -> None:
    one = RequestCounts(lines=3, told=2, sha256="ab")
    assert together([]) is None
    assert together([one]) is one
    two = together([one, RequestCounts(lines=4, longest=9)])
    assert two is not None
    assert (two.lines, two.longest, two.sha256) == (7, 9, "")


def test_a_class_takes_the_loads_file_with_arrivals_of_its_own(trace: Path) -> None:
    load = load_of("a at=recorded; b at=constant:1/s prompt=5 output=5", trace=f"'{trace}'",
                   arrivals="0")  # fmt: skip
    requests = started(load).due(29.5, 0, 4096)
    assert [r.prompt_tokens for r in requests if r.carried.label.traffic == "a"] == [
        200 + i for i in range(30)
    ]
    assert {r.prompt_tokens for r in requests if r.carried.label.traffic == "b"} == {5}


def test_another_file_turned_live_loses_nothing_and_one_that_is_gone_changes_nothing(
    trace: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"at_s": 0, "prompt_tokens": 9, "output_tokens": 9}\n' * 50)
    load = load_of(f"a at=constant:1/s trace='{trace}'; b share=1")
    generator = started(load)
    seen = generator.due(5.0, 0, 4096)
    other_load = load_of(f"a at=constant:1/s trace={other}; b share=1")
    generator.change(other_load, 10.0)
    late = generator.due(20.0, 0, 4096)
    a = [r for r in (*seen, *late) if r.carried.label.traffic == "a"]
    assert [r.due_s for r in a] == pytest.approx([float(i) for i in range(1, 21)])
    other.unlink()
    trace.unlink()
    before = generator.workload
    for gone in (
        f"a at=constant:2/s trace='{trace}'; b share=1",
        f"a at=constant:2/s trace={other}; b share=1; c at=1/s trace='{trace}'",
    ):
        with pytest.raises(UsageError, match="No such file"):
            generator.change(load_of(gone, arrivals="99/s"), 21.0)
        assert generator.workload == before
    rest = kinds(generator.due(31.0, 0, 4096))
    assert rest["a"] == 11
    assert 70 < rest["b"] < 150


# -- as text, in a profile, and in a session -----------------------------------------------------


def test_it_is_written_as_it_is_read(trace: Path) -> None:
    text = (
        f"a at=recorded x2 trace='{trace}' repeat priority=3; "
        "b at=8/s requests='my; prompt=3.jsonl' repeat force-lengths temperature=0.7 adapter=x; "
        "c share=1"
    )
    load = load_of(text)
    assert to_texts(load)["classes"] == text
    assert from_texts(BASE, to_texts(load)) == load
    assert text in describe(load)
    assert form_of("classes", text) == "from files"
    profile = Profile(EngineSpec("shape:demo"), load)
    assert parse(dump(profile), "x") == profile
    assert isinstance(members_of(load)["a"].arrivals, Recorded)
    assert [file.path for file in load.request_files] == ["my; prompt=3.jsonl"]


@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        ("a share=1 trace=x.csv", "a file of its own needs arrivals of its own"),
        ("a requests=x.jsonl", "a file of its own needs arrivals of its own"),
        ("a at=2 trace=x.csv requests=x.jsonl; b share=1", "not both"),
        ("a at=2 trace=x.csv prompt=3 output=3; b share=1", "brings its own lengths"),
        ("a at=2 trace=x.csv again; b share=1", "'again' means nothing here"),
        ("a at=2 requests='x.jsonl; b share=1", "No closing quotation"),
        ("a at=2 trace=/nowhere.csv; b share=1", "No such file"),
        ("a at=2 requests=/nowhere.jsonl; b share=1", "No such file"),
    ],
)
def test_what_cannot_be_meant_is_told(
    classes: str, wrong: str, capsys: pytest.CaptureFixture[str], tokenizer: str
) -> None:
    words = ["bench", "shape:demo", "--classes", classes, "--load", "8/s", "--duration", "1s"]
    assert cli.main([*words, "--tokenizer", tokenizer]) == 2
    assert wrong in capsys.readouterr().err


def test_times_that_a_file_has_not_are_told_before_a_start(
    chats: Path, tokenizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = f"a at=recorded requests={chats}; b share=1"
    words = ["bench", "shape:demo", "--classes", classes, "--duration", "1s"]
    assert cli.main([*words, "--tokenizer", tokenizer]) == 2
    assert "has no times to replay" in capsys.readouterr().err


def test_a_profile_says_it_too_and_finds_files_beside_it(trace: Path, chats: Path) -> None:
    head = (
        "tputtui: 1\nload:\n  arrivals: {kind: poisson, rate: 8}\n"
        "  prompt: {kind: fixed, tokens: 9}\n  output: {kind: fixed, tokens: 9}\n  classes:\n"
        "  - {name: rest, share: 1}\n"
    )
    for mistake, wrong in (
        ("{name: a, share: 1, trace: {path: x}}", "a file of its own needs arrivals"),
        ("{name: a, requests: {path: x}}", "a file of its own needs arrivals"),
        ("{name: a, arrivals: {kind: recorded}, trace: {pth: x}}", "Did you mean `path`?"),
    ):
        with pytest.raises(ProfileError) as told:
            parse(f"{head}  - {mistake}\n", "p.yaml")
        assert wrong in str(told.value)
    good = f"{head}  - {{name: a, arrivals: {{kind: recorded}}, trace: {{path: my trace.jsonl}}}}\n"
    good += "  - {name: b, arrivals: {kind: closed, in_flight: 2}, requests: {path: chats.jsonl}}\n"
    found = beside(parse(good, "p.yaml"), trace.parent / "p.yaml").load
    assert [file.path for file in found.traces] == [str(trace)]
    assert [file.path for file in found.request_files] == [str(chats)]


def test_flags_of_real_prompts_are_for_those_of_classes_too(chats: Path, tokenizer: str) -> None:
    classes = f"a at=2 requests={chats}; b share=1"
    words = ["shape:demo", "--classes", classes, "--tokenizer", tokenizer, "--force-lengths"]
    (file,) = asked_of(*parsed(parser(), words)).profile.load.request_files
    assert file.force_lengths


def test_the_session_serves_them_and_says_when_a_file_is_over(trace: Path) -> None:
    rig = Rig.booted(load_of(f"old at=recorded trace='{trace}'; new at=4"))
    rig.run(50)
    frame, recorder = rig.session.advance(), rig.session.recorder
    issued = recorder.issued.between(-1.0, rig.clock())
    names = Counter(recorder.labels[int(n)].traffic for n in issued[:, 1])
    assert names["old"] == 30
    assert names["new"] > 60
    told = [mark.text for mark in frame.marks if "has ended" in mark.text]
    assert told == ["the file of class old has ended; the rest goes on"]
    rig.session.steer.load.toggle()
    rig.run(5)
    rig.session.steer.load.toggle()
    rig.run(5)
    assert len([m for m in rig.session.advance().marks if "has ended" in m.text]) == 1
    trace.unlink()
    with pytest.raises(UsageError, match="No such file"):
        rig.session.steer.load.set(load_of(f"old at=1/s trace='{trace}' repeat; new at=4"))


def test_the_preview_reads_the_file_of_the_first_class(trace: Path) -> None:
    seen = preview(load_of(f"old at=recorded trace='{trace}'; b at=2"), max_model_len=None,
                   block_size=16)  # fmt: skip
    assert seen.trace is not None
    assert (seen.part, seen.trace.records, seen.prompt.lengths[0]) == ("class old alone", 30, 200)


def test_prompts_are_of_chance_where_some_of_them_are(chats: Path) -> None:
    load = load_of(f"a at=2 requests={chats}; b share=1")
    assert [_real(part) for part in members_of(load).values()] == [False, True]
    alone = msgspec.structs.replace(load, classes=load.apart, arrivals=load_of("a at=2").arrivals)
    assert len(alone.request_files) == 1


async def test_the_editor_takes_them_and_says_what_cannot_be_meant(trace: Path) -> None:
    app = app_after(5)
    before = app.session.workload
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        for classes, arrivals, wrong in (
            ("a at=8/s share=1", "8/s", "give a share, or arrivals of its own, one of the two"),
            ("a at=8/s; b at=16", "8/s", "nobody takes the load's"),
            ("a share=1 trace=x.csv", "8/s", "a file of its own needs arrivals of its own"),
            ("a at=recorded; b share=1", "8/s", "recorded arrivals need a trace"),
            ("a at=2 trace=/nowhere.csv; b at=1", "0", "No such file"),
        ):
            await editing.write(classes=classes, arrivals=arrivals)
            editing.editor.look()
            assert wrong in " ".join(editing.says.split())
            labels = [str(label.render()) for label in editing.screen.query(Label)]
            await pilot.press("enter")
            on_screen(app, LoadEditor)
            assert app.session.workload is before
        # That of the file that is not there.
        assert "✗ classes" in labels
        classes = f"old at=recorded trace='{trace}'; new at=4"
        await editing.write(classes=classes, arrivals="0")
        editing.editor.look()
        assert editing.kind("classes").value == "from files"
        assert "tputtui trace: 30 records read, with times" in editing.title
        assert "class old alone" in editing.title
        await pilot.press("enter")
        assert app.screen is app._board
        assert to_texts(app.session.workload)["classes"] == f"{classes} in flight"
        await pilot.press("plus")
        assert describe_all_arrivals(app.session.workload) == "old recorded x1.25 + new 5 in flight"
        await pilot.press("u")
        assert app.session.workload == before


def test_a_job_of_an_agent_in_a_class_takes_one_place_until_it_is_over(tmp_path: Path) -> None:
    steps = [
        {"id": "a", "prompt_tokens": 30, "output_tokens": 5},
        {"after": ["a"], "wait_s": 1.0, "continues": "a", "prompt_tokens": 9, "output_tokens": 5},
    ]
    path = tmp_path / "jobs.jsonl"
    path.write_text((json.dumps({"steps": steps}) + "\n") * 6)
    generator = started(load_of(f"agent at=2 trace={path}; chat at=9/s", arrivals="0"))
    client = Client(generator, takes_s=0.5)
    ends: list[float] = []
    over = generator.ended

    def ended(number: int, end_s: float, output_tokens: int, ids: Sequence[int]) -> float:
        job_s = over(number, end_s, output_tokens, ids)
        ends.extend([job_s] if job_s == job_s else [])
        return job_s

    generator.ended = ended  # type: ignore[method-assign]
    client.run(1.2)
    # Both jobs wait for their tools, and nothing takes their places.
    assert kinds(client.sent)["agent"] == 2
    assert client.under_way()["agent"] == 0
    client.run(30)
    agent = [r for r in client.sent if r.carried.label.traffic == "agent"]
    assert [r.opens_job for r in agent].count(True) == 6
    assert sorted(r.prompt_tokens for r in agent) == [30] * 6 + [44] * 6
    assert ends == pytest.approx([2.0] * 6, abs=0.3)

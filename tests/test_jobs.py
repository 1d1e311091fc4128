"""Jobs of agents: steps that wait for one another and for tools, and what a whole job takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.rig import Rig
from tputtui.errors import UsageError
from tputtui.goals import parse_goals
from tputtui.load.generator import Generator
from tputtui.load.hits import predicted_hits
from tputtui.load.preview import preview
from tputtui.load.request import RequestSpec
from tputtui.load.requests.ask import Ask
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.reading import Reader
from tputtui.load.requests.rendering import ChatTokenizer
from tputtui.load.traces import Trace
from tputtui.load.workload import Arrivals, ClosedLoop, Constant, Recorded, TraceFile, Workload
from tputtui.measure.attainment import goodput, overdue, worst_miss
from tputtui.measure.recorder import ENDED, Recorder
from tputtui.measure.samples import Outcome, RequestSample
from tputtui.measure.series import series
from tputtui.measure.window import latencies
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log
from tputtui.report.content import gather

VOCABULARY = 258
LONG = 4096
PLAN = {"id": "plan", "messages": [{"role": "user", "content": "plan"}], "max_tokens": 8}
FAN = {
    "steps": [
        PLAN,
        {"id": "a", "after": ["plan"], "wait_s": 1.0, "continues": "plan", "max_tokens": 4,
         "messages": [{"role": "tool", "content": "found"}]},
        {"id": "b", "after": ["plan"], "wait_s": 3.0, "max_tokens": 4,
         "messages": [{"role": "user", "content": "other"}]},
        {"id": "sum", "max_tokens": 4, "messages": [
            {"role": "user", "answer_of": "a"}, {"role": "user", "answer_of": "b"}]},
    ]
}  # fmt: skip
"""Fan-out over two tools, one of which goes on from the plan, and a join of their answers."""

Write = Callable[..., RequestFile]


@pytest.fixture
def write(tmp_path: Path, tokenizer: str) -> Write:
    def write(*lines: Any, **fields: Any) -> RequestFile:
        path = tmp_path / "jobs.jsonl"
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
        return RequestFile(str(path), tokenizer, **fields)

    return write


def only(file: RequestFile) -> Ask:
    reader = Reader(file)
    try:
        (read,) = list(reader)
    finally:
        reader.close()
    return read.ask


def generator(file: RequestFile, arrivals: Arrivals | None = None) -> Generator:
    made = Generator(Workload(arrivals or ClosedLoop(1), requests=file), VOCABULARY, patient=True)
    made.resume(0.0)
    return made


def due(made: Generator, now_s: float, in_flight: int, limit: int = LONG) -> list[RequestSpec]:
    return made.due(now_s, in_flight, limit)


def rig_of(file: RequestFile, arrivals: Arrivals | None = None, seconds: float = 60.0) -> Rig:
    rig = Rig(Workload(arrivals or ClosedLoop(2), requests=file))
    rig.boot()
    rig.run(seconds)
    return rig


# -- the format ----------------------------------------------------------------------------------


def test_steps_name_those_they_wait_for(write: Write) -> None:
    ask = only(write({**FAN, "temperature": 0.5, "at_s": 3}))
    assert ask.job
    assert [turn.after for turn in ask.turns] == [(), (0,), (0,), (1, 2)]
    assert [turn.wait_s for turn in ask.turns] == [0.0, 1.0, 3.0, 0.0]
    assert [turn.continues for turn in ask.turns] == [None, 0, None, None]
    assert ask.sampling == {"temperature": 0.5}
    assert ask.at_s == 3.0


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([], "steps: expected a list of objects"),
        ([{**PLAN, "after": ["later"]}], "steps[0].after: no step before it has that id"),
        ([PLAN, {**PLAN}], "steps[1].id: expected a name of its own"),
        ([{**PLAN, "wait_s": -1}], "steps[0].wait_s: expected seconds, 0 or more"),
        ([{**PLAN, "secret": 1}], "steps[0]: has keys that no step has"),
        ([{"messages": []}], "steps[0].messages: empty"),
        ([PLAN, {"messages": [{"role": "user", "answer_of": "x"}]}],
         "steps[1].messages[0].answer_of: no step before it has that id"),
    ],
)  # fmt: skip
def test_a_bad_step_is_named_without_what_it_holds(write: Write, steps: Any, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        only(write({"steps": steps}))
    assert says in raised.value.message
    assert "secret" not in raised.value.message


# -- which step is due when ----------------------------------------------------------------------


def test_steps_wait_for_answers_and_for_their_tools(write: Write, tokenizer: str) -> None:
    made = generator(write(FAN))
    say = ChatTokenizer(tokenizer)
    texts: dict[int, str] = {}

    def take(now_s: float, in_flight: int) -> list[RequestSpec]:
        requests = due(made, now_s, in_flight)
        texts.update({r.turn: str(say._tokenizer.decode(r.ids())) for r in requests})
        return requests

    (plan,) = take(0.0, 0)
    assert plan.opens_job
    assert take(5.0, 1) == []
    assert math.isnan(made.ended(plan.number, 5.0, 8, say.text("mine")))
    assert made.next_due_s(0) == 6.0
    (one,) = take(6.0, 0)
    (two,) = take(8.0, 1)
    assert (one.due_s, two.due_s) == (6.0, 8.0)
    assert not one.opens_job
    made.ended(two.number, 9.0, 4, say.text("second"))
    assert take(20.0, 1) == []
    made.ended(one.number, 21.0, 4, say.text("first"))
    (last,) = take(21.0, 0)
    assert last.due_s == 21.0
    # From the first step due to the last token.
    assert made.ended(last.number, 25.0, 4, ()) == 25.0
    assert made.exhausted
    assert texts == {
        0: "<user>plan</s><assistant>",
        1: "<user>plan</s><assistant>mine</s><tool>found</s><assistant>",
        2: "<user>other</s><assistant>",
        3: "<user>first</s><user>second</s><assistant>",
    }


def test_a_job_keeps_one_place_of_a_closed_loop(write: Write) -> None:
    made = generator(write(FAN, FAN))
    (plan,) = due(made, 0.0, 0)
    made.ended(plan.number, 1.0, 8, ())
    assert due(made, 1.0, 0) == []
    abreast = due(made, 4.0, 0)
    # Both steps of the one job are in flight; the other job has to wait.
    assert [request.turn for request in abreast] == [1, 2]
    for request in abreast:
        made.ended(request.number, 5.0, 4, ())
    (last,) = due(made, 5.0, 0)
    made.ended(last.number, 6.0, 4, ())
    (other,) = due(made, 6.5, 0)
    assert (other.turn, other.due_s) == (0, 6.0)
    assert not made.exhausted


def test_several_steps_may_begin_a_job(write: Write) -> None:
    steps = [{**PLAN, "id": "a", "wait_s": 2.0}, {**PLAN, "id": "b", "wait_s": 5.0},
             {**PLAN, "id": "c", "after": ["a", "b"]}]  # fmt: skip
    made = generator(write({"steps": steps}), Constant(1.0))
    (first,) = due(made, 1.0, 0)
    assert (first.turn, first.due_s, first.opens_job) == (0, 1.0, True)
    (second,) = due(made, 4.0, 1)
    assert (second.turn, second.due_s, second.opens_job) == (1, 4.0, False)
    made.ended(first.number, 5.0, 8, ())
    made.ended(second.number, 6.0, 8, ())
    (third,) = due(made, 6.0, 0)
    assert made.ended(third.number, 9.0, 8, ()) == 8.0


def test_a_step_that_fails_ends_its_job_at_once(write: Write) -> None:
    made = generator(write(FAN, FAN))
    (plan,) = due(made, 0.0, 0)
    made.ended(plan.number, 1.0, 8, ())
    (one,) = due(made, 2.0, 0)
    # The other tool is still at work: its step is not sent any more.
    assert made.lost(one.number, 3.0) == 3.0
    (other,) = due(made, 10.0, 0)
    assert (other.turn, other.due_s) == (0, 3.0)


def test_a_job_counts_once_however_many_of_its_steps_fail(write: Write) -> None:
    made = generator(write(FAN))
    (plan,) = due(made, 0.0, 0)
    made.ended(plan.number, 1.0, 8, ())
    one, two = due(made, 4.0, 0)
    assert made.lost(one.number, 5.0) == 5.0
    assert not made.exhausted
    assert math.isnan(made.lost(two.number, 6.0))
    assert made.exhausted


def test_a_step_that_does_not_fit_is_refused_and_its_job_with_it(write: Write) -> None:
    long = {"id": "long", "after": ["plan"],
            "messages": [{"role": "user", "content": "x" * 200}]}  # fmt: skip
    rig = Rig(Workload(ClosedLoop(1), requests=write({"steps": [PLAN, long]}, FAN)),
              {"max_model_len": 128})  # fmt: skip
    rig.boot()
    rig.run(30.0)
    books = rig.session.recorder.accounting
    assert (books.issued, books.finished, books.rejected, books.balanced) == (6, 5, 1, True)
    ended = rig.session.recorder.ended.between(-math.inf)
    of_jobs = ended[~np.isnan(ended[:, ENDED["job_s"]])]
    assert of_jobs[:, ENDED["good"]].tolist() == [0.0, 1.0]


def test_what_a_job_carries_is_drawn_once(write: Write) -> None:
    load = Workload(ClosedLoop(1), requests=write(*[FAN] * 40),
                    priority=((5, 0.5),), lora=(("a", 0.5),))  # fmt: skip
    made = Generator(load, VOCABULARY, patient=True)
    made.resume(0.0)
    seen: dict[int, set[Any]] = {}
    now_s, job = 0.0, -1
    while not made.exhausted:
        for request in due(made, now_s, 0):
            job += request.opens_job
            carried = request.carried
            seen.setdefault(job, set()).add((carried.label, carried.priority))
            made.ended(request.number, now_s, 4, ())
        now_s += 1.0
    assert len(seen) == 40
    assert all(len(kinds) == 1 for kinds in seen.values())
    assert len(set.union(*seen.values())) == 4


# -- a whole run ---------------------------------------------------------------------------------


def test_books_are_equal_and_the_load_ends_with_its_last_job(write: Write) -> None:
    rig = rig_of(write(*[FAN] * 6), seconds=120.0)
    frame = rig.session.advance()
    books = frame.accounting
    assert (books.issued, books.finished, books.balanced) == (24, 24, True)
    assert frame.status.load_run.ended
    ended = rig.session.recorder.ended.between(-math.inf)
    of_jobs = ended[~np.isnan(ended[:, ENDED["job_s"]])]
    assert len(of_jobs) == 6
    # A job is at least its longer tool long.
    assert of_jobs[:, ENDED["job_s"]].min() > 3.0
    found = latencies(rig.session.recorder, -1.0, rig.clock())
    assert found.job.n == 6
    assert series(rig.session.recorder, -1.0, rig.clock(), (), every=True).values["job_p50"].n == 6


def test_recorded_times_begin_jobs(write: Write) -> None:
    made = generator(write({**FAN, "at_s": 0}, {**FAN, "at_s": 7}), Recorded(2.0))
    first, second = due(made, 10.0, 0)
    assert (first.due_s, second.due_s) == (0.0, 3.5)


def test_a_goal_of_jobs_is_judged_by_jobs_alone(write: Write) -> None:
    rig = rig_of(write(*[FAN] * 6), seconds=120.0)
    recorder, now_s = rig.session.recorder, rig.clock()
    met, missed = parse_goals("job_p90=60s"), parse_goals("job_p90=1s")
    assert [goodput(recorder, goals, -1.0, now_s).each[0].n for goals in (met, missed)] == [6, 6]
    assert goodput(recorder, met, -1.0, now_s).each[0].met == 6
    lost = goodput(recorder, missed, -1.0, now_s)
    assert lost.each[0].met == 0
    # A job that is late costs the request that ended it.
    assert (lost.n, lost.met) == (24, 18)
    assert worst_miss(recorder.ended.between(-1.0), missed)[2] > 3.0


def sample(number: int, end_s: float, job_s: float, outcome: Outcome) -> RequestSample:
    return RequestSample(number, outcome, 0.0, 0.0, 0.1, 0.2, end_s, 8, 4, 4, 0, 0, 0, job_s)


def test_a_job_that_broke_misses_its_goal_and_one_given_up_does_not() -> None:
    recorder = Recorder()
    recorder.add_ended(sample(0, 1.0, 1.0, Outcome.FINISHED))
    recorder.add_ended(sample(1, 2.0, 2.0, Outcome.CUT))
    recorder.add_ended(sample(2, 2.5, math.nan, Outcome.CUT))
    recorder.add_ended(sample(3, 3.0, 3.0, Outcome.CANCELLED))
    (found,) = goodput(recorder, parse_goals("job_p50=60s"), 0.0, 4.0).each
    assert (found.met, found.n) == (1, 2)


def test_a_job_under_way_that_is_late_has_missed_its_goal() -> None:
    recorder = Recorder()
    goal = parse_goals("job_p50=10s")[0]
    for due_s, opens in ((0.0, True), (1.0, False), (2.0, True), (15.0, True)):
        recorder.add_issued(due_s, 0, opens)
    assert overdue(recorder, goal, 20.0) == 2
    recorder.add_ended(sample(0, 20.0, 20.0, Outcome.FINISHED))
    assert overdue(recorder, goal, 20.0) == 1


def test_jobs_that_are_gone_with_their_load_are_late_no_longer(write: Write) -> None:
    slow = {"steps": [PLAN, {**PLAN, "id": "b", "after": ["plan"], "wait_s": 500.0}]}
    rig = rig_of(write(*[slow] * 9), seconds=100.0)
    recorder, goal = rig.session.recorder, parse_goals("job_p50=10s")[0]
    # They wait for their tools, without a request in flight.
    assert recorder.accounting.in_flight == 0
    assert overdue(recorder, goal, rig.clock()) == 2
    rig.session.steer.load.stop()
    rig.run(1.0)
    assert overdue(recorder, goal, rig.clock() + 100.0) == 0


def test_a_session_log_has_jobs_again(write: Write, tmp_path: Path) -> None:
    rig = Rig.booted(Workload(ClosedLoop(2), requests=write(*[FAN] * 3)))
    recorder, path = rig.session.recorder, tmp_path / "log.jsonl.zst"
    journal = Journal(path, recorder, rig.session._observer._started_s)
    rig.run(60.0)
    journal.see(rig.session.latest)
    journal.write_new("left")
    before = recorder.ended.between(-math.inf)[:, ENDED["job_s"]]
    after = read_log(path).recorder.ended.between(-math.inf)[:, ENDED["job_s"]]
    assert np.count_nonzero(~np.isnan(before)) == 3
    assert np.isnan(before).tolist() == np.isnan(after).tolist()
    assert dict(gather(read_log(path)).facts)["jobs"].startswith("3 of several steps, p50 3.")
    assert np.nan_to_num(after) == pytest.approx(np.nan_to_num(before), abs=1e-5)


# -- traces of lengths ---------------------------------------------------------------------------

WEKA = {
    "id": "one", "models": ["m"], "block_size": 64, "hash_id_scope": "local",
    "requests": [
        {"t": 0.0, "type": "n", "in": 128, "out": 10, "hash_ids": [1, 2], "api_time": 2.0},
        {"t": 3.0, "type": "subagent", "agent_id": "a", "duration_ms": 4000, "requests": [
            {"t": 0.0, "type": "n", "in": 64, "out": 5, "hash_ids": [1], "api_time": 1.0},
            {"t": 2.5, "type": "n", "in": 128, "out": 5, "hash_ids": [1, 7]},
        ]},
        {"t": 3.0, "type": "subagent", "agent_id": "b", "status": "async_launched", "requests": [
            {"t": 0.0, "type": "n", "in": 64, "out": 5, "hash_ids": [9]},
        ]},
        {"t": 8.0, "type": "s", "in": 200, "out": 20, "hash_ids": [1, 2, 3, 4]},
        {"t": 9.0, "type": "s", "in": 200, "out": 20, "hash_ids": [1, 2, 3, 5], "think_time": 0.5},
    ],
}  # fmt: skip


def traced(tmp_path: Path, *lines: Any, arrivals: Arrivals | None = None) -> Workload:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return Workload(arrivals or ClosedLoop(1), trace=TraceFile(str(path)))


def test_a_session_of_wekas_is_a_job_with_sub_agents(tmp_path: Path) -> None:
    load = traced(tmp_path, WEKA, WEKA)
    first, second = Trace(Path(load.trace.path))
    assert [each.step.after for each in first.steps] == [(), (0,), (1,), (0,), (0, 2), (4,)]
    # Tools: 3.0 - 2.0 after the answer; as long apart as recorded; `think_time` where it is given.
    assert [each.step.wait_s for each in first.steps] == [0.0, 1.0, 1.5, 1.0, 1.0, 0.5]
    assert [each.record.prompt_tokens for each in first.steps] == [128, 64, 128, 64, 200, 200]
    shared = first.steps[0].record.blocks[0]
    assert shared == first.steps[1].record.blocks[0] == first.steps[5].record.blocks[0]
    # An id means something in its own session alone.
    assert shared != second.steps[0].record.blocks[0]


def test_a_trace_of_jobs_is_served_with_its_prefixes(tmp_path: Path) -> None:
    rig = Rig.booted(traced(tmp_path, WEKA, WEKA, WEKA))
    rig.run(60.0)
    frame = rig.session.advance()
    books = frame.accounting
    assert (books.issued, books.finished, books.balanced) == (18, 18, True)
    assert frame.status.load_run.ended
    ended = rig.session.recorder.ended.between(-math.inf)
    took = ended[:, ENDED["job_s"]]
    # One after the other; each at least as long as its tools on the longest way.
    assert np.count_nonzero(took > 4.0) == np.count_nonzero(~np.isnan(took)) == 3
    assert predicted_hits(frame.profile.load, 16) == pytest.approx(
        (0 + 64 + 64 + 0 + 128 + 192) / (128 + 64 + 128 + 64 + 200 + 200), abs=0.06
    )


def test_steps_of_our_own_trace_go_on_from_real_answers(tmp_path: Path) -> None:
    steps = [{"id": "a", "prompt_tokens": 50, "output_tokens": 10},
             {"continues": "a", "wait_s": 2.0, "prompt_tokens": 5, "output_tokens": 4},
             {"after": ["a"], "prompt_tokens": 7, "output_tokens": 4}]  # fmt: skip
    load = traced(tmp_path, {"at_s": 1.0, "steps": steps}, {"at_s": 4.0, "steps": steps},
                  arrivals=Recorded())  # fmt: skip
    made = Generator(load, 8192)
    made.resume(0.0)
    (first,) = made.due(0.0, 0, LONG)
    made.ended(first.number, 1.0, 3, (11, 12, 13))
    (third,) = made.due(1.0, 0, LONG)
    (second, other) = made.due(3.0, 1, LONG)
    assert (third.prompt_tokens, second.prompt_tokens, second.due_s) == (7, 58, 3.0)
    assert (other.due_s, other.opens_job) == (3.0, True)
    assert second.ids()[:53] == [*first.ids(), 11, 12, 13]
    assert first.ids()[:7] != third.ids()
    asked = preview(load, max_model_len=LONG, block_size=16)
    assert asked.prompt.lengths == (7, 7, 50, 50, 65, 65)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ({"block_size": 64, "requests": []}, "requests: expected one at least, found none"),
        ({"steps": [{"prompt_tokens": 1, "output_tokens": 1, "after": ["b"]}]},
         "steps: none before it has the id 'b'"),
        ({"steps": [{"prompt_tokens": "1", "output_tokens": 1}]}, "steps: one cannot be used"),
        ({"steps": []}, "steps"),
    ],
)  # fmt: skip
def test_a_bad_line_of_a_trace_of_jobs_is_named(tmp_path: Path, line: Any, says: str) -> None:
    with pytest.raises(UsageError, match="line 1") as raised:
        Trace(Path(traced(tmp_path, line).trace.path))
    assert says in raised.value.message


def test_a_trace_ends_with_its_last_job_and_a_job_that_breaks(tmp_path: Path) -> None:
    made = Generator(traced(tmp_path, WEKA), 8192)
    made.resume(0.0)
    (first,) = made.due(0.0, 0, LONG)
    made.ended(first.number, 1.0, 10, ())
    abreast = made.due(2.0, 0, LONG)
    assert len(abreast) == 2
    assert not made.exhausted
    assert made.lost(abreast[0].number, 3.0) == 3.0
    assert not made.exhausted
    assert math.isnan(made.ended(abreast[1].number, 4.0, 5, ()))
    assert made.exhausted
    assert made.due(100.0, 0, LONG) == []


# -- OpenTelemetry -------------------------------------------------------------------------------


def span(start_s: int, end_s: int, said: list[Any], answer: str, **more: Any) -> dict[str, Any]:
    """A call of a model, from `start_s` to `end_s` seconds past ten."""
    output = [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]
    return {
        "trace_id": "t", "span_id": f"{start_s}", "name": "chat m",
        "start_time": f"2026-11-03T10:00:{start_s:02}Z",
        "end_time": f"2026-11-03T10:00:{end_s:02}Z",
        "attributes": {
            "gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(said),
            "gen_ai.output.messages": json.dumps(output), "gen_ai.usage.output_tokens": 9, **more,
        },
    }  # fmt: skip


def said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


CALL = {"type": "tool_call", "id": "1", "name": "find", "arguments": {"x": 1}}
FOUND = {"type": "tool_call_response", "id": "1", "response": {"found": 3}}
SPANS = [
    span(0, 4, [said("user", "plan")], "the plan", **{"gen_ai.request.temperature": 0.5}),
    {"trace_id": "t", "name": "execute_tool", "attributes": {"gen_ai.tool.name": "find"}},
    span(5, 8, [said("user", "one")], "first"),
    span(7, 12, [said("user", "plan"), said("assistant", "the plan"),
                 {"role": "assistant", "parts": [CALL]}, {"role": "tool", "parts": [FOUND]}],
         "second"),
    span(14, 15, [said("assistant", "first"), said("user", "end")], "last"),
]  # fmt: skip


def test_calls_of_a_model_wait_for_those_that_had_ended(write: Write) -> None:
    ask = only(write({"spans": SPANS}))
    assert ask.job
    assert [turn.after for turn in ask.turns] == [(), (0,), (0,), (1, 2)]
    assert [turn.wait_s for turn in ask.turns] == [0.0, 1.0, 3.0, 2.0]
    assert [turn.output_tokens for turn in ask.turns] == [9] * 4
    assert ask.sampling == {"temperature": 0.5}
    # A recorded answer stands for the real one.
    assert ask.turns[3].messages[0] == {"role": "assistant", "answer_of": 1}
    _, answer, call, found = ask.turns[2].messages
    assert answer == {"role": "assistant", "answer_of": 0}
    assert call["tool_calls"][0]["function"] == {"name": "find", "arguments": {"x": 1}}
    assert found == {"role": "tool", "content": '{"found":3}', "tool_call_id": "1"}


def test_the_collectors_own_form_says_the_same(write: Write) -> None:
    def value(given: Any) -> dict[str, Any]:
        kind = {str: "stringValue", int: "intValue", float: "doubleValue"}[type(given)]
        return {kind: str(given) if isinstance(given, int) else given}

    def nanos(text: str) -> str:
        return str(int(datetime.fromisoformat(text).timestamp()) * 10**9)

    otlp = [
        {"traceId": "t", "name": each["name"],
         **({"startTimeUnixNano": nanos(each["start_time"]),
             "endTimeUnixNano": nanos(each["end_time"])} if "start_time" in each else {}),
         "attributes": [{"key": key, "value": value(given)}
                        for key, given in each["attributes"].items()]}
        for each in SPANS
    ]  # fmt: skip
    line = {"resourceSpans": [{"scopeSpans": [{"spans": otlp[:2]}, {"spans": otlp[2:]}]}]}
    assert only(write(line)) == only(write({"spans": SPANS}))


def test_a_trace_of_opentelemetrys_is_served(write: Write) -> None:
    rig = rig_of(write(*[{"spans": SPANS}] * 3), ClosedLoop(2))
    books = rig.session.recorder.accounting
    assert (books.issued, books.finished, books.balanced) == (12, 12, True)
    assert latencies(rig.session.recorder, -1.0, rig.clock()).job.n == 3


@pytest.mark.parametrize(
    ("spans", "says"),
    [
        ([SPANS[1]], "spans: none is a call of a model"),
        ([SPANS[0], {**SPANS[2], "trace_id": "u"}], "spans: of several traces"),
        ([{"attributes": {"gen_ai.operation.name": "chat"}}], "without gen_ai.input.messages"),
        ([{**SPANS[0], "end_time": "later"}], "end_time: expected a time"),
        ([{**SPANS[0], "attributes": {"gen_ai.input.messages": "secret"}}], "neither a list nor"),
        ([span(0, 1, [{"role": "user", "parts": [{"type": "blob"}]}], "x")], "a part that is no"),
        ([{**SPANS[0], "trace_id": []}], "not as OpenTelemetry writes them"),
    ],
)
def test_a_bad_trace_of_spans_is_named(write: Write, spans: Any, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        only(write({"spans": spans}))
    assert says in raised.value.message
    assert "secret" not in raised.value.message

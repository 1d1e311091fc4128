"""Classes of traffic: their shares, lengths, priorities and goals, and the figures of each."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from tests.rig import Rig
from tputtui.engine.carrying import check_carried
from tputtui.engine.fake import FakeEngine
from tputtui.errors import ProfileError, UsageError
from tputtui.experiments.tuner.plan import Plan
from tputtui.experiments.tuner.scoring import _nearest
from tputtui.frame.proof import measured
from tputtui.goals import Goal, parse_goals
from tputtui.headless.results import Result, result_text
from tputtui.load.generator import Generator
from tputtui.load.lengths import Fixed
from tputtui.load.sections import from_texts, to_texts
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.attainment import goodput, overdue
from tputtui.measure.recorder import ENDED
from tputtui.measure.series import series
from tputtui.measure.traffic import traffic
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.document import dump, parse
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log
from tputtui.record.replay import Replay
from tputtui.report.content import gather
from tputtui.ui.panels.latency import latency
from tputtui.ui.rows import width_of

BASE = Workload(ClosedLoop(32), Fixed(100), Fixed(50))
TEXT = (
    "chat share=0.7 prompt=64 output=20 goal=ttft_p90=400ms; "
    "batch share=0.3 prompt=900 output=120 priority=9 goal=e2e_p90=60s"
)
LOAD = from_texts(BASE, {"classes": TEXT})


def rig_of(load: Workload = LOAD, seconds: float = 60.0) -> Rig:
    rig = Rig.booted(load)
    rig.run(seconds)
    return rig


def test_they_are_written_as_they_are_read() -> None:
    assert to_texts(LOAD)["classes"] == TEXT
    assert from_texts(BASE, to_texts(LOAD)) == LOAD
    profile = Profile(EngineSpec("shape:demo"), LOAD)
    assert parse(dump(profile), "x") == profile
    assert "classes" not in dump(Profile(EngineSpec("shape:demo"), BASE))


def test_each_class_has_its_share_its_lengths_and_its_priority() -> None:
    generator = Generator(LOAD, 8192)
    generator.resume(0.0)
    requests = [r for step in range(60) for r in generator.due(float(step), 0, 2048)]
    kinds = Counter(r.carried.label.traffic for r in requests)
    assert kinds["chat"] / kinds.total() == pytest.approx(0.7, abs=0.04)
    for r in requests:
        chat = r.carried.label.traffic == "chat"
        assert (r.prompt_tokens, r.output_tokens) == ((64, 20) if chat else (900, 120))
        assert r.carried.priority == (None if chat else 9)


def test_a_share_is_turned_live() -> None:
    rig = rig_of(seconds=20)
    before = rig.session.recorder.issued.count
    text = TEXT.replace("share=0.3", "share=0").replace("share=0.7", "share=2")
    rig.session.steer.load.set(from_texts(BASE, {"classes": text}))
    rig.run(10)
    labels = rig.session.recorder.labels
    rows = rig.session.recorder.issued.since(before, rig.session.recorder.issued.count)
    assert len(rows) > 50
    assert {labels[int(row[1])].traffic for row in rows} == {"chat"}


def test_goals_of_a_class_are_judged_by_its_requests_alone() -> None:
    rig = rig_of()
    recorder, end_s = rig.session.recorder, rig.clock()
    goals = rig.session._asked.profile.judged
    assert [goal.name for goal in goals] == ["chat:ttft_p90", "batch:e2e_p90"]
    kept = goodput(recorder, goals, 0.0, end_s)
    ended = recorder.ended.between(0.0, end_s)
    kinds = [recorder.labels[int(n)].traffic for n in ended[:, ENDED["label"]]]
    late = sum(overdue(recorder, goal, end_s) for goal in goals)
    met = sum(
        row[ENDED["ttft_s"]] <= 0.4 if kind == "chat" else row[ENDED["e2e_s"]] <= 60
        for row, kind in zip(ended, kinds, strict=True)
    )
    assert (kept.met, kept.n) == (met, len(ended) + late)
    assert [each.n for each in kept.each] == [
        kinds.count("chat") + overdue(recorder, goals[0], end_s),
        kinds.count("batch") + overdue(recorder, goals[1], end_s),
    ]
    # And the same in what is compared, and what the tuner climbs.
    assert series(recorder, 0.0, end_s, goals).values["goodput_per_s"].value == pytest.approx(
        met / end_s
    )
    tight = (Goal("ttft", 90, 1e-3, "chat"), Goal("e2e", 90, 600.0, "batch"))
    assert _nearest(recorder, 0.0, end_s, tight, 0.1)[2] == "chat:ttft_p90"
    loose = (Goal("ttft", 90, 600.0, "chat"), Goal("e2e", 90, 1e-3, "batch"))
    assert _nearest(recorder, 0.0, end_s, loose, 0.1)[2] == "batch:e2e_p90"


def test_late_requests_in_flight_count_for_their_own_class() -> None:
    rig = Rig.booted(from_texts(LOAD, {"arrivals": "200"}), max_num_seqs=2)
    rig.run(5)
    recorder, now_s = rig.session.recorder, rig.clock()
    every = overdue(recorder, Goal("ttft", 90, 0.5), now_s)
    parts = [overdue(recorder, Goal("ttft", 90, 0.5, name), now_s) for name in ("chat", "batch")]
    assert every == sum(parts) > 100
    assert parts[0] > parts[1] > 0


def test_figures_of_each_class_are_shown_and_add_up() -> None:
    rig = rig_of()
    frame, recorder, end_s = rig.session.advance(), rig.session.recorder, rig.clock()
    goals = frame.profile.judged
    by_name = {each.name: each for each in traffic(recorder, goals, 20.0, end_s)}
    assert by_name.keys() == {"chat", "batch"} == {each.name for each in frame.traffic}
    assert sum(each.n for each in by_name.values()) == len(recorder.ended.between(20.0, end_s))
    assert by_name["batch"].e2e.p50 > by_name["chat"].e2e.p50
    total = sum(each.goodput_per_s for each in by_name.values())
    assert total == pytest.approx(goodput(recorder, goals, 20.0, end_s).per_s)
    for width in (40, 46, 60, 100):
        rows = latency(frame, width, 24)
        text = "\n".join("".join(part for part, _ in row) for row in rows)
        assert "chat" in text
        assert "batch" in text
        assert all(width_of(row) <= max(width, 92) for row in rows)


def test_bench_and_the_evidence_have_them() -> None:
    rig = rig_of()
    found = measured(rig.session.advance(), rig.session.recorder)
    assert found is not None
    assert found.goals.keys() == {"chat:ttft_p90", "batch:e2e_p90"}
    assert found.traffic.keys() == {"chat", "batch"}
    assert found.traffic["chat"]["ttft_p50_s"].value > 0
    text = result_text(Result("complete", found, True, "", {"finished": 9}, {}), "table")
    assert "chat:ttft_p90" in text
    assert any(line.startswith("batch  ") for line in text.splitlines())


def test_without_classes_everything_is_of_one_kind() -> None:
    rig = rig_of(BASE, 20)
    frame = rig.session.advance()
    assert frame.traffic == ()
    assert len(frame.labels) == 1


def test_adapters_have_rows_of_their_own_without_classes() -> None:
    rig = Rig(from_texts(BASE, {"lora": "a=0.5 b=0.3"}))
    rig.boot()
    rig.run(30)
    names = {each.name for each in rig.session.advance().traffic}
    assert names == {"adapter a", "adapter b", "base model"}


def test_a_session_log_has_them_again(tmp_path: Path) -> None:
    rig = Rig.booted(LOAD)
    path = tmp_path / "log.jsonl.zst"
    journal = Journal(path, rig.session.recorder, rig.session._observer._started_s)
    for _ in range(30):
        rig.run(1)
        journal.see(rig.session.latest)
        journal.write_new()
    journal.write_new("left")
    before = rig.session.latest
    replay = Replay(read_log(path), lambda: 0.0)
    replay.seek(replay.length_s)
    frame = replay.advance()
    assert {each.name: each.n for each in frame.traffic}.keys() == {"chat", "batch"}
    assert sum(e.n for e in frame.traffic) == pytest.approx(sum(e.n for e in before.traffic), abs=9)
    facts = dict(gather(read_log(path)).facts)
    for name in ("chat", "batch"):
        (row,) = (each for each in frame.traffic if each.name == name)
        assert facts[name].startswith(f"{row.n:,} requests, ")
        assert " /s served, TTFT p50 " in facts[name]
        assert facts[name].endswith(" kept its goals")


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("chat prompt=9 output=9", "give a share, or arrivals of its own, one of the two"),
        ("chat share=1 at=8/s", "give a share, or arrivals of its own, one of the two"),
        ("chat share=0.5 prompt=9", "give prompt and output, or neither"),
        ("chat share=0.5; chat share=0.5", "two classes are called chat"),
        ("; ".join(f"c{n} share=1" for n in range(33)), "33 classes are too many: 32 at most"),
        ("chat share=0", "no class has a share"),
        ("chat share=-1", "Class chat: share: it must be at least 0"),
        ("chat share=1 prompt=many output=9", "'many' is not a length"),
        ("chat share=1 size=9", "'size=9' is not known here"),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, wrong: str) -> None:
    with pytest.raises(UsageError) as told:
        from_texts(BASE, {"classes": text})
    assert wrong in str(told.value)


def test_a_goal_that_is_none_is_told_with_its_class() -> None:
    load = from_texts(BASE, {"classes": "chat share=1 goal=ttft_p99=fast"})
    with pytest.raises(UsageError, match="ttft_p99"):
        check_carried(load, EngineSpec("shape:demo"))
    text = "tputtui: 1\nload:\n  arrivals: {kind: closed, in_flight: 4}\n"
    text += "  prompt: {kind: fixed, tokens: 9}\n  output: {kind: fixed, tokens: 9}\n"
    text += "  classes:\n  - {name: chat, share: 1, goal: {speed_p99: 1s}}\n"
    with pytest.raises(ProfileError, match=r"load\.classes"):
        parse(text, "file")


def test_goals_of_all_requests_concern_every_class() -> None:
    rig = rig_of(seconds=30)
    rig.session.set_goals(parse_goals("e2e_p90=1ms"))
    rig.run(2)
    frame = rig.session.advance()
    assert frame.goodput.met == 0
    assert frame.goodput.each[0].goal.name == "e2e_p90"
    assert math.isclose(sum(each.goodput_per_s for each in frame.traffic), 0.0)


def test_classes_stand_in_the_order_in_which_they_were_given() -> None:
    text = "rare share=0.05 prompt=60 output=9; often share=1 prompt=60 output=9"
    rig = Rig.booted(from_texts(BASE, {"classes": text, "arrivals": "8"}))
    rig.run(20.0)
    assert rig.session.recorder.labels[1].traffic == "often"
    assert [each.name for each in rig.session.latest.traffic] == ["rare", "often"]


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer steps to compute for each virtual second."""
    for name, seconds in {"STEP_S": 0.024, "DECODE_S": 0.0006, "PREFILL_S": 48e-6}.items():
        monkeypatch.setattr(FakeEngine, name, seconds)


def test_the_tuner_climbs_the_goodput_of_all_classes(slow: None) -> None:
    text = (
        "chat share=0.7 prompt=60 output=20 goal=tpot_p90=44ms; "
        "batch share=0.3 prompt=200 output=40 goal=e2e_p90=60s"
    )
    rig = Rig.booted(from_texts(BASE, {"classes": text, "arrivals": "48"}))
    rig.run(1.0)
    rig.session.steer.experiments.tune(Plan(vary="max_num_seqs=8,24,256"))
    while rig.session.steer.experiments.under_way:
        rig.run(2.0)
    state = rig.session.latest.tuner
    assert state is not None
    assert state.of is not None
    assert [goal.name for goal in state.of.judged] == ["chat:tpot_p90", "batch:e2e_p90"]
    assert {trial.worst for trial in state.trials} <= {"chat:tpot_p90", "batch:e2e_p90", ""}
    by_limit = {trial.knobs["max_num_seqs"]: trial for trial in state.trials}
    # All 48 at once are too slow for chat's goal; batch alone would have kept its own.
    assert by_limit[256].worst == "chat:tpot_p90"
    assert not by_limit[256].holds
    assert state.found["max_num_seqs"] < 48
    assert state.holds

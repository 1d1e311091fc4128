"""An A/B says which side is which, wherever it is shown, and how far it is."""

import re
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.rig import Rig
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile import EngineSpec
from tputtui.record.journal import Journal
from tputtui.record.reading import read_log
from tputtui.report.content import gather
from tputtui.report.pages import markdown
from tputtui.ui.panels.changes import changes
from tputtui.ui.panels.header import header
from tputtui.ui.panels.pair import about

LOAD = Workload(ClosedLoop(48), pairs=((60, 20, 1.0),))
NAMED = "A max_num_seqs 32 · B max_num_seqs 16"


def text_of(rows: list[list[tuple[str, str]]]) -> str:
    return "\n".join("".join(text for text, _ in row) for row in rows)


@pytest.fixture
def rig() -> Rig:
    made = Rig.booted(LOAD, max_num_seqs=32)
    made.run(12.0)
    made.session.steer.limits.set("max_num_seqs", 16)
    made.run(8.0)
    return made


def test_panel_header_and_marks_name_both_sides_while_it_runs(rig: Rig) -> None:
    rig.session.steer.experiments.compare()
    rig.run(8.0)
    frame = rig.session.advance()
    assert NAMED in text_of(changes(frame, 110, 14))
    assert any(mark.text == "pair 1, A: max_num_seqs 32" for mark in frame.marks)
    line = text_of([header(frame, 120)])
    assert "A/B pair 1" in line
    assert "RUNNING" not in line
    rig.run(30.0)
    frame = rig.session.advance()
    assert re.search(r"A/B pair 2, \d+:\d\d left at most", text_of([header(frame, 120)]))
    assert 0 < frame.compare.left_s < 12 * 2 * 20


def test_other_experiments_are_named_in_place_of_running(rig: Rig) -> None:
    rig.session.steer.experiments.sweep()
    rig.run(3.0)
    line = text_of([header(rig.session.advance(), 120)])
    assert "SWEEP level 1" in line
    assert "RUNNING" not in line
    rig.session.steer.experiments.stop()
    rig.run(1.0)
    assert "RUNNING" in text_of([header(rig.session.advance(), 120)])


def test_history_and_report_keep_one_that_was_stopped_and_one_that_ended(
    rig: Rig, tmp_path: Path
) -> None:
    path = tmp_path / "run.jsonl.zst"
    session = rig.session
    journal = session.journal = Journal(path, session.recorder, session._observer._started_s)
    session.watch(journal.see)
    session.steer.experiments.compare()
    for _ in range(20):
        rig.run(1.0)
        journal.write_new()
    session.steer.experiments.stop()
    rig.run(2.0)
    journal.write_new()
    row = session.advance().trials[-1]
    assert row.note == f"A/B, {NAMED}: Ended by the user."
    assert NAMED in text_of(about(row, "", 100, 1000.0))
    session.steer.experiments.compare()
    for _ in range(150):
        rig.run(1.0)
        journal.write_new()
        if session.advance().compare.done:
            break
    rig.run(2.0)
    journal.write_new()
    # Turned away: the board shows it no longer, the report does.
    session.steer.limits.set("max_num_seqs", 8)
    rig.run(3.0)
    journal.write_new("left")
    assert session.advance().compare is None
    recording = read_log(path)
    told = gather(recording)
    stopped, ended = told.experiments
    assert stopped.startswith(f"A/B, {NAMED}: Ended by the user.")
    assert ended.startswith(f"A/B, {NAMED}: B's tokens/s is worse")
    assert "## Experiments" in markdown(recording)


def test_without_room_for_names_the_figures_come_first(rig: Rig) -> None:
    rig.session.steer.experiments.compare()
    rig.run(70.0)
    frame = rig.session.advance()
    frame = replace(frame, compare=replace(frame.compare, done=True))
    rows = text_of(changes(frame, 80, 6))
    assert "tokens/s" in rows


@pytest.mark.parametrize("width", [34, 42, 54, 66, 72])
def test_on_a_narrow_screen_a_held_load_is_said_to_be_held(rig: Rig, width: int) -> None:
    said = "SIMULATED, datasheet roofline, not calibrated"
    rig.session.steer.load.toggle()
    rig.run(30.0)
    frame = rig.session.advance()
    facts = replace(frame.status.facts, simulated=said)
    profile = msgspec.structs.replace(frame.profile, engine=EngineSpec("shape:llama-3.1-8b"))
    held = replace(frame, profile=profile, status=replace(frame.status, facts=facts))
    line = text_of([header(held, width)])
    assert "load held" in line
    assert "SIMULATED" in line
    assert "shape:ll" in line
    assert len(line) == width


def test_on_a_narrow_screen_the_time_left_gives_way_and_the_state_stays(rig: Rig) -> None:
    rig.session.steer.experiments.compare()
    rig.run(30.0)
    frame = rig.session.advance()
    assert frame.compare.left_s > 0
    said = "SIMULATED, datasheet roofline, not calibrated"
    facts = replace(frame.status.facts, simulated=said)
    frame = replace(frame, status=replace(frame.status, facts=facts))
    for width in range(64, 140):
        line = text_of([header(frame, width)])
        assert "A/B pair 2" in line
        assert "SIMULATED" in line
        assert len(line) == width
    assert "left at most" not in text_of([header(frame, 68)])
    assert "left at most" in text_of([header(frame, 120)])

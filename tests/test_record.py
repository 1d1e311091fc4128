"""The session log: what a run was is read back, wherever the file ends; and it stays small."""

from __future__ import annotations

import io
import json
import math
import os
import random
import sys
import threading
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import PATIENCE_S
from tests.rig import Rig
from tests.several import TwoEngines
from tputtui import profile
from tputtui.cli.replay import recorded_run
from tputtui.engine.fake import FakeEngine
from tputtui.engine.orders import Close
from tputtui.engine.protocol import State
from tputtui.errors import UsageError
from tputtui.frame import Frame
from tputtui.goals import parse_goals
from tputtui.hardware import GpuProcess, GpuSample, HardwareSample, MigInstance
from tputtui.load.workload import Workload
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import STEP, Outcome, RequestSample, StepSample
from tputtui.measure.window import Figures, Window, figures, latencies
from tputtui.record.codec import TABLES, pack, unpack
from tputtui.record.journal import SUFFIX, Journal
from tputtui.record.line import Head, restored
from tputtui.record.newest import newest_run
from tputtui.record.reading import read_log
from tputtui.record.replay import Replay
from tputtui.report.content import gather
from tputtui.simulate.clock import VirtualTime
from tputtui.ui.panels.timebar import timebar


class Recorded:
    """A run on the deterministic engine whose log is written line by line."""

    def __init__(
        self, path: Path, *, load: Workload | None = None, before_boot: bool = False, **engine: Any
    ) -> None:
        demo = profile.load(profile.shipped()["demo"])
        self.rig = Rig(load or demo.load, demo.knobs, **engine)
        self.session = self.rig.session
        started_s = self.session._observer._started_s
        self.journal = self.session.journal = Journal(path, self.session.recorder, started_s)
        self.session.watch(self.journal.see)
        self.frames: list[Frame] = []
        if before_boot:
            self.session.advance()
            self.journal.write_new()
        self.rig.boot()

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.rig.run(1.0)
            self.frames.append(self.session.advance())
            self.journal.write_new()

    def end(self) -> Recorded:
        self.journal.write_new("left")
        assert not self.journal.failure
        return self


def test_what_stands_before_the_first_frame_is_no_damage_and_not_lost(
    run: Recorded, tmp_path: Path
) -> None:
    head, first, *rest = plain_of(run.journal.path.read_bytes()).decode().splitlines()
    whole = json.loads(first)
    early = {"t": 0.0, **{name: whole[name] for name in ("books", "totals", "wanted")}}
    marked = {**early, "marks": whole.pop("marks")}
    lines = [head, *map(json.dumps, (early, marked, whole)), *rest]
    path = tmp_path / "run.jsonl.zst"
    path.write_bytes(b"".join(zstandard.compress(f"{line}\n".encode()) for line in lines))
    found, plain = read_log(path), read_log(run.journal.path)
    assert found.damaged == 0
    assert found.moments[-1].marks == plain.moments[-1].marks
    assert len(found.moments) == len(plain.moments)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Turned down, goals, undone, another load: about a minute and a half."""
    path = tmp_path_factory.mktemp("log") / "run.jsonl.zst"
    made = Recorded(path)
    made.run(15)
    made.session.steer.limits.set("max_num_seqs", 32)
    made.run(25)
    made.session.set_goals(parse_goals("ttft_p90=1500ms"))
    made.run(5)
    made.session.steer.undo()
    made.run(20)
    made.session.steer.load.set(msgspec.structs.replace(made.session.workload, seed=9))
    made.run(10)
    return made.end()


@pytest.fixture
def log(run: Recorded) -> Path:
    return run.journal.path


def replay_of(path: Path) -> Replay:
    return Replay(read_log(path), lambda: 0.0)


# -- what is read back ---------------------------------------------------------------------------


def of_gpus(count: int) -> tuple[GpuSample, ...]:
    return tuple(
        GpuSample(
            index=n, name="NVIDIA H100 80GB HBM3", util_frac=0.93, mem_used_bytes=71.0 * 2**30,
            mem_total_bytes=80.0 * 2**30, power_w=612.25 + n, power_limit_w=700.0, temp_c=64.0,
            sm_clock_mhz=1755.0, sm_clock_max_mhz=1980.0, mem_clock_mhz=2619.0, energy_j=1e6 + n,
            throttle=("power cap",), mem_ours_bytes=6e10, mem_others_bytes=1e9, process_count=2,
            processes=(GpuProcess(4711, "somebody", 6e10, False),), pcie_rx_bytes_per_s=1e9 + n,
            pcie_tx_bytes_per_s=3e8, nvlink_rx_bytes_per_s=1.31e11 + n, nvlink_tx_bytes_per_s=9e9,
            ecc_corrected=n, ecc_uncorrected=0, xid=0, mig=n == 0,
            mig_instances=(MigInstance("1g.10gb", 1e9, 1e10),) if n == 0 else (),
        )
        for n in range(count)
    )  # fmt: skip


class Machine:
    def __init__(self, clock: VirtualTime, gpus: tuple[GpuSample, ...]) -> None:
        self._clock, self._gpus = clock, gpus

    def latest(self) -> HardwareSample:
        now_s = self._clock()
        return HardwareSample(now_s, self._gpus, "ok", now_s, None, None, "580.65.06")


def test_gpus_are_seen_again_without_the_names_of_processes(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "gpus.zst")
    without = Recorded(tmp_path / "none.zst")
    made.session._hardware = Machine(made.rig.clock, of_gpus(8))  # type: ignore[assignment]
    for each in (made, without):
        each.run(20)
        each.end()
    seen = read_log(made.journal.path).moments[-1].kept["hardware"]
    assert seen.driver == "580.65.06"
    assert seen.gpus == tuple(replace(gpu, processes=()) for gpu in of_gpus(8))
    # In bytes a second, for all eight.
    took = made.journal.path.stat().st_size - without.journal.path.stat().st_size
    assert took / 20 < 1000


def test_a_log_of_before_there_were_so_many_figures_is_read(tmp_path: Path) -> None:
    told = {"index": 0, "name": "A", "visible": True, "util_frac": 0.5, "throttle": []}
    sample = {"t_s": 1.0, "gpus": [told], "gpu_status": "ok", "gpu_t_s": 1.0}
    sample |= {"host": None, "host_t_s": None}
    assert restored(sample, HardwareSample).gpus == (GpuSample(0, "A", util_frac=0.5),)


def same(a: Any, b: Any, *, rel: float = 1e-4) -> bool:
    """Equal to four digits: times are kept to a microsecond."""
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or bool(a == pytest.approx(b, rel=rel, abs=2e-6))
    return bool(a == b)


def test_every_second_of_a_run_is_seen_again_as_it_was(run: Recorded, log: Path) -> None:
    replay = replay_of(log)
    for live in run.frames:
        replay.seek(live.t_s - replay.recording.origin_s)
        seen = replay.advance()
        at = live.elapsed_s
        assert seen.t_s == pytest.approx(live.t_s)
        assert seen.status.state is live.status.state, at
        assert seen.status.knobs == live.status.knobs
        assert seen.asked == live.asked
        assert seen.profile.load == live.profile.load
        assert seen.profile.goals == live.profile.goals
        assert seen.accounting == live.accounting
        assert seen.generated_tokens == live.generated_tokens
        assert seen.marks == live.marks
        assert seen.window == live.window
        assert [(t.number, t.changed, t.knobs) for t in seen.trials] == [
            (t.number, t.changed, t.knobs) for t in live.trials
        ]
        for name in ("figures", "now"):
            for field in fields(getattr(live, name)):
                # A request that was due by then, and sent a little later, is known by now.
                if field.name in ("step", "offered_per_s", "saturated"):
                    continue
                before, after = (getattr(getattr(f, name), field.name) for f in (live, seen))
                assert same(before, after), (at, name, field.name, before, after)


def test_latencies_goodput_and_verdicts_are_those_that_were_shown(run: Recorded, log: Path) -> None:
    live = run.frames[-1]
    replay = replay_of(log)
    replay.seek(replay.length_s)
    seen = replay.advance()
    # A live frame's are up to a second old: taken anew from the same samples they are the same.
    fresh = latencies(run.session.recorder, live.window.start_s, live.window.end_s)
    for name in ("ttft", "tpot", "itl", "e2e"):
        before, after = getattr(fresh, name), getattr(seen.latencies, name)
        assert after.n == before.n
        for share in ("p50", "p90", "p99"):
            assert getattr(after, share) == pytest.approx(getattr(before, share), abs=3e-6)
    assert seen.goodput.per_s == pytest.approx(live.goodput.per_s, rel=0.05)
    for before, after in zip(live.trials, seen.trials, strict=True):
        for old, new in zip(before.differences, after.differences, strict=True):
            for field in fields(old):
                assert same(getattr(old, field.name), getattr(new, field.name))
        assert (after.series is None) == (before.series is None)
        if before.series is not None:
            assert after.value("tokens_per_s") == pytest.approx(
                before.value("tokens_per_s"), rel=1e-3
            )
            assert after.value("ttft_p90") == pytest.approx(before.value("ttft_p90"), abs=3e-6)


def test_the_charts_are_those_that_were_shown(run: Recorded, log: Path) -> None:
    replay = replay_of(log)
    replay.seek(replay.length_s)
    replay.advance()
    live, seen = run.session.history, replay.history
    assert (seen.first, seen.total) == (live.first, live.total)
    for before, after in zip(live.buckets, seen.buckets, strict=True):
        assert after.generated == pytest.approx(before.generated)
        # Seconds without a step hold the books as they were looked at, four times a second live.
        if not math.isnan(before.step_s):
            assert after.running == pytest.approx(before.running)
        assert after.start_s == pytest.approx(before.start_s)
    # And in the middle of the run, only what had been by then.
    replay.seek(30.0)
    replay.advance()
    assert replay.history.total == 30


def test_every_request_is_read_back(run: Recorded, log: Path) -> None:
    recorder = read_log(log).recorder
    told = {sample.number: sample for sample in recorder.request_log}
    for sample in run.session.recorder.request_log:
        again = told[sample.number]
        assert again.outcome is sample.outcome
        assert again[7:] == pytest.approx(sample[7:], rel=0, abs=0, nan_ok=True)
        assert again.ttft_s == pytest.approx(sample.ttft_s, abs=3e-6)
        assert again.e2e_s == pytest.approx(sample.e2e_s, abs=3e-6)


def test_a_failed_engine_is_seen_again(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "x.jsonl.zst", fail_at_step=300)
    made.run(12)
    made.end()
    replay = replay_of(made.journal.path)
    replay.seek(replay.length_s)
    failure = replay.advance().status.failure
    assert "told to fail" in failure.message
    assert failure.hint


# -- time ----------------------------------------------------------------------------------------


class TestTime:
    @pytest.fixture
    def replay(self, log: Path) -> Replay:
        self.now_s = 0.0
        return Replay(read_log(log), lambda: self.now_s)

    def test_it_plays_at_its_speed_and_stands_when_it_is_told(self, replay: Replay) -> None:
        begin = replay.at_s
        self.now_s = 4.0
        replay.advance()
        assert replay.at_s == pytest.approx(begin + 4.0)
        replay.change_speed(1)
        self.now_s = 8.0
        replay.advance()
        assert replay.speed == 2.0
        assert replay.at_s == pytest.approx(begin + 12.0)
        replay.toggle()
        self.now_s = 100.0
        assert replay.advance().elapsed_s == pytest.approx(begin + 12.0)

    def test_it_ends_at_the_end_and_begins_anew_from_there(self, replay: Replay) -> None:
        self.now_s = 1e6
        replay.advance()
        assert (replay.at_s, replay.playing) == (replay.length_s, False)
        replay.toggle()
        assert replay.playing
        assert replay.at_s < 10

    def test_speeds_and_times_stay_within_what_there_is(self, replay: Replay) -> None:
        for _ in range(20):
            replay.change_speed(1)
        assert replay.speed == 64
        for _ in range(20):
            replay.change_speed(-1)
        assert replay.speed == 0.25
        replay.seek(-5)
        assert replay.advance().t_s >= replay.recording.moments[0].t_s
        replay.seek(1e9)
        assert replay.at_s == replay.length_s

    def test_marks_are_reached_in_order_and_back(self, replay: Replay) -> None:
        replay.toggle()
        replay.seek(0)
        said = [replay.seek_mark(1) for _ in replay.marks[2:]]
        with pytest.raises(UsageError, match="No mark after"):
            replay.seek_mark(1)
        assert "max_num_seqs 64 → 32" in said
        assert said.index("max_num_seqs 64 → 32") < said.index("undo: max_num_seqs 32 → 64")
        back = replay.seek_mark(-1)
        assert back == said[-2]

    def test_nothing_can_be_turned_but_a_row_leads_to_its_time(self, replay: Replay) -> None:
        steer = replay.steer
        for act in (steer.undo, steer.redo, steer.experiments.sweep, replay.clear_points):
            with pytest.raises(UsageError, match="is over"):
                act()
        said = steer.jump(2)
        assert "row 2" in said
        assert replay.advance().asked.max_num_seqs == 32


# -- wherever it ends ----------------------------------------------------------------------------


def frames_of(data: bytes) -> list[int]:
    """Where each of the file's Zstandard frames ends."""
    ends, at = [], 0
    while at < len(data):
        reader = zstandard.ZstdDecompressor().decompressobj()
        reader.decompress(data[at:])
        at = len(data) - len(reader.unused_data)
        ends.append(at)
    return ends


def plain_of(data: bytes) -> bytes:
    """What the file's frames hold; zstandard's error where one is spoilt."""
    return zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()


def test_cut_anywhere_all_whole_lines_are_read_back(log: Path, tmp_path: Path) -> None:
    data = log.read_bytes()
    ends = frames_of(data)
    whole = len(read_log(log).moments)
    chance = random.Random(1)
    some = {*ends[:3], *chance.sample(ends, 12), *ends[-3:]}
    cuts = {0, 1, *some, *(end - 1 for end in some), *(end + 1 for end in some)}
    cuts |= {chance.randrange(len(data)) for _ in range(15)}
    for cut in sorted(cut for cut in cuts if 0 <= cut <= len(data)):
        (tmp_path / "cut").write_bytes(data[:cut])
        complete = sum(end <= cut for end in ends)
        if complete < 2:
            with pytest.raises(UsageError):
                read_log(tmp_path / "cut")
            continue
        # The head is the first of them.
        found = read_log(tmp_path / "cut")
        assert len(found.moments) == complete - 1
        assert found.damaged == (cut not in (0, *ends))
        assert found.ended == ("left" if len(found.moments) == whole else "")


def test_a_spoilt_place_takes_its_own_line_and_no_other(log: Path, tmp_path: Path) -> None:
    data = log.read_bytes()
    whole = len(read_log(log).moments)
    ends = frames_of(data)
    chance = random.Random(2)
    for _ in range(40):
        at = chance.randrange(ends[1], len(data))
        spoilt = bytearray(data)
        spoilt[at] ^= 1 << chance.randrange(8)
        (tmp_path / "spoilt").write_bytes(spoilt)
        found = read_log(tmp_path / "spoilt")
        assert whole - len(found.moments) <= 1
        # A few bits of a frame mean nothing: then every line reads as it was written.
        assert found.damaged >= 1 or plain_of(bytes(spoilt)) == plain_of(data)
        Replay(found, lambda: 0.0).advance()


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_what_is_no_log_is_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "no-log"
    path.write_bytes(data)
    with pytest.raises(UsageError):
        read_log(path)


def test_a_log_of_a_newer_tputtui_is_told(tmp_path: Path) -> None:
    line = msgspec.json.encode(Head(99, "9.9", "2030", 0.0)) + b"\n"
    (tmp_path / "x").write_bytes(zstandard.ZstdCompressor().compress(line))
    with pytest.raises(UsageError, match="of version 99"):
        read_log(tmp_path / "x")
    with pytest.raises(UsageError, match="No such file"):
        read_log(tmp_path / "gone")


def test_a_killed_process_leaves_what_it_had_written(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "x.jsonl.zst")
    made.run(6)
    # As after kill -9: no end was written, nothing flushed.
    found = read_log(made.journal.path)
    assert len(found.moments) == 6
    assert found.ended == ""


def test_a_full_disk_stops_the_log_not_the_run_and_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Recorded(tmp_path / "x.jsonl.zst")
    made.run(3)
    before = made.journal.path.stat().st_size
    write = os.write

    def full(descriptor: int, data: bytes) -> None:
        # Half a line fits.
        write(descriptor, bytes(data[: len(data) // 2]))
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    made.run(2)
    monkeypatch.undo()
    made.run(1)
    assert made.journal.path.stat().st_size == before
    assert len(read_log(made.journal.path).moments) == 3
    (news,) = made.session.news()
    assert "No space left on device" in news
    assert made.session.news() == []
    assert made.session.advance().accounting.balanced


def test_the_log_can_be_read_by_its_person_alone(log: Path) -> None:
    assert log.stat().st_mode & 0o777 == 0o600


def test_it_is_json_lines_for_anyone(log: Path) -> None:
    with zstandard.ZstdDecompressor().stream_reader(
        log.open("rb"), read_across_frames=True
    ) as file:
        lines = file.read().splitlines()
    assert msgspec.json.decode(lines[0])["tputtui_session"] == 1
    for line in lines[1:]:
        assert "t" in msgspec.json.decode(line)


def test_the_writer_thread_writes_by_itself_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    made = Recorded(tmp_path / "other.jsonl.zst")
    journal = Journal(path, made.session.recorder, 1000.0)
    made.session.watch(journal.see)
    made.run(2)
    journal.start()
    assert journal.close(PATIENCE_S)
    assert not [t for t in threading.enumerate() if t.name == "journal"]
    found = read_log(path)
    assert found.ended == "left"
    assert found.moments[-1].accounting == made.session.advance().accounting


# -- how large it becomes ------------------------------------------------------------------------


def written(
    path: Path, steps_per_s: int, requests_per_s: int, seconds: int = 60, *, drafts: bool = True
) -> float:
    """Bytes of a minute of a made-up engine, with all the noise that rows can have."""
    chance, recorder = np.random.default_rng(0), Recorder()
    made = Recorded(path.with_suffix(".other"))
    journal = Journal(path, recorder, 1000.0)
    journal.see(made.session.advance())
    t, second, number = 1000.0, 1000.0, 0
    while t < 1000.0 + seconds:
        took = float(chance.lognormal(math.log(1 / steps_per_s), 0.1))
        t += took
        values = [int(v) for v in chance.integers(0, 4000, len(STEP) - 6)]
        drafted = [value * drafts for value in values[8:]]
        row = (t, took, *values[:8], chance.random(), 256, 8192, took / 5, *drafted)
        step = StepSample._make(row)
        recorder.add_step(step, [(took, 200), (2 * took, 3)])
        for _ in range(chance.poisson(requests_per_s / steps_per_s)):
            number += 1
            due = t - chance.gamma(4, 1.0)
            times = np.cumsum([due, *chance.gamma(1, 0.05, 3)])
            recorder.add_issued(due)
            recorder.add_first_token(times[3], due, times[1])
            sizes = chance.integers(1, 4000, 4).tolist()
            ended = (number, Outcome.FINISHED, *times, t, *sizes, 0, 0, math.nan)
            recorder.add_ended(RequestSample._make(ended))
        if t - second >= 1.0:
            second = t
            journal.write_new()
    journal.write_new("left")
    assert not journal.failure
    return path.stat().st_size * 60 / seconds


@pytest.mark.long
def test_a_minute_takes_less_than_a_megabyte_whatever_the_engine_does(tmp_path: Path) -> None:
    assert written(tmp_path / "a", 60, 20, drafts=False) < 300_000
    assert written(tmp_path / "b", 250, 200) < 1_000_000
    assert written(tmp_path / "c", 300, 1500) < 1_000_000
    assert written(tmp_path / "d", 1000, 3000) < 1_000_000
    # What had to give way is said.
    assert not read_log(tmp_path / "a").thinned
    found = read_log(tmp_path / "c")
    assert found.thinned
    # A row that was kept stands for those that were not.
    assert found.recorder.ended.count == pytest.approx(1500 * 60, rel=0.1)


kinds = st.sampled_from("tscf")
numbers = {
    "t": st.floats(1000, 2e5),
    "s": st.one_of(st.floats(-1, 1e4), st.just(math.nan)),
    "c": st.integers(0, 2**40).map(float),
    "f": st.floats(0, 1),
}


@given(st.lists(kinds, min_size=1, max_size=6), st.data(), st.sampled_from([1e-6, 1e-4, 1e-3]))
def test_columns_are_read_back_to_their_precision(
    kinds: list[str], data: st.DataObject, quantum_s: float
) -> None:
    n = data.draw(st.integers(1, 12))
    columns = [data.draw(st.lists(numbers[kind], min_size=n, max_size=n)) for kind in kinds]
    for kind, column in zip(kinds, columns, strict=True):
        if kind == "t":
            column.sort()
    rows = np.array(columns).T
    packed = msgspec.json.decode(msgspec.json.encode(pack(rows, "".join(kinds), 1000.0, quantum_s)))
    again = unpack(packed, n, "".join(kinds), 1000.0, quantum_s)
    for i, kind in enumerate(kinds):
        within = {"t": 1.01 * quantum_s, "s": quantum_s / 2, "f": 1e-6, "c": 0}[kind]
        close = np.abs(again[:, i] - rows[:, i]) <= within + 1e-9
        assert (close | (np.isnan(again[:, i]) & np.isnan(rows[:, i]))).all()
        if kind == "t":
            # Never later than it was: what had ended when a window did has ended.
            assert (again[:, i] <= rows[:, i] + 1e-12).all()


def test_every_column_of_a_step_has_a_kind() -> None:
    assert len(TABLES["steps"]) == len(StepSample._fields)
    assert len(TABLES["ended"]) == len(RequestSample._fields)


def test_it_opens_on_the_load_and_ends_on_the_last_board_that_was_seen(tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl.zst"
    made = Recorded(path, before_boot=True)
    made.run(20)
    board = made.frames[-1]
    made.session.close(1.0)
    made.rig.turn()
    made.run(3)
    made.end()
    replay = replay_of(path)
    first = replay.advance()
    assert first.status.state is State.RUNNING
    assert first.accounting.issued < 200
    replay.seek(0.0)
    assert replay.advance().status.state is not State.RUNNING
    replay.seek(1e9)
    last = replay.advance()
    assert last.status.state is State.RUNNING
    assert last.figures.generated_per_s == pytest.approx(board.figures.generated_per_s, rel=0.02)
    # What was measured of the last second as well, though no board of it was drawn.
    (span,), (seen,) = last.trials[-1].spans, made.session.advance().trials[-1].spans
    assert span == pytest.approx(seen, abs=2e-6)
    replay.toggle()
    replay.toggle()
    assert replay.advance().status.state is State.RUNNING
    assert replay.at_s < 10.0


class Uneven(FakeEngine):
    """Its steps take no whole microseconds, and a window may end with one of them."""

    STEP_S, DECODE_S = 0.006000314159, 0.000150271828


def test_a_window_that_ends_with_a_step_has_the_same_requests_again(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "run.jsonl.zst", kind=Uneven)
    made.run(30)
    replay = replay_of(made.end().journal.path)
    for frame in made.frames:
        replay.seek(frame.elapsed_s)
        seen, again = frame.trials[-1].series, replay.advance().trials[-1].series
        assert (again and again.n) == (seen and seen.n)


@pytest.mark.parametrize("later_s", [0.0, 1.0])
def test_the_end_shows_the_last_board_and_not_what_closing_did(
    later_s: float, tmp_path: Path
) -> None:
    made = Recorded(tmp_path / "run.jsonl.zst")
    made.run(10)
    made.rig.run(0.7)
    last = made.session.advance()
    assert last.accounting.running > 0
    made.rig.host.order(Close())
    made.rig.host.run_pass()
    # The writer's second comes while the run is being closed: what was in flight is aborted.
    made.journal.write_new()
    made.rig.clock.advance(later_s)
    made.session.advance()
    replay = replay_of(made.end().journal.path)
    replay.seek(replay.length_s)
    shown = replay.advance()
    assert shown.accounting == last.accounting
    assert shown.status.state is State.RUNNING


def test_the_steps_of_several_engines_are_read_back(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "two.zst", kind=TwoEngines)
    made.run(10)
    seen, played = made.frames[-1], replay_of(made.end().journal.path)
    played.seek(seen.elapsed_s)
    again = played.advance()
    assert again.engines == seen.engines
    assert len(seen.engines) == 2
    assert again.binding is not None
    assert again.binding == seen.binding
    assert again.binding.engines.endswith("of 2 engines")
    for name in ("tokens_frac", "sequences_frac", "busy_frac", "kv_frac"):
        assert same(getattr(again.figures, name), getattr(seen.figures, name), rel=2e-3)


def test_each_window_is_of_the_engines_that_ran_then(tmp_path: Path) -> None:
    """Two engines, one, two again: booted in place, as `e` does."""
    made = Recorded(tmp_path / "boots.zst", kind=TwoEngines)
    shares = ("tokens_frac", "sequences_frac", "busy_frac", "kv_frac", "steps_per_s")
    windows: list[tuple[Window, Figures]] = []
    for engines in (2, 1, 2):
        if windows:
            made.session.steer.engine.boot_with({"data_parallel_size": engines}, {})
        made.run(12)
        frame = made.frames[-1]
        facts, binding = frame.status.facts, frame.binding
        assert facts is not None
        assert facts.engines == engines
        assert binding is not None
        assert binding.engines == ("2 of 2 engines" if engines == 2 else "")
        windows.append((frame.window, frame.figures))
    # Each as it was then, also when others have been booted since; and in a replay.
    for recorder in (made.session.recorder, read_log(made.end().journal.path).recorder):
        for window, seen in windows:
            again = figures(recorder, window.start_s, window.end_s)
            for name in shares:
                assert same(getattr(again, name), getattr(seen, name), rel=2e-3), name
            assert same(again.step.p50, seen.step.p50, rel=2e-3)
    (_, two), (_, one), _ = windows
    assert two.steps_per_s == pytest.approx(2 * one.steps_per_s, rel=0.1)
    assert two.busy_frac == pytest.approx(one.busy_frac, rel=0.1)


# -- the newest run ------------------------------------------------------------------------------


def test_the_newest_run_is_the_newest_that_has_ended_or_has_figures(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "tputtui" / "sessions"
    folder.mkdir(parents=True)

    def named(day: int) -> Path:
        return folder / f"202601{day:02}-000000-{day}{SUFFIX}"

    with pytest.raises(UsageError, match="No run was recorded yet"):
        newest_run()
    # One that has just begun: no line, then a line without a step.
    begun = Recorded(named(3), before_boot=True)
    named(4).touch()
    with pytest.raises(UsageError, match=f"No run .* has figures yet.*{named(4).name}"):
        newest_run()
    named(1).write_bytes(log.read_bytes())
    recording, note = newest_run()
    assert recording.path == named(1)
    assert note == (
        f"{named(4).name} and 1 more have no figures: this is {named(1).name}, "
        "the newest run that has."
    )
    # Cut off, with figures; newer than the one that ended.
    named(2).write_bytes(log.read_bytes()[:-500])
    recording, note = newest_run()
    assert recording.path == named(2)
    assert not recording.growing
    # As soon as it has figures, it is the one, though it goes on.
    named(4).unlink()
    begun.run(3)
    recording, note = newest_run()
    assert recording.path == named(3)
    assert recording.growing
    assert note == "Its run still goes on: this is what was recorded so far."
    begun.end()
    recording, note = newest_run()
    assert (recording.path, recording.growing, note) == (named(3), False, "")


def test_each_byte_of_a_log_is_decompressed_about_once(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed, lines = 0, 8 * len(frames_of(log.read_bytes()))
    decompressor = zstandard.ZstdDecompressor

    class Counting:
        def __init__(self) -> None:
            self._made = decompressor()

        def decompressobj(self) -> Counting:
            self._object = self._made.decompressobj()
            return self

        def decompress(self, data: bytes) -> bytes:
            nonlocal fed
            fed += len(data)
            return self._object.decompress(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._object, name)

    monkeypatch.setattr(zstandard, "ZstdDecompressor", Counting)
    # What follows a line is handed over with it, so it must not be the rest of the file.
    longer = log.with_name("longer")
    longer.write_bytes(log.read_bytes() * 8)
    read_log(longer)
    assert fed < longer.stat().st_size + lines * (1 << 14)


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_that_a_log_is_being_read(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen, now_s = Screen(), iter(range(10_000))
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(time, "monotonic", lambda: next(now_s))
    recorded_run(str(log))
    said = screen.getvalue()
    assert "reading the run:  97%" in said
    assert said.endswith(f"\r{' ' * 21}\r"), "the line is erased"
    # Elsewhere nothing is said, and neither is it of a log that is read at once.
    monkeypatch.setattr(sys, "stderr", pipe := io.StringIO())
    recorded_run(str(log))
    assert not pipe.getvalue()
    monkeypatch.setattr(sys, "stderr", quick := Screen())
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    recorded_run(str(log))
    assert not quick.getvalue()


def test_a_run_that_goes_on_is_not_called_cut_off(tmp_path: Path) -> None:
    made = Recorded(tmp_path / f"run{SUFFIX}")
    made.run(25)
    copy = tmp_path / "copy"
    copy.write_bytes(made.journal.path.read_bytes())
    for path, board, page in (
        (made.journal.path, "the run still goes on", "still going on"),
        (copy, "the run was cut off", "cut off"),
    ):
        replay = replay_of(path)
        replay.seek(replay.length_s)
        assert board in "".join(text for text, _ in timebar(replay, 120))
        assert page in dict(gather(replay.recording).facts)["took"]
    made.end()
    assert "left" in dict(gather(read_log(made.journal.path)).facts)["took"]

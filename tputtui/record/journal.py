"""Writes the session log of a run: a thread of its own, a line a second.

    engine thread → Recorder ─┐
    front end → see(frame) ───┴─▶ writer thread → FILE.jsonl.zst

JSON Lines, each compressed as a Zstandard frame of its own: appended and never rewritten, readable
with `zstdcat`, and cut anywhere every whole line is there. (SQLite takes several times the room and
rewrites pages; one stream for the whole file is 7 % smaller, and gone from the first bad byte on.)

The log stays below a megabyte a minute. Where a run would make more of it, the precision of times
gives way first, from a microsecond down to a millisecond, and then rows are thinned.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import threading
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tputtui import __version__
from tputtui.engine.orders import Status
from tputtui.frame import Frame, Trial, TunerState, TunerTrial
from tputtui.hardware import GpuSample, HardwareSample
from tputtui.measure.mirror import Changes, Tail
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Outcome
from tputtui.measure.verdict import Difference
from tputtui.process.state import fresh_file
from tputtui.profile import Profile, dump
from tputtui.record.codec import TABLES, pack
from tputtui.record.line import FORMAT, Head, Line, TrialLine, plain

__all__ = ["Journal", "open_session_log"]

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl.zst"
_KEPT, _KEPT_BYTES = 100, 1 << 30
_EVERY_S = 1.0
_SYNC_EVERY = 10
_LEVEL = 6
_BUDGET = 900_000 / 60
"""Bytes a second, on average: a tenth is kept in hand."""
_COARSEST_US = 1000
_OUTCOMES = {outcome.value: i for i, outcome in enumerate(Outcome)}


def open_session_log() -> Path:
    """A fresh file for this run; of the oldest some are removed (100 files, 1 GiB in all).

    Raises UsageError when it cannot be made.
    """
    return fresh_file("sessions", SUFFIX, kept=_KEPT, kept_bytes=_KEPT_BYTES)


class Journal:
    """Follows one run from its start. `failure` says why nothing is written any more.

    origin_s: the engine's clock when the run began.
    """

    def __init__(self, path: Path, recorder: Recorder, origin_s: float) -> None:
        self.path = path
        self.failure = ""
        self._told = False
        self._tail = Tail(recorder)
        self._origin_s = origin_s
        self._frame: Frame | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._scribe = _Scribe(origin_s)
        self._pace = _Pace()
        self._why = ""
        self._file: _File | None = None
        self._turns = 0

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def see(self, frame: Frame) -> None:
        """How things stand now; the next line tells of it."""
        self._frame = frame

    def told_failure(self) -> str:
        """Why nothing is written any more, the first time that this is asked; else empty."""
        if self._told or not self.failure:
            return ""
        self._told = True
        return self.failure

    def close(self, timeout_s: float, why: str = "left") -> bool:
        """Write what is left, and the end; False if that took longer."""
        self._why = why
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.wait(_EVERY_S) and not self.failure:
            self.turn()
        self.turn(self._why or "left")

    def turn(self, ended: str = "") -> None:
        """Write what is new since the last turn; with `ended`, that the run is over, and why."""
        if self.failure:
            return
        try:
            if self._file is None:
                self._file = _File(self.path)
                self._file.write(Head(FORMAT, __version__, _now(), self._origin_s))
            line = self._scribe.line(self._frame, self._tail.take(), self._pace)
            if ended:
                line = line or Line(t=self._scribe.t)
                line.ended = ended
            if line is not None:
                self._pace.spent(self._file.write(line))
            self._turns += 1
            if ended or self._turns % _SYNC_EVERY == 0:
                self._file.sync()
            if ended:
                self._file.close()
        except Exception as error:
            logger.exception("the session log stopped")
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self.failure = f"The session log {self.path} stopped: {why}."


class _File:
    """Appends lines to a file: each whole, or as if nothing of it."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._encoder = msgspec.json.Encoder()
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, line: Head | Line) -> int:
        """Append a line; the bytes it took. What a full disk has cut is taken back."""
        data = self._compressor.compress(self._encoder.encode(line) + b"\n")
        start = os.lseek(self._handle, 0, os.SEEK_END)
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._handle, view) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._handle, start)
            raise
        return len(data)

    def sync(self) -> None:
        """See to it that a crash of the machine does not take it either."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """No more lines."""
        os.close(self._handle)


class _Pace:
    """How precise the log can be: coarser while lines are too long, finer again when they are not.

    quantum_us, thinned: as in `Line`.
    """

    def __init__(self) -> None:
        self.quantum_us = self.thinned = 1

    def spent(self, size: int) -> None:
        """A line took `size` bytes."""
        if size > _BUDGET:
            if self.quantum_us < _COARSEST_US:
                self.quantum_us *= 10
            else:
                self.thinned *= 2
        elif size < _BUDGET / 3:
            if self.thinned > 1:
                self.thinned //= 2
            elif self.quantum_us > 1:
                self.quantum_us //= 10


class _Scribe:
    """Says in a line what is new since the one before."""

    def __init__(self, origin_s: float) -> None:
        self.t = 0.0
        self._origin_s = origin_s
        self._told: dict[str, Any] = {}
        self._profiles: list[Profile] = []
        self._trials: dict[int, Trial] = {}
        self._tuner: tuple[TunerTrial, ...] = ()

    def line(self, frame: Frame | None, changes: Changes | None, pace: _Pace) -> Line | None:
        """The line, if there is anything to say."""
        if frame is None and changes is None:
            return None
        line = Line(t=self.t, quantum_us=pace.quantum_us, thinned=pace.thinned)
        if frame is not None:
            line.t = self.t = frame.t_s - self._origin_s
            self._stand(line, frame)
        if changes is not None:
            self._add(line, changes)
        return line

    def _stand(self, line: Line, frame: Frame) -> None:
        line.window = plain(frame.window)
        if self._new("profile", frame.profile):
            # Its limits are of when the run began: those in force are the status's.
            bare = msgspec.structs.replace(frame.profile, knobs={}, evidence=None)
            line.profile = self._profile(line, bare)
        if self._new("status", frame.status):
            line.status = _status(frame.status)
            if frame.status.spec is not None:
                line.status["spec"] = self._profile(line, Profile(frame.status.spec))
        if self._new("asked", frame.asked):
            line.asked = plain(frame.asked)
        if frame.hardware is not None and self._new("hardware", frame.hardware.t_s):
            line.hardware = _hardware(frame.hardware)
        for name in ("compare", "sweep", "points", "baseline"):
            if self._new(name, value := getattr(frame, name)):
                said = _compare(value) if name == "compare" else plain(value)
                setattr(line, name, said)
        if self._new("guard", frame.guard):
            line.guard = frame.guard
        for trial in frame.trials:
            if self._trials.get(trial.number) is not trial:
                self._trials[trial.number] = trial
                line.trials.append(self._trial(line, trial))
        self._add_tuner(line, frame.tuner)
        gone = self._trials.keys() - {trial.number for trial in frame.trials}
        for number in gone:
            del self._trials[number]

    def _add(self, line: Line, changes: Changes) -> None:
        every = line.thinned
        for name, (n, data) in changes.rows.items():
            self._put(line, name, np.frombuffer(data).reshape(n, -1)[::every])
        if changes.ended:
            rows = [
                (number, _OUTCOMES[outcome], due, *(at - due for at in rest[:4]), *rest[4:])
                for number, outcome, due, *rest in changes.ended
            ]
            self._put(line, "ended", np.array(rows, dtype=np.float64)[::every])
        line.books = list(changes.books)
        line.wanted = plain(changes.wanted)
        line.totals = plain(
            (
                changes.kv_blocks,
                changes.oldest_due_s,
                changes.generated_tokens,
                changes.preemptions,
            )
        )
        line.marks_gone = changes.marks_gone
        if changes.marks:
            line.marks = plain(changes.marks)

    def _put(self, line: Line, name: str, rows: Any) -> None:
        packed = pack(rows, TABLES[name], self._origin_s, line.quantum_us * 1e-6)
        line.rows[name] = (len(rows), packed)

    def _add_tuner(self, line: Line, tuner: TunerState | None) -> None:
        """How the tuner stands, and the trials that are new."""
        if tuner is None:
            return
        bare = replace(tuner, trials=(), differences=())
        # What it does changes each second, and is of no use later.
        lasting = bare if bare.over else replace(bare, note="", left_s=0.0)
        if self._new("tuner", lasting):
            line.tuner = plain(replace(bare, of=None)) | {
                "of": self._profile(line, tuner.of) if tuner.of else None,
                "differences": _differences(tuner.differences),
            }
        known = self._tuner
        if tuner.trials[: len(known)] != known:
            line.tuner_anew, known = True, ()
        line.tuner_trials = [plain(trial) for trial in tuner.trials[len(known) :]]
        self._tuner = tuner.trials

    def _new(self, name: str, value: Any) -> bool:
        if name in self._told and self._told[name] == value:
            return False
        self._told[name] = value
        return True

    def _profile(self, line: Line, profile: Profile) -> int:
        """The number of a profile; its text is said once."""
        for number, known in enumerate(self._profiles):
            if known == profile:
                return number
        number = len(self._profiles)
        self._profiles.append(profile)
        line.profiles[str(number)] = dump(profile)
        return number

    def _trial(self, line: Line, trial: Trial) -> TrialLine:
        return TrialLine(
            number=trial.number,
            t_s=trial.t_s,
            turned=trial.turned,
            knobs=plain(trial.knobs),
            profile=self._profile(line, Profile(trial.engine, trial.load)),
            booted=plain(trial.booted),
            phase=trial.phase.value,
            start_s=trial.series.start_s if trial.series else 0.0,
            length_s=trial.series.length_s if trial.series else 0.0,
            against=trial.against,
            differences=_differences(trial.differences),
            note=trial.note,
            spans=plain(trial.spans) if trial.spans else None,
            unjudged=trial.unjudged,
            decided_s=_or_none(trial.decided_s),
            withdrawn_s=_or_none(trial.withdrawn_s),
            withdrawn=trial.withdrawn,
        )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _hardware(sample: HardwareSample) -> Any:
    """Without what a GPU does not offer, and without its processes: others' names are not ours to
    keep, and their numbers mean nothing later."""
    return plain(replace(sample, gpus=())) | {"gpus": [_gpu(gpu) for gpu in sample.gpus]}


def _gpu(gpu: GpuSample) -> Any:
    told = {each.name: getattr(gpu, each.name) for each in fields(gpu) if each.name != "processes"}
    defaults = {each.name: each.default for each in fields(gpu)}
    return plain({name: value for name, value in told.items() if value != defaults[name]})


def _status(status: Status) -> Any:
    facts = replace(status.facts, arguments=()) if status.facts else None
    told = {
        "state": status.state,
        "since_s": status.since_s,
        "stage": status.stage,
        "stages": status.stages,
        "facts": facts,
        "knobs": status.knobs,
        **{
            name: (error.message, error.hint)
            for name in ("failure", "refused", "load_failure")
            if (error := getattr(status, name)) is not None
        },
    }
    return plain(told)


def _compare(compare: Any) -> Any:
    if compare is None:
        return None
    return plain(
        {
            "side": compare.side,
            "pair": compare.pair,
            "note": compare.note,
            "done": compare.done,
            "title": compare.title,
            "sides": compare.sides,
            "left_s": compare.left_s,
            "differences": _differences(compare.differences),
        }
    )


def _differences(rows: tuple[Difference, ...]) -> Any:
    return plain(
        [
            {
                "key": row.metric.key,
                "old": row.old,
                "new": row.new,
                "change": row.change,
                "low": row.low,
                "high": row.high,
                "judgement": row.judgement,
                "needs_s": row.needs_s,
            }
            for row in rows
        ]
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

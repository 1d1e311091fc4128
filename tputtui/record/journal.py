"""Writes the session log of a run: on a thread of its own, one line a second.

    engine thread → Recorder ─┐
    front end → see(frame) ───┴─▶ writer thread → FILE.jsonl.zst

JSON Lines, each compressed as a Zstandard frame of its own. Lines are appended and never rewritten;
`zstdcat` reads them; and in a file that was cut off, every complete line is still readable. (SQLite
takes several times the space and rewrites pages. One stream for the whole file is 7 % smaller, but
unreadable from the first bad byte on.)

The log stays below a megabyte a minute. Where a run would exceed that, first the precision of times
is reduced, from a microsecond down to a millisecond, and then rows are thinned.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import math
import os
import threading
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tputtui import __version__
from tputtui.engine.orders import Status
from tputtui.frame import Frame, Tried, TunerState, TunerTrial
from tputtui.measure.mirror import Delta, Tail
from tputtui.measure.recorder import Recorder
from tputtui.measure.samples import Outcome
from tputtui.process.locks import hold
from tputtui.process.state import fresh_file
from tputtui.profile import Profile, dump
from tputtui.record.codec import TABLES, pack
from tputtui.record.kept import KEPT, write_differences
from tputtui.record.line import FORMAT, Head, Line, TrialLine, plain

__all__ = ["Journal", "open_session_log"]

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl.zst"
_KEPT, _KEPT_BYTES = 100, 1 << 30
_EVERY_S = 1.0
_SYNC_EVERY = 10
_LEVEL = 6
_BUDGET = 900_000 / 60
"""Bytes per second of the run on average: a tenth below a megabyte a minute."""
_PAID_BACK = 20
"""In so many lines, what lines before them took too much."""
_COARSEST_US = 1000
_OUTCOMES = {outcome.value: i for i, outcome in enumerate(Outcome)}


def open_session_log() -> Path:
    """A new file for this run; the oldest files are removed above 100 files or 1 GiB in all.

    Raises UsageError when the file cannot be created.
    """
    return fresh_file("sessions", SUFFIX, kept=_KEPT, kept_bytes=_KEPT_BYTES)


class Journal:
    """Writes the log of one run from its start.

    failure: why nothing is written any more, in a sentence; empty while the log works.
    origin_s: the engine's clock when the run began.
    """

    def __init__(self, path: Path, recorder: Recorder, origin_s: float) -> None:
        self.path = path
        self.failure = ""
        self._failure_reported = False
        self._tail = Tail(recorder)
        self._origin_s = origin_s
        self._frame: Frame | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._scribe = _Scribe(origin_s)
        self._pace = _Pace()
        self._why = ""
        self._file: _File | None = None
        self._passes = 0

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def see(self, frame: Frame) -> None:
        """Take the frame for the next line."""
        self._frame = frame

    def new_failure(self) -> str:
        """`failure`, on the first call after it occurred; otherwise empty."""
        if self._failure_reported or not self.failure:
            return ""
        self._failure_reported = True
        return self.failure

    def close(self, timeout_s: float, why: str = "left") -> bool:
        """Write the last line, with `why` the run ended; False if that took longer."""
        self._why = why
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # -- writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.wait(_EVERY_S) and not self.failure:
            self.write_new()
        self.write_new(self._why or "left")

    def write_new(self, ended: str = "") -> None:
        """Write a line of what is new since the last one. ended: why the run is over, if it is."""
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
                self._pace.spent(self._file.write(line), line.t)
            self._passes += 1
            if ended or self._passes % _SYNC_EVERY == 0:
                self._file.sync()
            if ended:
                self._file.close()
        except Exception as error:
            logger.exception("the session log stopped")
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            self.failure = f"The session log {self.path} stopped: {why}."


class _File:
    """Appends lines to a file: a line is written completely or not at all."""

    def __init__(self, path: Path) -> None:
        import zstandard

        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._encoder = msgspec.json.Encoder()
        self._handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        hold(self._handle)

    def write(self, line: Head | Line) -> int:
        """Append a line; the number of its bytes. A line that a full disk cuts off is removed."""
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
        """Flush to disk, so that the lines survive a crash of the machine."""
        os.fdatasync(self._handle)

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


class _Pace:
    """The precision of the log: coarser while lines are too long, finer again when they are not.

    A line may take as much as its seconds of the run do: in virtual time it has many of them. What
    lines took above that, later ones save.
    quantum_us, thinned: as in `Line`.
    """

    def __init__(self) -> None:
        self.quantum_us = self.thinned = 1
        self._t = self._owed = 0.0

    def spent(self, size: int, t: float) -> None:
        """A line that goes up to second `t` of the run took `size` bytes."""
        budget = _BUDGET * max(1.0, t - self._t)
        self._t = t
        self._owed = max(0.0, self._owed + size - budget)
        allowed = budget - min(budget / 2, self._owed / _PAID_BACK)
        if size > allowed:
            if self.quantum_us < _COARSEST_US:
                self.quantum_us *= 10
            else:
                self.thinned <<= max(1, math.ceil(math.log2(size / allowed)))
        elif size < allowed / 3:
            if self.thinned > 1:
                self.thinned //= 2
            elif self.quantum_us > 1:
                self.quantum_us //= 10


class _Scribe:
    """Builds the line of what is new since the line before."""

    def __init__(self, origin_s: float) -> None:
        self.t = 0.0
        self._origin_s = origin_s
        self._written: dict[str, Any] = {}
        self._profiles: list[Profile] = []
        self._trials: dict[int, Tried] = {}
        self._tuner: tuple[TunerTrial, ...] = ()
        self._seen: Frame | None = None
        self._books: list[int] | None = None
        """The books that were written last."""

    def line(self, frame: Frame | None, changes: Delta | None, pace: _Pace) -> Line | None:
        """The next line; None when there is nothing to write."""
        if frame is None and changes is None:
            return None
        line = Line(t=self.t, quantum_us=pace.quantum_us, thinned=pace.thinned)
        if frame is not None:
            line.t = self.t = frame.t_s - self._origin_s
            self._stand(line, frame)
        if changes is not None:
            self._add(line, changes)
        if frame is not None and frame is not self._seen:
            # What was seen, not what the engine has done since: it may have been closed.
            self._seen, books = frame, list(astuple(frame.accounting))
            line.books = books if books != self._books else None
        self._books = line.books or self._books
        return line

    def _stand(self, line: Line, frame: Frame) -> None:
        line.window = plain(frame.window)
        if self._new("profile", frame.profile):
            # The profile's limits are those of the start; the status has the limits in force.
            bare = msgspec.structs.replace(frame.profile, knobs={}, evidence=None)
            line.profile = self._profile(line, bare)
        if self._new("status", frame.status):
            line.status = _status(frame.status)
            if frame.status.spec is not None:
                line.status["spec"] = self._profile(line, Profile(frame.status.spec))
        for kept in KEPT:
            value = getattr(frame, kept.name)
            if not self._new(kept.name, kept.stamp(value)):
                continue
            written = None if value is None else kept.write(value)
            if hasattr(line, kept.name):
                setattr(line, kept.name, written)
            else:
                line.more[kept.name] = written
        for trial in frame.trials:
            if self._trials.get(trial.number) is not trial:
                self._trials[trial.number] = trial
                line.trials.append(self._trial(line, trial))
        self._add_tuner(line, frame.tuner)
        gone = self._trials.keys() - {trial.number for trial in frame.trials}
        for number in gone:
            del self._trials[number]

    def _add(self, line: Line, changes: Delta) -> None:
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
        """Add the state of the tuner, and its new trials."""
        if tuner is None:
            return
        bare = replace(tuner, trials=(), differences=())
        # Its note changes every second, and is of no use later.
        lasting = bare if bare.over else replace(bare, note="", left_s=0.0)
        if self._new("tuner", lasting):
            line.tuner = plain(replace(bare, of=None)) | {
                "of": self._profile(line, tuner.of) if tuner.of else None,
                "differences": write_differences(tuner.differences),
            }
        known = self._tuner
        if tuner.trials[: len(known)] != known:
            line.tuner_anew, known = True, ()
        line.tuner_trials = [plain(trial) for trial in tuner.trials[len(known) :]]
        self._tuner = tuner.trials

    def _new(self, name: str, value: Any) -> bool:
        if name in self._written and self._written[name] == value:
            return False
        self._written[name] = value
        return True

    def _profile(self, line: Line, profile: Profile) -> int:
        """The number of a profile; its text is written once."""
        for number, known in enumerate(self._profiles):
            if known == profile:
                return number
        number = len(self._profiles)
        self._profiles.append(profile)
        line.profiles[str(number)] = dump(profile)
        return number

    def _trial(self, line: Line, trial: Tried) -> TrialLine:
        return TrialLine(
            number=trial.number,
            t_s=trial.t_s,
            turned=trial.changed,
            knobs=plain(trial.knobs),
            profile=self._profile(line, Profile(trial.engine, trial.load)),
            booted=plain(trial.booted),
            got=dict(trial.got) or None,
            phase=trial.phase.value,
            start_s=trial.series.start_s if trial.series else 0.0,
            length_s=trial.series.length_s if trial.series else 0.0,
            against=trial.against,
            differences=write_differences(trial.differences),
            note=trial.note,
            spans=plain(trial.spans) if trial.spans else None,
            unjudged=trial.unjudged,
            decided_s=_or_none(trial.decided_s),
            withdrawn_s=_or_none(trial.withdrawn_s),
            withdrawn=trial.withdrawn,
            predicted=plain(trial.predicted) if trial.predicted else None,
            predicted_from=trial.predicted_from,
        )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _status(status: Status) -> Any:
    facts = replace(status.facts, arguments=()) if status.facts else None
    written = {
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
    return plain(written)


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")

"""Reads a session log: every complete line, also where the file was cut off or is damaged.

The whole run is kept in memory, about a megabyte for a minute of a fast engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from tputtui.engine.orders import Status
from tputtui.engine.protocol import EngineFacts, State
from tputtui.errors import EngineError, ProfileError, UsageError
from tputtui.frame import TunerState, TunerTrial
from tputtui.knobs import Knobs
from tputtui.load.timing import Wanted
from tputtui.measure.recorder import ENDED, Recorder, Table, ended_row
from tputtui.measure.samples import Accounting, Mark, Outcome, RequestSample
from tputtui.measure.stats import Floats
from tputtui.measure.window import Window
from tputtui.process.locks import written_now
from tputtui.process.state import sessions_dir
from tputtui.profile import Profile, parse
from tputtui.record.codec import TABLES, unpack
from tputtui.record.kept import KEPT, read_differences
from tputtui.record.line import FORMAT, Head, Line, TrialLine, restored

__all__ = ["Moment", "Progress", "Recording", "read_log"]

Progress = Callable[[float], None]
"""Called with the share of a log that has been read, 0 … 1."""

_MAGIC = b"\x28\xb5\x2f\xfd"
"""The first bytes of each Zstandard frame."""
_PIECE = 1 << 14
"""Bytes that are handed to the decompressor at once; most lines are shorter."""
_OUTCOMES = tuple(Outcome)
_SPOILT = (msgspec.DecodeError, msgspec.ValidationError, ValueError, TypeError, LookupError)
"""Errors that reading a damaged line can raise."""


class Moment(NamedTuple):
    """How everything stood when a line was written; fields as in `Frame` and `Recorder`."""

    t_s: float
    """When the line was written, in seconds of the run's engine clock."""
    window: Window
    status: Status
    profile: Profile
    kept: Mapping[str, Any]
    """Fields of the frame by name, those of `record.kept`."""
    accounting: Accounting
    kv_blocks: int
    """Usable blocks of the KV cache."""
    oldest_due_s: float
    """When the oldest request without a first token was due; NaN without such a request."""
    generated_tokens: int
    preemptions: int
    wanted: Wanted
    marks: tuple[Mark, ...]
    trials: tuple[TrialLine, ...]
    tuner: TunerState | None


@dataclass(slots=True)
class Recording:
    """A run as it was recorded."""

    path: Path
    version: str
    """Version of tputtui that wrote the log."""
    began: str
    """When the run began, in UTC."""
    origin_s: float
    """The engine's clock when the run began."""
    moments: list[Moment]
    """One a second, oldest first."""
    recorder: Recorder
    """All samples of the run."""
    profiles: dict[int, Profile] = field(default_factory=dict)
    """By number; trials refer to them."""
    ended: str = ""
    """Why the run ended; empty where the log was cut off."""
    damaged: int = 0
    """Number of places in the file that could not be read."""
    thinned: bool = False
    """Whether rows were left out to keep the log small."""
    growing: bool = False
    """Whether the run went on when the log was read."""

    @property
    def length_s(self) -> float:
        """Seconds from the beginning to the last moment."""
        return self.moments[-1].t_s - self.origin_s


def read_log(path: Path, progress: Progress = lambda share: None) -> Recording:
    """The run in the log `path`. Raises UsageError when the file contains none."""
    try:
        growing = written_now(path)
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{path}: {why}.",
            f"`last` is the newest run; those before it are in {sessions_dir()}.",
        ) from None
    lines = _Lines(data, progress)
    try:
        head = msgspec.json.decode(next(iter(lines)), type=Head)
    except (StopIteration, msgspec.DecodeError, msgspec.ValidationError):
        raise UsageError(f"{path}: no session log.", f"They are in {sessions_dir()}.") from None
    if head.tputtui_session > FORMAT:
        raise UsageError(
            f"{path}: of version {head.tputtui_session}, and this reads up to {FORMAT}.",
            f"It was written by tputtui {head.tputtui}: upgrade.",
        )
    recording = _Reader(path, head).read(lines)
    recording.growing = growing and not recording.ended
    return recording


class _Lines:
    """The complete lines of a log. damaged: number of places that could not be read."""

    def __init__(self, data: bytes, progress: Progress) -> None:
        self._data = data
        self._at = 0
        self._progress = progress
        self.damaged = 0

    def __iter__(self) -> Iterator[bytes]:
        import zstandard

        data = memoryview(self._data)
        whole = zstandard.ZstdDecompressor()
        while self._at < len(data):
            reader = whole.decompressobj()
            line, end = b"", self._at
            self._progress(end / len(data))
            try:
                # In pieces: the decompressor copies all that follows the frame.
                while not reader.eof:
                    piece = data[end : end + _PIECE]
                    if not piece:
                        # The file ends within this frame; or its length is damaged, and others
                        # follow.
                        raise zstandard.ZstdError("cut")
                    line += reader.decompress(piece)
                    end += len(piece)
                self._at = end - len(reader.unused_data)
            except zstandard.ZstdError:
                after = self._data.find(_MAGIC, self._at + 1)
                self.damaged += 1
                if after < 0:
                    return
                self._at = after
                continue
            yield from line.splitlines()


class _Reader:
    def __init__(self, path: Path, head: Head) -> None:
        self._head = head
        self._origin_s = head.origin_s
        self._rows: dict[str, list[Floats]] = {name: [] for name in TABLES}
        self._trials: dict[int, TrialLine] = {}
        self._early: dict[str, Any] = {}
        """What was written before the first frame."""
        self._recording = Recording(path, head.tputtui, head.began, head.origin_s, [], Recorder())
        self._decoder = msgspec.json.Decoder(Line)

    def read(self, lines: _Lines) -> Recording:
        recording, bad = self._recording, 0
        moment: Moment | None = None
        for data in lines:
            try:
                line = self._decoder.decode(data)
                rows = self._unpacked(line)
                moment = self._moment(line, moment)
            except (*_SPOILT, ProfileError):
                bad += 1
                continue
            for name, table in rows.items():
                self._rows[name].append(table)
            recording.thinned |= line.thinned > 1
            recording.ended = line.ended or recording.ended
            if moment is not None:
                recording.moments.append(moment)
        recording.damaged = lines.damaged + bad
        if not recording.moments:
            raise UsageError(f"{recording.path}: the run ended before anything was recorded.")
        recording.recorder = self._recorder()
        recording.recorder.labels = recording.moments[-1].kept["labels"]
        return recording

    def _unpacked(self, line: Line) -> dict[str, Floats]:
        return {
            name: np.repeat(
                unpack(columns, n, TABLES[name], self._origin_s, line.quantum_us * 1e-6),
                line.thinned,
                axis=0,
            )
            for name, (n, columns) in line.rows.items()
            if name in TABLES
        }

    def _moment(self, line: Line, before: Moment | None) -> Moment | None:
        for number, text in line.profiles.items():
            self._recording.profiles[int(number)] = parse(text, "session log")
        changes = self._changes(line, before)
        if before is None:
            changes = self._early | changes
            if not changes.keys() >= {"window", "status", "profile"}:
                # No frame has been written yet.
                self._early = changes
                return None
            before = Moment(
                t_s=self._origin_s, window=changes["window"], status=changes["status"],
                profile=changes["profile"], kept={each.name: each.first for each in KEPT},
                accounting=Accounting(), kv_blocks=0, oldest_due_s=np.nan, generated_tokens=0,
                preemptions=0, wanted=Wanted(), marks=(), trials=(), tuner=None,
            )  # fmt: skip
        changes["kept"] = {**before.kept, **_kept(line)}
        return before._replace(t_s=self._origin_s + line.t, **changes)

    def _changes(self, line: Line, before: Moment | None) -> dict[str, Any]:
        changes: dict[str, Any] = {}
        if line.window is not None:
            changes["window"] = restored(line.window, Window)
        if line.profile is not None:
            changes["profile"] = self._recording.profiles[line.profile]
        if line.status is not None:
            changes["status"] = self._status(line.status)
        self._add_tuner(changes, line, before)
        if line.books is not None:
            changes["accounting"] = Accounting(*line.books)
        if line.wanted is not None:
            changes["wanted"] = restored(line.wanted, Wanted)
        if line.totals is not None:
            totals = restored(line.totals, tuple[int, float, int, int])
            names = ("kv_blocks", "oldest_due_s", "generated_tokens", "preemptions")
            changes |= zip(names, totals, strict=True)
        if line.marks or line.marks_gone:
            marks = before.marks if before else self._early.get("marks", ())
            # Version 0.1 called the marks of legs "trial".
            new = restored(line.marks or [], tuple[Mark, ...])
            new = tuple(replace(m, kind="leg") if m.kind == "trial" else m for m in new)
            changes["marks"] = (*marks[: len(marks) - line.marks_gone], *new)
        if line.trials:
            self._trials |= {trial.number: trial for trial in line.trials}
            # A setting that was put on again comes last again.
            changes["trials"] = tuple(sorted(self._trials.values(), key=lambda row: row.t_s))
        return changes

    def _add_tuner(self, changes: dict[str, Any], line: Line, before: Moment | None) -> None:
        tuner = before.tuner if before else None
        trials = tuner.trials if tuner and not line.tuner_anew else ()
        if line.tuner is not msgspec.UNSET:
            state = dict(line.tuner)
            rows, number = read_differences(state.pop("differences")), state.pop("of")
            tuner = replace(
                restored(state, TunerState),
                trials=trials,
                differences=rows,
                of=self._recording.profiles.get(number),
            )
        if line.tuner_trials and tuner is not None:
            new = restored(line.tuner_trials, tuple[TunerTrial, ...])
            tuner = replace(tuner, trials=(*trials, *new))
        changes["tuner"] = tuner

    def _status(self, written: dict[str, Any]) -> Status:
        spec = self._recording.profiles[written["spec"]].engine if "spec" in written else None
        errors = {
            name: EngineError(*written[name])
            for name in ("failure", "refused", "load_failure")
            if name in written
        }
        return Status(
            state=State(written["state"]),
            since_s=written["since_s"],
            stage=written["stage"],
            stages=restored(written["stages"], tuple[tuple[str, float], ...]),
            spec=spec,
            facts=restored(written["facts"], EngineFacts) if written["facts"] else None,
            knobs=restored(written["knobs"], Knobs) if written["knobs"] else None,
            failure=errors.get("failure"),
            refused=errors.get("refused"),
            load_failure=errors.get("load_failure"),
            load_on=written["state"] == State.RUNNING,
        )

    def _recorder(self) -> Recorder:
        """A recorder with all samples; it derives the rows of ended requests from the requests."""
        tables = {
            name: np.concatenate(parts) if parts else np.zeros((0, len(TABLES[name])))
            for name, parts in self._rows.items()
        }
        recorder = Recorder()
        for name, rows in tables.items():
            if name != "ended":
                setattr(recorder, name, Table(rows))
        samples = [_request(row) for row in tables["ended"].tolist()]
        rows = np.array([ended_row(sample) for sample in samples], dtype=np.float64)
        recorder.ended = Table(rows.reshape(len(samples), len(ENDED)))
        recorder.request_log.extend(samples)
        before_s = -np.inf
        for moment in self._recording.moments:
            if moment.status.facts is not None:
                # An engine is up before the first line that tells of it.
                recorder.note_engines(moment.status.facts.engines, before_s)
            before_s = moment.t_s
        return recorder


def _kept(line: Line) -> dict[str, Any]:
    """The fields of the frame that have changed in this line."""
    written = {each: getattr(line, each.name, msgspec.UNSET) for each in KEPT}
    written |= {each: line.more[each.name] for each in KEPT if each.name in line.more}
    return {
        each.name: None if value is None else each.read(value)
        for each, value in written.items()
        if value is not msgspec.UNSET
    }


def _request(row: list[float]) -> RequestSample:
    number, outcome, due_s, submitted, scheduled, first, end, *counts, job_s = row
    prompt, output, wanted, cached, preemptions, label = map(int, counts)
    return RequestSample(
        int(number), _OUTCOMES[int(outcome)], due_s, due_s + submitted, due_s + scheduled,
        due_s + first, due_s + end, prompt, output, wanted, cached, preemptions, label, job_s,
    )  # fmt: skip

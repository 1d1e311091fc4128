"""The run that `last` names: the newest session log with something to see."""

from __future__ import annotations

from pathlib import Path

from tputtui.errors import UsageError
from tputtui.process.state import sessions_dir
from tputtui.record.journal import SUFFIX
from tputtui.record.reading import Progress, Recording, read_log

__all__ = ["newest_run"]


def newest_run(progress: Progress = lambda share: None) -> tuple[Recording, str]:
    """The newest run that has ended or has figures, and a note for the person; mostly empty.

    progress: called with the share of a log that has been read, 0 … 1.
    The note names newer logs that were passed over, or says that the run still goes on.
    Raises UsageError without such a run.
    """
    folder = sessions_dir()
    passed: list[Path] = []
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True):
        try:
            recording = read_log(path, progress)
        except UsageError:
            passed.append(path)
            continue
        if recording.ended or _has_figures(recording):
            return recording, " ".join(_notes(recording, passed))
        passed.append(path)
    if passed:
        raise UsageError(
            f"No run in {folder} has figures yet; the newest log is {passed[0].name}.",
            "Wait until its engine runs, or name a file.",
        )
    raise UsageError(f"No run was recorded yet in {folder}.", "Name a file.")


def _has_figures(recording: Recording) -> bool:
    recorder = recording.recorder
    return bool(recorder.steps.count or recorder.ended.count)


def _notes(recording: Recording, passed: list[Path]) -> list[str]:
    notes = []
    if passed:
        others = f" and {len(passed) - 1} more" if len(passed) > 1 else ""
        verb = "have" if others else "has"
        notes.append(
            f"{passed[0].name}{others} {verb} no figures: this is {recording.path.name}, "
            "the newest run that has."
        )
    if recording.growing:
        notes.append("Its run still goes on: this is what was recorded so far.")
    return notes

"""The tuner's trials out of a session log, to go on from where a run was broken off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tputtui.errors import UsageError
from tputtui.frame import TunerState
from tputtui.load.sections import difference
from tputtui.profile import Profile
from tputtui.record.journal import SUFFIX
from tputtui.record.reading import Recording, read_log
from tputtui.state import state_dir
from tputtui.tune.plan import Plan

__all__ = ["resumed"]

_LOOKED_AT = 10
"""Session logs, the newest first: each is read whole."""


def resumed(plan: Plan, asked: Profile, path: str) -> Plan:
    """`plan` with the trials of the run in `path`; empty: of the newest that has any.

    What is searched is taken from that run, unless the plan says otherwise.
    Raises UsageError where there is none, or where it was of another engine, load or goals: its
    figures would not be about this one.
    """
    recording, state, of = _newest(path)
    if of.engine != asked.engine:
        raise UsageError(f"{recording.path.name} is of another engine.", "Begin without --resume.")
    if of.load != asked.load:
        raise UsageError(
            f"{recording.path.name} is of another load: {difference(of.load, asked.load)}.",
            "Begin without --resume.",
        )
    if of.goals != asked.goals:
        raise UsageError(f"{recording.path.name} is of other goals.", "Begin without --resume.")
    return replace(
        plan,
        load=plan.load or state.load,
        vary=plan.vary or state.varied,
        engines=plan.engines or state.boots,
        search=plan.search if plan.search != "model" else state.search,
        told=state.trials,
    )


def _newest(path: str) -> tuple[Recording, TunerState, Profile]:
    """The recording, its tuner, and the profile as it stood when that began."""
    folder = state_dir() / "sessions"
    newest = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)[:_LOOKED_AT]
    for each in [Path(path).expanduser()] if path else newest:
        try:
            recording = read_log(each)
        except UsageError:
            if path:
                raise
            continue
        moments = recording.moments
        state = moments[-1].tuner
        if state is not None and state.trials:
            return recording, state, _profile_before(recording)
    where = path or f"the newest {_LOOKED_AT} session logs"
    raise UsageError(f"There are no trials of the tuner in {where}.", "Begin without --resume.")


def _profile_before(recording: Recording) -> Profile:
    """The load changes with every trial: what stood before the first."""
    before = recording.moments[0]
    for moment in recording.moments:
        if moment.tuner is not None:
            break
        before = moment
    return before.profile

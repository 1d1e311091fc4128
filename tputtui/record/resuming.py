"""Reads the tuner's trials from a session log, to continue a run that was interrupted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tputtui.errors import UsageError
from tputtui.experiments.tuner.plan import Plan
from tputtui.frame import TunerState
from tputtui.load.sections import difference
from tputtui.process.state import sessions_dir
from tputtui.profile import Profile
from tputtui.record.journal import SUFFIX
from tputtui.record.reading import read_log

__all__ = ["resumed"]

_LOOKED_AT = 10
"""Most session logs to read, the newest first; each is read completely."""


def resumed(plan: Plan, asked: Profile, path: str) -> Plan:
    """`plan` with the trials of the run in the log `path`; empty: the newest log with trials.

    The plan takes what to search from that run, unless it names something itself.
    Raises UsageError where there are no trials, or where that run had another engine, load or
    goals: its figures would not apply.
    """
    log, state = _newest(path)
    of, hint = state.of, "Begin without --resume."
    if of is None or of.engine != asked.engine:
        raise UsageError(f"{log.name} is of another engine.", hint)
    if of.load != asked.load:
        raise UsageError(f"{log.name} is of another load: {difference(of.load, asked.load)}.", hint)
    if of.goals != asked.goals:
        raise UsageError(f"{log.name} is of other goals.", hint)
    return replace(
        plan,
        load=plan.load or state.load,
        vary=plan.vary or state.varied,
        engines=plan.engines or state.boots,
        search=plan.search if plan.search != Plan().search else state.search,
        earlier_trials=state.trials,
    )


def _newest(path: str) -> tuple[Path, TunerState]:
    """The log, and the last state of its tuner. Raises UsageError where there are no trials."""
    folder = sessions_dir()
    newest = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)[:_LOOKED_AT]
    for each in [Path(path).expanduser()] if path else newest:
        try:
            state = read_log(each).moments[-1].tuner
        except UsageError:
            if path:
                raise
            continue
        if state is not None and state.trials:
            return each, state
    where = path or f"the newest {_LOOKED_AT} session logs"
    raise UsageError(f"There are no trials of the tuner in {where}.", "Begin without --resume.")

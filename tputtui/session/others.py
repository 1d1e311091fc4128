"""Requests of other people at a server: what would cost them something is asked first.

Front end's thread. It only reads.
"""

from __future__ import annotations

from tputtui.engine.orders import Status
from tputtui.errors import OthersError, UsageError
from tputtui.measure.recorder import Recorder

__all__ = ["check_sends", "spare"]


def spare(recorder: Recorder, effect: str, *, anyway: bool) -> None:
    """Raise OthersError where requests of others are under way, unless that is meant.

    effect: what it would cost them, in words.
    """
    if recorder.others and not anyway:
        several = "requests" if recorder.others > 1 else "request"
        raise OthersError(f"{recorder.others:,} {several} of others under way: {effect}.")


def check_sends(status: Status) -> None:
    """Raise UsageError on a board that sends no requests itself."""
    if status.facts is not None and status.facts.live:
        raise UsageError(
            "This board watches live traffic and sends no requests.",
            "A change is judged before/after; `tputtui server:URL` puts a load on a server.",
        )

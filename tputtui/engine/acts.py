"""What is done to a running engine beside its limits, and the mark that each leaves. Engine thread.

A server may refuse: then nothing is done, and the mark says why.
"""

from __future__ import annotations

from tputtui.engine.ledger import Ledger
from tputtui.engine.marks import Marks
from tputtui.engine.protocol import Engine
from tputtui.errors import TputError

__all__ = ["Acts"]


class Acts:
    """Pauses and empties engines. anyway: also where it costs requests of other people."""

    def __init__(self, ledger: Ledger, marks: Marks) -> None:
        self._ledger = ledger
        self._marks = marks

    def preempt(self, engine: Engine, *, anyway: bool) -> None:
        """Move what runs above the limit back to the queue."""
        try:
            thrown = engine.preempt(anyway=anyway)
        except TputError as refusal:
            self._marks.add("knob", f"not preempted: {refusal}")
        else:
            if thrown:
                self._marks.add("knob", f"{thrown} sequences preempted now")
        self._ledger.publish(engine.counts())

    def reset_prefix_cache(self, engine: Engine, *, anyway: bool) -> None:
        """Empty the prefix cache."""
        why = ""
        try:
            thrown = engine.reset_prefix_cache(anyway=anyway)
        except TputError as refusal:
            thrown, why = None, f": {refusal}"
        if thrown is None:
            self._marks.add("engine", f"the prefix cache was not emptied{why}")
        else:
            also = f", {thrown} preempted for it" if thrown else ""
            self._marks.add("engine", f"prefix cache emptied{also}")
        self._ledger.publish(engine.counts())

    def set_paused(self, engine: Engine, paused: bool, *, anyway: bool) -> bool:
        """Let the engine stand still, or go on; whether it does."""
        try:
            engine.set_paused(paused, anyway=anyway)
        except TputError as refusal:
            self._marks.add("engine", f"not {'paused' if paused else 'resumed'}: {refusal}")
            return False
        self._marks.add("engine", "engine paused" if paused else "engine resumed")
        return True

"""What stands on the screen without an engine: the stages of a boot, or why it failed. Pure."""

from __future__ import annotations

import textwrap

from tputtui.engine.protocol import State
from tputtui.frame import Frame
from tputtui.text.format import seconds
from tputtui.ui.rows import Row

__all__ = ["boot", "trouble"]


def boot(frame: Frame, log: list[str], width: int, height: int, *, over: bool = False) -> list[Row]:
    """Stages done and under way, then the failure if any, then the newest log lines.

    over: as in `trouble`; a recorded run has no engine log.
    """
    status = frame.status
    rows: list[Row] = [[]]
    rows += [
        [("  ✓ ", "good"), (f"{stage:<42}", "text"), (seconds(took_s, 8), "label")]
        for stage, took_s in status.stages
    ]
    if status.failure is not None:
        rows += [[], *trouble(frame, width, over=over)]
    elif status.state is State.COLD:
        rows.append([("  … ", "accent"), ("starting", "text")])
    elif status.stage:
        took_s = frame.t_s - status.since_s
        rows.append(
            [("  … ", "accent"), (f"{status.stage:<42}", "text"), (seconds(took_s, 8), "value")]
        )
    if over:
        return rows
    rows += [[], [("  engine log", "label")]]
    room = height - len(rows)
    if room > 0:
        rows += [[("  ", "text"), (line, "muted")] for line in log[-room:]]
    return rows


def trouble(frame: Frame, width: int, *, over: bool = False) -> list[Row]:
    """Why the engine failed, what to do about it, and the keys that do it.

    over: whether the run is over; no key can do anything then.
    """
    failure = frame.status.failure
    if failure is None:
        return []
    why = textwrap.wrap(failure.message, max(20, width - 6))
    hint = textwrap.wrap(failure.hint, max(20, width - 6))
    keys: Row = [("    b", "accent"), (" boot again    ", "text"), ("g", "accent"),
                 (" engine log    ", "text"), ("q", "accent"), (" leave", "text")]  # fmt: skip
    return [
        *([("    " if n else "  ✖ ", "bad"), (line, "bad")] for n, line in enumerate(why)),
        *([("    ", "text"), (line, "text")] for line in hint),
        *([] if over else [[], keys]),
    ]

"""The time bar of a replay: its speed, the whole run with its marks, the mark passed last. Pure."""

from __future__ import annotations

from tputtui.record.replay import Replay
from tputtui.text.format import clock
from tputtui.ui.cursor import RULES
from tputtui.ui.rows import Row, fitted, shortened

__all__ = ["timebar"]


def timebar(replay: Replay, width: int) -> Row:
    """One row: ▶ 2× 3:12 ━━━╸──┃── 10:00  max_num_seqs 64 → 32."""
    sign, look = ("▶", "good") if replay.playing else ("‖", "warn")
    left: Row = [
        (f"{sign} ", look),
        (f"{replay.speed:g}× ".rjust(6), "value"),
        (f"{clock(replay.at_s):>7} ", "value"),
    ]
    end: Row = [(f" {clock(replay.length_s)}", "label")]
    note = _passed(replay)
    if replay.recording.growing:
        note = note or "the run still goes on"
    elif replay.recording.damaged or not replay.recording.ended:
        note = note or "the run was cut off"
    caption = shortened(note, max(12, width // 3)) if note else ""
    cells = (
        width - sum(len(text) for text, _ in (*left, *end)) - (len(caption) + 2 if caption else 0)
    )
    row = [*left, *_bar(replay, max(4, cells)), *end]
    return fitted([*row, (f"  {caption}", "text")] if caption else row, width)


def _bar(replay: Replay, cells: int) -> Row:
    length_s = max(replay.length_s, 1e-9)
    here = min(cells - 1, int(replay.at_s / length_s * cells))
    marks = {
        min(cells - 1, int((mark.t_s - replay.recording.origin_s) / length_s * cells)): RULES.get(
            mark.kind, "│"
        )
        for mark in replay.marks
    }
    row: Row = []
    for cell in range(cells):
        if cell == here:
            row.append(("●", "accent"))
        elif cell in marks:
            row.append((marks[cell], "mark"))
        else:
            row.append(("━" if cell < here else "─", "chart" if cell < here else "muted"))
    return row


def _passed(replay: Replay) -> str:
    """The newest mark at or before the present, in the last 15 s."""
    now_s = replay.recording.origin_s + replay.at_s
    passed = [mark for mark in replay.marks if now_s - 15 <= mark.t_s <= now_s + 1e-6]
    return f"{RULES.get(passed[-1].kind, '│')} {passed[-1].text}" if passed else ""

"""The words of screen, help and command line: plain, and within their width."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import DataTable

import tputtui
from tests.made import MARKS, frame_of, six_trials
from tests.test_changes import settling
from tests.test_screen import app_after, paint
from tputtui.cli.help import TOPICS
from tputtui.cli.page import WIDTH, fitted_page
from tputtui.frame import SweepState
from tputtui.goals import parse_goals
from tputtui.knobs import KNOBS, offered
from tputtui.measure.attainment import Attainment, GoalVerdict
from tputtui.measure.window import Phase
from tputtui.ui.canvas import Canvas
from tputtui.ui.panels.frontier import frontier
from tputtui.ui.panels.latency import latency, window_caption
from tputtui.ui.panels.limits import limits
from tputtui.ui.screens.frontier import FrontierScreen
from tputtui.ui.screens.help import _MEANINGS, HelpScreen
from tputtui.ui.screens.history import HistoryScreen, TrialTable
from tputtui.ui.screens.log import LogScreen

ROOMS = ("ui", "cli", "headless", "report", "session", "experiments", "load", "engine")
RIDDLES = (
    "drawn apart", "surely misses", "surely below", "Broken off", "broken off", "of before",
    "is none.", "is expected", "to be told yet", "quoted nowhere", "a curve is no setting",
    "by the person", "The person's", "whole prompts", "breaks it off", "Turn a limit",
    "a point a setting", "no most of", "figures are of now",
)  # fmt: skip
"""Wordings that had to be learnt; what is said instead stands in the glossary or is plain."""


def literals() -> Iterator[tuple[str, str]]:
    """(File, text) of every text in the rooms that speak to people, docstrings left out."""
    root = Path(tputtui.__file__).parent
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            tree = ast.parse(path.read_text())
            documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            docs = set()
            for node in ast.walk(tree):
                body = getattr(node, "body", None)
                if not isinstance(body, list):
                    continue
                for before, statement in itertools.pairwise([None, *body]):
                    if not isinstance(statement, ast.Expr):
                        continue
                    first = before is None and isinstance(node, documented)
                    if first or isinstance(before, ast.Assign | ast.AnnAssign):
                        docs.add(statement.value)
            for node in ast.walk(tree):
                text = getattr(node, "value", None)
                if isinstance(node, ast.Constant) and isinstance(text, str) and node not in docs:
                    yield str(path.relative_to(root)), text


def test_what_had_to_be_learnt_is_said_nowhere() -> None:
    found = [(file, riddle) for file, text in literals() for riddle in RIDDLES if riddle in text]
    assert found == []
    assert sum(1 for _ in literals()) > 3000


# -- words that are plain ----------------------------------------------------------------------


def test_settling_says_what_is_waited_for() -> None:
    frame = settling(frame_of(six_trials(), marks=MARKS))
    assert window_caption(frame, 60) == "settling: 45 of 96 old requests finished"
    assert window_caption(frame, 22) == "settling: 45 of 96"
    ramping = replace(frame, window=replace(frame.window, phase=Phase.RAMPING))
    assert window_caption(ramping, 60) == "ramping"


@pytest.mark.parametrize(
    ("length_s", "words"),
    [(4.9, "< 5 s"), (5.0, "5 s"), (9.9, "9 s"), (29.9, "29 s"), (59.9, "55 s")],
)
def test_a_window_with_figures_is_never_said_to_be_of_no_time(length_s: float, words: str) -> None:
    frame = frame_of(six_trials(), marks=MARKS)
    start_s = frame.window.end_s - length_s
    window = replace(frame.window, start_s=start_s, since_s=start_s, phase=Phase.MEASURING)
    caption = window_caption(replace(frame, window=window), 60)
    assert caption == f"window {words} · measuring"


@pytest.mark.parametrize("verdict", [GoalVerdict.MISSED, GoalVerdict.UNRESOLVED])
def test_a_goal_has_its_verdict_in_whole_words_on_80_columns(verdict: GoalVerdict) -> None:
    frame = frame_of(six_trials(), marks=MARKS)
    (goal,) = parse_goals("ttft_p90=1.25s")
    each = Attainment(goal, 0, 12_345, 1.0, 0.999, 1.0, verdict, 0.5)
    window = replace(frame.window, phase=Phase.STEADY)
    judged = replace(frame, window=window, goodput=replace(frame.goodput, each=(each,)))
    (row,) = [row for row in latency(judged, 79, 22) if "within" in "".join(t for t, _ in row)]
    said = "".join(text for text, _ in row).rstrip()
    assert said.endswith(verdict.value)
    assert len(said) <= 79


def test_a_sweep_says_where_it_is_and_what_is_done() -> None:
    from tputtui.measure.frontier import AXES_X, AXES_Y

    frame = replace(frame_of(six_trials()), sweep=SweepState(34.0, 6, "starting", "34 in flight"))
    row = frontier(frame, AXES_Y[0], AXES_X[0], 100, 30)[0]
    assert "".join(text for text, _ in row) == ("sweep: now 34 in flight, 6 levels done · starting")
    one = replace(frame, sweep=SweepState(None, 1, "Ended by the user."))
    row = frontier(one, AXES_Y[0], AXES_X[0], 100, 30)[0]
    assert "".join(text for text, _ in row) == "sweep over: 1 level · Ended by the user."


def test_every_limit_has_a_name_that_fits_its_cell() -> None:
    app = app_after(10)
    frame = app.session.latest
    ceilings = replace(app.session.host.status.facts.ceilings, num_speculative_tokens=3)
    facts = replace(app.session.host.status.facts, ceilings=ceilings)
    frame = replace(frame, status=replace(frame.status, facts=facts))
    assert offered(ceilings) == KNOBS
    for knob in KNOBS:
        rows = limits(frame, knob.name, 118, 8)
        text = "\n".join("".join(part for part, _ in row) for row in rows)
        assert "reserve whole prompt on" in text
        assert all(each.label in text or each.name in text for each in offered(ceilings))


# -- within their width ------------------------------------------------------------------------


def shown(bindings: list[Any]) -> int:
    """Cells that a footer takes for the keys it shows."""
    keys = [each for each in bindings if isinstance(each, Binding) and each.show]
    texts = [f"{key.key_display or key.key.partition(',')[0]} {key.description} " for key in keys]
    return sum(map(len, texts))


@pytest.mark.parametrize(
    ("screen", "focused"),
    [
        (FrontierScreen, None),
        (HistoryScreen, TrialTable),
        (LogScreen, None),
        (HelpScreen, None),
    ],
)
def test_the_keys_of_every_screen_fit_80_columns(
    screen: type[Screen[Any]], focused: type[DataTable[Any]] | None
) -> None:
    bindings = [*screen.BINDINGS, *(focused.BINDINGS if focused else [])]
    assert shown(bindings) <= 80


@pytest.mark.parametrize("name", TOPICS)
def test_every_topic_of_help_fits_80_columns(name: str) -> None:
    summary, text = TOPICS[name]
    page = fitted_page(f"{name}: {summary}\n\n{text()}\n")
    wide = [line for line in page.splitlines() if len(line) > WIDTH and " " in line.strip()]
    assert wide == []


@pytest.mark.parametrize("name", TOPICS)
def test_every_row_and_every_command_of_a_topic_begins_a_line(name: str) -> None:
    text = TOPICS[name][1]()
    page = fitted_page(text).splitlines()
    for line in text.splitlines():
        head, gap, _ = line.partition("  ")
        if head and (gap or head.startswith("tputtui ")):
            begun = head if gap else " ".join(head.split()[:2])
            assert any(row.startswith(begun) for row in page), line


def test_no_meaning_is_a_page_long() -> None:
    # The column of names has 12 cells, a gap among them.
    assert all(len(name) < 12 for name, _ in _MEANINGS)
    assert all(len(meaning) <= 320 for _, meaning in _MEANINGS)


@pytest.mark.parametrize("size", [(80, 24), (120, 40), (200, 50)])
async def test_no_line_of_the_board_is_cut_within_a_word(size: tuple[int, int]) -> None:
    app = app_after(60, turn=("max_num_seqs", 32), gpus=2)
    app.session.set_goals(())
    async with app.run_test(size=size) as pilot:
        await paint(pilot)
        for key in ("1", "2", "3", "4", "5", "6", ""):
            if key:
                await pilot.press(key)
            await paint(pilot)
            for canvas in app._board.query(Canvas):
                if not canvas.display or not canvas.size.area:
                    continue
                title = str(canvas.border_title or "")
                assert len(title) <= canvas.outer_size.width, title
                for row in canvas._rows:
                    text = "".join(part for part, _ in row).rstrip()
                    # A cut between words leaves a space in front of the ellipsis.
                    assert not text.endswith("…") or text.endswith(" …"), (canvas.id, text)
            if key:
                await pilot.press("escape")

"""The board under a load of real requests, at three sizes."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from textual.pilot import Pilot

from tests import PATIENCE_S, SnapCompare
from tests.realserver import DEAF_TEMPLATE, write_tokenizer
from tests.test_screen import SIZES, app_after, paint
from tputtui.goals import parse_goals
from tputtui.load.requests.file import RequestFile
from tputtui.load.workload import ClosedLoop, Workload


def count_of_reads_as_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes as long as the machine takes: here a tenth of a millisecond each."""
    ticks = count()
    clock = SimpleNamespace(perf_counter=lambda: next(ticks) * 1e-4)
    monkeypatch.setattr("tputtui.load.requests.renderer.time", clock)


def until_read(app: Any, lines: int) -> None:
    """Another thread reads and renders, while the run's own clock stands still."""
    end = time.monotonic() + PATIENCE_S
    while (counts := app.rig.host._generator.counts).lines < lines or counts.rendered < 200:
        assert time.monotonic() < end, counts
        time.sleep(0.01)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """200 chats that end by themselves or not, some with tools, a few that cannot be served."""
    count_of_reads_as_clock(monkeypatch)
    monkeypatch.chdir(tmp_path)
    write_tokenizer(tmp_path, DEAF_TEMPLATE)
    tool = {"type": "function", "function": {"name": "weather"}}
    lines = []
    for number in range(200):
        words = "word " * (number % 40 + 1 if number % 50 else 600)
        line = {"messages": [{"role": "user", "content": words}], "max_tokens": 40}
        extra = {"tools": [tool]} if number % 3 == 0 else {"n": 2} if number % 20 == 1 else {}
        lines.append(json.dumps({**line, **extra}))
    lines.insert(17, '{"messages": 3}')
    Path("chats.jsonl").write_text("\n".join(lines))
    return Workload(ClosedLoop(8), requests=RequestFile("chats.jsonl", tokenizer="."))


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_board_with_real_requests(
    snap_compare: SnapCompare, load: Workload, size: tuple[int, int]
) -> None:
    async def look(pilot: Pilot[None]) -> None:
        await paint(pilot)
        # The panel of latencies fills the screen where it has no room beside the others.
        if size == (80, 24):
            await pilot.press("3")
        await paint(pilot)

    app = app_after(4, load=load)
    until_read(app, 201)
    app.rig.run(1.0)
    assert snap_compare(app, terminal_size=size, run_before=look)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_board_with_jobs_of_agents(
    snap_compare: SnapCompare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: tuple[int, int],
) -> None:
    count_of_reads_as_clock(monkeypatch)
    write_tokenizer(tmp_path, DEAF_TEMPLATE)
    step = {"messages": [{"role": "user", "content": "word " * 20}], "max_tokens": 30}
    job = {"steps": [{**step, "id": "plan"}, {**step, "wait_s": 0.5, "after": ["plan"]},
                     {**step, "wait_s": 1.5, "after": ["plan"]}]}  # fmt: skip
    (tmp_path / "jobs.jsonl").write_text("\n".join([json.dumps(job)] * 200))
    file = RequestFile(str(tmp_path / "jobs.jsonl"), tokenizer=str(tmp_path))

    async def look(pilot: Pilot[None]) -> None:
        await paint(pilot)
        await pilot.press("3")
        await paint(pilot)

    app = app_after(40, load=Workload(ClosedLoop(4), requests=file))
    until_read(app, 200)
    app.rig.session.set_goals(parse_goals("job_p90=4s"))
    app.rig.run(1.0)
    assert snap_compare(app, terminal_size=size, run_before=look)

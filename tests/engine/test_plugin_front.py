"""The front's part of our plugin, on engines that only answer."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tputtui.engine.wire import CONTROL, LEASE, PATH, Acted, CoreFacts, Problem, StepBatch
from tputtui.errors import TputError
from tputtui.knobs import Knobs
from tputtui.plugin.core import Question, Reply
from tputtui.plugin.endpoint import Endpoint
from tputtui.plugin.feed import StepFeed
from tputtui.plugin.lease import within
from tputtui.plugin.ring import Ring

pytestmark = pytest.mark.engine

TOKEN = "a-secret-of-this-test"


class Engine:
    """Limits that are checked as the plugin checks them, and one step whenever one is asked for."""

    def __init__(self, blocks: int) -> None:
        self.ceilings = self.limits = Knobs(64, 2048, 2048, num_gpu_blocks=blocks)
        self.rows: Ring[list[float]] = Ring(100)
        self.asked: Counter[str] = Counter()

    def answer(self, question: Question) -> Reply:
        self.asked[question.what] += 1
        match question.what:
            case "about":
                most, now = self.ceilings.as_dict(), self.limits.as_dict()
                return Reply(engine=CoreFacts(most, most, now))
            case "change":
                before = {name: self.limits.get(name) for name in question.limits}
                self.limits = within(self.limits, question.limits, self.ceilings, {}, {})
                return Reply(before=before, acted=Acted())
            case "steps":
                self.rows.append([float(self.rows.count)])
                rows, lost = self.rows.since(question.since)
                return Reply(steps=StepBatch(0.0, self.rows.count, rows, lost))
        return Reply(acted=Acted())


class Core:
    """As vLLM's client has it."""

    def __init__(self, *blocks: int) -> None:
        self.engines = [Engine(each) for each in blocks]
        self.core_engines = list(range(len(blocks)))

    async def _call_utility_async(self, name: str, question: str, *, engine: int) -> str:
        try:
            reply = self.engines[engine].answer(msgspec.json.decode(question, type=Question))
        except TputError as error:
            reply = Reply(problem=Problem(error.message, error.hint))
        return msgspec.json.encode(reply).decode()


@pytest.fixture
def core() -> Core:
    return Core(1000, 900)


@pytest.fixture
def client(core: Core, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    file = tmp_path / "control"
    file.touch(mode=0o600)
    file.write_text(TOKEN)
    monkeypatch.setenv("TPUTTUI_CONTROL_TOKEN_FILE", str(file))
    endpoint, app = Endpoint(), Starlette()
    endpoint.serve(core, "m")
    endpoint.add_routes(app)
    with TestClient(app) as client:
        yield client


def blocks(core: Core) -> list[int]:
    return [each.limits.num_gpu_blocks for each in core.engines]


class Feed:
    """A feed of `core`'s steps that asks again only when `turn` is called."""

    def __init__(self, core: Core) -> None:
        endpoint = Endpoint()
        endpoint.serve(core, "m")
        self._again = asyncio.Semaphore(0)
        self.feed = StepFeed(endpoint._new_steps, self._again.acquire)

    def turn(self) -> None:
        self._again.release()


class Watcher:
    """Reads the stream; rows: numbers of the steps of the second engine, in order."""

    def __init__(self, feed: StepFeed) -> None:
        self.lines = feed.lines()
        self.rows: list[float] = []
        self.lost = 0

    async def read(self) -> None:
        """What both engines tell at one asking."""
        for engine in (0, 1):
            batch = msgspec.json.decode(await anext(self.lines), type=StepBatch)
            assert batch.engine == engine
        self.rows += [row[0] for row in batch.rows]
        self.lost += batch.lost


async def test_however_many_watch_an_engine_is_asked_once(core: Core) -> None:
    made = Feed(core)
    watchers = [Watcher(made.feed) for _ in range(5)]
    for each in watchers:
        await each.read()
        made.turn()
        # How each engine stands; steps of before somebody came are none of theirs.
        assert each.rows == []
    for _ in range(10):
        made.turn()
        for each in watchers:
            await each.read()
    for each in watchers:
        assert len(each.rows) == 10
        assert each.rows == [each.rows[0] + n for n in range(10)]
        assert each.lost == 0
    asked = [each.asked["steps"] for each in core.engines]
    assert max(asked) <= 1 + 5 + 10
    # When the last one is gone, nobody is asked any more.
    for each in watchers:
        await each.lines.aclose()
    made.turn()
    await asyncio.sleep(0)
    assert [each.asked["steps"] for each in core.engines] == asked


async def test_who_reads_too_slowly_is_told_how_much_is_lost(core: Core) -> None:
    made = Feed(core)
    made.feed._told = Ring(8)  # of both engines: four askings
    slow, quick = Watcher(made.feed), Watcher(made.feed)
    await slow.read()
    made.turn()
    await quick.read()
    for _ in range(20):
        made.turn()
        await quick.read()
    for _ in range(3):
        await slow.read()
    assert quick.lost == 0
    assert slow.lost > 10
    assert slow.rows[-1] - slow.rows[0] + 1 == len(slow.rows)
    # The first step that it was to see is step 1: what it has not, it lost.
    assert slow.rows[0] == 1 + slow.lost
    for each in (slow, quick):
        await each.lines.aclose()


async def test_an_engine_that_is_gone_is_told_once_and_asked_again_by_the_next(core: Core) -> None:
    made = Feed(core)
    watchers = [Watcher(made.feed), Watcher(made.feed)]
    for each in watchers:
        await each.read()
        made.turn()
    engine = core.engines.pop()
    for each in watchers:
        made.turn()
        *_, last = [line async for line in each.lines]
        assert "no longer tells" in msgspec.json.decode(last, type=Problem).message
    core.engines.append(engine)
    late = Watcher(made.feed)
    await late.read()
    await late.lines.aclose()


def test_all_blocks_of_the_smallest_cache_are_all_of_each(core: Core, client: Any) -> None:
    def change(n: int) -> Any:
        head = {CONTROL: TOKEN, LEASE: "a"}
        return client.patch(f"{PATH}/limits", json={"limits": {"num_gpu_blocks": n}}, headers=head)

    assert change(500).status_code == 200
    assert blocks(core) == [500, 500]
    # Back at the ceiling that the board shows, nothing is held back anywhere.
    assert change(900).status_code == 200
    assert blocks(core) == [1000, 900]
    # Above it, the small one refuses, and the large one goes back.
    assert change(500).status_code == 200
    refused = change(950)
    assert refused.status_code == 409
    assert refused.json()["message"].startswith("Engine 1: num_gpu_blocks")
    assert blocks(core) == [500, 500]

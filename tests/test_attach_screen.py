"""The table of servers and one server alone: pictures at three sizes, and what each key does."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests import SnapCompare
from tests.screens import on_screen
from tests.served import reading
from tputtui.attach.about import About
from tputtui.attach.address import Address
from tputtui.attach.fleet import Fleet
from tputtui.attach.poller import News
from tputtui.ui.attach_app import AttachApp
from tputtui.ui.screens.fleet import FleetScreen, ServerTable
from tputtui.ui.screens.server import ServerScreen

SIZES = [(80, 24), (120, 40), (200, 50)]
NAMES = ("gpu1:8000", "gpu2:8000", "gpu3:8000", "eu-west=llm:443", "gpu5:8000", "gpu6:8000")
END_S = 190.0


class Scraped:
    """What 90 s of six servers brought."""

    def __init__(self) -> None:
        self.waiting: list[News] = []
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def news(self) -> list[News]:
        found, self.waiting = self.waiting, []
        return found

    def tell(self, *news: News) -> None:
        self.waiting += news


def fleet_of(servers: int) -> Fleet:
    scraped = Scraped()
    addresses = [Address(name, f"http://{name}") for name in NAMES[:servers]]
    fleet = Fleet(addresses, scraped, 1.0, scraped)
    for server in range(servers):
        scraped.tell(*_history(server))
    scraped.now_s = END_S
    return fleet


def _history(server: int) -> Iterator[News]:
    about = About("meta-llama/Llama-3.1-8B-Instruct" if server % 2 else "Qwen/Qwen3-32B",
                  "0.33.0", {"max_model_len": 32768, "max_num_seqs": 256})  # fmt: skip
    yield News(server, 100.0, about=about)
    for t in range(91):
        if server == 2 and t > 70:
            yield News(server, 100.0 + t, why="no answer within 5 s")
        elif server == 4:
            yield News(server, 100.0 + t, why="cannot be reached: connection refused")
        else:
            started = 1000.0 + (500.0 if server == 1 and t > 60 else 0)
            tokens = (t % 61 if server == 1 else t) * (2000.0 + 700 * server)
            n = t * 40
            yield News(server, 100.0 + t, reading(
                tokens, engines=1 + 3 * (server == 3), started=started, running=20.0 + 9 * server,
                ttft=(n // 4, n // 2, n * 9 // 10, n, n), kv=0.2 + 0.1 * server))  # fmt: skip


@pytest.mark.parametrize("size", SIZES)
def test_the_table_is_drawn(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    assert snap_compare(AttachApp(fleet_of(6), 6), terminal_size=size)


@pytest.mark.parametrize("size", SIZES)
def test_one_server_is_drawn(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    assert snap_compare(AttachApp(fleet_of(1), 1), terminal_size=size)


async def test_enter_opens_a_server_brackets_turn_and_escape_goes_back() -> None:
    app = AttachApp(fleet_of(6), 6)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("down", "enter")
        await pilot.pause()
        assert on_screen(app, ServerScreen)._place == 1
        await pilot.press("]", "]")
        assert on_screen(app, ServerScreen)._place == 3
        await pilot.press("escape")
        await pilot.pause()
        on_screen(app, FleetScreen)
        await pilot.press("escape")
        assert app.is_running


async def test_words_filter_and_escape_shows_all() -> None:
    app = AttachApp(fleet_of(6), 6)
    async with app.run_test(size=(120, 40)) as pilot:
        table = app.screen.query_one(ServerTable)
        assert table.row_count == 6
        await pilot.press("slash", *"llama")
        await pilot.pause()
        assert table.row_count == 3
        await pilot.press("enter")
        await pilot.press("slash", *"llm down")
        await pilot.pause()
        assert table.row_count == 0
        # The cursor is on no row, and nothing is opened.
        await pilot.press("enter", "enter")
        on_screen(app, FleetScreen)
        await pilot.press("escape")
        await pilot.pause()
        assert table.row_count == 6
        assert app.focused is table


async def test_any_column_sorts() -> None:
    app = AttachApp(fleet_of(6), 6)
    async with app.run_test(size=(120, 40)) as pilot:
        table = app.screen.query_one(ServerTable)

        def order() -> list[int]:
            return [int(row.key.value) for row in table.ordered_rows]

        assert order() == [1, 2, 3, 4, 5, 6]
        while table.sorted_by != "running":
            await pilot.press("greater_than_sign")
        assert order()[0] == 4
        assert order()[-1] == 5
        await pilot.press("i")
        assert order()[0] == 1


async def test_alone_there_is_nothing_to_go_back_to() -> None:
    app = AttachApp(fleet_of(1), 1)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.press("escape", "]")
        assert isinstance(app.screen, ServerScreen)
        await pilot.press("question_mark")
        await pilot.pause()
        await pilot.press("escape")
        assert app.is_running
        await pilot.press("q")
    assert app.return_code == 0

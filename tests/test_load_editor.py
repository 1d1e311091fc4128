"""The load editor: what is typed and chosen, what it shows, and the figures it previews."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.screen import Screen
from textual.widgets import Input, Label

from tests import SnapCompare
from tests.screens import on_screen
from tests.test_screen import SIZES, app_after, paint
from tputtui.errors import UsageError
from tputtui.load.generator import Generator
from tputtui.load.hits import predicted_hits, walk
from tputtui.load.lengths import Fixed, LogNormal, Uniform
from tputtui.load.preview import LengthSpread, Preview, preview
from tputtui.load.requests.file import RequestFile
from tputtui.load.sections import FIELDS, form_of, from_texts
from tputtui.load.workload import (
    ClosedLoop,
    Poisson,
    Prefix,
    Recorded,
    Sessions,
    TraceFile,
    Workload,
)
from tputtui.ui.app import TputApp
from tputtui.ui.panels.preview import preview_rows
from tputtui.ui.rows import width_of
from tputtui.ui.screens.load import Kind, LoadEditor

MOONCAKE = '{"timestamp": %d, "input_length": %d, "output_length": %d, "hash_ids": %s}\n'
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n"
SHAREGPT = '[{"conversations": [{"value": "one two"}, {"value": "three"}]}]'
PLAIN = Workload(ClosedLoop(96), Fixed(100), Fixed(50))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], TraceFile]:
    def write(text: str) -> TraceFile:
        path = tmp_path / "trace.txt"
        path.write_text(text)
        return TraceFile(str(path))

    return write


def look(workload: Workload, max_model_len: int | None = 2048, block_size: int = 16) -> Preview:
    return preview(workload, max_model_len=max_model_len, block_size=block_size)


def typed(**texts: str) -> Workload:
    return from_texts(PLAIN, texts)


# -- hits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tokens", "block_size", "found"), [(128, 16, 128), (130, 16, 128), (100, 32, 96), (15, 16, 0)]
)
def test_a_prefix_is_found_in_whole_blocks_once_one_request_had_it(
    tokens: int, block_size: int, found: int
) -> None:
    load = Workload(ClosedLoop(1), Fixed(100), Fixed(10), prefix=Prefix(1.0, tokens))
    assert predicted_hits(load, block_size, 10) == 9 * found / (10 * (100 + tokens))


def test_a_later_turn_finds_all_that_was_said_but_the_last_token() -> None:
    # Turns of 100, 100+50+100 = 250 and 400 tokens; of 149 and 299 shared, 144 and 288 in blocks.
    load = Workload(ClosedLoop(1), Fixed(100), Fixed(50), sessions=Sessions(Fixed(3), 0))
    assert predicted_hits(load, 16, 3) == (144 + 288) / 750
    assert predicted_hits(load, 16, 6) == (144 + 288) / 750
    assert [request.turn for request in walk(load, 16, 6)] == [0, 1, 2, 0, 1, 2]


def test_without_anything_shared_nothing_is_found() -> None:
    assert predicted_hits(PLAIN, 16) == 0


def test_blocks_of_a_mooncake_trace_are_found_behind_the_same_blocks(
    write: Callable[[str], TraceFile],
) -> None:
    file = write(
        MOONCAKE % (0, 1200, 5, [1, 2, 3])
        + MOONCAKE % (1, 1100, 5, [1, 2, 9])
        + MOONCAKE % (2, 1024, 5, [1, 2])
        + MOONCAKE % (3, 1024, 5, [2, 1])
        + MOONCAKE % (4, 1100, 5, [1, 2, 3])
    )
    # 1024; all but the last token, in blocks; nothing: 2 stands elsewhere; 1100 in blocks of 16.
    found = [0, 1024, 1008, 0, 1088]
    load = Workload(Recorded(), trace=file)
    assert predicted_hits(load, 16) == sum(found) / (1200 + 1100 + 1024 + 1024 + 1100)


def test_prefixes_and_token_ids_of_our_own_traces_are_found(
    write: Callable[[str], TraceFile],
) -> None:
    named = '{"prompt_tokens": 100, "output_tokens": 3, "prefix": "a", "prefix_tokens": 40}\n'
    load = Workload(ClosedLoop(1), trace=write(named * 2))
    assert predicted_hits(load, 16) == 32 / 200
    ids = '{"prompt_token_ids": %s, "output_tokens": 3}\n'
    load = Workload(
        ClosedLoop(1), trace=write(ids % list(range(40)) + ids % [*range(20), *range(20)])
    )
    assert predicted_hits(load, 8) == 16 / 80


@pytest.mark.parametrize("text", [AZURE, SHAREGPT])
def test_a_trace_of_unknown_content_has_no_predicted_hits(
    write: Callable[[str], TraceFile], text: str
) -> None:
    assert math.isnan(predicted_hits(Workload(ClosedLoop(1), trace=write(text)), 16))


@pytest.mark.parametrize(
    "load",
    [
        Workload(ClosedLoop(1), LogNormal(60, 0.8), Uniform(1, 90), prefix=Prefix(0.7, 50, 5, 1.0)),
        Workload(ClosedLoop(1), pairs=((30, 5, 1.0), (600, 9, 1.0)), seed=7),
        Workload(
            ClosedLoop(1), Uniform(1, 80), Uniform(1, 80), prefix=Prefix(0.5, 33, 2, 0.0),
            sessions=Sessions(Uniform(1, 9), 0),
        ),
    ],
    ids=["groups", "clamped pairs", "conversations"],
)  # fmt: skip
def test_the_walk_is_what_the_generator_sends_and_a_block_cache_finds(load: Workload) -> None:
    """Against token ids in a cache of chained blocks, one request after another."""
    size, limit, rng = 16, 500, random.Random(1)
    generator = Generator(load, 50_000)
    generator.resume(0.0)
    cache, seen = set(), []
    for step in range(150):
        now_s = float(step)
        # A conversation that no longer fits ends without a request.
        (spec,) = generator.due(now_s, 0, limit) or generator.due(now_s, 0, limit)
        prompt = tuple(spec.token_ids().tolist())
        ends = range(size, len(prompt), size)
        cached = next((end - size for end in ends if prompt[:end] not in cache), len(ends) * size)
        answer = [rng.randrange(4, 50_000) for _ in range(spec.output_tokens)]
        computed = (*prompt, *answer)[:-1]
        cache |= {computed[:end] for end in range(size, len(computed) + 1, size)}
        seen.append((len(prompt), spec.output_tokens, cached, spec.clamped, spec.turn))
        generator.ended(spec.number, now_s, spec.output_tokens, answer)
    assert [tuple(request) for request in walk(load, size, 150, limit)] == seen


# -- preview -------------------------------------------------------------------------------------


def test_every_example_is_of_the_form_it_is_an_example_of() -> None:
    for field in FIELDS:
        for form, text in field.forms:
            assert form_of(field.name, text) == form


def test_mean_p95_and_counts_of_lengths() -> None:
    spread = LengthSpread((1, 2, 2, 3))
    assert (spread.mean, spread.p95) == (2.0, 3)
    assert spread.counts([0.5, 1.5, 2.5, 3.5]) == [1, 2, 1]
    # A length is as wide as one token: a column of half a token has half of it.
    assert spread.counts([1.5, 2.0, 2.5]) == [1, 1]
    assert LengthSpread(tuple(range(1, 101))).p95 == 95
    assert math.isnan(LengthSpread(()).mean)


def test_a_closed_loop_of_fixed_lengths() -> None:
    seen = look(PLAIN)
    assert (seen.prompt.mean, seen.prompt.p95, seen.output.mean) == (100, 100, 50)
    assert (seen.horizon_s, seen.clamped_frac, seen.hit_frac) == (60.0, 0.0, 0.0)
    assert seen.levels(3) == [96, 96, 96]
    assert math.isnan(seen.prompt_tokens_per_s)


def test_the_share_that_is_cut_to_the_longest_sequence() -> None:
    load = Workload(ClosedLoop(1), pairs=((3000, 10, 1.0),))
    seen = look(load)
    assert (seen.clamped_frac, seen.prompt.mean, seen.output.mean) == (1.0, 2047, 1)
    assert math.isnan(look(load, max_model_len=None).clamped_frac)


def test_an_open_loop_offers_its_rate_times_the_mean_of_every_turn() -> None:
    # Two turns: 100 and 250 prompt tokens.
    seen = look(typed(arrivals="8/s", sessions="turns=2 think=5s"))
    assert seen.requests_per_s == 16
    assert (seen.prompt_tokens_per_s, seen.output_tokens_per_s) == (16 * 175, 16 * 50)


def test_curves_are_shown_for_two_periods_or_a_bit_beyond_their_end() -> None:
    bursts = look(typed(arrivals="20/s for 5s, 2 for 10s"))
    assert bursts.horizon_s == 30
    assert bursts.levels(30) == ([20] * 5 + [2] * 10) * 2
    assert bursts.requests_per_s == (20 * 5 + 2 * 10) / 15
    ramp = look(typed(arrivals="0..10/s over 60s"))
    assert ramp.horizon_s == 75
    assert ramp.levels(75)[30] == pytest.approx(30.5 / 6)
    assert ramp.requests_per_s == ramp.levels(75)[-1] == 10
    steps = look(typed(arrivals="4,8,12 each 30s"))
    assert (steps.horizon_s, steps.levels(3)) == (90, [4, 8, 12])
    assert look(typed(arrivals="1..3 over 10s")).levels(2) == [1, 2]


def test_a_trace_says_its_format_times_and_first_lengths(write: Callable[[str], TraceFile]) -> None:
    file = write("".join(MOONCAKE % (n * 500, 600 + n % 2, 10, [1, 2]) for n in range(2100)))
    seen = look(Workload(Recorded(2.0), trace=file))
    assert (seen.trace.format, seen.trace.timed, seen.trace.records) == ("mooncake", True, 2000)
    assert (seen.prompt.mean, seen.output.mean) == (600.5, 10)
    assert (seen.requests_per_s, seen.horizon_s) == (4.0, 1999 / 4)
    assert sum(seen.levels(10)) * seen.horizon_s / 10 == pytest.approx(2000)


def test_a_trace_of_text_is_not_read_and_has_no_times(write: Callable[[str], TraceFile]) -> None:
    file = write(SHAREGPT)
    seen = look(Workload(Poisson(8.0), trace=file))
    assert (seen.trace.format, seen.trace.records, seen.prompt.lengths) == ("sharegpt", 0, ())
    assert preview_rows(seen, 2048, 76, 10)
    with pytest.raises(UsageError, match="no times"):
        look(Workload(Recorded(), trace=file))


@pytest.mark.parametrize(
    "texts",
    [
        {},
        {"arrivals": "0"},
        {"arrivals": "1..20/s over 60s exp", "prompt": "zipf:1.2[1-100000]"},
        {"prompt": "1", "output": "1000000"},
        {"sessions": "turns=1-6 think=5s", "arrivals": "0s=2, 40s=12/s every 120s"},
    ],
)
@pytest.mark.parametrize("size", [(76, 10), (104, 16), (10, 3), (132, 30)])
def test_the_preview_is_drawn_at_any_size(texts: dict[str, str], size: tuple[int, int]) -> None:
    rows = preview_rows(look(typed(**texts)), 2048, *size)
    assert len(rows) == max(size[1], 6)
    assert all(width_of(row) <= max(size[0], 30) for row in rows[:-1])


# -- the screen ----------------------------------------------------------------------------------


class Editing:
    """An open editor: set fields, read what it says."""

    def __init__(self, app: TputApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    @property
    def screen(self) -> Screen[object]:
        return self.app.screen

    @property
    def editor(self) -> LoadEditor:
        return on_screen(self.app, LoadEditor)

    def field(self, name: str) -> Input:
        return self.screen.query_one(f"#{name}", Input)

    def kind(self, name: str) -> Kind:
        return self.screen.query_one(f"#{name}-kind", Kind)

    async def write(self, **texts: str) -> None:
        for name, text in texts.items():
            self.field(name).value = text
        await self.pilot.pause()

    @property
    def says(self) -> str:
        return str(self.screen.query_one("#message", Label).render())

    @property
    def title(self) -> str:
        return str(self.screen.query_one("#preview").border_title)


async def opened(pilot: Pilot[Any]) -> Editing:
    await paint(pilot)
    await pilot.press("l")
    await pilot.pause()
    app = pilot.app
    assert isinstance(app, TputApp)
    editing = Editing(app, pilot)
    on_screen(app, LoadEditor)
    return editing


async def test_what_is_typed_is_applied_by_enter() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await pilot.press(*"12", "slash", "s", "down", *"300", "enter")
        assert app.screen is app._board
        load = app.session.workload
        assert (load.arrivals, load.prompt) == (Poisson(12.0), Fixed(300))
        assert load.output == LogNormal(80, 0.4, 16, 256)
        editing = await opened(pilot)
        assert (editing.field("arrivals").value, editing.kind("prompt").value) == ("12/s", "fixed")


async def test_escape_leaves_everything_as_it_is() -> None:
    app = app_after(5)
    before = app.session.workload
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await editing.write(arrivals="12/s")
        await pilot.press("escape")
        assert app.screen is app._board
        assert app.session.workload is before


async def test_a_kind_is_chosen_from_the_list_and_brings_its_example() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await pilot.press("shift+tab", "enter", "down", "enter")
        await pilot.pause()
        assert editing.field("arrivals").value == "8/s"
        assert editing.kind("arrivals").value == "Poisson"
        # The list is closed again by Esc, the editor is not.
        await pilot.press("enter", "escape")
        on_screen(app, LoadEditor)
        await pilot.press("tab", "enter")
        assert app.session.workload.arrivals == Poisson(8.0)


async def test_turning_the_kind_back_brings_back_what_was_typed() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await pilot.press("shift+tab", "down", "right")
        await pilot.pause()
        assert editing.kind("prompt").has_focus
        assert editing.field("prompt").value == "normal:256±64[16-2048]"
        await pilot.press("left")
        await pilot.pause()
        assert editing.field("prompt").value == "120~0.5[16-512]"
        await pilot.press("left", "left")
        await pilot.pause()
        assert editing.field("prompt").value == "256"


async def test_the_kind_follows_what_is_typed() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        for field in FIELDS:
            for form, text in field.forms:
                if field.name in ("pairs", "trace"):
                    continue
                await editing.write(**{field.name: text})
                assert editing.kind(field.name).value == form
                assert editing.field(field.name).value == text


async def test_what_cannot_be_read_is_said_and_not_applied() -> None:
    app = app_after(5)
    before = app.session.workload
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        assert "gamma(0.5):8/s" in editing.says
        await editing.write(classes="chat share=1 goal=banana=3s")
        assert editing.says.startswith("✗ ")
        assert "banana" in editing.says
        await editing.write(classes="chat share=1 goal=ttft_p99=-5ms")
        assert editing.says.startswith("✗ ")
        await editing.write(classes="none")
        assert not editing.says.startswith("✗ ")
        await editing.write(output="many")
        assert editing.says.startswith("✗ 'many' is not a length in tokens. Write 256 (fixed)")
        assert "valid last" in editing.title
        assert "✗ output tokens" in [str(label.render()) for label in editing.screen.query(Label)]
        await pilot.press("enter")
        on_screen(app, LoadEditor)
        assert app.session.workload is before
        await editing.write(output="20")
        assert "✗" not in editing.says
        editing.editor.look()
        assert editing.title == " preview "
        await editing.write(arrivals="recorded")
        assert "recorded arrivals need a trace" in editing.says


async def test_pairs_take_the_place_of_the_lengths_and_give_it_back() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await editing.write(prompt="77", pairs="100/50=3,800/100=1")
        for name in ("prompt", "output"):
            assert editing.field(name).disabled
            assert editing.field(name).value == ""
            assert "joint lengths" in editing.field(name).placeholder
            assert editing.kind(name).disabled
        # ↓ steps over what is shut.
        await pilot.press("down")
        assert editing.field("pairs").has_focus
        await editing.write(pairs="")
        assert editing.field("prompt").value == "77"
        assert not editing.field("prompt").disabled
        await editing.write(pairs="100/50")
        await pilot.press("enter")
        load = app.session.workload
        assert (load.prompt, load.output, load.pairs) == (None, None, ((100, 50, 1.0),))
        # Opened with pairs, there are lengths to go back to.
        editing = await opened(pilot)
        await editing.write(pairs="none")
        assert (editing.field("prompt").value, editing.field("output").value) == ("256", "128")
        await pilot.press("enter")
        assert app.session.workload.prompt == Fixed(256)


async def test_a_trace_shuts_all_that_it_brings_and_gives_it_back(
    write: Callable[[str], TraceFile],
) -> None:
    file = write(MOONCAKE % (0, 600, 5, [1, 2]) + MOONCAKE % (500, 700, 5, [1, 3]))
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await editing.write(prefix="share=1 tokens=64", sessions="turns=2 think=1s")
        # While half a name is typed, the others stay shut and nothing is applied.
        await editing.write(trace=file.path[:-1])
        editing.editor.look()
        assert "No such file" in editing.says
        await pilot.press("enter")
        on_screen(app, LoadEditor)
        assert "No such file" in editing.says
        await editing.write(trace=file.path)
        for name in ("prompt", "output", "pairs", "prefix", "sessions"):
            assert editing.field(name).disabled
            assert (editing.field(name).value, editing.field(name).placeholder) == (
                "", "as the trace has it",
            )  # fmt: skip
        editing.editor.look()
        assert editing.title == " preview · mooncake trace: 2 records read, with times "
        await editing.write(trace="none")
        assert editing.field("prompt").value == "120~0.5[16-512]"
        assert editing.field("prefix").value == "share=1 tokens=64"
        await editing.write(trace=file.path, arrivals="recorded x2")
        await pilot.press("enter")
        assert app.session.workload == Workload(Recorded(2.0), trace=file)


async def test_a_load_that_is_refused_keeps_the_editor_open(
    write: Callable[[str], TraceFile],
) -> None:
    def refuse(workload: Workload) -> None:
        raise UsageError("The engine is asleep.", "Wake it.")

    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        app.push_screen(LoadEditor(PLAIN, refuse, max_model_len=None, block_size=16))
        await pilot.pause()
        await pilot.press("enter")
        editing = Editing(app, pilot)
        assert editing.says == "✗ The engine is asleep. Wake it."
        await editing.write(arrivals="97")
        assert "asleep" not in editing.says


async def test_the_preview_waits_for_the_typing_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def noted(workload: Workload, **limits: Any) -> Preview:
        made.append(workload)
        return preview(workload, **limits)

    monkeypatch.setattr("tputtui.ui.screens.load.preview", noted)
    monkeypatch.setattr("tputtui.ui.screens.load._QUIET_S", 3600.0)
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        assert len(made) == 1
        for arrivals in ("1", "12", "12/", "12/s"):
            await editing.write(arrivals=arrivals)
        assert len(made) == 1
        # As it was: there is nothing to wait for.
        await editing.write(arrivals="96")
        assert editing.editor._timer is None


async def test_it_opens_before_an_engine_is_up() -> None:
    app = app_after(0)
    async with app.run_test(size=(80, 24)) as pilot:
        await opened(pilot)
        await pilot.press(*"12", "enter")
        assert app.session.workload.arrivals == ClosedLoop(12)


async def test_nothing_is_hidden_on_the_smallest_screen() -> None:
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        box = editing.screen.query_one("#box")
        assert not box.allow_vertical_scroll
        for widget in editing.screen.query("Input, Kind, #message, #preview"):
            assert box.region.contains_region(widget.region)
        assert editing.screen.query_one("#preview").size.height >= 8


# -- pictures ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_editor(snap_compare: SnapCompare, size: tuple[int, int]) -> None:
    async def edit(pilot: Pilot[Any]) -> None:
        editing = await opened(pilot)
        await editing.write(
            arrivals="0s=2, 40s=12, 80s=4/s every 120s",
            output="zipf:1.2[1-2048]",
            prefix="share=0.8 tokens=128 groups=16 zipf=1",
            sessions="turns=1-6 think=5s",
        )
        editing.editor.look()
        await pilot.pause()

    assert snap_compare(app_after(30), terminal_size=size, run_before=edit)


@pytest.mark.parametrize("theme", ["dark", pytest.param("light", marks=pytest.mark.long)])
def test_the_editor_with_what_was_refused(snap_compare: SnapCompare, theme: str) -> None:
    async def edit(pilot: Pilot[Any]) -> None:
        editing = await opened(pilot)
        await editing.write(arrivals="many", pairs="100/50=3,800/100=1")

    app = app_after(30)
    app.theme = theme
    assert snap_compare(app, terminal_size=(80, 24), run_before=edit)


def test_a_long_hint_takes_rows_from_the_preview(snap_compare: SnapCompare) -> None:
    async def edit(pilot: Pilot[Any]) -> None:
        editing = await opened(pilot)
        await editing.write(trace="/traces/azure-2023-conv.csv")
        editing.editor.look()
        await pilot.pause()

    assert snap_compare(app_after(30), terminal_size=(80, 24), run_before=edit)


def test_the_editor_with_a_list_of_kinds(snap_compare: SnapCompare) -> None:
    async def edit(pilot: Pilot[Any]) -> None:
        await opened(pilot)
        await pilot.press("shift+tab", "enter")
        await pilot.pause()

    assert snap_compare(app_after(30), terminal_size=(80, 24), run_before=edit)


async def test_real_requests_shut_the_rest_and_say_what_their_file_holds(tmp_path: Path) -> None:
    line = '{"startTime": %d, "messages": [{"role": "user", "content": "x"}], "max_tokens": %d}\n'
    path = tmp_path / "log.jsonl"
    path.write_text("".join(line % (at, 10 + at) for at in range(30)) + "{\n")
    app = app_after(5)
    async with app.run_test(size=(80, 24)) as pilot:
        editing = await opened(pilot)
        await editing.write(requests=str(path))
        assert editing.field("prompt").placeholder == "as the real requests have it"
        assert editing.field("trace").disabled
        editing.editor.look()
        assert editing.title == (
            " preview · gateway log: 30 records read, with times, 1 line not usable "
        )
        await pilot.press("enter")
        assert "real prompts need a tokenizer" in editing.says
        await editing.write(requests=f"{path} tokenizer={tmp_path}", arrivals="recorded x2")
        await pilot.press("enter")
        file = RequestFile(str(path), tokenizer=str(tmp_path))
        assert app.session.workload == Workload(Recorded(2.0), requests=file)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_the_editor_with_real_requests(
    snap_compare: SnapCompare, size: tuple[int, int], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = '{"custom_id": "a", "body": {"messages": [%s], "max_tokens": %d}}\n'
    message = '{"role": "user", "content": "x"}'
    texts = [line % (message, 20 + at % 9 * 13) for at in range(50)]
    Path("batch.jsonl").write_text("".join(texts))

    async def edit(pilot: Pilot[None]) -> None:
        editing = await opened(pilot)
        await editing.write(requests="batch.jsonl temperature=0.7", arrivals="4/s")
        editing.field("requests").focus()
        editing.editor.look()
        await pilot.pause()

    assert snap_compare(app_after(30), terminal_size=size, run_before=edit)

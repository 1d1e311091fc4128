"""The engine form: finding, editing, refusing, looking at what changes, booting, stepping back."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot
from textual.widgets import Input

from tests.test_screen import SIZES
from tputtui.engine.protocol import Argument
from tputtui.engine.resolved import Resolved
from tputtui.errors import UsageError
from tputtui.profile import EngineValue
from tputtui.ui.app import TputApp
from tputtui.ui.canvas import Canvas
from tputtui.ui.draft import ArgumentDraft
from tputtui.ui.screens.engine import EngineForm
from tputtui.ui.theme import THEMES

_MANY = tuple(Argument(f"filler_{n:03}", "whole", "0", "", "LoadConfig") for n in range(200))
ARGUMENTS = (
    Argument("quiet", "switch", "off", "Say less.", "options", ("on",)),
    Argument("dtype", "choice", "auto", "Data type for weights. " * 20, "ModelConfig",
             ("auto", "bfloat16", "float16", "float32")),
    Argument("quantization", "text", "", "Method used for the weights.", "ModelConfig",
             ("awq", "fp8", "gptq")),
    Argument("enforce_eager", "switch", "off", "No CUDA graphs.", "ModelConfig", ("on", "off")),
    Argument("hf_overrides", "text", "{}", "Goes to the model's config.", "ModelConfig"),
    Argument("async_scheduling", "switch", "", "Avoids gaps.", "SchedulerConfig", ("on", "off")),
    Argument("max_num_seqs", "whole", "", "Sequences in an iteration.", "SchedulerConfig"),
    Argument("max_num_batched_tokens", "whole", "", "Tokens in a step.", "SchedulerConfig"),
    Argument("tensor_parallel_size", "whole", "1", "Groups. Also -tp.", "ParallelConfig"),
    Argument("gpu_memory_utilization", "number", "0.92", "A share.", "CacheConfig"),
    Argument("cudagraph_capture_sizes", "text", "", "Sizes.", "CompilationConfig"),
    *_MANY,
)  # fmt: skip
CURRENT: dict[str, EngineValue] = {
    "max_num_seqs": 256,
    "dtype": "float32",
    "-cc": {"mode": 0},
    "seed": None,
}
COST = "The load pauses for about 9 s (the last boot took 8.6 s)."


class FormApp(App[None]):
    """The form alone, over a screen with the program's looks."""

    CSS_PATH = TputApp.CSS_PATH
    get_theme_variable_defaults = TputApp.get_theme_variable_defaults

    def __init__(self, **options: Any) -> None:
        super().__init__()
        for own in THEMES:
            self.register_theme(own)
        self.theme = "dark"
        self.animation_level = "none"
        self.used: list[dict[str, EngineValue]] = []
        options.setdefault("use", self.used.append)
        self.form = EngineForm(ARGUMENTS, CURRENT, COST, **options)

    def on_mount(self) -> None:
        self.push_screen(self.form)

    @property
    def closed(self) -> bool:
        return self.screen is not self.form


class Form:
    """An open form: press keys, read what it shows."""

    def __init__(self, app: FormApp, pilot: Pilot[Any]) -> None:
        self.app, self.pilot = app, pilot

    async def press(self, *keys: str) -> None:
        """Keys by name; a text in angle brackets is typed."""
        for key in keys:
            if key.startswith("<"):
                await self.pilot.press(key[1])
                field = self.app.form.focused
                assert isinstance(field, Input)
                field.insert_text_at_cursor(key[2:-1])
                await self.pilot.pause()
            else:
                await self.pilot.press(key)
        await self.pilot.pause()

    def rows(self, which: str) -> list[str]:
        canvas = self.app.form.query_one(which, Canvas)
        return [
            "".join(segment.text for segment in canvas.render_line(y)).rstrip()
            for y in range(canvas.size.height)
        ]

    @property
    def here(self) -> list[str]:
        (row,) = (row for row in self.rows("ArgumentList") if row.startswith("▸"))
        return row.rstrip("│┃ ")[2:].split(maxsplit=1)

    @property
    def listed(self) -> list[str]:
        rows = [row.rstrip("│┃ ")[2:] for row in self.rows("ArgumentList")]
        return [row.split()[0] for row in rows if row and "  " in row]

    @property
    def about(self) -> str:
        return " ".join(" ".join(self.rows("#about")).split())

    @property
    def views(self) -> list[str]:
        return " ".join(self.rows("#views")).split()


@pytest.fixture
def opened() -> Callable[..., contextlib.AbstractAsyncContextManager[Form]]:
    """Opens the form at a size, with the constructor's options."""

    @contextlib.asynccontextmanager
    async def opened(size: tuple[int, int] = (80, 24), **options: Any) -> AsyncIterator[Form]:
        app = FormApp(**options)
        async with app.run_test(size=size) as pilot:
            await pilot.pause()
            yield Form(app, pilot)

    return opened


# -- the draft -----------------------------------------------------------------------------------


def found(words: str, view: str = "all") -> list[str]:
    entries = ArgumentDraft(ARGUMENTS, CURRENT).entries(view, words)
    return [entry if isinstance(entry, str) else entry.name for entry in entries]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("max_num_seqs", ["max_num_seqs"]),
        ("--max-num-seqs", ["max_num_seqs"]),
        ("num tok", ["max_num_batched_tokens"]),
        ("tps", ["tensor_parallel_size"]),
        ("-tp", ["tensor_parallel_size"]),
        ("weights", ["in the help", "dtype", "quantization"]),
        ("quantisation", ["quantization"]),
        ("xyzzy", []),
    ],
)
def test_words_are_found_in_names_by_initials_in_the_help_or_nearly_spelt(
    words: str, names: list[str]
) -> None:
    assert found(words) == names


def test_what_decides_throughput_stands_first_and_other_spellings_last() -> None:
    names = found("")
    assert names[:3] == ["SchedulerConfig", "async_scheduling", "max_num_seqs"]
    assert names[-4:] == ["options", "quiet", "given otherwise", "-cc"]


def test_a_value_is_put_reset_and_given_back_exactly() -> None:
    draft = ArgumentDraft(ARGUMENTS, CURRENT)
    of = draft.arguments
    draft.put(of["max_num_seqs"], "256")
    draft.put(of["tensor_parallel_size"], "1")
    assert draft.args == CURRENT
    assert draft.changes() == []
    draft.put(of["dtype"], "auto")
    draft.reset(of["max_num_seqs"])
    draft.put(of["cudagraph_capture_sizes"], "1 2 4")
    assert draft.args == {
        "-cc": {"mode": 0}, "seed": None, "dtype": "auto", "cudagraph_capture_sizes": [1, 2, 4],
    }  # fmt: skip
    assert draft.summary() == (
        "max_num_seqs 256 → default, cudagraph_capture_sizes unset → 1 2 4, dtype float32 → auto"
    )
    draft.reset(of["max_num_seqs"])
    assert draft.args["max_num_seqs"] == 256


# -- the form ------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES[::2], ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_kind_is_edited_and_use_gets_the_whole_mapping(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
    size: tuple[int, int],
) -> None:
    async with opened(size) as form:
        await form.press("<max_num_s>", "enter", "<512>", "enter")
        assert form.here == ["max_num_seqs", "256 → 512"]
        await form.press("<dtype>", "enter", "<bf>", "enter")
        assert form.here == ["dtype", "float32 → bfloat16"]
        await form.press("<eager>", "enter")
        assert form.here == ["enforce_eager", "off → on"]
        await form.press("<util>", "enter", "<0.5>", "enter")
        await form.press("<capture>", "enter", "<1 2 4>", "enter")
        await form.press("<overr>", "enter", '<{"a": 1}>', "enter")
        await form.press("<-cc>", "enter")
        assert not form.app.used
        await form.press("escape", "f5")
        assert form.views == ["all", "212", "given", "7", "[changed", "6]"]
        assert "Boot with 6 changes?" in form.about
        assert form.app.form.focused is form.app.form._list
        await form.press("f5")
        assert form.app.closed
        assert form.app.used == [
            {
                "max_num_seqs": 512, "dtype": "bfloat16", "-cc": {"mode": 0}, "seed": None,
                "enforce_eager": True, "gpu_memory_utilization": 0.5,
                "cudagraph_capture_sizes": [1, 2, 4], "hf_overrides": {"a": 1},
            }
        ]  # fmt: skip


async def test_a_boot_says_what_changes_and_costs_and_can_be_stepped_back_from(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("f5")
        assert "Nothing is changed" in form.about
        await form.press("<dtype>", "enter", "<bf>", "enter", "f5")
        assert "Boot with 1 change? dtype float32 → bfloat16 " + COST in form.about
        await form.press("escape")
        assert form.views[0] == "[all"
        assert form.here[0] == "dtype"
        await form.press("f5", "enter")
        assert [args["dtype"] for args in form.app.used] == ["bfloat16"]


async def test_a_bad_value_stays_in_the_editor_and_says_why(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("<max_num_s>", "enter", "<many>", "enter")
        assert "max_num_seqs: 'many' is not a whole number. Such as 256" in form.about
        await form.press("f5")
        assert "✗" in form.about
        assert form.app.form.focused is form.app.form._editor
        await form.press("home", "1")
        assert "✗" not in form.about
        await form.press("escape")
        assert form.here == ["max_num_seqs", "256"]


async def test_switches_and_choices_are_turned_in_place(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        assert form.here == ["async_scheduling", "—"]
        seen = []
        for key in ("enter", "space", "right", "left"):
            await form.press(key)
            seen.append(form.here[1])
        assert seen == ["— → on", "— → off", "—", "— → off"]
        await form.press("<dtype>", "down", "up", "right")
        assert form.here == ["dtype", "float32 → auto"]
        await form.press("left", "left")
        assert form.here == ["dtype", "float32 → float16"]


async def test_known_values_are_stepped_through_while_editing(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("<quanti>", "enter", "down", "down")
        assert form.app.form._editor.value == "fp8"
        assert "▸fp8" in form.about
        await form.press("enter")
        assert form.here == ["quantization", "— → fp8"]


@pytest.mark.parametrize("key", ["delete", "backspace"])
async def test_a_row_is_reset_to_the_default_and_back(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]], key: str
) -> None:
    async with opened() as form:
        await form.press("<max_num_s>", "down", "up", key)
        assert form.here == ["max_num_seqs", "256 → default"]
        await form.press(key)
        assert form.here == ["max_num_seqs", "256"]


async def test_the_views_show_what_is_given_and_what_is_changed(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("<util>", "enter", "<0.5>", "enter", "escape", "tab")
        assert form.views == ["all", "212", "[given", "4]", "changed", "1"]
        assert form.listed == ["max_num_seqs", "gpu_memory_utilization", "dtype", "-cc"]
        await form.press("tab")
        assert form.listed == ["gpu_memory_utilization"]
        # A change taken back is gone from the list, and another row is chosen, if there is one.
        await form.press("delete")
        assert form.listed == []
        await form.press("shift+tab")
        assert form.listed == ["max_num_seqs", "dtype", "-cc"]


async def test_escape_steps_back_from_the_editor_the_filter_and_the_form(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("<dtype>", "enter", "<bf>")
        await form.press("escape")
        assert form.here == ["dtype", "float32"]
        assert form.app.form._filter.value == "dtype"
        await form.press("escape")
        assert form.app.form._filter.value == ""
        assert form.here == ["dtype", "float32"]
        assert form.app.form.focused is form.app.form._list
        await form.press("escape")
        assert form.app.closed
        assert form.app._exit is False
        assert form.app.used == []


async def test_leaving_with_changes_asks_once(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("enter", "escape")
        assert "F5 boots with 1 change. Esc again drops it." in form.about
        await form.press("down", "escape")
        assert not form.app.closed
        await form.press("escape")
        assert form.app.closed
        assert form.app.used == []


async def test_presets_stand_there_as_if_typed_and_need_no_asking(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened(preset={"max_num_seqs": "512"}) as form:
        assert form.here == ["max_num_seqs", "256 → 512"]
        assert form.views[-1] == "1"
        await form.press("escape")
        assert form.app.closed


@pytest.mark.parametrize("by", ["check", "use"])
async def test_a_refusal_keeps_the_form_open_on_the_argument_it_names(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]], by: str
) -> None:
    def refuse(args: dict[str, EngineValue]) -> None:
        if args["max_num_seqs"] == 1:
            raise UsageError("vLLM refuses the flags: argument --dtype: no.", "Try another.")
        used.append(args)

    used: list[dict[str, EngineValue]] = []
    async with opened(**{"use": used.append, by: refuse}) as form:
        await form.press("<max_num_s>", "enter", "<1>", "enter", "f5", "f5")
        assert not form.app.closed
        assert "✗ vLLM refuses the flags: argument --dtype: no. Try another." in form.about
        assert form.here[0] == "dtype"
        assert used == []
        await form.press("<max_num_s>", "enter", "<2>", "enter", "f5", "f5")
        assert form.app.closed
        assert used[-1]["max_num_seqs"] == 2


async def test_the_list_is_walked_by_pages_and_to_its_ends(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("end")
        assert form.here[0] == "-cc"
        await form.press("home")
        assert form.here[0] == "async_scheduling"
        assert form.rows("ArgumentList")[0].startswith("SchedulerConfig")
        await form.press("pagedown", "pagedown", "pageup")
        assert form.here[0] == form.listed[-1] or form.here[0] in form.listed
        await form.press("home", "up")
        assert form.here[0] == "async_scheduling"


async def test_a_click_chooses_and_a_second_one_edits(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.pilot.click("ArgumentList", offset=(5, 2))
        await form.pilot.pause()
        assert form.here == ["max_num_seqs", "256"]
        await form.pilot.click("ArgumentList", offset=(5, 2), times=2)
        await form.pilot.pause()
        editor = form.app.form._editor
        assert editor.has_focus
        assert editor.value == "256"
        # It stands over the value, in the row of its argument.
        assert editor.region.y == form.app.form._list.region.y + 2


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
async def test_every_row_is_as_wide_as_the_list_and_no_word_is_cut(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
    size: tuple[int, int],
) -> None:
    async with opened(size) as form:
        for keys in ([], ["<e>"], ["down", "down"], ["escape", "tab"], ["tab"]):
            await form.press(*keys)
            for which in ("ArgumentList", "#about"):
                canvas = form.app.form.query_one(which, Canvas)
                widths = {canvas.render_line(y).cell_length for y in range(canvas.size.height)}
                assert widths == {canvas.size.width}
        await form.press("tab", "<dtype>")
        help = [row for row in form.rows("#about") if "Data type" in row or "weights" in row]
        words = {word for row in help for word in row.split()}
        assert words <= {*ARGUMENTS[1].help.split(), "…"}


async def test_nothing_matching_is_said_and_nothing_breaks(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened() as form:
        await form.press("<xyzzy>", "enter", "f5", "delete", "down", "right", "delete")
        assert "Nothing here has that" in " ".join(form.rows("ArgumentList"))
        await form.press("escape", "slash")
        assert form.app.form._filter.has_focus
        await form.press("escape", "escape")
        assert form.app.closed


async def test_a_resize_between_layouts_paints_anew(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]],
) -> None:
    async with opened((80, 24)) as form:
        await form.press("<dtype>", "enter")
        for size in SIZES[::-1]:
            await form.pilot.resize_terminal(*size)
            await form.pilot.pause()
            assert "Data type for weights." in form.about
            canvas = form.app.form._list
            assert {canvas.render_line(y).cell_length for y in range(canvas.size.height)} == {
                canvas.size.width
            }


# -- what a boot came to -------------------------------------------------------------------------

CAME = (
    Resolved("max_num_seqs", "256", "256"),
    Resolved("async_scheduling", "on", "off", "Async scheduling will be disabled", warns=True),
    Resolved("dtype", "", "bfloat16"),
    Resolved("compilation_config.cudagraph_mode", None, "FULL_AND_PIECEWISE"),
)


@pytest.mark.parametrize("size", SIZES)
async def test_what_the_boot_was_asked_for_and_got_is_a_view_of_its_own(
    opened: Callable[..., contextlib.AbstractAsyncContextManager[Form]], size: tuple[int, int]
) -> None:
    async with opened(size, resolved=CAME) as form:
        await form.press("shift+tab")
        assert form.views[-2:] == ["[got", "4]"]
        rows = " ".join(" ".join(form.rows("ArgumentList")).split())
        assert "async_scheduling on → off" in rows
        assert "dtype left → bfloat16" in rows
        assert "max_num_seqs 256 " in rows
        assert "compilation_config.cudagraph_mode FULL" in rows
        await form.press("<async>")
        assert form.here == ["async_scheduling", "on → off"]
        assert "This boot: off, asked on. vLLM: Async scheduling will be disabled." in form.about
        # Also beside the value that is edited, in every view.
        await form.press("escape", "tab", "<async>", "enter")
        assert form.here == ["async_scheduling", "— → on"]
        assert "This boot: off, asked on." in form.about

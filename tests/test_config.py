"""Settings: flag over environment over profile over config file; keys; what is wrong in one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.test_screen import app_after
from tputtui import cli
from tputtui.cli.settings import OPTIONS, Option, resolved
from tputtui.cli.user_config import read_config
from tputtui.errors import UsageError
from tputtui.ui.app import TputApp
from tputtui.ui.keys import bound, check_keys, listed_of

SOURCES = ("flag", "environment", "profile", "config")
SWITCHES = [setting for setting in OPTIONS if setting.switch]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for setting in OPTIONS:
        monkeypatch.delenv(setting.variable, raising=False)
    monkeypatch.delenv("TPUTTUI_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "tputtui").mkdir()
    return tmp_path


def write(home: Path, text: str) -> None:
    (home / "tputtui" / "config.yaml").write_text(text)


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, tuple[Any, str]]:
    """`config show` as name → (value, source)."""
    assert cli.main(["config", "show", "--format", "json", *words]) == 0
    found = json.loads(capsys.readouterr().out)
    return {name: (row["value"], row["source"]) for name, row in found["settings"].items()}


@given(st.sampled_from([s for s in OPTIONS if not s.switch]), st.sets(st.sampled_from(SOURCES)))
def test_the_first_source_that_says_something_wins(setting: Option, sources: set[str]) -> None:
    said = {name: {setting.name: f"from the {name}"} for name in SOURCES if name in sources}
    environ = {setting.variable: said["environment"][setting.name]} if "environment" in said else {}
    found = resolved(
        said.get("flag", {}), environ, said.get("profile", {}), said.get("config", {})
    )[setting.name]
    first = next((name for name in SOURCES if name in sources), "default")
    assert found.source == first
    assert found.text == (f"from the {first}" if first != "default" else setting.default)


@pytest.mark.parametrize("setting", SWITCHES, ids=lambda s: s.name)
def test_switches_take_the_usual_words_and_no_others(setting: Option) -> None:
    for text, on in (("1", True), ("YES", True), ("off", False), ("0", False), ("false", False)):
        assert resolved({}, {setting.variable: text}, {}, {})[setting.name].on is on
    with pytest.raises(ValueError, match="neither on nor off"):
        resolved({}, {setting.variable: "maybe"}, {}, {})


def test_precedence_from_end_to_end_is_shown(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, "theme: light\ngoal: ttft_p90=9s\nprice_per_hour: 4\nguard: kv=0.9\n")
    found = shown(capsys)
    assert found["theme"] == ("light", "config")
    assert found["goal"] == ("ttft_p90=9s", "config")
    assert found["price_per_hour"] == ("4.0", "config")
    assert found["record"] == ("on", "default")
    assert found["load"] == ("96 in flight", "default")
    # A profile that says its goals.
    found = shown(capsys, "--profile", "chat")
    assert found["goal"] == ("ttft_p99=500ms,tpot_p99=50ms", "profile")
    assert found["load"] == ("8/s", "profile")
    assert found["price_per_hour"] == ("4.0", "config")
    monkeypatch.setenv("TPUTTUI_GOAL", "e2e_p50=1s")
    monkeypatch.setenv("TPUTTUI_LOAD", "3/s")
    found = shown(capsys, "--profile", "chat")
    assert found["goal"] == ("e2e_p50=1s", "environment")
    assert found["load"] == ("3/s", "environment")
    found = shown(capsys, "--profile", "chat", "--goal", "tpot_p50=1s", "--theme", "dark")
    assert found["goal"] == ("tpot_p50=1s", "flag")
    assert found["theme"] == ("dark", "flag")


def test_engine_arguments_of_the_config_lie_below_those_of_a_profile(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, "engine: {max-num-seqs: 7, gpu_memory_utilization: 0.8}\n")
    found = shown(capsys, "--profile", "chat", "--seed", "3")
    assert found["engine.max_num_seqs"] == ("512", "profile")
    assert found["engine.gpu_memory_utilization"] == ("0.8", "config")
    assert found["engine.seed"] == ("3", "flag")


def test_a_ceiling_on_the_command_line_lowers_a_profiles_limit(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(capsys, "--profile", "chat", "--max-num-seqs", "64")
    assert "max_num_seqs=64," in found["limit"][0]


def started(capsys: pytest.CaptureFixture[str], *words: str, name: str = "max_num_seqs") -> str:
    limits: str = shown(capsys, *words)["limit"][0]
    return dict(each.split("=") for each in limits.split(","))[name]


def test_limits_are_read_by_their_former_name_everywhere(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, "knob: max_num_seqs=60\n")
    assert started(capsys) == "60"
    monkeypatch.setenv("TPUTTUI_KNOB", "max_num_seqs=50")
    assert started(capsys) == "50"
    monkeypatch.setenv("TPUTTUI_LIMIT", "max_num_seqs=40")
    assert started(capsys) == "40"
    words = ("--knob", "max_num_seqs=30", "--limit", "max_num_batched_tokens=512")
    assert started(capsys, *words) == "30"
    assert started(capsys, *words, name="max_num_batched_tokens") == "512"


def test_a_limit_under_both_names_in_the_config_is_refused(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, "knob: max_num_seqs=60\nlimit: max_num_seqs=50\n")
    assert cli.main(["config", "show"]) == 2
    assert "limit stands twice" in capsys.readouterr().err


def test_a_profile_named_in_the_config_is_started_from(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, "profile: rag\n")
    found = shown(capsys)
    assert found["profile"] == ("rag", "config")
    assert found["load"] == ("1.5/s", "profile")


def test_the_table_names_the_file_and_every_setting(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(home, "keys: {undo: z}\n")
    assert cli.main(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert str(home / "tputtui" / "config.yaml") in text
    for setting in OPTIONS:
        assert f"\n{setting.name} " in text
    assert "keys.undo" in text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("thme: dark", "`theme`"),
        ("theme: 3", "no theme called '3'"),
        ("theme: {a: 1}", "theme: expected a text"),
        ("record: 3", "record: expected true or false"),
        ("record: maybe", "record: expected true or false"),
        ("theme: true", "theme: expected a text"),
        ("keys: [a]", "keys: expected keys and values"),
        ("keys: {undoo: z}", "`undo`"),
        ("keys: {undo: U}", "would be both"),
        ("keys: {undo: ''}", "undo has no key"),
        ("- a", "keys and values at the top"),
        ("a: [", "not readable as YAML"),
        ("goal: soon", "'soon' is not a goal"),
        ("metrics_port: 99999", "is not a port"),
        ("engine: 3", "engine: expected keys and values"),
    ],
)
def test_what_is_wrong_in_it_is_a_sentence_and_code_2(
    home: Path, capsys: pytest.CaptureFixture[str], text: str, says: str
) -> None:
    write(home, text)
    assert cli.main(["config", "show"]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.startswith("tputtui: ")


def test_init_writes_a_file_that_says_nothing_yet_and_keeps_an_existing_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["config", "init"]) == 0
    path = home / "tputtui" / "config.yaml"
    assert capsys.readouterr().out.strip() == str(path)
    assert read_config().values == {}
    # Everything it shows as an example can be used.
    lines = path.read_text().splitlines()[3:]
    path.write_text("\n".join(line.removeprefix("# ") for line in lines if line))
    assert read_config().values["theme"] == "dark"
    assert read_config().keys == {"undo": "z"}
    assert cli.main(["config", "init"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["config", "path"]) == 0
    assert capsys.readouterr().out.strip() == str(path)


def test_a_file_named_in_the_environment_must_be_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TPUTTUI_CONFIG", str(home / "gone.yaml"))
    with pytest.raises(UsageError, match="No such file"):
        read_config()


def test_the_flags_of_a_run_are_the_settings() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tputtui", "--help"], capture_output=True, text=True, check=True
    )
    for setting in OPTIONS:
        assert f"{setting.flag}" in done.stdout


# -- keys ----------------------------------------------------------------------------------------


def test_every_key_of_the_board_has_a_name_of_its_own() -> None:
    names = [binding.id for binding in bound().values()]
    assert len(names) == len(set(names))
    check_keys({})
    # Two that change places clash with nothing.
    check_keys({"undo": "s", "save": "u"})


async def test_a_remapped_key_does_it_and_the_old_one_does_not() -> None:
    rig_app = app_after(6.0, turn=("max_num_seqs", 32))
    app = TputApp(rig_app.session, start=lambda: None, keys={"undo": "z", "limit.halve": "f9"})
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        await pilot.press("u")
        assert app.session.steer.limits.asked("max_num_seqs") == 32
        await pilot.press("z")
        assert app.session.steer.limits.asked("max_num_seqs") == 64
        await pilot.press("left_square_bracket")
        assert app.session.steer.limits.asked("max_num_seqs") == 64
        await pilot.press("f9")
        assert app.session.steer.limits.asked("max_num_seqs") == 32


def test_help_shows_the_keys_as_they_are() -> None:
    from tputtui.ui.board import Board

    told = dict((what, key) for key, what in listed_of(Board.BINDINGS, {"undo": "ctrl+z"}))
    assert told["Undo the last change of a limit or of the load"] in ("^z", "Ctrl+Z", "ctrl+z")
    plain = dict((what, key) for key, what in listed_of(Board.BINDINGS))
    assert plain["Undo the last change of a limit or of the load"] == "u"


# -- completion and help -------------------------------------------------------------------------


def completed(line: str, home: Path) -> list[str]:
    """What the program answers a shell."""
    env = os.environ | {
        "COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9", "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(home / "answer"), "XDG_STATE_HOME": str(home),
    }  # fmt: skip
    (home / "answer").write_text("")
    subprocess.run([sys.executable, "-m", "tputtui"], env=env, check=True, capture_output=True)
    return [word.strip() for word in (home / "answer").read_text().split("\n") if word.strip()]


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("tputtui be", {"bench"}),
        ("tputtui shape:q", {"shape:qwen3-8b"}),
        ("tputtui --max-num-s", {"--max-num-seqs"}),
        ("tputtui --prof", {"--profile"}),
        ("tputtui --profile ch", {"chat"}),
        ("tputtui --theme ", {"dark", "light", "terminal"}),
        ("tputtui --limit max_m", {"max_model_len="}),
        ("tputtui bench --format ", {"table", "json", "jsonl", "csv"}),
        ("tputtui bench shape:demo --max-model", {"--max-model-len"}),
        ("tputtui profiles ", {"list", "show", "diff", "validate", "export", "schema"}),
        ("tputtui profiles show r", {"rag"}),
        ("tputtui profiles export chat --format ", {"vllm", "command", "env", "compose", "k8s"}),
        ("tputtui verify ba", {"batch"}),
        ("tputtui tune --max-num-seqs 64 ch", {"chat"}),
        ("tputtui replay la", {"last"}),
        ("tputtui config sh", {"show"}),
        ("tputtui completion z", {"zsh"}),
        ("tputtui help exi", {"exit-codes"}),
    ],
)
def test_completions(home: Path, line: str, among: set[str]) -> None:
    assert among <= set(completed(line, home))


def test_completions_of_a_run_are_those_that_were_recorded(home: Path) -> None:
    folder = home / "tputtui" / "sessions"
    folder.mkdir(parents=True)
    (folder / "20260101-000000-1.jsonl.zst").touch()
    assert str(folder / "20260101-000000-1.jsonl.zst") in completed("tputtui replay ", home)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    text = capsys.readouterr().out
    assert "tputtui" in text
    assert {"bash": "complete ", "zsh": "compdef", "fish": "complete --command"}[shell] in text


def test_every_topic_has_a_text_and_an_unknown_one_a_hint(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tputtui.cli.help import TOPICS

    assert cli.main(["help"]) == 0
    overview = capsys.readouterr().out
    for topic in TOPICS:
        assert f"  {topic} " in overview
        assert cli.main(["help", topic]) == 0
        text = capsys.readouterr().out
        assert text.startswith(f"{topic}: ")
        assert len(text.splitlines()) > 3
        # A word that cannot be broken may stand alone.
        assert all(len(line) <= 100 or " " not in line.strip() for line in text.splitlines())
    assert cli.main(["help", "gaols"]) == 2
    assert "`goals`" in capsys.readouterr().err


def test_exit_codes_that_are_documented_are_those_of_the_errors() -> None:
    from tputtui.cli.help import TOPICS
    from tputtui.errors import EngineError, TputError

    text = TOPICS["exit-codes"][1]()
    kinds: list[type[TputError]] = [TputError, *TputError.__subclasses__(), EngineError]
    for kind in kinds[1:]:
        assert f"\n  {kind.exit_code} " in text


def test_real_requests_are_a_setting_like_any_other(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "batch.jsonl"
    file.write_text('{"messages": [{"role": "user", "content": "hello"}]}\n')
    words = ("shape:demo", "--requests", f"{file} tokenizer={tmp_path}")
    found = shown(capsys, *words, "--force-lengths", "--sampling", "temperature=0.5")
    served = f"{file} force-lengths temperature=0.5 tokenizer={tmp_path}"
    assert found["requests"] == (served, "flag")
    assert found["force_lengths"] == ("on", "flag")
    assert cli.main(["config", "show", "shape:demo", "--force-lengths"]) == 2
    assert "--force-lengths is for real prompts" in capsys.readouterr().err
    assert cli.main(["config", "show", *words, "--sampling", "temperature=hot"]) == 2
    assert "temperature is no number" in capsys.readouterr().err
    assert cli.main(["config", "show", "shape:demo", "--requests", str(file)]) == 2
    assert "real prompts need a tokenizer" in capsys.readouterr().err
    assert cli.main(["config", "show", *words, "--load", "recorded"]) == 2
    assert "has no times to replay" in capsys.readouterr().err
    # A pasted line's own template is the one that the prompts are made by.
    pasted = ("--requests", f"{file} tokenizer={tmp_path}", "vllm", "serve", "shape:demo")
    found = shown(capsys, *pasted, "--chat-template", "chat.jinja")
    assert str(found["requests"][0]).endswith("chat-template=chat.jinja")
    # In the config file they wait for a load of real requests.
    write(home, "sampling: temperature=0.5\n")
    assert cli.main(["config", "show", "shape:demo"]) == 0

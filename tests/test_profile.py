"""Profiles: what is written is read back, and every mistake is told in one sentence."""

from pathlib import Path
from typing import Literal

import pytest

from tputtui import profile
from tputtui.errors import ProfileError
from tputtui.load.lengths import Fixed, LogNormal, Uniform
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.evidence import Evidence, Figure, Machine, Measured, MeasuredWindow, Model


def evidence_of(
    state: Literal["tuned live", "verified"] = "tuned live", **values: float
) -> Evidence:
    """Evidence with these figures."""
    figures = {name: Figure(value, 0.9 * value, 1.1 * value, 60) for name, value in values.items()}
    found = Measured(
        date="2026-11-25T14:00:00+00:00", window=MeasuredWindow("steady", 60.0, 812),
        figures=figures,
        knobs={"max_num_seqs": 64, "enable_prefix_caching": True}, ceilings={"max_num_seqs": 256},
        load="96 in flight · prompt 1-3", seed=7, model=Model("m", config_sha256="ab12"),
        machine=Machine("cpu", [], "", {"vllm": "0.32.0"}),
    )  # fmt: skip
    return Evidence(state, tuned=found)


def test_a_saved_profile_reads_back_the_same(tmp_path: Path) -> None:
    saved = Profile(
        engine=EngineSpec("shape:demo", {"max_num_seqs": 256, "enforce_eager": True}),
        load=Workload(Poisson(2.5), LogNormal(200, 0.5, 16, 900), Uniform(4, 9), seed=17),
        knobs={"max_num_seqs": 48},
        about="Tuned on Tuesday: 20 % better",
        evidence=evidence_of(tokens_per_s=123.4),
    )
    path = profile.save(saved, tmp_path / "new folder" / "tuned.yaml")
    assert profile.load(path) == saved


def test_shipped_profiles_are_at_least_four_and_each_says_what_it_models() -> None:
    shipped = profile.shipped()
    assert {"demo", "chat", "rag", "batch"} <= set(shipped)
    for path in shipped.values():
        assert path.read_text().startswith("# ")
        assert "odels" in path.read_text().partition("tputtui:")[0]
        loaded = profile.load(path)
        assert loaded.about
        assert loaded.knobs


def test_saving_never_overwrites_silently(tmp_path: Path) -> None:
    mine = tmp_path / "a.yaml"
    mine.write_text("mine")
    new = Profile(EngineSpec("m"))
    with pytest.raises(ProfileError, match="exists already"):
        profile.save(new, mine)
    assert mine.read_text() == "mine"
    profile.save(new, mine, overwrite=True)
    assert profile.load(mine) == new
    assert [p.name for p in tmp_path.iterdir()] == ["a.yaml"]


def test_a_place_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ProfileError, match="could not be written"):
        profile.save(Profile(EngineSpec("m")), tmp_path / "file" / "a.yaml")


@pytest.mark.parametrize(
    ("text", "place", "says", "hint"),
    [
        ("tputtui: 1\nlimit: {}", "limit", "no such key", "`limits`"),
        ("tputtui: 1\nknobs: {max_num_seq: 3}", "knobs.max_num_seq", "no such", "`max_num_seqs`"),
        ("tputtui: 1\nlimits: {max_num_seq: 3}", "limits.max_num_seq", "no such", "`max_num_seqs`"),
        ("tputtui: 1\nlimits: {max_num_seqs: lots}", "limits.max_num_seqs", "found 'lots'", ""),
        ("tputtui: 1\nlimits: {}\nknobs: {}", "limits", "stands twice, as knobs", ""),
        ("tputtui: 1\nknobs: {max_num_seqs: lots}", "knobs.max_num_seqs", "expected `int", ""),
        ("tputtui: 1\nknobs: {max_num_seqs: 0}", "knobs.max_num_seqs", ">= 1", ""),
        ("tputtui: 1\nload: {arrivals: {kind: closed, in_flight: 4}, output: {kind: fixed, "
         "tokens: 3}}", "load.prompt", "required", ""),
        ("tputtui: 1\nload: {arrivals: {kind: poison, rate: 4}}", "load.arrivals.kind",
         "not one of closed, constant, poisson", "`poisson`"),
        ("tputtui: 1\nload: {arrivals: {kind: poisson, rates: 4}}", "load.arrivals.rates",
         "no such", "`rate`"),
        ("tputtui: 1\nload: {arrivals: {kind: poisson, rate: 1}, prompt: {kind: uniform, min: 9, "
         "max: 2}, output: {kind: fixed, tokens: 3}}", "load.prompt", "min 9 is above max 2", ""),
        ("tputtui: 1\nengine: {model: 7}", "engine.model", "expected `str`", ""),
        ("tputtui: 2", "tputtui", "version 1", ""),
        ("engine: {}", "tputtui", "missing", ""),
        ("- a\n- b", "", "keys and values", ""),
        ("", "", "keys and values", ""),
        ("tputtui: [1", "", "line 1", ""),
        ("tputtui: !!python/object/apply:os.system ['true']", "", "not readable", ""),
        ("tputtui: 1\nengine: {model: {a: 1}}", "engine.model", "expected", ""),
        ("tputtui: 1\nengine: &a\n  x: *a", "line 3", "no aliases", ""),
    ],
)  # fmt: skip
def test_each_mistake_is_one_sentence_with_file_place_and_hint(
    text: str, place: str, says: str, hint: str
) -> None:
    with pytest.raises(ProfileError) as refusal:
        profile.parse(text, "my.yaml")
    message = refusal.value.message
    assert message.startswith("my.yaml: ")
    assert "\n" not in message
    assert place in message
    assert says in message
    assert hint in refusal.value.hint
    assert refusal.value.exit_code == 2


def test_a_name_finds_the_users_own_profile_before_the_shipped_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert profile.find("demo") == profile.shipped()["demo"]
    mine = profile.save(Profile(EngineSpec("m")), profile.user_dir() / "demo.yaml")
    assert profile.find("demo") == mine
    (tmp_path / "profiles").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProfileError, match=r"^profiles is a folder\."):
        profile.find("profiles")
    with pytest.raises(ProfileError, match="no profile called 'dmeo'") as refusal:
        profile.find("dmeo")
    assert "demo" in refusal.value.hint


def test_a_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match="No such file"):
        profile.load(tmp_path / "gone.yaml")


def test_the_default_load_queues_at_64_sequences() -> None:
    load = profile.parse("tputtui: 1", "x").load
    assert isinstance(load.arrivals, ClosedLoop)
    assert isinstance(load.arrivals.in_flight, int)
    assert load.arrivals.in_flight > 64
    assert not isinstance(load.prompt, Fixed)

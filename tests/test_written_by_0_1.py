"""What version 0.1 wrote, as people have it by now, is read as it was meant (data/make.py)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tputtui import cli, profile
from tputtui.cli import user_config as config
from tputtui.goals import describe_goals
from tputtui.load.lengths import LogNormal
from tputtui.load.workload import ClosedLoop
from tputtui.profile.evidence import TUNED, VERIFIED
from tputtui.record.reading import read_log
from tputtui.record.replay import Replay
from tputtui.simulate.calibration import calibration_at

FOLDER = Path(__file__).with_name("data") / "written_by_0_1"


@pytest.mark.parametrize(("name", "state"), [("tuned", TUNED), ("verified", VERIFIED)])
def test_a_profile_keeps_limits_load_goals_and_figures(
    name: str, state: str, tmp_path: Path
) -> None:
    read = profile.load(FOLDER / f"{name}.yaml")
    assert read.engine.model == "shape:demo"
    assert read.knobs == {
        "max_num_seqs": 64, "max_num_batched_tokens": 2048, "max_model_len": 2048,
    }  # fmt: skip
    assert read.load.arrivals == ClosedLoop(96)
    assert read.load.prompt == LogNormal(120.0, 0.5, 16, 512)
    assert read.load.seed == 9
    assert describe_goals(read.goals) == "ttft_p90=1.5s"
    assert read.evidence.state == state
    tokens = read.evidence.tuned.figures["tokens_per_s"]
    assert (tokens.value, tokens.low, tokens.high, tokens.n) == (3831.0, 3790.0, 3873.0, 768)
    assert (read.evidence.verified is not None) is (state == VERIFIED)
    # And is written again with nothing lost.
    again = profile.load(profile.save(read, tmp_path / "again.yaml"))
    assert again == read


@pytest.mark.parametrize("name", ["tuned", "verified"])
@pytest.mark.parametrize("command", ["validate", "show"])
def test_the_commands_take_a_profile(
    name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["profiles", command, str(FOLDER / f"{name}.yaml")]) == 0


def test_a_config_file_means_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TPUTTUI_CONFIG", str(FOLDER / "config.yaml"))
    read = config.read_config()
    assert read.values == {
        "theme": "light", "load": "40", "goal": "ttft_p90=2s,tpot_p90=60ms", "guard": "kv=0.97",
        "record": "on", "save_dir": "~/profiles",
    }  # fmt: skip
    assert read.engine == {"max_num_seqs": 128}
    assert read.keys == {"undo": "z", "limit.halve": "f9"}


def test_a_calibration_keeps_its_costs() -> None:
    read = calibration_at(FOLDER / "calibration.yaml")
    assert (read.model, read.device, read.vllm) == ("shape:demo", "cpu", "0.32.0")
    assert read.error_frac == 0.04
    assert read.engine["block_size"] == 32
    assert read.fitted.decode.value_s == 2e-5


def test_a_run_with_turned_limits_is_replayed() -> None:
    read = read_log(FOLDER / "turned.jsonl.zst")
    assert (read.version, read.damaged, len(read.moments)) == ("0.1.0", 0, 71)
    last = read.moments[-1]
    turned = [trial.turned for trial in last.trials]
    assert turned[:2] == ["start", "max_num_seqs 64 → 32"]
    assert turned[-1] == "seed 0 → 9 at the next start"
    assert last.kept["asked"].max_num_seqs == 64
    replay = Replay(read, lambda: 0.0)
    replay.seek(30.0)
    frame = replay.advance()
    assert frame.asked.max_num_seqs == 32
    assert frame.figures.generated_per_s > 0
    assert frame.accounting.balanced


def test_a_run_with_a_sweep_and_an_ab_is_replayed_and_reported(tmp_path: Path) -> None:
    file = FOLDER / "experiments.jsonl.zst"
    read = read_log(file)
    last = read.moments[-1]
    assert last.kept["sweep"].level is None
    assert last.kept["sweep"].told > 5
    assert len(last.kept["points"]) > 5
    assert last.kept["compare"].done
    assert last.kept["compare"].differences
    replay = Replay(read, lambda: 0.0)
    replay.seek(read.length_s)
    assert replay.advance().compare.differences == last.kept["compare"].differences
    for name in ("page.md", "page.html"):
        assert cli.main(["report", str(file), "-o", str(tmp_path / name)]) == 0
        assert (tmp_path / name).stat().st_size > 1000


def test_two_runs_are_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        shutil.copy(FOLDER / "turned.jsonl.zst", tmp_path / f"{name}.jsonl.zst")
    words = ["compare", str(tmp_path / "a.jsonl.zst"), str(tmp_path / "b.jsonl.zst")]
    assert cli.main(words) == 0

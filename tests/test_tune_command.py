"""`tputtui tune`: what it prints, what it leaves with, and that it can be gone on with."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from types import SimpleNamespace
from typing import Any

import pytest

from tests import PATIENCE_S
from tests.faults import PACED
from tests.rig import Rig
from tests.test_tuner import CLOSED, LENGTHS, SMALL, slow  # noqa: F401
from tputtui import cli, profile
from tputtui.cli import tune as command
from tputtui.experiments.tuner.plan import Plan
from tputtui.goals import parse_goals
from tputtui.headless.tuning import trial_line
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Poisson, Workload
from tputtui.profile import EngineSpec, Profile


class Hand:
    """Waits by letting a rig's time pass; nobody interrupts."""

    asked = False

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def wait(self, seconds: float) -> bool:
        self._rig.run(2.0)
        return False


class Run:
    """The command's own code on the deterministic engine, in its time."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        *words: str,
        start: str = "demo",
        load: Workload = CLOSED,
        goals: str = "tpot_p90=44ms",
        **fields: Any,
    ) -> None:
        self.rig = Rig(load)
        self.rig.session.set_goals(parse_goals(goals))
        self.out, self.err = io.StringIO(), io.StringIO()
        headless: Any = SimpleNamespace(
            session=self.rig.session,
            out=self.out,
            err=self.err,
            say=lambda text, hint="": self.err.write(f"tputtui: {text}\n"),
        )
        monkeypatch.setattr("tputtui.headless.running.Interrupted", lambda err: Hand(self.rig))
        options = command.parser().parse_args(words)
        options.profile = start
        self.rig.boot()
        plan = Plan(**{"vary": SMALL, **fields})
        self.code = command._tune(headless, plan, options, 20.0)


@pytest.fixture(scope="module")
def found() -> Iterator[Run]:
    with pytest.MonkeyPatch.context() as patch:
        yield Run(patch)


class TestFound:
    def test_the_profile_of_what_was_found_is_on_stdout_with_its_evidence(self, found: Run) -> None:
        assert found.code == 0
        made = profile.parse(found.out.getvalue(), "stdout")
        assert made.knobs["max_num_seqs"] == 24
        assert made.load == CLOSED
        assert made.goals == parse_goals("tpot_p90=44ms")
        tuned = made.evidence.tuned
        # Kept by far more than nine in ten; whether that lasts, a trial of a few generations of
        # requests cannot know.
        kept = tuned.goals["tpot_p90"]
        assert kept.verdict != "missed"
        assert kept.met_frac > 0.95
        assert tuned.knobs["max_num_seqs"] == 24
        assert tuned.figures["goodput_per_s"].value > 12
        assert made.evidence.note.startswith("tuner: max_num_seqs 24 keeps the goals")

    def test_every_trial_is_a_line_on_stderr_and_the_verdict_the_last(self, found: Run) -> None:
        said = found.err.getvalue()
        state = found.rig.session.advance().tuner
        lines = re.findall(r"^ +(\d+) (\w+) +(\d+) .*?(met|missed) tpot_p90", said, re.MULTILINE)
        assert [int(line[0]) for line in lines] == [trial.number for trial in state.trials]
        assert ("1", "a", "256", "missed") in lines
        assert "stopped early: goal missed" in said
        assert "tputtui: searching · " in said
        assert "tputtui: confirming · pair 1 of at most " in said
        assert "the start" in said
        assert f"tputtui: {state.verdict}" in said

    def test_a_trial_in_a_line(self, found: Run) -> None:
        state = found.rig.session.advance().tuner
        line = trial_line(state.trials[0], state, parse_goals("tpot_p90=44ms"))
        assert re.fullmatch(
            r" +1 a +256 +48 in flight +(0|[\d.]+ ± [\d.]+) req/s  missed tpot_p90 \d\d\.\d ms of "
            r"44\.0 ms · [56] s, stopped early: goal missed",
            line,
        )


def test_nothing_better_leaves_the_start_and_a_goal_it_misses_is_code_1(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that misses least is the start's own: found by nothing, so nothing is printed."""
    run = Run(monkeypatch, goals="tpot_p90=1ms")
    assert run.code == 1
    assert run.out.getvalue() == ""
    said = run.err.getvalue()
    assert re.search(
        r"None of the \d+ settings .*met the goals\. The closest was max_num_seqs", said
    )
    assert run.rig.session.advance().asked.max_num_seqs == 256


def test_without_anything_better_the_start_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    few = Workload(ClosedLoop(4), pairs=LENGTHS, seed=3)
    run = Run(monkeypatch, load=few, goals="tpot_p90=1s", vary="max_num_seqs=2,256")
    assert run.code == 0
    made = profile.parse(run.out.getvalue(), "stdout")
    assert made.knobs["max_num_seqs"] == 256
    assert "Nothing tried is better than the start" in run.err.getvalue()


def test_how_much_to_shed_is_searched_as_any_limit_is(monkeypatch: pytest.MonkeyPatch) -> None:
    load = Workload(Poisson(20.0), Fixed(400), Fixed(60), seed=5)
    vary = "max_num_queued_reqs=16..64"
    run = Run(monkeypatch, load=load, goals="ttft_p50=1s", vary=vary, search="grid")
    said = run.err.getvalue()
    assert run.code == 0, said
    made = profile.parse(run.out.getvalue(), "stdout")
    assert made.knobs["max_num_queued_reqs"] in (16, 32, 64)
    rows = re.findall(r" max_num_queued_reqs (none|\d+) .*?(met|missed) ", said)
    assert ("none", "missed") in rows
    assert {limit for limit, _ in rows} == {"none", "16", "32", "64"}
    assert made.evidence.tuned.figures["goodput_per_s"].value > 8


def test_it_is_verified_and_written_with_the_comments_of_its_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mine = tmp_path / "mine.yaml"
    text = profile.dump(Profile(EngineSpec("shape:demo"), CLOSED, {}))
    mine.write_text(f"# Ours.\n{text}")
    monkeypatch.chdir(tmp_path)
    run = Run(monkeypatch, "--verify", "-o", "tuned.yaml", start=str(mine))
    assert run.code == 0, run.err.getvalue()
    assert run.out.getvalue() == ""
    made = profile.load(tmp_path / "tuned.yaml")
    assert made.evidence.state == "verified"
    assert made.evidence.verified.ceilings["max_num_seqs"] == 24
    assert (tmp_path / "tuned.yaml").read_text().startswith("# Ours.")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nosuch"], "nosuch"),
        (["demo", "--search", "best"], "no search called 'best'"),
        (["demo", "--find", "load"], "needs a goal"),
        (["demo", "--budget", "5s"], "too short"),
        (["demo", "--boots", "block_size"], "no engine argument with values"),
        (["demo", "--resume", "/nosuch.jsonl.zst"], "No such file"),
        (["demo", "--goal", "ttft_p50=1s", "-o", "/etc/hostname"], "exists already"),
    ],
)
def test_what_cannot_be_used_is_a_sentence_before_anything_is_booted(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["tune", *words]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert "Traceback" not in said


@pytest.mark.long
def test_the_program_is_interrupted_and_goes_on_where_it_was(tmp_path: Path) -> None:
    """On the deterministic engine, in real time."""
    words = ["demo", "--goal", "tpot_p90=1ms", "--vary", "max_num_seqs=32,64"]

    def start(*more: str) -> Popen[str]:
        env = {k: v for k, v in (os.environ | PACED).items() if v is not None}
        env |= {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CONFIG_HOME": str(tmp_path)}
        program = [sys.executable, "-m", "tputtui", "tune", *words, *more]
        return subprocess.Popen(
            program, cwd=tmp_path, env=env, text=True, stdout=-1, stderr=subprocess.PIPE
        )

    first = start()
    seen = []
    for line in first.stderr:
        seen.append(line)
        if line.lstrip().startswith("1 a"):
            break
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=PATIENCE_S)
    assert first.returncode == 130, err
    assert out == ""
    assert "interrupted after 1 trial; --resume goes on from there." in err
    second = start("--resume")
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 1, err
    assert out == ""
    assert "going on after 1 trials" in err
    assert "   2 b" in err
    assert "   1 a" not in err
    assert re.search(r"None of the \d+ settings .*met the goals\.", err)
    assert "Traceback" not in err

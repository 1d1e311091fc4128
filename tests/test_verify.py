"""A verify boot: exactly the tuned values as what is booted, and what that changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess

import msgspec
import pytest

from tests import PATIENCE_S
from tests.rig import Rig
from tputtui import profile
from tputtui.cli.main import main
from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import Engine, State, StepReport
from tputtui.errors import EngineError, KnobError, UsageError
from tputtui.export.startup import start_up
from tputtui.frame import CompareState
from tputtui.frame.proof import compared
from tputtui.profile.evidence import Figure, Measured

DEMO = profile.load(profile.shipped()["demo"])


@pytest.fixture
def rig() -> Rig:
    rig = Rig(DEMO.load, DEMO.knobs)
    rig.boot()
    rig.run(12.0)
    rig.session.steer.limits.set("max_num_seqs", 48)
    rig.run(25.0)
    return rig


def verified(rig: Rig, at_most: int = 200) -> CompareState:
    for _ in range(at_most):
        rig.run(1.0)
        state = rig.session.advance().compare
        if state is not None and state.done:
            return state
    raise AssertionError(f"never over: {state}")


def test_it_boots_with_exactly_these_values_and_measures_the_same_load(rig: Rig) -> None:
    session = rig.session
    before = session.snapshot()
    session.steer.experiments.verify()
    state = verified(rig)
    frame = session.advance()
    assert frame.status.facts.ceilings.max_num_seqs == 48
    assert frame.status.knobs.max_num_seqs == 48
    assert frame.status.spec == start_up(before).spec
    assert frame.profile.load == before.load
    assert state.title == "verify"
    assert state.note.startswith("Verified")
    # The same engine as before, so nothing is told apart.
    assert not [row for row in state.differences if row.judgement.clear]


def test_both_sets_of_figures_and_their_difference_are_saved(rig: Rig, tmp_path: Path) -> None:
    session = rig.session
    tuned = session.snapshot().evidence.tuned
    session.steer.experiments.verify()
    verified(rig)
    saved = profile.load(session.save(tmp_path / "verified.yaml"))
    evidence = saved.evidence
    assert evidence.state == "verified"
    assert evidence.tuned.figures["tokens_per_s"].value == pytest.approx(
        tuned.figures["tokens_per_s"].value, rel=0.05
    )
    assert evidence.tuned.ceilings["max_num_seqs"] == 256
    assert evidence.verified.ceilings["max_num_seqs"] == 48
    change = evidence.difference["tokens_per_s"]
    new, old = (each.figures["tokens_per_s"].value for each in (evidence.verified, evidence.tuned))
    assert change.change == pytest.approx(new / old - 1, abs=1e-3)
    assert change.low <= change.change <= change.high
    assert saved.engine.args["max_num_seqs"] == 48


def test_what_may_change_answers_is_not_called_verified_by_figures_alone(rig: Rig) -> None:
    rig.session.steer.engine.boot_with({"kv_cache_dtype": "fp8"}, {"max_num_seqs": 48})
    rig.run(40.0)
    rig.session.steer.experiments.verify()
    state = verified(rig)
    assert state.note.startswith("Not called verified: booted with exactly these values")
    assert "kv_cache_dtype fp8 may change answers" in state.note
    evidence = rig.session.snapshot().evidence
    assert (evidence.state, evidence.verified is not None) == ("tuned live", True)
    assert evidence.note == "not called verified: kv_cache_dtype fp8 may change answers"


def test_it_says_nothing_of_another_setting(rig: Rig) -> None:
    session = rig.session
    session.steer.experiments.verify()
    verified(rig)
    assert session.snapshot().evidence.state == "verified"
    session.steer.limits.set("max_num_seqs", 40)
    rig.run(10.0)
    assert session.snapshot().evidence.state == "tuned live"
    assert session.advance().compare is None


def test_a_turn_breaks_it_off(rig: Rig) -> None:
    session = rig.session
    session.steer.experiments.verify()
    rig.run(6.0)
    assert not session.advance().compare.done
    session.steer.limits.set("max_num_seqs", 40)
    rig.run(20.0)
    assert session.advance().compare is None
    assert session.snapshot().evidence.state == "tuned live"


def test_as_served_boots_the_server_and_then_the_engine_again(rig: Rig) -> None:
    session, steer = rig.session, rig.session.steer
    before = session.advance()
    assert "vLLM's server" in steer.experiments.verify(served=True)
    rig.run(1.0)
    booted = session.advance()
    assert booted.status.served
    assert booted.status.facts.ceilings.max_num_seqs == 48
    state = verified(rig)
    assert state.title == "served"
    assert state.note.startswith("As served")
    # It is the same engine here; a slower one is not called worse either.
    assert not [row for row in state.differences if row.judgement.clear]
    rig.run(1.0)
    after = session.advance()
    assert not after.status.served
    assert after.status.spec == before.status.spec
    assert (after.status.knobs, after.status.facts.ceilings) == (
        before.status.knobs, before.status.facts.ceilings,
    )  # fmt: skip
    evidence = session.snapshot().evidence
    assert evidence.state == "tuned live"
    assert evidence.served.ceilings["max_num_seqs"] == 48
    assert "tokens_per_s" in evidence.served_difference


def test_as_served_stands_beside_a_verify_boot(rig: Rig, tmp_path: Path) -> None:
    session, steer = rig.session, rig.session.steer
    steer.experiments.verify()
    verified(rig)
    steer.experiments.verify(served=True)
    rig.run(2.0)
    verified(rig)
    rig.run(1.0)
    saved = profile.load(session.save(tmp_path / "served.yaml")).evidence
    assert (saved.state, bool(saved.verified), bool(saved.served)) == ("verified", True, True)


def test_breaking_off_as_served_brings_the_engine_back(rig: Rig) -> None:
    session, steer = rig.session, rig.session.steer
    before = session.advance()
    steer.experiments.verify(served=True)
    rig.run(3.0)
    assert session.advance().status.served
    # The limit would be the server's, which goes.
    with pytest.raises(KnobError, match="about to boot"):
        steer.limits.set("max_num_seqs", 40)
    rig.run(3.0)
    frame = session.advance()
    assert not frame.status.served
    assert (frame.status.spec, frame.status.knobs) == (before.status.spec, before.status.knobs)
    assert session.snapshot().evidence.served is None


def test_there_must_be_figures_to_compare_with(rig: Rig) -> None:
    rig.session.steer.limits.set("max_num_seqs", 32)
    rig.session.steer.load.toggle()
    rig.run(1.0)
    with pytest.raises(UsageError, match="the window is draining"):
        rig.session.steer.experiments.verify()
    rig.run(20.0)
    assert rig.session.advance().status.facts.ceilings.max_num_seqs == 256


def test_what_would_be_refused_is_known_before_a_person_is_asked(rig: Rig) -> None:
    steer = rig.session.steer
    steer.experiments.check_verify()
    steer.load.toggle()
    rig.run(1.0)
    with pytest.raises(UsageError, match="the window is draining"):
        steer.experiments.check_verify()
    steer.load.toggle()
    rig.run(15.0)
    steer.experiments.check_verify()
    steer.experiments.sweep()
    rig.run(12.0)
    with pytest.raises(UsageError, match="A sweep is under way"):
        steer.experiments.check_verify()
    assert steer.experiments.under_way == "a sweep"


def test_a_setting_that_has_only_been_put_on_is_measured_first(rig: Rig) -> None:
    steer = rig.session.steer
    steer.limits.set("max_num_seqs", 40)
    rig.run(1.0)
    assert "measured for 10 s first" in steer.experiments.verify()
    rig.run(1.0)
    state = rig.session.advance().compare
    assert (state.title, state.done) == ("verify", False)
    assert "measured first: " in state.note
    assert rig.session.advance().status.facts.ceilings.max_num_seqs != 40
    state = verified(rig)
    assert state.note.startswith("Verified")
    assert rig.session.advance().status.facts.ceilings.max_num_seqs == 40


def test_a_turn_while_it_is_waited_for_breaks_a_verify_boot_off(rig: Rig) -> None:
    steer = rig.session.steer
    steer.limits.set("max_num_seqs", 40)
    steer.experiments.verify()
    steer.limits.set("max_num_seqs", 36)
    rig.run(30.0)
    frame = rig.session.advance()
    assert frame.compare is None
    assert frame.status.facts.ceilings.max_num_seqs != 36


def test_what_was_simulated_is_refused_before_anything_boots(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = rig.session.snapshot()
    tuned = found.evidence.tuned
    machine = msgspec.structs.replace(tuned.machine, simulated="SIMULATED, datasheet roofline")
    evidence = msgspec.structs.replace(
        found.evidence, tuned=msgspec.structs.replace(tuned, machine=machine)
    )
    path = profile.save(msgspec.structs.replace(found, evidence=evidence), tmp_path / "sim.yaml")
    booted: list[object] = []
    monkeypatch.setattr("tputtui.cli.headless.Headless.__enter__", booted.append)
    assert main(["verify", str(path)]) == 2
    said = capsys.readouterr().err
    assert "was simulated, and verifies nothing" in said
    assert "--anew" in said
    assert not booted


def test_values_that_vllm_does_not_boot_with_are_refused_at_once(rig: Rig) -> None:
    rig.session.steer.limits.set("max_num_batched_tokens", 40)
    rig.run(15.0)
    with pytest.raises(UsageError, match=r"fewer batched tokens \(40\) than sequences \(48\)"):
        rig.session.steer.experiments.verify()
    assert rig.session.advance().status.facts.ceilings.max_num_seqs == 256


def test_an_engine_that_does_not_boot_so_is_told_and_the_old_one_is_back(rig: Rig) -> None:
    session = rig.session
    make, failing = rig.host._make_engine, [True]

    def once() -> Engine:
        if failing.pop():
            return FakeEngine(rig.clock, fail_boot=EngineError("not that few tokens", "more"))
        return make()

    rig.host._make_engine = once
    failing.insert(0, False)
    session.steer.experiments.verify()
    state = verified(rig)
    assert "not that few tokens" in state.note
    frame = session.advance()
    assert frame.status.state is State.RUNNING
    assert frame.status.facts.ceilings.max_num_seqs == 256
    assert session.snapshot().evidence.state == "tuned live"


class Slower(FakeEngine):
    """As an engine is whose graphs do not fit its batches."""

    def step(self) -> StepReport:
        self._clock.advance(0.004)
        return super().step()


def test_an_engine_that_is_slower_so_booted_is_told(rig: Rig) -> None:
    session = rig.session
    rig.host._make_engine = lambda: Slower(rig.clock)
    session.steer.experiments.verify()
    state = verified(rig)
    assert "it is worse: tokens/s" in state.note
    evidence = session.snapshot().evidence
    assert evidence.difference["tokens_per_s"].verdict == "worse"
    assert evidence.difference["tpot_p50_s"].verdict in ("worse", "cannot tell yet")


def test_differences_of_figures_by_hand() -> None:
    """MOVER on logarithms: both 100 ± 10 % and 120 ± 10 %, as intervals of equal ratio."""
    base = profile.parse("tputtui: 1", "x")
    del base
    from tests.test_profile import evidence_of

    measured = evidence_of(tokens_per_s=100.0).tuned

    def with_figure(value: float, low: float | None, high: float | None) -> Measured | None:
        return msgspec.structs.replace(
            measured, figures={"tokens_per_s": Figure(value, low, high, 60)}
        )

    old = with_figure(100.0, 100 / 1.1, 110.0)
    found = compared(old, with_figure(120.0, 120 / 1.1, 132.0)).difference["tokens_per_s"]
    # hypot(ln 1.1, ln 1.1) = 0.13479: 1.2 · e^±0.13479.
    assert found.change == pytest.approx(0.2)
    assert found.low == pytest.approx(0.0487, abs=1e-3)
    assert found.high == pytest.approx(0.3732, abs=1e-3)
    assert found.verdict == "better"
    without = compared(old, with_figure(120.0, None, None)).difference["tokens_per_s"]
    assert (without.verdict, without.low) == ("cannot tell yet", None)


# -- the command ---------------------------------------------------------------------------------


def verify(*words: str, cwd: Path) -> CompletedProcess[str]:
    env = os.environ | {"XDG_STATE_HOME": str(cwd / "state"), "XDG_CONFIG_HOME": str(cwd / "conf")}
    return subprocess.run(
        [sys.executable, "-m", "tputtui", "verify", *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, cwd=cwd,
        timeout=PATIENCE_S,
    )  # fmt: skip


@pytest.mark.engine
@pytest.mark.long
def test_the_command_writes_both_into_the_file_and_keeps_its_comments(tmp_path: Path) -> None:
    text = profile.read(profile.shipped()["demo"]).replace("in_flight: 96}", "in_flight: 40}")
    text = text.replace("max_num_seqs: 64", "max_num_seqs: 24   # for the night")
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    done = verify("mine.yaml", "--duration", "1s", "--quiet", cwd=tmp_path)
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr
    assert re.search(r"tokens/s +[\d,]+ +[\d,]+ +[-+]\d", done.stdout)
    assert "measuring the tuned setting first" in done.stderr
    written = file.read_text()
    assert "max_num_seqs: 24   # for the night" in written
    saved = profile.load(file)
    assert saved.evidence.state == "verified"
    assert saved.evidence.tuned.ceilings["max_num_seqs"] == 256
    assert saved.evidence.verified.ceilings["max_num_seqs"] == 24
    assert saved.evidence.verified.knobs["max_num_seqs"] == 24
    for measured in (saved.evidence.tuned, saved.evidence.verified):
        assert measured.figures["tokens_per_s"].value > 0
        assert measured.machine.versions["vllm"]
        assert len(measured.model.config_sha256) == 64

    # What vLLM refuses is told before anything boots, and the file stays as it is.
    bad = msgspec.structs.replace(saved, knobs={**saved.knobs, "max_num_batched_tokens": 8})
    profile.save(bad, tmp_path / "bad.yaml")
    before = (tmp_path / "bad.yaml").read_text()
    done = verify("bad.yaml", "--duration", "4s", cwd=tmp_path)
    assert done.returncode == 2, done.stdout
    assert "fewer batched tokens (8) than sequences (24)" in done.stderr
    assert (tmp_path / "bad.yaml").read_text() == before


def test_what_cannot_be_written_to_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    done = verify("demo", cwd=tmp_path)
    assert (done.returncode, "-o FILE" in done.stderr) == (2, True)
    (tmp_path / "there.yaml").write_text("mine")
    done = verify("demo", "-o", "there.yaml", cwd=tmp_path)
    assert (done.returncode, "exists already" in done.stderr) == (2, True)
    done = verify("dmeo", cwd=tmp_path)
    assert (done.returncode, "`demo`" in done.stderr) == (2, True)

"""An engine whose costs are known is calibrated; what is asked wrongly is refused."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tests.made import calibration
from tputtui.cli.calibrate import calibration_of
from tputtui.cli.main import main
from tputtui.engine.fake import FakeEngine
from tputtui.engine.protocol import StepReport
from tputtui.headless.calibrating import Calibrating
from tputtui.headless.progress import Progress
from tputtui.profile import EngineSpec
from tputtui.simulate.calibration import Calibration, calibration_at, save_calibration
from tputtui.simulate.clock import VirtualTime
from tputtui.simulate.fitted import Measurement
from tputtui.simulate.work import Work

QUIET = Progress(io.StringIO(), quiet=True)


class Measuring(FakeEngine):
    """The deterministic engine, as `MeasuredEngine` measures the real one."""

    def __init__(self, clock: VirtualTime) -> None:
        super().__init__(clock)
        self.measurements: list[Measurement] = []
        self.load = 0

    def step(self) -> StepReport:
        report = super().step()
        step = report.sample
        decodes = step.decode_tokens
        context = int(step.context_tokens * decodes / max(1, step.running))
        prefills = 1 if step.prefill_tokens else 0
        pairs = step.prefill_tokens**2 / 2
        work = Work(decodes, context, prefills, step.prefill_tokens, pairs)
        if work.tokens:
            self.measurements.append(
                Measurement(self.load, work, step.duration_s - 0.001, 0.001, 1e-5, 0)
            )
        return report


def calibrated() -> Calibration:
    clock = VirtualTime()
    calibrating = Calibrating(Measuring(clock), 2.0, lambda: False, clock)
    spec = EngineSpec("shape:demo")
    facts = calibrating.boot(spec)
    rows = calibrating.measure(QUIET)
    calibrating.close()
    return calibration_of(spec, facts, rows, calibrating.loads)


def test_an_engine_of_known_costs_is_predicted_by_what_was_measured_of_it(tmp_path: Path) -> None:
    found = calibrated()
    assert len(found.residuals) >= 15
    assert found.error_frac < 0.02
    for work in (
        Work(1, 30),
        Work(64, 20_000),
        Work(0, 0, 1, 1500, 1500**2 / 2),
        Work(40, 9000, 1, 300, 45_000),
    ):
        true = FakeEngine.STEP_S + FakeEngine.DECODE_S * work.decodes
        true += FakeEngine.PREFILL_S * work.prefill_tokens
        assert found.fitted.device_s(work) + found.fitted.host_s(work) == pytest.approx(
            true, rel=0.03
        )
    # Its steps take what they take, every time.
    assert max(found.fitted.spread) < 1.05
    assert calibration_at(save_calibration(found, tmp_path / "c.yaml")) == found


def test_it_is_broken_off_when_someone_asks() -> None:
    clock = VirtualTime()
    asked: list[int] = []
    calibrating = Calibrating(Measuring(clock), 2.0, lambda: bool(asked), clock)
    calibrating.boot(EngineSpec("shape:demo"))
    asked.append(2)
    assert calibrating.measure(QUIET) == []
    calibrating.close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["server:gpu:8000"], "steps of a server are not seen"),
        (["shape:demo", "-o", "there.yaml"], "there.yaml exists already"),
        (["shape:demo", "--measure", "1h"], "--measure '1h' is no time"),
        (["shape:dmeo"], "no built-in shape called 'dmeo'"),
    ],
)
def test_what_cannot_be_calibrated_is_refused_before_anything_is_booted(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.yaml").write_text("mine")
    assert main(["calibrate", *words]) == 2
    assert said in capsys.readouterr().err
    assert (tmp_path / "there.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["bench", "--virtual"], "--virtual is for simulations"),
        (["bench", "--virtual", "--simulate", "h100", "--isolate"], "runs in this process"),
        (["bench", "--simulate", "h10"], "Did you mean `h100`?"),
        (["bench", "--simulate", "none.yaml"], "none.yaml: No such file"),
        (["bench", "shape:qwen3-8b", "--simulate", "cpu.yaml"], "is of shape:demo, not of"),
        (["bench", "server:gpu:8000", "--simulate", "h100"], "A server is not simulated"),
        (
            ["tune", "demo", "--goal", "ttft_p90=1s", "--simulate", "h100", "--verify"],
            "verifies nothing",
        ),
    ],
)
def test_a_simulation_that_cannot_be_is_refused_before_anything_is_booted(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    save_calibration(calibration(), tmp_path / "cpu.yaml")
    assert main(words) == 2
    assert said in capsys.readouterr().err


def test_verify_refuses_to_be_simulated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TPUTTUI_SIMULATE", "h100")
    assert main(["verify", "demo", "-o", str(tmp_path / "out.yaml")]) == 2
    assert "A simulation verifies nothing" in capsys.readouterr().err

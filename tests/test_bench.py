"""Measuring without a screen: the same figures as on it, and what is printed of them."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import cast

import msgspec
import pytest

from tests import PATIENCE_S
from tests.faults import PACED
from tests.rig import Rig
from tputtui import cli, profile
from tputtui.cli import bench as bench_command
from tputtui.cli.bench import _nothing_served, duration_of
from tputtui.cli.headless import check_load
from tputtui.engine.fake import FakeEngine
from tputtui.engine.virtual import VirtualHost
from tputtui.errors import EngineError, UsageError
from tputtui.experiments.measuring import Measuring, Stage
from tputtui.frame.proof import compared, measured
from tputtui.goals import parse_goals
from tputtui.headless.progress import Progress
from tputtui.headless.results import (
    FORMATS,
    Result,
    goals_met,
    result_text,
    sample_line,
    verified_text,
)
from tputtui.headless.running import Interrupted, measure
from tputtui.load.lengths import Fixed
from tputtui.load.notation import parse_arrivals
from tputtui.load.sections import from_texts
from tputtui.load.workload import TrafficClass, Workload
from tputtui.measure.samples import Accounting
from tputtui.measure.window import figures, latencies
from tputtui.profile.evidence import TUNED
from tputtui.record.reading import read_log
from tputtui.report.content import gather, last_frame
from tputtui.session.session import MakeHost, Session
from tputtui.simulate.clock import VirtualTime

DEMO = profile.load(profile.shipped()["demo"])


def measured_on(rig: Rig, duration_s: float, *, at_most: int = 400) -> Measuring:
    """What a headless run does, by hand: look, and begin the window anew when it is asked for."""
    measuring = Measuring(duration_s)
    for _ in range(at_most):
        rig.run(0.5)
        if measuring.follow(rig.session.advance()):
            rig.session.steer.measure_anew()
        if measuring.over:
            break
    return measuring


class Uninterrupted(Interrupted):
    """Nobody asks to stop, and no signal is taken."""

    def __init__(self) -> None:
        self.asked = False

    def wait(self, seconds: float) -> bool:
        return False


@pytest.fixture
def rig() -> Rig:
    rig = Rig(DEMO.load, DEMO.knobs)
    rig.boot()
    return rig


class TestMeasuring:
    def test_it_warms_up_settles_measures_and_stops(self, rig: Rig) -> None:
        seen = []
        measuring = Measuring(10.0)
        while not measuring.over:
            rig.run(0.5)
            if measuring.follow(rig.session.advance()):
                rig.session.steer.measure_anew()
            seen.append(measuring.stage)
        order = list(dict.fromkeys(seen))
        assert order == [Stage.WARMING, Stage.SETTLING, Stage.MEASURING, Stage.DONE]
        window = measuring.result.window
        assert window.settled
        assert window.length_s == pytest.approx(10.0, abs=0.6)
        # Nothing of the first burst is in it.
        assert window.start_s >= rig.session.recorder.marks[-1].t_s + 2

    def test_its_figures_are_those_of_the_screen(self, rig: Rig) -> None:
        frame = measured_on(rig, 10.0).result
        window, recorder = frame.window, rig.session.recorder
        on_screen = figures(recorder, window.start_s, window.end_s)
        found = measured(frame, recorder).figures
        assert found["tokens_per_s"].value == pytest.approx(on_screen.generated_per_s, rel=1e-3)
        assert found["requests_per_s"].value == pytest.approx(on_screen.achieved_per_s, rel=1e-3)
        exact = latencies(recorder, window.start_s, window.end_s)
        for name in ("ttft", "tpot", "e2e", "itl"):
            for share in ("p50", "p90"):
                assert found[f"{name}_{share}_s"].value == pytest.approx(
                    getattr(getattr(exact, name), share), rel=1e-3
                )
        # And a person who had pressed s then would have saved the same.
        kept = rig.session.snapshot().evidence.tuned.figures
        assert kept["tokens_per_s"] == found["tokens_per_s"]

    @pytest.mark.parametrize("duration_s", [21.3, pytest.param(75.0, marks=pytest.mark.long)])
    def test_bench_saved_profile_report_and_replay_have_one_figure_of_one_run(
        self, duration_s: float, tmp_path: Path
    ) -> None:
        clock = VirtualTime()
        goals = parse_goals("ttft_p90=500ms,tpot_p90=1s")
        session = Session(
            lambda served=False: FakeEngine(clock),
            profile.Profile(DEMO.engine, DEMO.load, DEMO.knobs, goals=goals),
            clock,
            make_host=cast("MakeHost", VirtualHost),
            log_path=tmp_path / "run.jsonl.zst",
            span_s=duration_s,
        )
        session.start()
        measuring = Measuring(duration_s)
        measure(session, measuring, Uninterrupted(), io.StringIO(), quiet=True)
        printed = measured(measuring.result, session.recorder)
        saved = session.snapshot().evidence.tuned
        assert session.close(5.0)
        recording = read_log(tmp_path / "run.jsonl.zst")
        in_report = profile.parse(gather(recording).profile, "report").evidence.tuned
        row = last_frame(recording).trials[-1]
        assert printed.window.length_s == pytest.approx(duration_s, abs=0.3)
        assert saved.figures == printed.figures
        assert saved.goals == printed.goals
        assert in_report.goals == printed.goals
        # A log keeps times to a microsecond, and figures are rounded as their intervals are wide.
        assert in_report.figures.keys() == printed.figures.keys()
        for name, figure in printed.figures.items():
            assert in_report.figures[name].n == figure.n
            for field in ("value", "low", "high"):
                assert getattr(in_report.figures[name], field) == pytest.approx(
                    getattr(figure, field), rel=1e-2, nan_ok=True
                )
        assert row.series.n == printed.window.requests
        assert row.series.values["tokens_per_s"].value == pytest.approx(
            printed.figures["tokens_per_s"].value, rel=1e-3
        )

    def test_the_same_seed_gives_the_same_figures(self) -> None:
        def once() -> object:
            rig = Rig(DEMO.load, DEMO.knobs)
            rig.boot()
            frame = measured_on(rig, 8.0).result
            return measured(frame, rig.session.recorder).figures

        assert once() == once()

    def test_a_longer_measurement_than_a_screens_window(self) -> None:
        rig = Rig(DEMO.load, DEMO.knobs, span_s=90.0)
        rig.boot()
        frame = measured_on(rig, 90.0).result
        assert frame.window.length_s == pytest.approx(90.0, abs=0.6)
        assert measured(frame, rig.session.recorder).window.requests > 2500

    def test_a_ramp_is_waited_for(self) -> None:
        rig = Rig(from_texts(DEMO.load, {"arrivals": "8..64 over 20s"}), DEMO.knobs)
        rig.boot()
        measuring = measured_on(rig, 6.0)
        assert measuring.stage is Stage.DONE
        assert measuring.result.window.start_s > rig.session.recorder.marks[-1].t_s + 20

    def test_a_trace_that_ends_is_measured_until_then(self, tmp_path: Path) -> None:
        lines = [json.dumps({"prompt_tokens": 40, "output_tokens": 200})] * 400
        (tmp_path / "t.jsonl").write_text("\n".join(lines))
        load = from_texts(DEMO.load, {"trace": str(tmp_path / "t.jsonl"), "arrivals": "64"})
        rig = Rig(load, DEMO.knobs)
        rig.boot()
        measuring = measured_on(rig, 1000.0)
        assert (measuring.stage, measuring.note) == (Stage.DONE, "the load ended")
        assert 0 < measuring.measured_s < 1000
        assert measuring.result.window.phase.quotable

    def test_an_engine_that_fails_ends_it_with_its_words(self) -> None:
        rig = Rig(DEMO.load, DEMO.knobs, fail_at_step=300)
        rig.boot()
        measuring = measured_on(rig, 30.0)
        assert measuring.stage is Stage.FAILED
        assert "told to fail" in measuring.note
        rig = Rig(DEMO.load, DEMO.knobs, fail_boot=EngineError("no memory", "less"))
        rig.boot()
        assert measured_on(rig, 30.0, at_most=3).note == "no memory less"


# -- what is printed -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def result() -> Result:
    rig = Rig(DEMO.load, DEMO.knobs)
    rig.boot()
    rig.session.set_goals(parse_goals("ttft_p90=5s,tpot_p50=1ms"))
    measuring = measured_on(rig, 12.0)
    found = measured(measuring.result, rig.session.recorder)
    account = {"issued": 900, "finished": 800, "cut": 0}
    return Result("complete", found, goals_met(found, 2), "", account, {"log": "/tmp/x.log"})


def test_every_format_holds_the_same_figures(result: Result) -> None:
    figure = result.measured.figures["ttft_p90_s"]
    found = json.loads(result_text(result, "json"))
    assert found["measured"]["figures"]["ttft_p90_s"]["value"] == figure.value
    assert found["tputtui_bench"] == 1
    assert found["goals_met"] is False
    assert found["accounting"]["finished"] == 800
    (line,) = result_text(result, "jsonl").splitlines()
    assert json.loads(line)["result"] == found
    (row,) = csv.DictReader(io.StringIO(result_text(result, "csv")))
    assert float(row["ttft_p90_s"]) == figure.value
    assert float(row["tokens_per_s.low"]) == result.measured.figures["tokens_per_s"].low
    assert (row["goal.ttft_p90"], row["goal.tpot_p50"]) == ("met", "missed")
    assert row["limits.max_num_seqs"] == "64"
    table = result_text(result, "table")
    assert "TTFT p90" in table
    assert "missed" in table
    assert max(map(len, table.splitlines())) <= 100


def test_every_limit_that_is_turned_is_named(result: Result) -> None:
    kept = {"max_num_seqs": 64, "num_gpu_blocks": 200, "enable_prefix_caching": 0}
    table = result_text(result._replace(kept=kept), "table")
    assert table.count("max_num_seqs") == 1
    assert re.search(r"max_model_len \d+\n +num_gpu_blocks 200  enable_prefix_caching off\n", table)
    assert "num_gpu_blocks" not in result_text(result, "table")


def test_a_csv_row_has_its_columns_whether_or_not_a_figure_is_there(result: Result) -> None:
    fewer = msgspec.structs.replace(
        result.measured,
        figures={k: v for k, v in result.measured.figures.items() if not k.startswith("itl")},
    )
    head = result_text(result, "csv").splitlines()[0]
    assert result_text(result._replace(measured=fewer), "csv").splitlines()[0] == head


def test_no_figures_are_said_in_every_format() -> None:
    nothing = Result("failed", None, None, "no memory", {}, {})
    assert result_text(nothing, "table") == "no figures: no memory\n"
    assert json.loads(result_text(nothing, "json"))["measured"] is None
    for format in FORMATS:
        assert result_text(nothing, format)


def test_goals_are_met_only_beyond_chance(result: Result) -> None:
    assert goals_met(None, 0) is None
    assert goals_met(None, 1) is False
    assert goals_met(result.measured, 2) is False
    goals = {"ttft_p90": result.measured.goals["ttft_p90"]}
    met = msgspec.structs.replace(result.measured, goals=goals)
    assert goals_met(met, 1) is True
    # One that no request has been judged by is not met.
    assert goals_met(met, 2) is False
    open_ = msgspec.structs.replace(
        met, goals={"x": msgspec.structs.replace(goals["ttft_p90"], verdict="unresolved")}
    )
    assert goals_met(open_, 1) is False


def test_a_line_a_second_is_json_without_nan(rig: Rig) -> None:
    rig.run(1.0)
    found = json.loads(sample_line(rig.session.advance()), parse_constant=pytest.fail)["sample"]
    assert found["state"] == "RUNNING"
    assert found["tokens_per_s"] > 0
    # In a closed loop the next is due the moment one ends, and sent a turn later.
    assert 90 <= found["running"] + found["waiting"] <= 96


def test_a_verify_boot_as_a_table(result: Result) -> None:
    figures_ = {
        name: msgspec.structs.replace(f, value=f.value * 1.5, low=None, high=None)
        for name, f in result.measured.figures.items()
    }
    other = msgspec.structs.replace(result.measured, figures=figures_)
    text = verified_text(compared(result.measured, other))
    assert "+50.0%" in text
    assert "undecided" in text
    assert verified_text(
        profile.parse("tputtui: 1\nevidence: {state: tuned live}", "x").evidence
    ) == (f"{TUNED}\n")


def test_progress_is_a_few_lines_where_there_is_no_terminal(rig: Rig) -> None:
    said, measuring = io.StringIO(), Measuring(30.0)
    with Progress(said) as progress:
        while not measuring.over:
            rig.run(0.5)
            frame = rig.session.advance()
            if measuring.follow(frame):
                rig.session.steer.measure_anew()
            progress.show(measuring, frame)
    lines = said.getvalue().splitlines()
    assert 5 <= len(lines) <= 12
    assert all(line.startswith("tputtui: ") for line in lines)
    assert "\x1b" not in said.getvalue()
    quiet = io.StringIO()
    with Progress(quiet, quiet=True) as progress:
        progress.show(measuring, replace(frame))
    assert not quiet.getvalue()


@pytest.mark.parametrize(
    ("text", "seconds"), [("60", 60), ("90s", 90), ("5min", 300), ("1.5h", 5400), ("2m", 120)]
)
def test_durations(text: str, seconds: int) -> None:
    assert duration_of(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "-3s", "0", "2d", "99h"])
def test_what_is_no_duration_is_a_sentence(text: str) -> None:
    with pytest.raises(UsageError, match="--duration"):
        duration_of(text)


@pytest.mark.parametrize("load", ["0", "0/s", "0..0/s over 60s", "0,0 each 5s"])
def test_a_load_that_sends_nothing_is_refused_before_the_boot(
    load: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def hosted(*_: object, **__: object) -> None:
        raise AssertionError("an engine is made")

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("tputtui.cli.engines.hosting", hosted)
    with pytest.raises(UsageError, match="sends nothing"):
        bench_command.run(["--simulate", "h100", "--load", load])
    check_load(Workload(parse_arrivals("0..5/s over 60s"), Fixed(9), Fixed(9)))
    own = (TrafficClass("a", arrivals=parse_arrivals("2")),)
    check_load(Workload(parse_arrivals("0"), Fixed(9), Fixed(9), classes=own))


def test_nothing_that_was_due_is_nothing_served(rig: Rig) -> None:
    rig.run(5.0)
    last = rig.session.advance()
    assert not _nothing_served(last)
    none = replace(last, accounting=Accounting())
    assert "no request was due" in _nothing_served(none)


def test_a_run_without_a_screen_imports_no_textual() -> None:
    code = (
        "import sys\n"
        "import tputtui.cli.bench, tputtui.cli.verify, tputtui.cli.report, tputtui.cli.compare\n"
        "import tputtui.headless.running, tputtui.headless.results, tputtui.session.session\n"
        "import tputtui.report.pages, tputtui.report.prometheus\n"
        "bad = {'textual', 'torch', 'vllm', 'rich', 'matplotlib', 'jinja2'} & set(sys.modules)\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the program ---------------------------------------------------------------------------------


def bench(*words: str, cwd: Path, more: dict[str, str | None] | None = None) -> Popen[str]:
    env = os.environ | {"XDG_STATE_HOME": str(cwd / "state"), "XDG_CONFIG_HOME": str(cwd / "conf")}
    env |= more or {}
    return subprocess.Popen(
        [sys.executable, "-m", "tputtui", "bench", *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=env, cwd=cwd, start_new_session=True,
    )  # fmt: skip


def test_the_program_measures_with_no_terminal_at_all(tmp_path: Path) -> None:
    """On the deterministic engine, in real time; `verify` is tested on the real one."""
    # A goal is met from three generations of requests on, of about a second each.
    words = ["--duration", "6s", "--load", "32", "--limit", "max_num_seqs=24", "--format", "json"]
    words += ["--goal", "ttft_p50=60s", "--save", "kept.yaml"]
    done = bench(*words, cwd=tmp_path, more=PACED)
    out, err = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 0, err
    found = json.loads(out)
    assert found["outcome"] == "complete"
    assert found["goals_met"] is True
    kept = found["measured"]
    assert kept["figures"]["tokens_per_s"]["value"] > 0
    assert kept["limits"]["max_num_seqs"] == 24
    account = found["accounting"]
    assert account["issued"] == account["finished"] + account["running"] + account["waiting"]
    assert "measuring" in err
    assert "Traceback" not in err
    saved = profile.load(tmp_path / "kept.yaml")
    assert saved.evidence.tuned.figures["ttft_p50_s"].n > 0
    assert saved.knobs["max_num_seqs"] == 24

    # The run can be looked at again, and says the same.
    assert cli.main(["compare", found["files"]["session"], found["files"]["session"]]) == 0


def test_a_run_that_is_interrupted_gives_what_it_has_and_its_code(tmp_path: Path) -> None:
    words = ["--duration", "10min", "--load", "32", "--format", "jsonl"]
    done = bench(*words, cwd=tmp_path, more=PACED)
    settled = False
    for line in done.stdout:
        window = json.loads(line)["sample"]["window"]
        # The first window of all is of the warm-up.
        settled = settled or window == "settling"
        if settled and window in ("measuring", "steady"):
            break
    # A line a second: then there is something to give.
    for _ in range(3):
        next(done.stdout)
    os.kill(done.pid, signal.SIGINT)
    out, err = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 130, err
    assert "interrupted" in err
    last = json.loads(out.splitlines()[-1])["result"]
    assert last["outcome"] == "interrupted"
    assert last["measured"]["figures"]["tokens_per_s"]["value"] > 0


@pytest.mark.engine
@pytest.mark.long
def test_an_engine_that_will_not_boot_is_code_3_and_bad_flags_code_2(tmp_path: Path) -> None:
    done = bench("--kv-cache-memory-bytes", str(10**15), "--duration", "2s", cwd=tmp_path)
    out, err = done.communicate(timeout=PATIENCE_S)
    assert done.returncode == 3, (out, err)
    assert "Traceback" not in err
    assert out.startswith("no figures")
    done = bench("--duration", "soon", cwd=tmp_path)
    _, err = done.communicate(timeout=PATIENCE_S)
    assert (done.returncode, "--duration 'soon'" in err) == (2, True)
    (tmp_path / "kept.yaml").write_text("mine")
    done = bench("--save", "kept.yaml", cwd=tmp_path)
    _, err = done.communicate(timeout=PATIENCE_S)
    assert (done.returncode, "exists already" in err) == (2, True)

"""Reports of a run, and two runs side by side."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from tests.test_record import Recorded
from tputtui import cli, profile
from tputtui.errors import UsageError
from tputtui.frame import TunerState, TunerTrial
from tputtui.goals import parse_goals
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.measure.frontier import Point
from tputtui.measure.verdict import Verdict
from tputtui.profile import EngineSpec, Profile
from tputtui.record.reading import Recording, read_log
from tputtui.report.charts import _free_line
from tputtui.report.content import gather
from tputtui.report.pages import html, markdown
from tputtui.report.search import search_sentences
from tputtui.report.sides import compared_runs


def recorded(
    path: Path,
    turn: tuple[str, int] | None = None,
    *,
    seed: int = 0,
    load: Workload | None = None,
    goals: bool = True,
) -> Path:
    demo = profile.load(profile.shipped()["demo"]).load
    made = Recorded(path, load=msgspec.structs.replace(load or demo, seed=seed))
    if goals:
        made.session.set_goals(parse_goals("ttft_p90=1500ms"))
    made.run(30)
    if turn:
        made.session.steer.limits.set(*turn)
        made.run(35)
    return made.end().journal.path


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("logs")
    return {
        "turned": recorded(folder / "turned.jsonl.zst", ("max_num_seqs", 32)),
        "plain": recorded(folder / "plain.jsonl.zst"),
        "again": recorded(folder / "again.jsonl.zst", seed=5),
    }


@pytest.fixture
def turned(logs: dict[str, Path]) -> Recording:
    return read_log(logs["turned"])


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def parsed(page: str) -> Tags:
    tags = Tags()
    tags.feed(page)
    tags.close()
    return tags


def test_the_page_has_settings_verdicts_charts_marks_and_the_profile(turned: Recording) -> None:
    page = html(turned)
    found = parsed(page)
    text = " ".join(" ".join(found.text).split())
    assert "shape:demo: 2 settings tried" in text
    assert "max_num_seqs 64 → 32" in text
    for verdict in ("better", "worse"):
        assert verdict in text
    charts = [attributes for tag, attributes in found.tags if tag == "svg"]
    titles = re.findall(r"<h3>(.*?)</h3>", page)
    assert titles == ["throughput", "batch", "KV cache", "TTFT", "TPOT"]
    # One more: the frontier has two points.
    assert len(charts) == len(titles) + 1
    pre = page.partition("<pre>")[2].partition("</pre>")[0]
    kept = profile.parse(pre.replace("&#39;", "'"), "report")
    assert kept.knobs["max_num_seqs"] == 32
    assert kept.evidence.tuned.figures["tokens_per_s"].value > 0


def test_the_page_loads_nothing_from_anywhere(turned: Recording) -> None:
    page = html(turned)
    for _, attributes in parsed(page).tags:
        for name in ("src", "href", "xlink:href"):
            assert not attributes.get(name) or attributes[name].startswith("#"), attributes
    assert "<script" not in page
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_a_run_gives_the_same_page_each_time(turned: Recording) -> None:
    def still(page: str) -> str:
        # When the figures were written down is all that may differ.
        return re.sub(r"date: \S+", "", page)

    assert still(html(turned)) == still(html(turned))


def test_what_a_run_is_called_does_nothing_to_the_page(tmp_path: Path) -> None:
    path = recorded(tmp_path / "x.jsonl.zst", goals=False)
    recording = read_log(path)
    nasty = "<script>alert(1)</script>|`*_[x](y)"
    for i, moment in enumerate(recording.moments):
        engine = profile.EngineSpec(nasty)
        recording.moments[i] = moment._replace(
            profile=msgspec.structs.replace(moment.profile, engine=engine)
        )
    assert "<script" not in html(recording)
    text = markdown(recording).partition("## The profile")[0]
    assert "<script" not in text
    assert "\\`\\*\\_\\[x\\]" in text


def test_markdown_says_the_same_in_text_alone(turned: Recording) -> None:
    text = markdown(turned)
    assert text.startswith("# shape:demo: 2 settings tried\n")
    rows = [line for line in text.splitlines() if line.startswith("| 2 |")]
    assert "32/2048/2048" in rows[0]
    widths = {line.count("|") for line in rows[:1]}
    assert widths == {text.partition("| # |")[2].partition("\n")[0].count("|") + 2}
    # Charts in braille, with the numbers of the marks below them.
    assert "⣿" in text
    assert "throughput: generated" in text
    assert "](" not in text


def test_figures_are_those_of_the_table(turned: Recording) -> None:
    content = gather(turned)
    first, second = content.rows
    assert [row.number for row in content.rows] == [1, 2]
    assert second.against == 1
    verdicts = {metric: verdict for metric, _, verdict in second.verdicts}
    assert verdicts["goodput"] == "worse"
    assert verdicts["TPOT p50"] == "better"
    trial = content.frame.trials[1]
    assert second.cells["tokens_per_s"][0] == f"{trial.value('tokens_per_s'):,.0f}"
    assert first.cells["ttft_p50"][0].endswith("ms")


def test_curves_add_up_to_what_was_generated(turned: Recording) -> None:
    content = gather(turned)
    curve = next(c for c in content.curves if c.label == "generated")
    assert curve.values.sum() == pytest.approx(content.frame.generated_tokens)


# -- side by side --------------------------------------------------------------------------------


def test_a_lower_limit_is_told_from_another_runs(logs: dict[str, Path]) -> None:
    sides = compared_runs(read_log(logs["plain"]), read_log(logs["turned"]))
    found = {row.metric.key: row.judgement for row in sides.rows}
    assert found["tokens_per_s"] is Verdict.WORSE
    assert found["tpot_p50"] is Verdict.BETTER
    assert sides.changed == "max_num_seqs 64 → 32"
    assert sides.apart == ()
    assert "e2e_p90" in found


def test_two_equal_runs_are_not_told_apart(logs: dict[str, Path]) -> None:
    sides = compared_runs(read_log(logs["plain"]), read_log(logs["again"]))
    assert not [row for row in sides.rows if row.judgement.clear]
    assert sides.changed == ""
    assert any("seed" in each for each in sides.apart)


def test_settings_of_one_run_by_their_numbers(logs: dict[str, Path]) -> None:
    run = read_log(logs["turned"])
    there, back = compared_runs(run, run, 1, 2), compared_runs(run, run, 2, 1)
    for a, b in zip(there.rows, back.rows, strict=True):
        assert (1 + a.change) * (1 + b.change) == pytest.approx(1)
    with pytest.raises(UsageError, match="setting 9 was not measured") as refusal:
        compared_runs(run, run, 9, 1)
    assert refusal.value.hint == "Measured: 1, 2."


def test_the_last_setting_measured_is_the_one_that_was_put_on_last(logs: dict[str, Path]) -> None:
    run, plain = read_log(logs["turned"]), read_log(logs["plain"])
    assert compared_runs(plain, run).b.trial.number == 2
    # As where the first setting was gone back to: it keeps its row, which then stands last.
    for i, moment in enumerate(run.moments):
        run.moments[i] = moment._replace(trials=moment.trials[::-1])
    assert compared_runs(plain, run).b.trial.number == 1


def test_a_setting_is_the_same_as_itself(logs: dict[str, Path]) -> None:
    run = read_log(logs["turned"])
    for numbers in ((None, None), (2, 2), (None, 2)):
        found = compared_runs(run, read_log(logs["turned"]), *numbers).rows
        measured = [row for row in found if not math.isnan(row.change)]
        assert {(row.low, row.high, row.judgement) for row in measured} == {(0, 0, Verdict.SAME)}
        assert len(measured) > 5


def test_the_commands_write_and_print(
    logs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = str(logs["turned"])
    page, text = tmp_path / "page.html", tmp_path / "page.md"
    assert cli.main(["report", log, "-o", str(page)]) == 0
    assert cli.main(["report", log, "-o", str(text)]) == 0
    assert page.read_text().startswith("<!doctype html>")
    assert text.read_text().startswith("# shape:demo")
    capsys.readouterr()
    assert cli.main(["report", log, "-o", str(page)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert cli.main(["report", log, "-o", str(tmp_path / "page.pdf")]) == 2
    assert "HTML or Markdown" in capsys.readouterr().err
    assert cli.main(["report", str(tmp_path / "gone")]) == 2
    capsys.readouterr()

    assert cli.main(["compare", str(logs["plain"]), log, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["figures"]["tokens_per_s"]["verdict"] == "worse"
    assert found["figures"]["tokens_per_s"]["low"] < found["figures"]["tokens_per_s"]["change"]
    assert cli.main(["compare", str(logs["plain"]), log]) == 0
    table = capsys.readouterr().out
    assert "changed: max_num_seqs 64 → 32" in table
    assert re.search(r"tokens/s +3,8\d\d +2,8\d\d +-26\.\d% \[.*\] +worse", table)
    assert cli.main(["compare", str(logs["plain"]), log, "--format", "md"]) == 0
    assert "| tokens/s |" in capsys.readouterr().out


def test_the_last_run_is_found_by_that_word(
    logs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert cli.main(["report"]) == 2
    assert "No run was recorded yet" in capsys.readouterr().err
    folder = tmp_path / "tputtui" / "sessions"
    folder.mkdir(parents=True)
    for name, key in (("20260101-000000-1", "plain"), ("20260102-000000-1", "turned")):
        (folder / f"{name}.jsonl.zst").write_bytes(logs[key].read_bytes())
    assert cli.main(["report", "last", "--format", "md"]) == 0
    assert "2 settings tried" in capsys.readouterr().out
    (folder / "20260103-000000-1.jsonl.zst").touch()
    for words in (["report", "--format", "md"], ["compare", "last", "last", "--setting-a", "1"]):
        assert cli.main(words) == 0
        said = capsys.readouterr().err
        assert said.count("20260103-000000-1.jsonl.zst has no figures: this is 20260102-") == 1
    # As the run is called on the page and in a comparison.
    for name in ("20260101-000000-1", "20260101-000000-1.jsonl.zst"):
        assert cli.main(["report", name, "--format", "md"]) == 0
        assert "1 setting tried" in capsys.readouterr().out
    assert cli.main(["compare", "20260101-000000-2", "last"]) == 2
    assert str(folder) in capsys.readouterr().err


def test_a_run_of_which_nothing_was_measured_still_makes_a_page(tmp_path: Path) -> None:
    demo = profile.load(profile.shipped()["demo"]).load
    load = msgspec.structs.replace(demo, arrivals=ClosedLoop(0))
    made = Recorded(tmp_path / "x.jsonl.zst", load=load)
    made.run(3)
    recording = read_log(made.end().journal.path)
    assert "<h2>Over time</h2>" in html(recording)
    assert "## Over time" in markdown(recording)
    with pytest.raises(UsageError, match="nothing was measured"):
        compared_runs(recording, recording)


def test_marks_close_together_have_numbers_that_do_not_overlap() -> None:
    lines = [-math.inf] * 3
    found = [_free_line(lines, at_s, 4.0) for at_s in (10.0, 11.0, 12.0, 13.0, 20.0, 30.0)]
    assert found == [0, 1, 2, None, 0, 0]


def test_facts_are_the_persons_goals_with_their_limits_and_the_persons_seed(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.zst"
    made = Recorded(path)
    made.session.set_goals(parse_goals("ttft_p90=1500ms"))
    made.run(12)
    made.session.steer.limits.set("max_num_seqs", 32)
    made.run(8)
    made.session.steer.experiments.compare()
    made.run(6)
    leg = made.session.advance().profile.load.seed
    made.end()
    content = gather(read_log(path))
    facts = dict(content.facts)
    assert facts["goals"] == "ttft_p90 ≤ 1.50 s"
    assert leg != content.frame.trials[-1].load.seed
    assert f"(seed {content.frame.trials[-1].load.seed})" in facts["load"]


def test_one_setting_is_one(tmp_path: Path) -> None:
    made = Recorded(tmp_path / "x.jsonl.zst")
    made.run(8)
    made.end()
    assert gather(read_log(tmp_path / "x.jsonl.zst")).title == "shape:demo: 1 setting tried"


def test_a_search_is_told_to_a_reader_who_was_not_there() -> None:
    point = Point("a", {"max_num_seqs": 256}, "48 in flight", 48.0, 900.0, 11.0, {}, 200, 20.0)

    def trial(number: int, seqs: int, value: float, predicted: float, miss: float) -> TunerTrial:
        return TunerTrial(number, 30.0 * number, 0, {"max_num_seqs": seqs}, 48.0, 0, point, value,
                          0.02, miss, miss > 0, "tpot_p90", 0.04, False, "measured", "", 26.0,
                          predicted)  # fmt: skip

    state = TunerState(
        "done", "", False, "physics", "max_num_seqs=8,24,48,256", "", ("",),
        (trial(1, 256, 0.0, math.nan, 0.2), trial(2, 24, 11.0, 10.0, -0.1),
         trial(3, 8, 8.0, 8.0, -0.5)),
        best=2, holds=True, value=11.0, verdict="max_num_seqs 24 is better than the start.",
        of=Profile(EngineSpec("shape:demo"), Workload(ClosedLoop(48), pairs=((60, 16, 1.0),)),
                   goals=parse_goals("tpot_p90=44ms")),
        settings=4,
    )  # fmt: skip
    assert search_sentences(state) == (
        "Tuner: searched max_num_seqs=8,24,48,256 for the most goodput within tpot_p90=44ms. "
        "3 of 4 settings tried in 3 trials, 1:18, on the running engine. "
        "max_num_seqs 24 is better than the start. "
        "Predicted and measured lie 5% apart (median of 2 trials that met the goals)."
    )

"""The quality gate without a real engine: asking, the rule on what is verified, the command."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import zstandard

from tests.rig import Rig
from tests.speaking import Speaking, speaking_rig, thirty
from tputtui import profile
from tputtui.cli import engines
from tputtui.cli.headless import Headless
from tputtui.cli.main import main
from tputtui.engine.virtual import VirtualHost
from tputtui.errors import UsageError
from tputtui.experiments.asking import Asking, Next, judged
from tputtui.export import export
from tputtui.frame import QualityState
from tputtui.frame.proof import compared
from tputtui.load.lengths import Fixed
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.profile import EngineSpec, Profile
from tputtui.profile.answering import changes_answers, plain
from tputtui.profile.evidence import Measured, Quality
from tputtui.quality.prompts import prompt_set
from tputtui.session import questioning
from tputtui.simulate.clock import VirtualTime
from tputtui.ui.command_line import carry_out
from tputtui.ui.panels.changes import changes

CANARY = "Serinus-canaria-domestica"
LOAD = Workload(ClosedLoop(6), Fixed(60), Fixed(40))


def asked(rig: Rig, asking: Asking) -> list[Next]:
    """Carry out all that asking wants; what that was."""
    wanted: list[Next] = []
    for _ in range(400):
        step = asking.follow(rig.session.advance())
        if step is not Next.NOTHING:
            wanted.append(step)
            asking.ordered(rig.session.steer.questions.carry_out(step, thirty()))
        if asking.over:
            return wanted
        rig.run(0.25)
    raise AssertionError(f"never over: {asking.note}")


def test_it_asks_alone_and_then_beside_the_load() -> None:
    rig = speaking_rig(LOAD)
    asking = Asking(times=2)
    assert asked(rig, asking) == [
        Next.STOP_LOAD, Next.ASK_ALONE, Next.ASK_ALONE, Next.RUN_LOAD, Next.ASK_BESIDE,
    ]  # fmt: skip
    assert len(asking.alone) == 2
    for answers in (*asking.alone, asking.beside):
        assert [answer is not None for answer in answers] == [True] * 30 + [False]
        assert all(len(each.logprobs) == len(each.token_ids) for each in answers[:30])
    frame = rig.session.advance()
    assert frame.status.load_on
    assert frame.accounting.balanced
    # The load has its own six again, and none of its requests was lost to a question.
    assert frame.accounting.in_flight == 6
    assert frame.accounting.rejected == 0


def test_an_engine_that_fails_meanwhile_ends_it() -> None:
    rig = speaking_rig(LOAD)
    asking = Asking(times=1)
    asking.ordered(rig.session.steer.questions.carry_out(asking.follow(rig.session.advance()),
                                                         thirty()))  # fmt: skip
    rig.run(1.0)
    assert rig.host._engine is not None
    rig.host._engine._fail_at_step = rig.host._engine._steps + 2  # type: ignore[attr-defined]
    asking.ordered(rig.session.steer.questions.carry_out(asking.follow(rig.session.advance()),
                                                         thirty()))  # fmt: skip
    rig.run(1.0)
    assert asking.follow(rig.session.advance()) is Next.NOTHING
    assert asking.over
    assert "The engine failed" in asking.broken
    assert rig.session.advance().status.answered is None


def test_a_boot_drops_what_was_asked() -> None:
    rig = speaking_rig(LOAD)
    asked(rig, Asking(times=1))
    assert rig.session.advance().status.answered is not None
    rig.session.steer.engine.boot_with({"max_num_seqs": 32}, {})
    rig.run(10.0)
    frame = rig.session.advance()
    assert frame.status.answered is None
    assert frame.accounting.balanced


def test_equal_and_changed_answers_are_told_apart() -> None:
    rig = speaking_rig(LOAD)
    before, after, quantized = Asking(times=2), Asking(times=1), Asking(times=1)
    asked(rig, before)
    asked(rig, after)
    quality, found = judged(thirty(), [], before, after)
    assert quality.verdict == "unchanged within noise"
    assert quality.sentence == (
        "answers unchanged within noise: alone 0 of 30 differ (of the reference itself 0), "
        "under load 0 of 30 differ (of the reference itself 0)"
    )
    rig.session.steer.engine.boot_with({"kv_cache_dtype": "fp8"}, {})
    rig.run(12.0)
    asked(rig, quantized)
    quality, found = judged(thirty(), ["kv_cache_dtype fp8"], before, quantized)
    assert quality.verdict == "changed"
    assert (quality.alone.differ, quality.alone.noise, quality.alone.prompts) == (20, 0, 30)
    assert quality.loaded.differ == 20
    first = found[0].differences[0]
    assert first.position == 1
    # e^-3 ÷ e^-0.1
    assert first.likelihood == pytest.approx(0.055, abs=1e-3)


# -- on the board --------------------------------------------------------------------------------


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Rig:
    """A session that asks our thirty prompts, and reads them at once."""
    monkeypatch.setattr(questioning, "prompt_set", lambda *_: thirty())
    monkeypatch.setattr(questioning, "_beside", lambda make: make())
    return speaking_rig(LOAD)


def ask(rig: Rig, line: str = "quality") -> QualityState:
    """What comes of a line typed at `:`."""
    carry_out(rig.session, line)
    for _ in range(200):
        rig.run(0.5)
        state = rig.session.advance().quality
        if state is not None and state.over:
            return state
    raise AssertionError(f"never over: {state}")


def test_the_first_answers_are_the_reference_of_those_after_a_turn_or_a_boot(board: Rig) -> None:
    steer = board.session.steer
    assert "31 answers of this setting are the reference" in ask(board).note
    assert board.session.advance().status.load_on
    steer.limits.set("max_num_seqs", 4)
    board.run(1.0)
    assert board.session.advance().quality is None
    state = ask(board)
    assert (state.verdict, state.differences) == ("unchanged within noise", ())
    assert state.note.startswith("answers unchanged within noise: alone 0 of 30 differ")
    steer.engine.boot_with({"kv_cache_dtype": "fp8"}, {})
    board.run(12.0)
    state = ask(board)
    assert state.verdict == "changed"
    assert [where for where, _ in state.differences] == ["alone"] * 5 + ["under load"] * 5
    _, first = state.differences[0]
    assert first.text.endswith("token 2: 6% as likely as the reference's own")
    # That setting as the reference of what comes.
    assert "are the reference" in ask(board, "quality reference").note
    assert ask(board).verdict == "unchanged within noise"


def test_a_held_load_stays_held(board: Rig) -> None:
    board.session.steer.load.toggle()
    board.run(5.0)
    assert "are the reference" in ask(board).note
    assert not board.session.advance().status.load_on
    assert "under load" not in ask(board).note


def test_a_turn_ends_it_and_the_load_goes_on(board: Rig) -> None:
    carry_out(board.session, "quality")
    board.run(0.5)
    assert not board.session.advance().quality.over
    with pytest.raises(UsageError, match="under way"):
        carry_out(board.session, "quality")
    board.session.steer.limits.set("max_num_seqs", 4)
    board.run(1.0)
    assert board.session.advance().status.load_on
    board.run(20.0)
    assert board.session.advance().accounting.balanced


def test_it_waits_for_other_experiments(board: Rig) -> None:
    board.session.steer.limits.set("max_num_seqs", 4)
    board.run(20.0)
    board.session.steer.experiments.compare()
    with pytest.raises(UsageError, match="An A/B is under way"):
        carry_out(board.session, "quality")


@pytest.mark.parametrize(("width", "height"), [(78, 3), (118, 6), (198, 48)])
def test_the_changes_panel_says_it(board: Rig, width: int, height: int) -> None:
    ask(board)
    board.session.steer.engine.boot_with({"kv_cache_dtype": "fp8"}, {})
    board.run(12.0)
    ask(board)
    rows = ["".join(text for text, _ in row)
            for row in changes(board.session.advance(), width, height)]  # fmt: skip
    assert len(rows) <= height
    assert all(len(row) <= width for row in rows)
    (told,) = (row for row in rows if "quality  " in row)
    assert "answers changed: alone 20 of 30 differ" in told
    assert any("token 2: 6% as likely" in row for row in rows) is (height > 16)


# -- the rule ------------------------------------------------------------------------------------


def profile_of(limits: Mapping[str, int] = MappingProxyType({}), **args: Any) -> Profile:
    return Profile(EngineSpec("m", {"max_num_seqs": 8, **args}), LOAD, dict(limits))


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        (profile_of(), []),
        (profile_of({"enable_prefix_caching": 1, "max_num_seqs": 4}, dtype="auto"), []),
        (profile_of(dtype="float16"), ["dtype float16"]),
        (profile_of({"enable_prefix_caching": 0}), ["enable_prefix_caching off"]),
        (profile_of({}, **{"-q": "fp8", "kv-cache-dtype": "fp8_e5m2"}),
         ["quantization fp8", "kv_cache_dtype fp8_e5m2"]),
        (profile_of(speculative_config={"method": "ngram", "num_speculative_tokens": 3}),
         ["speculative_config ngram"]),
        (profile_of(no_enable_prefix_caching=True), ["enable_prefix_caching off"]),
    ],
)  # fmt: skip
def test_what_may_change_answers_is_known_in_every_spelling(
    made: Profile, changes: list[str]
) -> None:
    assert changes_answers(made) == changes
    assert changes_answers(plain(made)) == []
    assert plain(made).engine.args["max_num_seqs"] == 8


def measured() -> Measured:
    from tests.test_profile import evidence_of

    tuned = evidence_of(tokens_per_s=100.0).tuned
    assert tuned is not None
    return tuned


def test_what_may_change_answers_is_not_called_verified_without_a_word_on_them() -> None:
    one = measured()
    assert compared(one, one).state == "verified"
    silent = compared(one, one, ["dtype float16"])
    assert (silent.state, silent.verified) == ("tuned live", one)
    assert silent.note == "not called verified: dtype float16 may change answers"
    for quality in (Quality("not compared", ["dtype float16"]), Quality("changed")):
        evidence = compared(one, one, ["dtype float16"], quality)
        assert (evidence.state, evidence.quality) == ("verified", quality)


# -- the command ---------------------------------------------------------------------------------


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The command on that engine, in virtual time; the folder in which it writes."""

    def hosting(*_: object, **__: object) -> engines.Hosting:
        now = VirtualTime()
        return engines.Hosting(lambda served=False: Speaking(now), VirtualHost, now, None)

    started, enter = [], Headless.__enter__

    def entered(self: Headless) -> Headless:
        started.append(self)
        return enter(self)

    monkeypatch.setattr(engines, "hosting", hosting)
    monkeypatch.setattr(Headless, "__enter__", entered)
    for name in ("STATE", "CONFIG"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / name))
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)
    for each in started:
        # The process ends with the command, and these with it.
        each.out.close()
        each.err.close()


def written(folder: Path, **args: object) -> Path:
    """A profile of a shape, and prompts with the canary as token ids and as text."""
    engine = json.dumps({"model": "shape:demo", "max_num_seqs": 64, **args})
    path = folder / "mine.yaml"
    path.write_text(
        f"tputtui: 1\nengine: {engine}\nlimits: {{max_num_seqs: 24}}\nload:\n"
        "  arrivals: {kind: closed, in_flight: 6}\n  prompt: {kind: fixed, tokens: 60}\n"
        "  output: {kind: fixed, tokens: 40}\n"
    )
    ids = [byte + 4 for byte in CANARY.encode()]
    lines = [{"prompt": [*ids, i], "max_tokens": 8, "user": CANARY} for i in range(40)]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


def sings(text: str) -> bool:
    ids = [byte + 4 for byte in CANARY.encode()][:6]
    return any(each in text for each in
               (CANARY, ", ".join(map(str, ids)), ",".join(map(str, ids))))  # fmt: skip


def test_the_command_compares_answers_and_writes_counts_alone(
    command: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(command)
    code = main(["verify", str(path), "--duration", "5s", "--quality", "prompts.jsonl", "--record"])
    said = capfd.readouterr()
    assert code == 0, said.err
    assert "40 prompts are asked of the engine, before the boot" in said.err
    line = ("answers unchanged within noise: alone 0 of 40 differ (of the reference itself 0), "
            "under load 0 of 40 differ (of the reference itself 0)")  # fmt: skip
    assert f"quality {line}" in " ".join(said.out.split())
    assert max(map(len, said.out.splitlines()[-2:])) <= 96
    saved = profile.load(path)
    quality = saved.evidence.quality
    assert saved.evidence.state == "verified"
    assert (quality.prompts, len(quality.sha256), quality.tokens > 100) == ("file", 64, True)
    assert line in export(saved, "command").replace("Answers", "answers")
    # Neither a prompt nor an answer is in any file, nor where answers differ.
    (log,) = (command / "STATE").rglob("*.jsonl.zst")
    opened = zstandard.ZstdDecompressor().stream_reader(log.read_bytes(), read_across_frames=True)
    texts = [opened.read().decode(), path.read_text(), said.out, said.err]
    texts += [each.read_text() for each in (command / "STATE").rglob("*.log")]
    assert len(texts) >= 5
    assert not any(map(sings, texts))


def test_changed_answers_are_told_and_fail_the_command(
    command: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = written(command, kv_cache_dtype="fp8")
    assert main(["verify", str(path), "--duration", "5s", "--quality", "prompts.jsonl"]) == 1
    said = capfd.readouterr()
    assert "without kv_cache_dtype fp8" in said.err
    assert "answers changed: alone " in said.err
    evidence = profile.load(path).evidence
    assert (evidence.state, evidence.quality.verdict) == ("verified", "changed")
    assert evidence.quality.changes == ["kv_cache_dtype fp8"]
    assert evidence.tuned.model.name == "shape:demo"
    text = path.read_text()
    assert "position" not in text
    assert "likely" not in text


@pytest.mark.parametrize(
    ("words", "state", "told"),
    [
        ((), "tuned live", "not called verified: kv_cache_dtype fp8 may change answers"),
        (("--no-quality",), "verified", "answers not compared (--no-quality)"),
    ],
)
def test_without_the_gate_it_is_not_called_verified_unless_that_is_said(
    command: Path, capfd: pytest.CaptureFixture[str], words: tuple[str, ...], state: str, told: str
) -> None:
    path = written(command, kv_cache_dtype="fp8")
    assert main(["verify", str(path), "--duration", "5s", *words]) == 0
    assert told in " ".join(capfd.readouterr().out.split())
    saved = profile.load(path)
    assert saved.evidence.state == state
    assert told.lower() in export(saved, "vllm").lower()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--quality", "nowhere.jsonl"], "nowhere.jsonl: No such file"),
        (["--quality", "none"], "names no set of prompts"),
        (["--quality", "text.jsonl"], "need a tokenizer"),
        (["--quality", "builtin", "--served"], "not on a server"),
    ],
)
def test_what_cannot_be_asked_is_refused_before_anything_boots(
    command: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    words: list[str], sentence: str,
) -> None:  # fmt: skip
    path = written(command)
    (command / "text.jsonl").write_text('{"prompt": "hello"}')
    booted: list[object] = []
    monkeypatch.setattr("tputtui.cli.headless.Headless.__enter__", booted.append)
    assert main(["verify", str(path), *words]) == 2
    assert sentence in capfd.readouterr().err
    assert not booted


def test_our_own_set_is_asked_of_a_shape_byte_by_byte(tmp_path: Path) -> None:
    shipped = prompt_set("builtin", "")
    assert (shipped.name, shipped.private, shipped.skipped) == ("builtin", False, 0)
    assert len(set(shipped.questions)) == len(shipped.questions) > 150
    text = bytes(token - 4 for token in shipped.questions[0].ids).decode()
    assert text.startswith("Why is the sky blue?")
    # Of a person's own prompts there is no guess at tokens.
    path = tmp_path / "mine.jsonl"
    path.write_text('{"prompt": [7, 8]}\n{"prompt": "text"}')
    with pytest.raises(UsageError, match="need a tokenizer"):
        prompt_set(str(path), "")

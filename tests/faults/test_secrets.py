"""Secrets stay where they are: a canary in the environment turns up nowhere else."""

from __future__ import annotations

import logging
import stat
import traceback
from pathlib import Path

import psutil
import pytest

from tests.faults import fault
from tests.faults.test_boot import leaves
from tests.terminal import Terminal
from tests.test_screen import app_after, paint
from tputtui import cli, profile
from tputtui.engine.models import check_no_secret
from tputtui.errors import EngineError, UsageError
from tputtui.export.formats import FORMATS, export
from tputtui.process.logs import log_through
from tputtui.profile import EngineSpec, EngineValue, Profile
from tputtui.redact import redacted, secret_in

CANARY = "canary-4b1f0c77e9"
TOKEN = "hf_" + "Zx9" * 11


@pytest.fixture(autouse=True)
def canary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)


# -- what counts as one --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"401 for {CANARY}", f"token={TOKEN}.", "https://me:pass-word@host/repo",
        "Authorization: Bearer abcdefgh12345", "sk-" + "a1" * 12, "AKIA" + "Z9" * 8,
        "ghp_" + "b2" * 10,
    ],
)  # fmt: skip
def test_what_is_a_secret_by_name_or_by_shape_is_replaced(text: str) -> None:
    said = redacted(text)
    assert "‹secret›" in said
    for secret in (CANARY, TOKEN, "pass-word", "abcdefgh12345", "a1a1", "Z9Z9", "b2b2"):
        assert secret not in said


@pytest.mark.parametrize(
    "text",
    ["hf_hub", "max_num_seqs 64 → 32", "https://huggingface.co/org/name", "task-force"],
)
def test_what_is_none_stays_as_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Short, and a path: neither is taken out of every text there is.
    monkeypatch.setenv("SOME_TOKEN", "64")
    monkeypatch.setenv("APP_CREDENTIALS", "/etc/app.json")
    assert redacted(text + " /etc/app.json 64") == text + " /etc/app.json 64"


@pytest.mark.parametrize(
    "args",
    [
        {"hf_token": "anything"}, {"download_dir": f"/x/{TOKEN}"},
        {"model_loader_extra_config": {"s3": {"secret-access-key": "x"}}},
        {"hf_overrides": {"url": ["http://a:b@c/"]}}, {"tokenizer": CANARY},
        {"kv_transfer_config.extra.password": "x"},
    ],
    ids=lambda args: next(iter(args)),
)  # fmt: skip
def test_an_argument_that_holds_one_is_refused_without_it(args: dict[str, EngineValue]) -> None:
    assert secret_in(args) == next(iter(args))
    with pytest.raises(UsageError) as refused:
        check_no_secret(args)
    for secret in ("anything", TOKEN, CANARY, "a:b"):
        assert secret not in str(refused.value)
    for name in FORMATS:
        with pytest.raises(UsageError, match="holds a secret"):
            export(Profile(EngineSpec("shape:demo", dict(args))), name)


def test_arguments_that_hold_none_are_left_alone() -> None:
    args = {"hf_token": True, "tokenizer": "org/name", "long_prefill_token_threshold": 5,
            "hf_overrides": {"eos_token": "</s>"}, "generation_config": None}  # fmt: skip
    assert secret_in(args) is None


# -- where it might turn up ----------------------------------------------------------------------


def test_lines_and_tracebacks_in_the_log_hold_none(tmp_path: Path) -> None:
    handler, root = logging.FileHandler(tmp_path / "log"), logging.getLogger()
    vllm, level, spread = logging.getLogger("vllm"), root.level, logging.getLogger("vllm").propagate
    log_through(handler)
    try:
        vllm.warning("downloading with %s", CANARY)
        try:
            raise OSError(f"403 for {TOKEN}")
        except OSError:
            logging.getLogger("tputtui").exception("no model")
    finally:
        for log in (root, vllm):
            log.removeHandler(handler)
        root.setLevel(level)
        vllm.propagate = spread
        logging.captureWarnings(False)
        handler.close()
    text = (tmp_path / "log").read_text()
    assert text.count("‹secret›") == 2
    assert "OSError: 403 for" in text
    assert CANARY not in text
    assert TOKEN not in text


def test_a_failure_holds_none_in_its_sentence_nor_in_its_traceback() -> None:
    try:
        raise EngineError(f"401 for {CANARY}", f"Is {TOKEN} right?")
    except EngineError as error:
        failure = error
    text = "".join(traceback.format_exception(failure)) + repr(failure) + failure.hint
    # The line of source in a traceback is this file's own.
    assert CANARY not in text
    assert TOKEN not in text


def test_a_bug_of_ours_is_told_without_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import tputtui.cli.profiles as module

    def broken(_: object) -> None:
        raise LookupError(f"no entry for {CANARY}")

    monkeypatch.setattr(module, "run", broken)
    assert cli.main(["profiles"]) == 70
    said = capsys.readouterr().err
    assert "‹secret›" in said
    assert CANARY not in said


async def test_a_screen_that_fails_prints_no_frame_s_locals(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = app_after(2)

    def broken() -> None:
        secret = CANARY
        raise RuntimeError(f"cannot paint {len(secret)}")

    with pytest.raises(RuntimeError):  # noqa: PT012
        async with app.run_test(size=(80, 24)) as pilot:
            await paint(pilot)
            app._board.tick = broken  # type: ignore[method-assign]
            app._tick()
    printed = capsys.readouterr()
    assert CANARY not in printed.out + printed.err


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.pty
@pytest.mark.engine
@pytest.mark.long
def test_a_whole_run_leaves_the_canary_nowhere_and_listens_nowhere(tmp_path: Path) -> None:
    """Booted with a secret in the environment, failed, saved, recorded, reported."""
    import zstandard

    terminal = Terminal("--load 8", tmp_path, env=fault("step:120", HF_TOKEN=CANARY))
    terminal.until(r"▶ RUNNING")
    for pid in terminal.processes():
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
        assert CANARY.encode() not in words
        for socket in psutil.Process(pid).net_connections("all"):
            if socket.status == psutil.CONN_LISTEN:
                assert socket.laddr.ip in ("127.0.0.1", "::1"), socket
    terminal.until(r"✖ FAILED")
    terminal.save_as("kept.yaml")
    terminal.press("q")
    leaves(terminal, 3)
    assert CANARY.encode() not in terminal.raw
    (log,) = (tmp_path / "state/tputtui/sessions").iterdir()
    assert cli.main(["report", str(log), "-o", str(tmp_path / "page.html")]) == 0
    found = files_of(tmp_path)
    assert len(found) >= 4
    for path, data in found.items():
        assert CANARY.encode() not in data, path
        if path == log:
            reader = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True)
            assert CANARY.encode() not in reader.read()
    # What may hold prompts, or what vLLM printed of them, is for this person alone.
    for path in found:
        if "state" in path.parts:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700, path.parent


# -- code that comes with a model ----------------------------------------------------------------


async def test_code_that_comes_with_a_model_runs_only_when_asked_and_that_is_said() -> None:
    app = app_after(0)
    spec = EngineSpec("shape:demo", {"trust_remote_code": True})
    app.session._asked.profile = Profile(spec)
    async with app.run_test(size=(80, 24)) as pilot:
        await paint(pilot)
        first = app.screen._compositor.render_strips()[0]
        assert "runs the model's own code" in "".join(segment.text for segment in first)
    for name in profile.shipped():
        assert "trust_remote_code" not in profile.load(profile.shipped()[name]).engine.args


def test_a_profile_with_a_secret_in_it_is_refused_without_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(
        f"tputtui: 1\nengine: {{model: shape:demo, hf_token: {TOKEN}}}\n"
    )
    for words in (["profiles", "validate"], ["bench", "--profile"], ["profiles", "export"]):
        assert cli.main([*words, str(tmp_path / "bad.yaml")]) in (1, 2), words
        said = capsys.readouterr()
        assert "holds a secret" in said.out + said.err
        assert TOKEN not in said.out + said.err

"""Prompts and answers stay in the process: a canary is looked for wherever anything is written."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from prometheus_client import CollectorRegistry, generate_latest

from tests import PATIENCE_S
from tests.realserver import TEMPLATE, write_tokenizer
from tests.test_isolated import RealTime
from tests.test_record import Recorded
from tputtui.engine.fake import FakeEngine
from tputtui.engine.isolated.host import IsolatedHost
from tputtui.engine.protocol import State, StepReport
from tputtui.load.request import RequestSpec
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.rendering import ChatTokenizer
from tputtui.load.workload import ClosedLoop, Workload
from tputtui.process.logs import log_through
from tputtui.process.privacy import keep_private
from tputtui.profile import EngineSpec, Profile
from tputtui.record.reading import read_log
from tputtui.report.pages import html, markdown
from tputtui.report.prometheus import Exporter
from tputtui.session.session import Session

CANARY = "Serinus-canaria-domestica"


@pytest.fixture
def load(tmp_path: Path) -> Workload:
    """A file whose prompts, answers, tools, stop strings and keys hold the canary; one bad line."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_tokenizer(folder, TEMPLATE)
    message = {"role": "user", "content": f"tell me of {CANARY}"}
    answer = {"role": "assistant", "content": f"{CANARY} sings"}
    tool = {"type": "function", "function": {"name": CANARY, "description": CANARY}}
    good = {"messages": [message, answer], "tools": [tool], "max_tokens": 8, "stop": [CANARY],
            "metadata": {CANARY: CANARY}}  # fmt: skip
    said = [{"from": "human", "value": CANARY}, {"from": "gpt", "value": CANARY},
            {"from": "human", "value": CANARY}]  # fmt: skip
    job = {"steps": [{"id": CANARY, "messages": [message], "max_tokens": 8},
                     {"messages": [{"role": "user", "answer_of": CANARY}, message, answer],
                      "max_tokens": 8}]}  # fmt: skip
    lines = [json.dumps(good), json.dumps({"conversations": said}), json.dumps(job)] * 20
    bad = [
        json.dumps({"steps": [{"id": CANARY, "messages": [message], CANARY: 1}]}),
        json.dumps({"messages": CANARY * 3, "max_tokens": CANARY}),
        f'{{"{CANARY}',
    ]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join([*lines[:30], *bad, *lines[30:]]))
    file = RequestFile(str(path), tokenizer=str(folder), bad=0.5, repeat=True)
    return Workload(ClosedLoop(4), requests=file)


def hidden(load: Workload) -> list[str]:
    """The canary as text, and as the token ids that it has, written in two ways."""
    ids = ChatTokenizer(load.requests.tokenizer).text(CANARY)[:8]
    return [CANARY, ", ".join(map(str, ids)), ",".join(map(str, ids))]


def sings(text: str, load: Workload) -> list[str]:
    return [form for form in hidden(load) if form in text]


def test_no_file_of_a_run_holds_a_prompt_or_an_answer(tmp_path: Path, load: Workload) -> None:
    exporter = Exporter("127.0.0.1", 0)
    try:
        run = Recorded(tmp_path / "run.jsonl.zst", load=load)
        run.session.watch(exporter.see)
        run.run(30)
        frame = run.session.advance()
        registry = CollectorRegistry()
        registry.register(exporter)
        metrics = generate_latest(registry).decode()
    finally:
        exporter.close()
    run.end()
    assert frame.accounting.finished > 10
    assert frame.requests.skipped >= 1
    saved = run.session.save(tmp_path / "saved.yaml")
    reader = zstandard.ZstdDecompressor().stream_reader(
        run.journal.path.read_bytes(), read_across_frames=True
    )
    recording = read_log(run.journal.path)
    written = {
        "session log": reader.read().decode(),
        "profile": Path(saved).read_text(),
        "page": html(recording),
        "markdown": markdown(recording),
        "metrics": metrics,
    }
    for where, text in written.items():
        assert not sings(text, load), where
    # They are about that run: the counts and the hash are there.
    assert frame.requests.sha256[:16] in written["page"]
    assert "tputtui_requests_stopped" in metrics


# -- the log -------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path: Path) -> Any:
    """The root logger and vLLM's write into a file, as in a run."""
    path = tmp_path / "log"
    root, vllm = logging.getLogger(), logging.getLogger("vllm")
    before = [(each, each.level, each.propagate) for each in (root, vllm)]
    handler = logging.FileHandler(path, encoding="utf-8")
    log_through(handler)
    yield path
    for each, level, propagate in before:
        each.removeHandler(handler)
        each.setLevel(level)
        each.propagate = propagate
    logging.captureWarnings(False)
    handler.close()


def test_a_line_keeps_what_its_author_wrote_and_its_numbers(log: Path) -> None:
    keep_private()
    vllm, ours = logging.getLogger("vllm.engine"), logging.getLogger("tputtui.engine")
    vllm.info("Avg throughput: %.1f tokens/s, %d running", 12.34, 3)
    vllm.error("Dumping input data: %s", {CANARY: CANARY})
    vllm.error(f"bad prompt {CANARY}")
    vllm.warning("%(what)s of %(n)d", {"what": CANARY, "n": 4})
    vllm.warning("only %d", CANARY)
    ours.warning("request %d refused: %s", 7, ValueError(CANARY))
    ours.warning("the load stopped: %s", "its file has gone")
    text = log.read_text()
    assert CANARY not in text
    for kept in ("Avg throughput: 12.3 tokens/s, 3 running", "Dumping input data: ‹withheld›",
                 "‹withheld› of 4", "request 7 refused: ValueError", "its file has gone",
                 "test_privacy.py:"):  # fmt: skip
        assert kept in text


def test_a_traceback_keeps_its_frames_and_types(log: Path) -> None:
    keep_private()

    def inner() -> None:
        raise KeyError(CANARY)

    try:
        try:
            inner()
        except KeyError as error:
            raise RuntimeError(f"while serving {CANARY}") from error
    except RuntimeError:
        logging.getLogger("tputtui.engine").exception("the engine stopped")
    thread = threading.Thread(target=inner)
    thread.start()
    thread.join()
    text = log.read_text()
    assert CANARY not in text
    assert text.count("in inner") == 2
    for kept in ("KeyError: ‹withheld›", "RuntimeError: ‹withheld›", "the engine stopped"):
        assert kept in text


def test_without_real_prompts_everything_is_said(log: Path) -> None:
    logging.getLogger("vllm").error("Dumping input data: %s", CANARY)
    assert CANARY in log.read_text()


def test_what_is_printed_is_dropped_once_there_are_real_prompts(tmp_path: Path) -> None:

    script = (
        "import sys; from pathlib import Path\n"
        "from tputtui.process.redirect import Redirected\n"
        "from tputtui.process.privacy import keep_private\n"
        "Redirected(Path(sys.argv[1])); print('before'); keep_private()\n"
        f"print('{CANARY}'); print('{CANARY}', file=sys.stderr); raise ValueError('{CANARY}')\n"
    )
    path = tmp_path / "log"
    subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, check=False)
    text = path.read_text()
    assert "before" in text
    assert "ValueError: ‹withheld›" in text
    assert CANARY not in text


# -- an engine that quotes what it was given -----------------------------------------------------


class Telling(FakeEngine):
    """Fails after a while, and quotes a prompt: in its log, on both outputs, and in its error."""

    tokenizer = ""

    def __init__(self, tokenizer: str) -> None:
        super().__init__(RealTime())  # type: ignore[arg-type]
        self.tokenizer = tokenizer
        self._given: list[RequestSpec] = []

    def submit(self, request: RequestSpec) -> None:
        self._given.append(request)
        super().submit(request)

    def step(self) -> StepReport:
        if len(self._given) < 12:
            return super().step()
        text = ChatTokenizer(self.tokenizer).decoded(self._given[-1].ids())
        assert CANARY in text
        logging.getLogger("vllm.v1").error("Dumping scheduler output: %s", text)
        print(text)  # noqa: T201
        print(self._given[-1].ids(), file=sys.stderr)  # noqa: T201
        raise RuntimeError(f"cannot serve {text} {self._given[-1].ids()}")


def test_a_crashed_childs_last_words_are_without_prompts(
    load: Workload, capfd: pytest.CaptureFixture[str]
) -> None:
    made = partial(Telling, load.requests.tokenizer)
    session = Session(made, Profile(EngineSpec("shape:demo"), load), make_host=IsolatedHost)
    session.start()
    try:
        end_s = time.monotonic() + PATIENCE_S
        while session.advance().status.state is not State.FAILED:
            assert time.monotonic() < end_s
            time.sleep(0.01)
        frame = session.advance()
    finally:
        session.close(PATIENCE_S)
    words = "".join(capfd.readouterr())
    assert "the engine stopped" in words
    assert "Dumping scheduler output: ‹withheld›" in words
    assert "in step" in words
    assert not sings(words, load)
    failure = str(frame.status.failure)
    assert failure.startswith("RuntimeError (its words are withheld")
    assert not sings(failure + str(frame.marks), load)

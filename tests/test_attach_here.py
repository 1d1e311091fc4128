"""What `tputtui attach` without an address finds, and the line that it gives."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import PATIENCE_S
from tputtui import cli
from tputtui.attach.here import Here, serving_here, start_line
from tputtui.attach.loopback import ask_here

STAND_IN = """
import http.server, json, sys
class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        known = self.path == "/v1/models"
        self.send_response(200 if known else 404)
        self.end_headers()
        if known:
            self.wfile.write(json.dumps({"data": [{"id": "org/model"}]}).encode())
    def log_message(self, *words): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def port() -> Iterator[int]:
    """Of a stand-in for `vllm serve`, which has a key among its arguments."""
    words = ["vllm serve", "org/model", "--api-key", "canary-in-argv"]
    process = subprocess.Popen(
        [sys.executable, "-c", STAND_IN, *words], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    yield int(process.stdout.readline())
    process.kill()
    process.communicate()


def found(port: int) -> Here:
    (here,) = (each for each in serving_here({}) if each.port == port)
    return here


def test_a_server_is_listed_with_its_model_and_how_to_start_it(port: int) -> None:
    here = found(port)
    assert (here.kind, here.model, here.limits) == ("vLLM", "org/model", "watched only")
    assert here.start.startswith("VLLM_PLUGINS=tputtui TPUTTUI_CONTROL_TOKEN_FILE=")
    assert "canary" not in here.start


def test_the_command_lists_it_and_hides_its_key(
    port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["attach"]) == 0
    printed = capsys.readouterr().out
    assert f"{port:>5}  org/model " in printed
    assert f"to change the limits of {port}" in printed
    assert "canary" not in printed


def test_where_nothing_serves_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tputtui.attach.here._listening", dict)
    assert cli.main(["attach"]) == 2
    assert "tputtui attach HOST:8000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("environment", "plugins"),
    [({}, "tputtui"), ({"VLLM_PLUGINS": "theirs"}, "theirs,tputtui"),
     ({"VLLM_PLUGINS": "tputtui,theirs"}, "tputtui,theirs")],
)  # fmt: skip
def test_plugins_that_are_on_stay_on(environment: dict[str, str], plugins: str) -> None:
    line = start_line(["vllm", "serve", "a model", "--api-key=hidden-in-argv"], environment)
    assert line.startswith(f"VLLM_PLUGINS={plugins} ")
    assert line.endswith("vllm serve 'a model' --api-key=…")


def test_one_answer_of_this_machine_whatever_it_is(port: int, tmp_path: Path) -> None:
    status, body = ask_here(port, "/v1/models", PATIENCE_S)
    assert (status, json.loads(body)) == (200, {"data": [{"id": "org/model"}]})
    assert ask_here(port, "/health", PATIENCE_S) == (404, b"")
    assert ask_here(port, "/", PATIENCE_S, path=str(tmp_path / "none.sock")) == (0, b"")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        assert ask_here(deaf.getsockname()[1], "/", PATIENCE_S) == (0, b"")
        deaf.listen()
        assert ask_here(deaf.getsockname()[1], "/", 0.1) == (0, b"")

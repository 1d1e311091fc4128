"""What a server of ours tells of its own failure."""

from __future__ import annotations

import subprocess
import sys
import time
from argparse import Namespace
from pathlib import Path

import msgspec
import pytest
from pydantic import BaseModel, ValidationError

from tputtui.engine.served.spawned import SpawnedEngine
from tputtui.engine.vllm import serve
from tputtui.engine.wire import Problem
from tputtui.errors import EngineError

pytestmark = pytest.mark.engine


class Config(BaseModel):
    size: int


@pytest.mark.parametrize("asked", ["data_parallel_backend", "distributed_executor_backend"])
def test_ray_where_it_cannot_be_is_named(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from vllm.platforms import current_platform

    error, arguments = AssertionError("No  found in Ray cluster."), Namespace(**{asked: "ray"})
    monkeypatch.setattr(serve, "find_spec", lambda name: None)
    assert serve._cause(error, arguments).message == "Ray is not installed."
    monkeypatch.setattr(serve, "find_spec", lambda name: name)
    monkeypatch.setattr(type(current_platform), "ray_device_key", "")
    cause = serve._cause(error, arguments)
    assert cause.message.endswith(" backend does not run under Ray.")
    # On a device that Ray knows it is what vLLM says.
    monkeypatch.setattr(type(current_platform), "ray_device_key", "GPU")
    assert "No  found in Ray cluster" in serve._cause(error, arguments).message


def test_what_vllm_refuses_is_one_line() -> None:
    with pytest.raises(ValidationError) as refused:
        Config(size="large")  # type: ignore[arg-type]
    cause = serve._cause(refused.value, Namespace(data_parallel_backend="mp"))
    assert cause.message.startswith("size: Input should be a valid integer")
    assert "\n" not in cause.message


def test_the_board_says_what_the_server_wrote(tmp_path: Path) -> None:
    engine = SpawnedEngine(None, time.monotonic)
    assert engine._why() is None
    engine._folder = tmp_path
    assert engine._why() is None
    problem = Problem("Ray is not installed.", "`pip install ray` where vLLM is.")
    (tmp_path / "failure").write_bytes(msgspec.json.encode(problem))
    why = engine._why()
    assert isinstance(why, EngineError)
    assert why.message == "vLLM's server did not come up: Ray is not installed."
    assert why.hint == problem.hint
    (tmp_path / "failure").write_bytes(b"{")
    assert engine._why() is None


def test_what_a_parent_that_is_gone_left_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "tputtui-left"
    folder.mkdir()
    (folder / "control").write_text("a token")
    nobody = "1"
    words = [sys.executable, "-m", "tputtui.engine.vllm.serve", nobody, str(folder / "failure")]
    assert subprocess.run(words, check=False).returncode == 1
    assert not folder.exists()
    # What is not ours stays, and so does its folder.
    folder.mkdir()
    (folder / "theirs").touch()
    assert subprocess.run(words, check=False).returncode == 1
    assert (folder / "theirs").exists()

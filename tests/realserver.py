"""vLLM's own server as a process of its own, and a model small enough for it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from tests import PATIENCE_S

__all__ = ["DEAF_TEMPLATE", "TEMPLATE", "Server", "serving", "write_chat_model", "write_model",
           "write_tokenizer"]  # fmt: skip

_BOOT_S = PATIENCE_S
_END_S = 30
_THEIRS = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_NO_USAGE_STATS": "1",
}


class Server(NamedTuple):
    """vLLM's server as a process, leader of a session of its own."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    def tail(self) -> str:
        """The end of what it printed."""
        return f"\n--- the server's log ---\n{self.log.read_text(errors='replace')[-6000:]}"

    def get(self, path: str, body: dict[str, Any] | None = None) -> str:
        """The answer to a request, to one with a body if there is one."""
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{self.url}{path}", data, {"Content-Type": "application/json"}
        )
        # No proxy: it is on this machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=PATIENCE_S) as answer:
            assert answer.status == 200
            text: str = answer.read().decode()
            return text

    def wait_until_up(self) -> None:
        """Until it says that it is well; fails when it ends, or takes too long."""
        end = time.monotonic() + _BOOT_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                pytest.fail(f"The server ended with {self.process.returncode}.{self.tail()}")
            with contextlib.suppress(OSError):
                self.get("/health")
                return
            time.sleep(0.2)
        pytest.fail(f"The server was not up after {_BOOT_S} s.{self.tail()}")

    def members(self) -> list[psutil.Process]:
        """Every process of its session, and every descendant wherever it has gone."""
        found = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, ProcessLookupError):
                if os.getsid(process.pid) == self.process.pid:
                    found[process.pid] = process
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                found[process.pid] = process
        return [each for each in found.values() if each.is_running()]

    def end(self) -> list[psutil.Process]:
        """Ask it to end, then end whatever is left; what outlives even that."""
        members = self.members()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(_END_S)
        _, left = psutil.wait_procs(members, timeout=_END_S)
        return [*left, *self.members()]


@contextlib.contextmanager
def serving(
    words: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """The server with `words` as its arguments, up; ended with all that it started after that.

    environment: on top of what vLLM needs here.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Without what our own adapter sets for an engine in this process.
    ours = {
        key: value for key, value in os.environ.items() if not key.startswith(("VLLM_", "TQDM"))
    }
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words,
               "--host", "127.0.0.1", "--port", str(port)]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=ours | _THEIRS | dict(environment or {}),
            cwd=log.parent,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}", log)
    try:
        server.wait_until_up()
        yield server
    finally:
        left = server.end()
    assert not left, f"{left}{server.tail()}"
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def write_model(folder: Path) -> None:
    """A real model with weights and a tokenizer, as small as one can be."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=32,
        vocab_size=320,
        max_position_embeddings=512,
        bos_token_id=256,
        eos_token_id=257,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    write_tokenizer(folder)


def write_chat_model(folder: Path) -> str:
    """The same with a chat template; the folder's name."""
    write_model(folder)
    write_tokenizer(folder, TEMPLATE)
    return str(folder)


TEMPLATE = (
    "{% if tools %}{% for tool in tools %}<t>{{ tool.function.name }}</t>{% endfor %}{% endif %}"
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
DEAF_TEMPLATE = TEMPLATE.partition("{% endif %}")[2]
"""The same without tools."""


def write_tokenizer(folder: Path, template: str = "") -> None:
    """A tokenizer of one token a byte, with a chat template where one is given."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    # One token a byte.
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    if template:
        told["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(told))

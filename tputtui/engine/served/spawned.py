"""vLLM's own server as a child of ours, driven like one that runs elsewhere. Engine thread.

Everything that `vllm serve` has can be tuned live this way: HTTP and tokenizer in the path, data
parallelism, several API servers. It listens on loopback only, with a key and a control token that
no other process is told of, and our plugin inside it. It ends with us, however we end.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import msgspec

from tputtui.attach.access import Access
from tputtui.attach.address import parse_addresses
from tputtui.attach.loopback import ask_here
from tputtui.engine import flags, models
from tputtui.engine.failure import cause_of
from tputtui.engine.protocol import Argument, EngineFacts, Report, State, StepReport
from tputtui.engine.served.engine import ServedEngine
from tputtui.engine.target import SERVER
from tputtui.engine.wire import PATH, Problem
from tputtui.errors import EngineError
from tputtui.process.group import end_group
from tputtui.profile import EngineSpec, EngineValue
from tputtui.redact import conceal

__all__ = ["SpawnedEngine", "sockets_below"]

_LOOK_S = 0.1
_HEALTH_S = 2.0
_TERM_S = 20.0


class SpawnedEngine(ServedEngine):
    """Boots `vllm serve` and drives it.

    serve: flags of its HTTP server that are not its address. clock: monotonic seconds, the host's.
    """

    def __init__(
        self,
        serve: Mapping[str, EngineValue] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._serve = {key: serve[key] for key in serve if key in _KEPT} if serve else {}
        self._key, self._token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        for secret in (self._key, self._token):
            conceal(secret)
        self._port = _free_port()
        self._base = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        (address,) = parse_addresses([self._base])
        super().__init__(address, Access(self._head), self._token, clock)

    def boot(self, spec: EngineSpec, report: Report) -> EngineFacts:
        """Start the server and wait until it serves.

        Raises UsageError for arguments of ours that cannot be, EngineError where it ends instead.
        """
        began_s = self._clock()
        resolved = models.resolve(spec)
        report(State.LOADING, "starting vLLM's server")
        self._start(resolved)
        self._wait(report)
        if not any(name in {**resolved.args, **self._serve} for name in _SEVERAL_FRONTS):
            # It has been read by now: where we are killed, it lies about no longer.
            self._forget_token()
        facts = super().boot(EngineSpec(f"{SERVER}{self._base}"), report)
        if "max_num_seqs" in facts.fixed:
            raise EngineError(
                f"The server's limits cannot be changed: {facts.fixed['max_num_seqs']}.",
                "tputtui has to be installed where vLLM is; the log says which plugins it found.",
            )
        return replace(
            facts,
            model=spec.model,
            device=f"vLLM's server, {facts.engines} engines" if facts.engines > 1 else "server",
            boot_s=self._clock() - began_s,
            arguments=self._arguments(),
        )

    def step(self) -> StepReport:
        """What came in the last milliseconds. Raises EngineError where the server has ended."""
        process = self._process
        if process is not None and (code := process.poll()) is not None:
            raise cause_of(code, "vLLM's server")
        return super().step()

    def shutdown(self) -> None:
        """Hang up, and end the server with all that it has started."""
        super().shutdown()
        process, self._process = self._process, None
        if process is not None:
            end_group(process.pid, _TERM_S, process.poll)
            process.wait()
        self._forget_token()

    # -- inside ------------------------------------------------------------------------------

    @property
    def _head(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._key}"}

    def _forget_token(self) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, spec: EngineSpec) -> None:
        self._folder = folder = Path(tempfile.mkdtemp(prefix="tputtui-"))
        file = folder / "control"
        file.touch(mode=0o600)
        file.write_text(self._token)
        plugins = [name for name in os.environ.get("VLLM_PLUGINS", "").split(",") if name]
        environment = {name: text for name, text in os.environ.items() if name not in _NOT_THEIRS}
        environment |= {
            "VLLM_PLUGINS": ",".join([*plugins, "tputtui"]),
            "TPUTTUI_CONTROL_TOKEN_FILE": str(file),
            "VLLM_API_KEY": self._key,
            "VLLM_NO_USAGE_STATS": "1",
            **sockets_below(tempfile.gettempdir()),
        }
        words = ["--model", spec.model, *flags.to_argv(spec.args), *flags.to_argv(self._serve)]
        words += ["--host", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tputtui.engine.vllm.serve",
                str(os.getpid()),
                str(folder / _FAILURE),
                *words,
            ],
            stdin=subprocess.DEVNULL,
            env=environment,
            # Signals from the terminal must reach only the screen's process.
            start_new_session=True,
        )

    def _wait(self, report: Report) -> None:
        assert self._process is not None
        report(State.LOADING, "vLLM's server loads the model (g shows its log)")
        while True:
            if (code := self._process.poll()) is not None:
                raise self._why() or cause_of(code, "vLLM's server")
            status, _ = ask_here(self._port, "/health", _HEALTH_S)
            if status == 200:
                return
            time.sleep(_LOOK_S)

    def _why(self) -> EngineError | None:
        """What the server wrote of its failure; None where it wrote nothing."""
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            if self._folder is not None:
                text = (self._folder / _FAILURE).read_bytes()
                problem = msgspec.json.decode(text, type=Problem)
                return EngineError(
                    f"vLLM's server did not come up: {problem.message}", problem.hint
                )
        return None

    def _arguments(self) -> tuple[Argument, ...]:
        """What another boot can be given, as the server's own parser tells it; none if it fails."""
        route, patience_s = f"{PATH}/arguments", 10 * _HEALTH_S
        _, answer = ask_here(self._port, route, patience_s, headers=self._head)
        with contextlib.suppress(msgspec.MsgspecError):
            return msgspec.json.decode(answer, type=tuple[Argument, ...])
        return ()


_FAILURE = "failure"
_BASE, _SHORT = "VLLM_RPC_BASE_PATH", "/tmp"
_LONGEST, _NAME = 107, 37
"""Bytes of a socket's path, and of what vLLM adds to the folder."""
_SEVERAL_FRONTS = ("api_server_count", "data_parallel_size")
"""With either, other API servers may come up after the first, and read the token then."""
_KEPT = ("api_server_count", "chat_template", "tool_call_parser", "enable_auto_tool_choice")
"""Flags of the HTTP server that change how it serves; its address and keys are ours here."""
_NOT_THEIRS = (
    # What our adapter sets for an engine in this process.
    "VLLM_ENABLE_V1_MULTIPROCESSING", "VLLM_CONFIGURE_LOGGING", "TQDM_DISABLE", "TPUTTUI_BOUNDS",
)  # fmt: skip


def sockets_below(folder: str) -> dict[str, str]:
    """Where the processes of vLLM's server meet, as a variable for them; empty where that stays.

    They meet in `folder` unless its name is too long for the path of a socket, as below the TMPDIR
    of a batch system.
    """
    fits = len(os.fsencode(folder)) <= _LONGEST - _NAME
    if fits or _BASE in os.environ or not os.access(_SHORT, os.W_OK):
        return {}
    return {_BASE: _SHORT}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port

"""Servers that serve on this machine, from its processes and the ports that they listen on."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import psutil

from tputtui.attach.loopback import ask_here
from tputtui.process.sockets import socket_path
from tputtui.redact import secret_in

__all__ = ["Here", "serving_here", "socket_behind", "start_line"]

_ANSWER_S = 2.0
_KINDS = {
    "vLLM": ("vllm serve", "vllm.entrypoints", "tputtui.engine.vllm.serve"),
    "SGLang": ("sglang.launch_server", "sglang serve"),
    "TGI": ("text-generation-launcher", "text-generation-router"),
}
"""What stands in the command line of a server of each kind."""
_PLUGIN = "/v1/tputtui"
_TOKEN_FILE = "TPUTTUI_CONTROL_TOKEN_FILE"


class Here(NamedTuple):
    """One server of this machine."""

    port: int
    kind: str
    """vLLM, SGLang or TGI."""
    pid: int
    model: str
    """Empty where it does not tell without a token."""
    gpus: tuple[int, ...]
    """Indices of the GPUs that its processes use; empty where none or unknown."""
    limits: str
    """Whether its limits can be changed from here, in words."""
    start: str
    """The line that it would have to be started with to be changed; empty where it can be."""


def serving_here(gpus_by_pid: Mapping[int, Sequence[int]] | None = None) -> list[Here]:
    """The servers, by port. gpus_by_pid: indices of the GPUs that each process uses.

    Processes of other users are seen as far as the system tells of them.
    """
    servers = []
    for port, process in _listening().items():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            line = " ".join(words)
            kind = next((k for k, marks in _KINDS.items() if any(m in line for m in marks)), "")
            if kind:
                pids = [process.pid, *(each.pid for each in process.children(recursive=True))]
                gpus = {g for pid in pids for g in (gpus_by_pid or {}).get(pid, ())}
                limits, start = _control(port, kind, process, words)
                servers.append(
                    Here(port, kind, process.pid, _model(port), tuple(sorted(gpus)), limits, start)
                )
    return sorted(servers)


def socket_behind(port: int) -> str:
    """The unix socket of the engine behind the server that listens on `port`; empty for none.

    Our plugin listens there where the server's vLLM has no place for its routes (before 0.26).
    """
    process = _listening().get(port)
    return _socket_of(process) if process is not None else ""


def _socket_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            path = socket_path(each.pid, each.uids().real)
            if path.is_socket():
                return str(path)
    return ""


def start_line(words: Iterable[str], environment: Mapping[str, str]) -> str:
    """How the server would have to be started for its limits to be changed, as a shell line.

    words, environment: those that it was started with. Secrets among the words become `…`; plugins
    that were named stay.
    """
    plugins = [name for name in environment.get("VLLM_PLUGINS", "").split(",") if name]
    if "tputtui" not in plugins:
        plugins.append("tputtui")
    token = environment.get(_TOKEN_FILE, "~/.tputtui-control")
    shown = " ".join(_without_secrets(list(words)))
    return f"VLLM_PLUGINS={','.join(plugins)} {_TOKEN_FILE}={token} {shown}"


def _listening() -> dict[int, psutil.Process]:
    """Who listens on which port; of several the one that was started first."""
    ports: dict[int, psutil.Process] = {}
    with contextlib.suppress(psutil.Error, PermissionError):
        for each in psutil.net_connections("tcp"):
            if each.status != psutil.CONN_LISTEN or each.pid is None or not each.laddr:
                continue
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(each.pid)
                first = ports.get(each.laddr.port)
                if first is None or process.create_time() < first.create_time():
                    ports[each.laddr.port] = process
    return ports


def _control(
    port: int, kind: str, process: psutil.Process, words: Sequence[str]
) -> tuple[str, str]:
    if kind != "vLLM":
        return "watched only", ""
    environment: dict[str, str] = {}
    with contextlib.suppress(psutil.Error):
        environment = process.environ()
    status, answer = _asked(port, _PLUGIN)
    if status != 200 and (path := _socket_of(process)):
        status, answer = _asked(port, _PLUGIN, path)
    if status == 200 and isinstance(answer, dict):
        control = answer.get("control") or {}
        if control.get("offered"):
            holder = next((e["holder"] for e in answer["engines"] if e.get("holder")), "")
            return (f"controlled by {holder}" if holder else "can be changed"), ""
        return str(control.get("why", "watched only")).rstrip("."), start_line(words, environment)
    if status == 401:
        return "it wants its key (TPUTTUI_TOKEN)", ""
    return "watched only", start_line(words, environment)


def _model(port: int) -> str:
    _, answer = _asked(port, "/v1/models")
    with contextlib.suppress(LookupError, TypeError):
        return str(answer["data"][0]["id"])
    return ""


def _asked(port: int, route: str, path: str = "") -> tuple[int, Any]:
    """Status and JSON of an answer, the latter of a 200 only; 0 without one.

    path: of a unix socket, in place of the port.
    """
    status, body = ask_here(port, route, _ANSWER_S, path=path)
    if status != 200:
        return status, None
    try:
        return status, json.loads(body)
    except ValueError:
        return 0, None


def _without_secrets(words: list[str]) -> list[str]:
    shown, hide = [], False
    for word in words:
        flag, equals, value = word.partition("=")
        name = flag.lstrip("-").replace("-", "_")
        if hide and not word.startswith("-"):
            shown.append("…")  # vLLM takes several keys in a row
            continue
        if flag.startswith("--") and equals and secret_in({name: value}):
            shown.append(f"{flag}=…")
        else:
            shown.append(shlex.quote(word))
        hide = flag.startswith("--") and not equals and bool(secret_in({name: "x" * 20}))
    return shown

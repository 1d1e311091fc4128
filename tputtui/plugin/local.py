"""The same routes on a unix socket of the engine's own process, where vLLM has no place for them.

vLLM has endpoint plugins from 0.26 on. Before, the engine process itself listens, on a thread, for
people of the same user on this machine: questions are handed to the engine core's own queue, and
answered between two steps as elsewhere. What the front alone knows (requests that end, with their
times) is not to be had this way, and several engines are not: each would be changed on its own.
With TPUTTUI_SOCKET=1 it is so on every vLLM, and nothing is reached over the network.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import socket
import struct
import threading
from collections import deque
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tputtui.plugin.core import answer
from tputtui.plugin.endpoint import Endpoint, socket_wanted
from tputtui.process.sockets import socket_path

__all__ = ["install_socket", "socket_needed"]

_ANSWER_S = 30.0

log = logging.getLogger("vllm.tputtui")


def socket_needed() -> bool:
    """Whether this vLLM has no endpoint plugins; or a socket is wanted in their place."""
    if socket_wanted():
        return True
    with contextlib.suppress(ModuleNotFoundError):
        return find_spec("vllm.plugins.endpoint_plugins") is None
    return True


def install_socket(kind: Any) -> None:
    """Have every engine core of class `kind`, vLLM's EngineCoreProc, listen once its loop runs."""
    if "_tputtui_listens" in kind.__dict__:
        return
    look, handle = kind._process_input_queue, kind._handle_client_request
    kind._tputtui_listens = True

    def looked(self: Any) -> Any:
        # vLLM calls plugins while it makes the engine: nothing earlier than its loop is ours.
        if "_tputtui_socket" not in self.__dict__:
            self._tputtui_socket = None
            try:
                self._tputtui_socket = _Listener(self)
            except Exception:
                log.exception("tputtui: the engine listens on no socket")
        return look(self)

    def handled(self: Any, request_type: Any, request: Any) -> None:
        handle(self, request_type, request)
        listener = self.__dict__.get("_tputtui_socket")
        if listener is not None:
            listener.answer()

    kind._process_input_queue = looked
    kind._handle_client_request = handled


class _Listener:
    """Listens for one engine core, and stands in for vLLM's client to it.

    Raises OSError where there can be no socket.
    """

    core_engine = 0

    def __init__(self, engine_core: Any) -> None:
        self._engine_core = engine_core
        self._asked: deque[tuple[str, Future[str]]] = deque()
        config = engine_core.vllm_config
        if config.parallel_config.data_parallel_size > 1:
            log.warning("tputtui: several engines are tuned together from vLLM 0.26 on")
            return
        from vllm.v1.engine import EngineCoreRequestType as Kind

        # Either does nothing but wake an engine that waits for requests.
        wake = getattr(Kind, "WAKEUP", None)
        self._wake: tuple[Any, Any] = (wake, None) if wake is not None else (Kind.ABORT, [])
        self._endpoint = Endpoint()
        self._endpoint.serve(self, str(config.model_config.served_model_name))
        path = socket_path(os.getpid())
        self._socket = _bound(path)
        atexit.register(lambda: path.unlink(missing_ok=True))
        threading.Thread(target=self._run, name="tputtui", daemon=True).start()
        log.info("tputtui: watching at unix:%s; %s", path, self._endpoint.told)

    # -- the engine's thread -----------------------------------------------------------------

    def answer(self) -> None:
        """Answer what was asked since."""
        while self._asked:
            question, future = self._asked.popleft()
            if future.set_running_or_notify_cancel():
                future.set_result(answer(self._engine_core, question))

    # -- the socket's thread -----------------------------------------------------------------

    async def _call_utility_async(self, name: str, question: str, *, engine: Any) -> str:
        """As vLLM's client has it: hand the question to the engine core, wait for the answer."""
        future: Future[str] = Future()
        self._asked.append((question, future))
        self._engine_core.input_queue.put_nowait(self._wake)
        async with asyncio.timeout(_ANSWER_S):
            return await asyncio.wrap_future(future)

    def _run(self) -> None:
        try:
            import uvicorn
            from starlette.applications import Starlette

            app = Starlette()
            self._endpoint.add_routes(app)
            config = uvicorn.Config(app, http=_own_people(), ws="none", lifespan="off",
                                    log_config=None, access_log=False)  # fmt: skip
            asyncio.run(uvicorn.Server(config).serve(sockets=[self._socket]))
        except Exception:
            log.exception("tputtui: the socket is closed; the engine goes on without it")


def _bound(path: Path) -> socket.socket:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    theirs = path.parent.stat()
    if theirs.st_uid != os.getuid() or theirs.st_mode & 0o077:
        raise PermissionError(f"{path.parent} is not for this user alone")
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        bound.bind(str(path))
    finally:
        os.umask(before)
    bound.listen()
    return bound


def _own_people() -> type:
    """HTTP for connections of this process's user, and of root."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class OwnPeople(H11Protocol):
        def connection_made(self, transport: Any) -> None:
            peer = transport.get_extra_info("socket")
            credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            _, uid, _ = struct.unpack("3i", credentials)
            if uid not in (0, os.getuid()):
                transport.abort()
                return
            super().connection_made(transport)

    return OwnPeople

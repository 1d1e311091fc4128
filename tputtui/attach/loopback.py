"""One GET to a server on this machine, on a TCP port or a unix socket. Any thread but the UI's."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping

__all__ = ["ask_here"]

_MOST_BYTES = 4 << 20


def ask_here(
    port: int,
    route: str,
    timeout_s: float,
    *,
    path: str = "",
    headers: Mapping[str, str] | None = None,
) -> tuple[int, bytes]:
    """Status and body of the answer, the latter of a 200 only; status 0 without an answer.

    path: of a unix socket, in place of the port. The body is cut off at 4 MiB. No proxy is
    used, and no redirect followed.
    """
    connection = (
        _AtSocket(path, timeout_s)
        if path
        else http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    )
    try:
        connection.request("GET", route, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read(_MOST_BYTES) if answer.status == 200 else b""
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class _AtSocket(http.client.HTTPConnection):
    """To a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket in place of the host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

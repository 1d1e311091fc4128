"""The address of a server, as a person writes it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from tputtui.errors import UsageError

__all__ = ["MOST", "Address", "parse_addresses"]

MOST = 64
"""The most servers watched at once."""

_FORMS = "Write host:8000, https://host/prefix, or unix:/run/vllm.sock; NAME=… gives it a name."
_BRACES = re.compile(r"\{(?:(\d{1,9})\.\.(\d{1,9})|([^{},]*(?:,[^{},]*)+))\}")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Address:
    """One server.

    name: its name on the screen. url: the prefix of its paths, without a slash at the end.
    socket: the path of its unix socket; empty where it listens on a port.
    """

    name: str
    url: str
    socket: str = ""

    @property
    def private(self) -> bool:
        """Whether nobody on the network can read what is sent there."""
        split = urlsplit(self.url)
        return bool(self.socket) or split.scheme == "https" or split.hostname in _LOOPBACK

    @property
    def port_here(self) -> int:
        """The port that it listens on, of a server on this machine; 0 for any other."""
        split = urlsplit(self.url)
        return split.port or 0 if not self.socket and split.hostname in _LOOPBACK else 0


def parse_addresses(texts: Iterable[str]) -> tuple[Address, ...]:
    """The servers that `texts` name, in the given order; `gpu{1..3}` names three, quoted or not.

    Raises UsageError for an unusable address, for a duplicate, and for more than MOST servers.
    """
    addresses: list[Address] = []
    for text in (each for written in texts for each in _expanded(written)):
        address = _parsed(text.strip())
        for other in addresses:
            if (other.url, other.socket) == (address.url, address.socket):
                raise UsageError(f"{text!r} is there twice.", "Name each server once.")
            if other.name == address.name:
                raise UsageError(f"Two servers are called {address.name!r}.", _FORMS)
        addresses.append(address)
    if not addresses:
        raise UsageError("No server is named.", _FORMS)
    if len(addresses) > MOST:
        raise UsageError(f"{len(addresses)} servers are more than {MOST}.", "Watch them in groups.")
    return tuple(addresses)


def _expanded(text: str) -> Iterator[str]:
    """Expand `{1..3}`, `{08..10}` and `{a,b}` as a shell does, where no shell has done so."""
    match = _BRACES.search(text)
    if match is None:
        yield text
        return
    first, last, words = match.groups()
    parts: Iterable[str] = words.split(",") if words is not None else _counted(first, last)
    for part in parts:
        yield from _expanded(text[: match.start()] + part + text[match.end() :])


def _counted(first: str, last: str) -> Iterator[str]:
    low, high = int(first), int(last)
    if abs(high - low) >= MOST:
        raise UsageError(
            f"{abs(high - low) + 1:,} servers are more than {MOST}.", "Watch them in groups."
        )
    padded = any(text.startswith("0") and len(text) > 1 for text in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if high >= low else -1
    return (f"{number:0{width}}" for number in range(low, high + step, step))


def _parsed(text: str) -> Address:
    name, equals, where = text.partition("=")
    if not equals or any(sign in name for sign in "/:?#"):
        name, where = "", text
    if where.startswith("unix:"):
        path = where.removeprefix("unix:")
        if not path.startswith("/"):
            raise UsageError(f"{text!r} names no socket.", _FORMS)
        path = "/" + path.lstrip("/")
        return Address(name or path, "http://localhost", path)
    whole = where if "://" in where else f"http://{where}"
    try:
        split = urlsplit(whole)
        port = split.port
    except ValueError:
        raise UsageError(f"{text!r} is not the address of a server.", _FORMS) from None
    if split.scheme not in ("http", "https") or not split.hostname or any(map(str.isspace, text)):
        raise UsageError(f"{text!r} is not the address of a server.", _FORMS)
    if any(sign in split.netloc for sign in "{}") or not _resolvable(split.hostname):
        raise UsageError(f"{text!r} is not the address of a server.", _FORMS)
    if split.username or split.password:
        raise UsageError(
            f"The address of {split.hostname} holds a password, which others could read there.",
            "Give a token with --token-env, --token-file or --token-keyring.",
        )
    if split.query or split.fragment:
        raise UsageError(f"{text!r} asks for more than a server.", _FORMS)
    host = f"[{split.hostname}]" if ":" in split.hostname else split.hostname
    if port is not None:
        host += f":{port}"
    path = split.path.rstrip("/").removesuffix("/metrics").removesuffix("/v1")
    return Address(name or host + path, f"{split.scheme}://{host}{path}")


def _resolvable(host: str) -> bool:
    """Whether a name can be looked up: no part of it is empty or longer than 63 characters."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True

"""What a server needs before it answers: a token, headers, a certificate to trust. Pure.

A token comes from the environment, a file or a keyring: never from the command line, where every
user of the machine can read it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tputtui.errors import UsageError
from tputtui.redact import conceal

if TYPE_CHECKING:
    import ssl

__all__ = ["TOKEN", "Access", "access_of", "secret_from_file"]

TOKEN = "TPUTTUI_TOKEN"
"""The environment variable that holds the token when no other place is named."""
_TOKEN_HEADER = "Authorization"


@dataclass(frozen=True, slots=True)
class Access:
    """headers: sent with every request, the token included. ca: path of a file of certificates to
    trust instead of the system's; empty for the system's."""

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    ca: str = ""

    @property
    def token(self) -> bool:
        """Whether a token is among the headers."""
        return _TOKEN_HEADER in self.headers

    def tls(self) -> ssl.SSLContext:
        """How the server must prove its identity. It always must."""
        import ssl

        return ssl.create_default_context(cafile=self.ca or None)


def access_of(
    headers: Iterable[str] = (),
    *,
    token_env: str = "",
    token_file: str = "",
    token_keyring: str = "",
    ca: str = "",
    environ: Mapping[str, str] = os.environ,
) -> Access:
    """Collect the headers to send and the token from its place. Raises UsageError.

    headers: 'NAME: VALUE' each; the value `env:VARIABLE` is read from that variable.
    token_keyring: SERVICE or SERVICE/USER. At most one place for the token.
    """
    places = [place for place in (token_env, token_file, token_keyring) if place]
    if len(places) > 1:
        raise UsageError("The token is in more than one place.", "Name one of them.")
    sent = dict(_header(text, environ) for text in headers)
    if token_file:
        token = _from_file(token_file)
    elif token_keyring:
        token = _from_keyring(token_keyring)
    else:
        token = _from_environment(token_env, environ)
    if token:
        conceal(token)
        sent[_TOKEN_HEADER] = f"Bearer {token}"
    made = Access(sent, ca)
    try:
        # Only `ca` can fail; reading the system's certificates takes a while.
        if ca:
            made.tls()
    except OSError as error:
        raise UsageError(
            f"--ca: {ca} holds no certificates: {getattr(error, 'strerror', None) or error}.",
            "It is a PEM file: -----BEGIN CERTIFICATE-----.",
        ) from None
    return made


def _header(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not name or not value or not name.isascii() or " " in name:
        raise UsageError("A --header is not NAME: VALUE.", "For example 'X-Tenant: search'.")
    if name.lower() == _TOKEN_HEADER.lower():
        raise UsageError(
            "--header Authorization would show the token to everyone on this machine.",
            "Use --token-env, --token-file or --token-keyring.",
        )
    if value.startswith("env:"):
        variable = value.removeprefix("env:").strip()
        value = environ.get(variable, "")
        if not value:
            raise UsageError(f"--header {name}: the variable {variable} is not set.")
        conceal(value)
    return name, _one_line(value, f"--header {name}")


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    token = environ.get(name or TOKEN, "").strip()
    if name and not token:
        raise UsageError(f"--token-env: the variable {name} is not set.")
    return _one_line(token, name or TOKEN)


def secret_from_file(name: str, flag: str) -> str:
    """The one line in the file `name`, given as `flag`. Raises UsageError; conceals it."""
    token = _from_file(name, flag)
    conceal(token)
    return token


def _from_file(name: str, flag: str = "--token-file") -> str:
    path = Path(name).expanduser()
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is not text"
        raise UsageError(f"{flag}: {path} cannot be read: {why}.") from None
    if not token:
        raise UsageError(f"{flag}: {path} is empty.")
    return _one_line(token, flag)


def _from_keyring(name: str) -> str:
    service, _, user = name.partition("/")
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise UsageError(
            "--token-keyring needs the package `keyring`.", "pip install keyring"
        ) from None
    try:
        token = keyring.get_password(service, user or "token")
    except KeyringError as error:
        raise UsageError(f"--token-keyring: the keyring does not open: {error}.") from None
    if not token:
        raise UsageError(
            f"--token-keyring: the keyring has nothing for {service}/{user or 'token'}.",
            f"keyring set {service} {user or 'token'}",
        )
    return _one_line(token, "--token-keyring")


def _one_line(value: str, what: str) -> str:
    if any(ord(char) < 32 or ord(char) > 126 for char in value):
        raise UsageError(f"{what} holds characters that no header can have.")
    return value

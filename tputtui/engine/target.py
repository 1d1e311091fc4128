"""MODEL as `server:URL`: a server that runs elsewhere instead of an own engine. Pure."""

from __future__ import annotations

from tputtui.attach.access import Access, access_of, secret_from_file
from tputtui.attach.address import Address, parse_addresses
from tputtui.errors import UsageError, nearest
from tputtui.profile import EngineSpec
from tputtui.profile.spelling import flag_of

__all__ = ["FLAGS", "LIVE", "SERVER", "check_arguments", "control_token_of", "is_server",
           "settable", "target_of"]  # fmt: skip

SERVER = "server:"
_ARGUMENTS = (
    "token_env", "token_file", "token_keyring", "control_token_file", "header", "ca", "tokenizer",
    "keep", "live",
)  # fmt: skip
"""Arguments that a server accepts instead of vLLM's: access, a tokenizer for text, and two that
need the control token: leave limits in the end, and watch live traffic instead of sending any."""
LIVE = ("max_num_seqs",)
"""Limits that some servers can change while they run; others are set when a server starts."""
FLAGS = tuple(map(flag_of, _ARGUMENTS))
"""The names of these arguments as flags."""


def is_server(model: str) -> bool:
    """Whether MODEL names a server."""
    return model.startswith(SERVER)


def settable(name: str) -> bool:
    """Whether an engine argument applies to a server that already runs."""
    return name in _ARGUMENTS


def check_arguments(spec: EngineSpec) -> None:
    """Raise UsageError for an argument that a running server does not accept."""
    for name in ("keep", "live"):
        if spec.args.get(name, True) is not True:
            raise UsageError(f"{flag_of(name)} takes no value.")
        if name in spec.args and "control_token_file" not in spec.args:
            raise UsageError(f"{flag_of(name)} needs control.", "--control-token-file FILE.")
    for name in spec.args:
        if name not in _ARGUMENTS:
            flag = flag_of(name)
            raise UsageError(
                f"{flag} is given where the server is started, not here.",
                nearest(name, _ARGUMENTS) or "Its limits are read-only from here.",
            )


def target_of(spec: EngineSpec) -> tuple[Address, Access]:
    """The server's address and the access to it. Raises UsageError."""
    check_arguments(spec)
    address, *others = parse_addresses([spec.model.removeprefix(SERVER)])
    if others:
        raise UsageError("A load goes to one server.", "Drive the others in runs of their own.")
    headers = spec.args.get("header", [])
    token_env, token_file, token_keyring, ca = (
        str(spec.args.get(name) or "") for name in (*_ARGUMENTS[:3], "ca")
    )
    access = access_of(
        [str(text) for text in (headers if isinstance(headers, list) else [headers])],
        token_env=token_env,
        token_file=token_file,
        token_keyring=token_keyring,
        ca=ca,
    )
    return address, access


def control_token_of(spec: EngineSpec) -> str:
    """The token that lets a person change the server's limits; empty where none is given.

    Raises UsageError for a file that cannot be read.
    """
    path = str(spec.args.get("control_token_file") or "")
    return secret_from_file(path, "--control-token-file") if path else ""

"""The flags of vLLM's HTTP server, which most published command lines contain. Pure.

An engine in this process has no server in front of it, so these flags have no effect here. A
profile keeps them under `serve:`, and exports contain them. The names are read from the source of
the installed vLLM; the list here serves machines without a vLLM and older command lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tputtui.engine.flags import spoken, unknown
from tputtui.profile import EngineValue

__all__ = ["SECRET", "gone", "is_of_the_server", "notice", "parted", "server_arguments"]

SECRET = frozenset({"api_key", "ssl_keyfile_password"})
"""Arguments that are neither kept nor written anywhere."""
_KNOWN = frozenset({
    "allow_credentials", "allowed_headers", "allowed_methods", "allowed_origins", "api_key",
    "api_server_count", "chat_template", "chat_template_content_format",
    "default_chat_template_kwargs", "disable_access_log_for_endpoints", "disable_fastapi_docs",
    "disable_frontend_multiprocessing", "disable_log_requests", "disable_uvicorn_access_log",
    "enable_auto_tool_choice", "enable_force_include_usage", "enable_log_deltas",
    "enable_log_outputs", "enable_log_requests", "enable_prompt_tokens_details",
    "enable_request_id_headers", "enable_server_load_tracking", "enable_ssl_refresh",
    "enable_tokenizer_info_endpoint", "exclude_tools_when_tool_choice_none",
    "h11_max_header_count", "h11_max_incomplete_event_size", "headless", "host",
    "log_error_stack", "lora_modules", "max_log_len", "middleware", "port",
    "prompt_adapters", "response_role", "return_tokens_as_token_ids", "root_path",
    "ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_ciphers", "ssl_keyfile",
    "ssl_keyfile_password", "tool_call_parser", "tool_parser_plugin", "tool_server",
    "trust_request_chat_template", "uds", "uvicorn_log_level",
})  # fmt: skip
_SOURCES = ("entrypoints/openai/cli_args.py", "entrypoints/launchers/cli_args.py")


def parted(
    args: Mapping[str, EngineValue],
) -> tuple[dict[str, EngineValue], dict[str, EngineValue]]:
    """Split arguments into the engine's and the server's."""
    engine: dict[str, EngineValue] = {}
    server: dict[str, EngineValue] = {}
    for name, value in args.items():
        if is_of_the_server(name):
            server[name] = value
        else:
            engine[name] = value
    return engine, server


def is_of_the_server(name: str) -> bool:
    """Whether an argument, named as in a profile, belongs to the HTTP server."""
    return name in server_arguments()


@cache
def server_arguments() -> frozenset[str]:
    """The HTTP server's arguments by their names in a profile."""
    return _KNOWN | _installed()


def gone(names: Iterable[str]) -> list[str]:
    """Those of `names` that the installed vLLM no longer has; none without a vLLM."""
    installed = _installed()
    return [name for name in unknown(names) if installed and name not in installed]


def notice(names: Collection[str]) -> str:
    """A sentence about one or more flags of the server that have no effect here."""
    one = len(names) == 1
    kept = [name for name in names if name not in SECRET]
    lost = [name for name in names if name in SECRET]
    sentence = f"{spoken(names)} {'is' if one else 'are'} of vLLM's HTTP server, and "
    sentence += f"{'has' if one else 'have'} no effect here"
    if kept:
        sentence += "; a saved profile and its exports keep " + ("it" if one else "them")
    if lost and kept:
        sentence += f", but for {spoken(lost)}"
    elif lost:
        sentence += f"; {'it is' if one else 'they are'} not kept"
    return sentence


@cache
def _installed() -> frozenset[str]:
    """Names of the server's arguments in the installed vLLM, without the engine's."""
    spec = find_spec("vllm")
    names: set[str] = set()
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for source in _SOURCES:
            try:
                text = (Path(folder) / source).read_text(encoding="utf-8")
            except OSError:
                continue
            for body in re.findall(r"^class \w*FrontendArgs\b.*?(?=^\S|\Z)", text, re.M | re.S):
                names.update(re.findall(r"^    ([a-z]\w*): ", body, re.M))
    return frozenset(names)

"""The flags of vLLM's HTTP server, which stand in most published command lines. Pure.

An engine in this process has no server in front of it: they have no effect here, are kept in a
profile under `serve:`, and go into what is exported. The names are read off the installed vLLM's
source, as text; what stands here is for a machine without one, and for older lines.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from tputtui.engine.flags import spoken, unknown
from tputtui.profile import EngineValue

__all__ = ["SECRET", "gone", "is_of_the_server", "parted", "server_arguments", "told"]

SECRET = frozenset({"api_key", "ssl_keyfile_password"})
"""Neither kept nor written anywhere."""
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
    """The engine's arguments, and the server's."""
    engine: dict[str, EngineValue] = {}
    server: dict[str, EngineValue] = {}
    for name, value in args.items():
        if is_of_the_server(name):
            server[name] = value
        else:
            engine[name] = value
    return engine, server


def is_of_the_server(name: str) -> bool:
    """Whether an argument, by its name in a profile, is one of the HTTP server."""
    return name in server_arguments()


@cache
def server_arguments() -> frozenset[str]:
    """The HTTP server's arguments by their names in a profile."""
    return _KNOWN | _installed()


def gone(names: Iterable[str]) -> list[str]:
    """Those that the installed vLLM has no more; none where none is installed."""
    installed = _installed()
    return [name for name in unknown(names) if installed and name not in installed]


def told(names: Collection[str]) -> str:
    """In words, what has no effect here: one flag or more."""
    one = len(names) == 1
    kept = [name for name in names if name not in SECRET]
    lost = [name for name in names if name in SECRET]
    said = f"{spoken(names)} {'is' if one else 'are'} of vLLM's HTTP server, and "
    said += f"{'has' if one else 'have'} no effect here"
    if kept:
        said += "; a saved profile and its exports keep " + ("it" if one else "them")
    if lost and kept:
        said += f", but for {spoken(lost)}"
    elif lost:
        said += f"; {'it is' if one else 'they are'} not kept"
    return said


@cache
def _installed() -> frozenset[str]:
    """Fields of the server's arguments in the installed vLLM; an engine's own are none of them."""
    spec = find_spec("vllm")
    found: set[str] = set()
    for folder in (spec.submodule_search_locations if spec else None) or ():
        for source in _SOURCES:
            try:
                text = (Path(folder) / source).read_text(encoding="utf-8")
            except OSError:
                continue
            for body in re.findall(r"^class \w*FrontendArgs\b.*?(?=^\S|\Z)", text, re.M | re.S):
                found.update(re.findall(r"^    ([a-z]\w*): ", body, re.M))
    return frozenset(found)

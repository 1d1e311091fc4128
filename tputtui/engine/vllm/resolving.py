"""What vLLM was asked for and what it resolved it to, from its own objects. Engine thread."""

from __future__ import annotations

import contextlib
import enum
import logging
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tputtui.engine.arguments import text_of
from tputtui.engine.resolved import AS_FITS, CAPTURE_SIZES, GRAPH_MODE, gives_a_reason, in_runs
from tputtui.redact import redacted

__all__ = ["asked_of", "boot_log", "got_of", "keep_boot_log", "said_at_boot"]

_NO_REASONS = ("vllm.entrypoints", "vllm.renderers", "vllm.v1.metrics")
"""Loggers of those who name whole configurations, or serve: none gives a reason for an argument."""
_TOO_MUCH = "Initializing a V1"
"""Begins the engine's line that names its whole configuration."""
_KEPT_LINES, _LINE_CHARS = 50, 500


def graph_mode(config: Any) -> str:
    """How CUDA graphs are used, by vLLM's name; "NONE" without, empty where it is not decided."""
    mode = config.compilation_config.cudagraph_mode
    return "" if mode is None else str(mode.name)


def capture_sizes(config: Any) -> tuple[int, ...]:
    """The captured batch sizes in ascending order, in tokens; empty without CUDA graphs."""
    if graph_mode(config) in ("", "NONE"):
        return ()
    return tuple(sorted(config.compilation_config.cudagraph_capture_sizes or ()))


_GOT: Mapping[str, Callable[[Any], Any]] = {
    "max_model_len": lambda c: c.model_config.max_model_len,
    "dtype": lambda c: str(c.model_config.dtype).removeprefix("torch."),
    "quantization": lambda c: c.model_config.quantization,
    "kv_cache_dtype": lambda c: c.cache_config.cache_dtype,
    "block_size": lambda c: c.cache_config.block_size,
    "enable_prefix_caching": lambda c: bool(c.cache_config.enable_prefix_caching),
    "max_num_seqs": lambda c: c.scheduler_config.max_num_seqs,
    "max_num_batched_tokens": lambda c: c.scheduler_config.max_num_batched_tokens,
    "enable_chunked_prefill": lambda c: bool(c.scheduler_config.enable_chunked_prefill),
    "async_scheduling": lambda c: bool(c.scheduler_config.async_scheduling),
    "scheduling_policy": lambda c: c.scheduler_config.policy,
    "disable_hybrid_kv_cache_manager": lambda c: c.scheduler_config.disable_hybrid_kv_cache_manager,
    "attention_backend": lambda c: _backends(c),
    "compilation_config.mode": lambda c: c.compilation_config.mode,
    GRAPH_MODE: graph_mode,
    CAPTURE_SIZES: lambda c: in_runs(capture_sizes(c)),
}

_ASKED: Mapping[str, Callable[[Any], Any]] = {
    "attention_backend": lambda a: a.attention_backend or a.attention_config.backend,
    "compilation_config.mode": lambda a: a.compilation_config.mode,
    GRAPH_MODE: lambda a: a.compilation_config.cudagraph_mode,
    CAPTURE_SIZES: lambda a: in_runs(
        sorted(a.cudagraph_capture_sizes or a.compilation_config.cudagraph_capture_sizes or ())
    ),
    "max_model_len": lambda a: AS_FITS if a.max_model_len == -1 else a.max_model_len,
}
"""Where vLLM's EngineArgs hold an argument otherwise than under its own name."""
_UNLESS_ASKED = {"scheduling_policy": "fcfs", "disable_hybrid_kv_cache_manager": False}
"""Values that a parser gives without being asked, besides None and "auto"."""


def asked_of(arguments: Any) -> dict[str, str]:
    """What EngineArgs ask for, of what `got_of` tells and of `enforce_eager`, by name.

    To be read before vLLM makes its configuration of them: it writes its choices into them.
    """
    asked = {}
    for name in (*_GOT, "enforce_eager"):
        value = _read(_ASKED.get(name) or operator.attrgetter(name), arguments)
        if value not in ("", "auto", _UNLESS_ASKED.get(name)):
            asked[name] = value
    return {
        name: value if value == AS_FITS else text_of(value)
        for name, value in asked.items()
        if value is not None
    }


def got_of(config: Any) -> dict[str, str]:
    """What a booted engine's VllmConfig came to, by name; what it does not have is left out."""
    got = {name: _read(read, config) for name, read in _GOT.items()}
    return {name: text_of(value) for name, value in got.items() if value not in (None, "")}


@contextlib.contextmanager
def boot_log() -> Iterator[list[str]]:
    """The lines that give a reason for an argument, of those that vLLM logs in this process while a
    boot lasts, oldest first.

    vLLM says some of them once in a process; they are said anew at each boot.
    """
    _say_anew()
    lines: list[str] = []
    handler = _Lines(lines)
    log = logging.getLogger("vllm")
    log.addHandler(handler)
    try:
        yield lines
    finally:
        log.removeHandler(handler)


def keep_boot_log() -> None:
    """Keep such lines of this process until `said_at_boot`; once in a process.

    A server of vLLM sets its loggers up anew while it boots, without any handler but its own.
    """
    global _server_lines
    if _server_lines is None:
        kept, made = _Lines([]), logging.getLogRecordFactory()
        _server_lines = kept

        def keeping(*args: Any, **named: Any) -> logging.LogRecord:
            record = made(*args, **named)
            if record.name.startswith("vllm."):
                kept.emit(record)
            return record

        logging.setLogRecordFactory(keeping)


def said_at_boot() -> list[str]:
    """The lines that `keep_boot_log` kept, oldest first, without secrets; it keeps no more."""
    if _server_lines is None:
        return []
    _server_lines.over = True
    return [redacted(line) for line in _server_lines.lines]


class _Lines(logging.Handler):
    """over: whether no more lines are to be kept."""

    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self.lines = lines
        self.over = False

    def emit(self, record: logging.LogRecord) -> None:
        if self.over or record.levelno < logging.INFO or record.name.startswith(_NO_REASONS):
            return
        with contextlib.suppress(Exception):
            message = record.getMessage()[:_LINE_CHARS]
            if gives_a_reason(message) and not message.startswith(_TOO_MUCH):
                self.lines.append(message)
                # The newest reasons are those that count.
                del self.lines[:-_KEPT_LINES]


_server_lines: _Lines | None = None


def _say_anew() -> None:
    with contextlib.suppress(ImportError, AttributeError):
        from vllm import logger

        for said_once in (logger._print_info_once, logger._print_warning_once):
            said_once.cache_clear()


def _read(read: Callable[[Any], Any], of: Any) -> Any:
    """A value as this version has it, of a plain type; None where it has none."""
    try:
        value = read(of)
    except AttributeError:
        return None
    return value.name if isinstance(value, enum.Enum) else value


def _backends(config: Any) -> str:
    """The attention backends that the model's layers use here; empty with workers elsewhere."""
    layers = config.compilation_config.static_forward_context.values()
    names = {layer.get_attn_backend().get_name() for layer in layers
             if hasattr(layer, "get_attn_backend")}  # fmt: skip
    return " ".join(sorted(names))

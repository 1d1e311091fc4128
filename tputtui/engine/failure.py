"""The message and the hint for an engine that failed."""

from __future__ import annotations

import signal

from tputtui.engine.shortage import memory_held
from tputtui.errors import EngineError, TputError
from tputtui.process.privacy import is_private

__all__ = ["cause_of", "failure_of"]

_MEMORY = (
    "out of memory", "can't allocate memory", "cannot allocate memory", "outofmemory",
    # vLLM's own look before it loads a model.
    "free memory on device", "no available memory for the cache",
)  # fmt: skip
_MEMORY_HINT = "Memory ran out: boot with lower ceilings, or leave it more memory."
_HINT = "The log has the traceback."
_CRASH_HINT = "The log has its last words. Boot again."
_SIGNAL_HINTS = {
    signal.SIGKILL: "The kernel does that where memory runs out (`dmesg` says so). Boot again, "
    "with lower ceilings if it did.",
    signal.SIGTERM: "Somebody ended it. Boot again.",
}


def failure_of(error: BaseException) -> TputError:
    """Turn `error` into a message for a person; a TputError stays as it is."""
    if isinstance(error, TputError):
        return error
    name, text = type(error).__name__, str(error).strip().partition("\n")[0]
    if is_private():
        # What a library says of a failure may quote a request.
        ran_out = isinstance(error, MemoryError) or any(word in text.lower() for word in _MEMORY)
        hint = f"{_MEMORY_HINT} {_HINT}" if ran_out else _HINT
        return EngineError(f"{name} (its words are withheld: real prompts are served).", hint)
    message = f"{name}: {text}" if text else name
    ran_out = isinstance(error, MemoryError) or any(word in message.lower() for word in _MEMORY)
    if not ran_out:
        return EngineError(message, _HINT)
    return EngineError(message, f"{memory_held() or _MEMORY_HINT} {_HINT}")


def cause_of(code: int, what: str = "The engine's process") -> EngineError:
    """The failure of an engine whose process, named `what`, ended with the exit status `code`."""
    if code >= 0:
        message = f"{what} ended by itself (exit code {code})."
        return EngineError(message, f"{_HINT} Boot again.")
    try:
        number = signal.Signals(-code)
    except ValueError:
        return EngineError(f"{what} was ended by signal {-code}.", _CRASH_HINT)
    if number in _SIGNAL_HINTS:
        return EngineError(f"{what} was killed ({number.name}).", _SIGNAL_HINTS[number])
    return EngineError(f"{what} crashed ({number.name}).", _CRASH_HINT)

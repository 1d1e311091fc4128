"""The command: picks the subcommand and gives the exit code.

Exit codes: 0 done, goals met; 1 goals missed, or what was compared differs; 2 input that cannot be
used; 3 the engine failed; 70 a bug of ours; 74 the output could not be written; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from tputtui import __version__
from tputtui.cli.words import COMMANDS
from tputtui.process.output import speak_through

__all__ = ["BUG", "INTERRUPTED", "main", "program", "say", "screen_failed"]

BUG, INTERRUPTED = 70, 130


def program() -> NoReturn:
    """Run the command as a process of its own, and exit with its code."""
    _occupy_standard_descriptors()
    speak_through()
    code = main()
    if (redirect := sys.modules.get("tputtui.process.redirect")) is not None:
        # An engine ran here: its libraries print into the log while they are torn down.
        redirect.Redirected.say_no_more()
    sys.exit(code)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    if "_ARGCOMPLETE" in os.environ:
        from tputtui.cli.completion import complete

        complete()
    words = list(sys.argv[1:] if argv is None else argv)
    from tputtui.errors import TputError

    try:
        try:
            code = _run(words)
        finally:
            # A failed write shows here, also when argparse exits (`--help`).
            if sys.stdout is not None:
                sys.stdout.flush()
    except TputError as error:
        return say(error)
    except BrokenPipeError:
        # `tputtui … | head`: the reader has closed the pipe.
        return 0
    except KeyboardInterrupt:
        print("tputtui: interrupted", file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        return _bug(error)
    return code


def _run(words: list[str]) -> int:
    if words and words[0] in ("-V", "--version"):
        print(f"tputtui {__version__}")
        return 0
    command = words.pop(0) if words and words[0] in COMMANDS else "run"
    if command == "run" and words:
        _check_command(words[0])
    module = importlib.import_module(f"tputtui.cli.{command}")
    code: int = module.run(words)
    return code


def _check_command(word: str) -> None:
    """Raise UsageError where a first word looks like a misspelt command, not like a MODEL."""
    from tputtui.errors import UsageError, closest

    if word.startswith("-") or not word.isalpha() or os.path.exists(word):
        return
    if meant := closest(word, COMMANDS):
        raise UsageError(
            f"There is no command {word!r}.",
            f"Did you mean `{meant}`? A folder with a model in it is written ./{word}.",
        )


def _occupy_standard_descriptors() -> None:
    """Open /dev/null on each of the descriptors 0, 1 and 2 that is closed (`>&-`).

    Otherwise the next file that we open would get its number.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # `open` takes the lowest free descriptor, which is this one.
            os.open(os.devnull, os.O_RDWR)


def _bug(error: Exception) -> int:
    """Print an unexpected error with its traceback, without secrets; returns the exit code."""
    import traceback

    from tputtui.redact import redacted

    print(redacted("".join(traceback.format_exception(error))), file=sys.stderr, end="")
    print("tputtui: this is a bug of ours; the lines above say where.", file=sys.stderr)
    return BUG


def screen_failed() -> int:
    """Say that the screen has failed; returns the exit code."""
    print("tputtui: the screen failed. The log has the traceback.", file=sys.stderr)
    return BUG


def say(error: Exception) -> int:
    """Print what failed and what to do; returns the exit code."""
    print(f"tputtui: {getattr(error, 'message', error)}", file=sys.stderr)
    if hint := getattr(error, "hint", ""):
        print(f"         {hint}", file=sys.stderr)
    code: int = getattr(error, "exit_code", 70)
    return code

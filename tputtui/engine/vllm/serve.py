"""`vllm serve` as a child of ours: python -m tputtui.engine.vllm.serve PARENT FILE ARGUMENTS…

vLLM's own subcommand, as its `vllm` command runs it (which on a CPU wheel fails on its own
version). PARENT is a process id: when that process is gone, the server ends. Why it does not come
up is written into FILE, as `Problem`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import msgspec

from tputtui.engine.failure import failure_of
from tputtui.engine.vllm.args import reason_of, spin_briefly
from tputtui.engine.vllm.drafting import add_schedule_to_serve
from tputtui.engine.wire import Problem
from tputtui.errors import EngineError, TputError
from tputtui.process.group import end_group

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_LOOK_S = 1.0
_GRACE_S = 20.0
"""How long vLLM has to end by itself."""


def main() -> None:
    """Serve until told to end."""
    text, file, *words = sys.argv[1:]
    parent, folder = int(text), Path(file).parent
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Until vLLM has a handler of its own.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    threading.Thread(target=_watch, args=(parent, folder), daemon=True).start()
    try:
        if os.getppid() != parent:
            raise SystemExit(1)  # It died before that.
        spin_briefly()
        _serve(words, Path(file))
    finally:
        if os.getppid() != parent:
            _tidy(folder)


def _watch(parent: int, folder: Path) -> None:
    """Once `parent` is gone, end this process and all that it has started.

    The kernel tells it by one signal, and that can be lost: what our handler, or vLLM's, raises is
    swallowed where code that is being imported catches everything.
    """
    while os.getppid() == parent:
        time.sleep(_LOOK_S)
    _tidy(folder)
    end_group(os.getpid(), _GRACE_S)


def _serve(words: list[str], file: Path) -> None:
    from vllm.engine import arg_utils
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    # For the form of arguments: vLLM keeps what it read of its source, with help or without.
    arg_utils.NEEDS_HELP = True
    parser = FlexibleArgumentParser()
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(required=True, dest="subparser"))
    arguments = parser.parse_args(["serve", *words])
    try:
        add_schedule_to_serve(arguments)
        command.validate(arguments)
        command.cmd(arguments)
    except Exception as error:
        why = _cause(error, arguments)
        with contextlib.suppress(OSError):  # The parent takes no more interest.
            file.write_bytes(msgspec.json.encode(Problem(why.message, why.hint)))
        raise


def _tidy(folder: Path) -> None:
    """Remove what the parent left for us, and can remove no more."""
    for path in (*folder.glob("control"), *folder.glob("failure")):
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _cause(error: Exception, arguments: Any) -> TputError:
    """Why the server did not come up, for a person."""
    backends = ("data_parallel_backend", "distributed_executor_backend")
    if any(getattr(arguments, name, None) == "ray" for name in backends):
        if find_spec("ray") is None:
            return EngineError("Ray is not installed.", "`pip install ray` where vLLM is.")
        from vllm.platforms import current_platform

        if not current_platform.ray_device_key:
            # vLLM starts Ray, and fails after that: "No  found in Ray cluster."
            return EngineError(
                f"vLLM's {current_platform.device_name} backend does not run under Ray.",
                "Leave Ray out: engines of one machine are processes of their own.",
            )
    why = failure_of(error)
    # pydantic spreads one reason over many lines.
    return EngineError(reason_of(error), why.hint) if hasattr(error, "errors") else why


if __name__ == "__main__":
    main()

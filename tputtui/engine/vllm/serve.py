"""`vllm serve` as a child of ours: python -m tputtui.engine.vllm.serve PARENT ARGUMENTS…

vLLM's own subcommand, as its `vllm` command runs it (which on a CPU wheel fails on its own
version). PARENT is a process id: when that process is gone, the server ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from tputtui.engine.vllm.args import spin_briefly
from tputtui.engine.vllm.drafting import add_schedule_to_serve

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve until told to end."""
    parent, *words = sys.argv[1:]
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):
        raise SystemExit(1)  # It died before that.
    spin_briefly()
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    command = ServeSubcommand()
    command.subparser_init(parser.add_subparsers(required=True, dest="subparser"))
    arguments = parser.parse_args(["serve", *words])
    add_schedule_to_serve(arguments)
    command.validate(arguments)
    command.cmd(arguments)


if __name__ == "__main__":
    main()

"""`tputtui [MODEL]`: the screen. Owns the terminal before vLLM is imported."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from tputtui.cli.asked import CommandLine, asked_of, exporter_of
from tputtui.cli.main import INTERRUPTED
from tputtui.cli.options import add_settings, parsed
from tputtui.cli.page import Page
from tputtui.engine.memory import uncollected
from tputtui.redact import redacted

if TYPE_CHECKING:
    from pathlib import Path

    from tputtui.cli.engines import Hosting
    from tputtui.process.terminal import Terminal
    from tputtui.report.prometheus import Exporter
    from tputtui.session.guard import Guard
    from tputtui.session.session import Session
    from tputtui.ui.app import TputApp

__all__ = ["parser", "run"]

_CLOSE_TIMEOUT_S = 20.0

_DESCRIPTION = """\
Tune a real vLLM engine live: load it, change its limits, see what that did, save the profile.

MODEL comes first: a local folder, a hub id, shape:NAME (published dimensions with random weights:
{shapes}), or server:URL (a server that runs
elsewhere, driven with the same load). Without MODEL or --profile, a built-in demo runs.
Every flag that is not listed here goes to vLLM, named as for `vllm serve`."""

_EPILOG = """\
examples:
  tputtui                                         the built-in demo
  tputtui meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 512 --max-model-len 8192
  tputtui shape:qwen3-8b --tensor-parallel-size 2 --load 8/s --prompt-tokens 400~0.9[16-4096]
  tputtui --profile chat                          a shipped profile (demo, chat, agent, rag, batch)

commands (`tputtui COMMAND --help`):
{commands}
"""


def run(words: list[str]) -> int:
    """Run the screen; returns the exit code."""
    options, rest = parsed(parser(), words)
    with uncollected():
        asked = asked_of(options, rest)
        from tputtui.process.terminal import Terminal, open_log

    guard = None
    if guard_text := asked.settings["guard"].text:
        from tputtui.session.guard import parse_guard

        guard = parse_guard(guard_text)
    if asked.config.keys:
        from tputtui.ui.keys import check_keys

        check_keys(asked.config.keys)
    log_path = open_log()
    with Terminal(log_path) as terminal:
        # The command line is valid. Importing the rest takes a few tenths of a second.
        terminal.paint(f" tputtui {redacted(asked.profile.engine.model)}  … starting")
        with uncollected():
            from tputtui.cli.engines import hosting
            from tputtui.record.journal import open_session_log

        hosted = hosting(asked.profile.engine, asked.settings, asked.profile.serve)
        exporter = exporter_of(asked)
        session_log = open_session_log() if asked.settings["record"].on else None
        outcome = _screen(asked, hosted, guard, log_path, session_log, exporter, terminal)
    if exporter is not None:
        exporter.close()
    return outcome


def parser() -> argparse.ArgumentParser:
    """The flags of the screen."""
    from tputtui.cli.words import COMMANDS
    from tputtui.engine.models import shapes

    commands = "\n".join(f"  {word:<11} {what}" for word, what in COMMANDS.items())
    made = Page(
        example="tputtui MODEL --load 8/s --goal ttft_p99=500ms",
        prog="tputtui",
        usage="tputtui [MODEL] [options] [any vLLM engine flag]\n       tputtui COMMAND …",
        description=_DESCRIPTION.format(shapes=", ".join(shapes())),
        epilog=_EPILOG.format(commands=commands),
    )
    made.add_argument("-V", "--version", action="store_true", help="print the version")
    add_settings(made)
    return made


def _screen(
    asked: CommandLine,
    hosted: Hosting,
    guard: Guard | None,
    log_path: Path,
    session_log: Path | None,
    exporter: Exporter | None,
    terminal: Terminal,
) -> int:
    """Run the screen; prints the summary after the terminal is given back."""
    from pathlib import Path

    with uncollected():
        from tputtui.cli.engines import foresight
        from tputtui.process.terminal import thrifty_switching
        from tputtui.session.session import Session
        from tputtui.ui.app import TputApp

    settings = asked.settings
    session = Session(
        hosted.make_engine,
        asked.profile,
        hosted.clock,
        hardware=hosted.hardware,
        make_host=hosted.make_host,
        guard=guard,
        written=asked.written,
        log_path=session_log,
        foresight=foresight(),
    )
    if exporter is not None:
        session.watch(exporter.see)

    app = TputApp(
        session,
        start=lambda: session.start(load=not settings["hold"].on),
        log_path=log_path,
        save_dir=Path(settings["save_dir"].text).expanduser(),
        theme=settings["theme"].text,
        keys=asked.config.keys,
        leave_now=lambda: terminal.abandon(INTERRUPTED, f"left at once; log: {log_path}"),
    )
    terminal.hand_over()
    with thrifty_switching():
        app.run()
    if app.gone:
        failure = session.host.status.failure
        session.close(_CLOSE_TIMEOUT_S)
        terminal.abandon(failure.exit_code if failure else 0)
    terminal.restore()
    return _leave(app, session, log_path)


def _leave(app: TputApp, session: Session, log_path: Path) -> int:
    """Stop the engine, print the summary, and say how it went as an exit code."""
    from tputtui.cli.main import say, screen_failed
    from tputtui.errors import OutputError
    from tputtui.report.summary import summary

    frame = session.advance()
    failure = frame.status.failure
    booting = session.host.booting
    # An import or a model load cannot be interrupted: do not wait for it.
    closed = session.close(0.2 if booting else _CLOSE_TIMEOUT_S)
    code = 0
    if app.return_code:
        code = screen_failed()
    elif failure is not None:
        code = say(failure)
    # After SIGHUP the terminal itself is gone.
    with contextlib.suppress(OSError, OutputError):
        journal = session.journal
        recorded = journal.path if journal and not journal.failure else None
        for line in summary(frame, app.saved, log_path, recorded):
            print(line)
        if not closed and not booting:
            print("the engine did not stop in time and was left behind", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    if not closed:
        os._exit(code)
    return code

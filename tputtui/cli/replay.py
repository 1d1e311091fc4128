"""`tputtui replay`: a recorded run on the same screen."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tputtui.cli.main import BUG, INTERRUPTED, screen_failed
from tputtui.cli.page import Page
from tputtui.cli.settings import THEMES

if TYPE_CHECKING:
    from tputtui.record.reading import Progress, Recording

__all__ = ["add_run", "parser", "recorded_run", "run"]


def run(words: list[str]) -> int:
    """Open the recorded run; returns the exit code."""
    options = parser().parse_args(words)
    from tputtui.errors import UsageError
    from tputtui.process.terminal import Terminal, open_log
    from tputtui.record.replay import Replay
    from tputtui.ui.replay_app import ReplayApp, seconds_of

    recording, note = recorded_run(options.file)
    replay = Replay(recording, time.monotonic)
    if options.speed is not None:
        from tputtui.record.replay import SPEEDS

        if options.speed not in SPEEDS:
            known = ", ".join(f"{speed:g}" for speed in SPEEDS)
            raise UsageError(f"--speed {options.speed:g} is none of {known}.")
        replay.speed = options.speed
    if options.at:
        replay.seek(seconds_of(options.at))
    with Terminal(open_log()) as terminal:
        app = ReplayApp(
            replay,
            theme=options.theme,
            leave_now=lambda: terminal.abandon(INTERRUPTED),
            note=note,
        )
        app.run()
        if app.gone:
            terminal.abandon(BUG if app.return_code else 0)
    return screen_failed() if app.return_code else 0


def parser() -> argparse.ArgumentParser:
    """The flags of `replay`."""
    made = Page(
        example="tputtui replay last --speed 4",
        prog="tputtui replay",
        description="A recorded run on the same screen: space plays, ± speed, ← → seek, , . marks.",
    )
    add_run(made)
    made.add_argument("--at", metavar="TIME", help="begin there: 3:12")
    made.add_argument("--speed", type=float, help="seconds of the run in one: 0.25 … 64")
    made.add_argument("--theme", default="dark", choices=THEMES, metavar="NAME",
                      help=", ".join(THEMES))  # fmt: skip
    return made


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the argument that `recorded_run` takes."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        default="last",
        help="a session log or its name; without: `last`, the newest with figures",
    )


def recorded_run(name: str) -> tuple[Recording, str]:
    """The run called `name`: a path, or a log's name as reports have it; and a note, mostly empty.

    "last" is the newest run that has ended or has figures. Raises UsageError without any.
    """
    from tputtui.process.state import sessions_dir
    from tputtui.record.journal import SUFFIX
    from tputtui.record.newest import newest_run
    from tputtui.record.reading import read_log

    with _told(sys.stderr, time.monotonic) as more:
        if name == "last":
            return newest_run(**more)
        path = Path(name).expanduser()
        kept = sessions_dir() / f"{name.removesuffix(SUFFIX)}{SUFFIX}"
        alone = path.name == name and not path.exists()
        return read_log(kept if alone and kept.is_file() else path, **more), ""


@contextmanager
def _told(file: TextIO | None, clock: Callable[[], float]) -> Iterator[dict[str, Progress]]:
    """What a reader is given besides to say on `file` how far it is, where that is a terminal."""
    if file is None or not file.isatty():
        yield {}
        return
    told = _Told(file, clock)
    try:
        yield {"progress": told}
    finally:
        told.erase()


class _Told:
    """Says on a terminal, `file`, how far the reading of a log is, once it takes a while."""

    AFTER_S = 0.3

    def __init__(self, file: TextIO, clock: Callable[[], float]) -> None:
        self._file, self._clock = file, clock
        self._begin_s = clock()
        self._line = ""

    def erase(self) -> None:
        """Take the line away again."""
        if self._line:
            self._file.write(f"\r{' ' * len(self._line)}\r")
            self._file.flush()

    def __call__(self, share: float) -> None:
        """Show how far it is."""
        line = f"reading the run: {share:4.0%}"
        if line != self._line and self._clock() >= self._begin_s + self.AFTER_S:
            self._line = line
            self._file.write(f"\r{line}")
            self._file.flush()

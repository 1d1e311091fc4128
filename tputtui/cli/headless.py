"""A session without a screen, from start to end: `bench`, `tune` and `verify` share it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tputtui.cli.asked import CommandLine, exporter_of
from tputtui.errors import OutputError, UsageError

if TYPE_CHECKING:
    from tputtui.load.workload import Workload
    from tputtui.profile import Profile

__all__ = ["Headless", "check_load"]

_CLOSE_TIMEOUT_S = 20.0
_BOOTING_TIMEOUT_S = 0.2
_DAY_S = 86_400.0


def check_load(load: Workload) -> None:
    """Raise UsageError for a load that never sends a request: nothing can be measured under it."""
    from tputtui.load.levels import Curve
    from tputtui.load.notation import describe_all_arrivals
    from tputtui.load.workload import level_of

    if not any(Curve(level_of(each)).area(_DAY_S) for each in load.all_arrivals):
        raise UsageError(
            f"The load, {describe_all_arrivals(load)}, sends nothing: there is nothing to measure.",
            "--load 8/s, or 96 for so many in flight.",
        )


class Headless:
    """A session of `asked`, or of `profile` in its place; the log takes what the engine prints.

    A context manager: entering starts the session; leaving stops everything and restores
    descriptors 1 and 2. out, err: files on the original descriptors 1 and 2.
    span_s: the longest window. virtual: see `hosting`.
    """

    def __init__(
        self,
        asked: CommandLine,
        span_s: float,
        *,
        quiet: bool,
        profile: Profile | None = None,
        virtual: bool = False,
    ) -> None:
        from tputtui.cli.engines import foresight, hosting
        from tputtui.process.redirect import Redirected
        from tputtui.process.terminal import open_log
        from tputtui.record.journal import open_session_log
        from tputtui.session.session import Session

        profile = profile or asked.profile
        check_load(profile.load)
        hosted = hosting(profile.engine, asked.settings, profile.serve, virtual=virtual)
        self.log_path = open_log()
        self._exporter = exporter_of(asked)
        session_log = open_session_log() if asked.settings["record"].on else None
        self._redirected = Redirected(self.log_path)
        self.out, self.err = self._redirected.file(1), self._redirected.file(2)
        self.session = Session(
            hosted.make_engine,
            profile,
            hosted.clock,
            hardware=hosted.hardware,
            make_host=hosted.make_host,
            written=asked.written,
            log_path=session_log,
            span_s=span_s,
            foresight=foresight(virtual=virtual),
        )
        if profile.engine.args.get("trust_remote_code"):
            self.say("runs the model's own code (trust_remote_code)")
        if self._exporter is not None:
            self.session.watch(self._exporter.see)
            if not quiet:
                self.say(f"metrics at {self._exporter.address}")
        self._stopped: bool | None = None

    def __enter__(self) -> Headless:
        self.session.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._close()
        for file in (self.out, self.err):
            file.close()
        journal = self.session.journal
        if isinstance(error, OutputError) and journal is not None and not journal.failure:
            error.hint = f"Its figures are not lost: `tputtui report {journal.path}` has them."

    def say(self, sentence: str, hint: str = "") -> None:
        """Print a sentence on stderr, and below it the hint."""
        print(f"tputtui: {sentence}", file=self.err)
        if hint:
            print(f"         {hint}", file=self.err)
        self.err.flush()

    def leave(self, code: int) -> int:
        """Stop everything and return `code`; if the engine does not stop, end the process."""
        if not self._close():
            os._exit(code)
        return code

    def _close(self) -> bool:
        if self._stopped is None:
            # An import or a model load cannot be interrupted: do not wait for it.
            booting = self.session.host.booting
            self._stopped = self.session.close(_BOOTING_TIMEOUT_S if booting else _CLOSE_TIMEOUT_S)
            if self._exporter is not None:
                self._exporter.close()
            self.err.flush()
            self._redirected.restore()
        return self._stopped

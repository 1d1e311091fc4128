"""`tputtui bench`: measure without a screen; figures on stdout, goals as the exit code."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from tputtui.cli.options import Asked, add_settings, asked_of, exporter_of

if TYPE_CHECKING:
    from tputtui.frame import Frame
    from tputtui.headless.results import Result
    from tputtui.metrics import Exporter
    from tputtui.profile import Profile
    from tputtui.session import Session
    from tputtui.tune.measuring import Measuring

__all__ = ["INTERRUPTED", "Headless", "duration_of", "parser", "run", "started"]

_FORMATS = ("table", "json", "jsonl", "csv")
_CLOSE_TIMEOUT_S = 20.0
INTERRUPTED = 130
_ENGINE_FAILED = 3

_EPILOG = """\
exit codes: 0 goals met (or none asked for), 1 a goal missed or not to be told from so few
requests, 2 input that cannot be used, 3 the engine failed, 130 interrupted (what was measured
until then is printed).

examples:
  tputtui bench --profile chat --duration 60s
  tputtui bench MODEL --load 8/s --goal ttft_p99=500ms --format json > result.json
  tputtui bench --profile tuned.yaml --format csv --quiet >> results.csv      from cron"""


def run(words: list[str]) -> int:
    """Measure; returns the exit code."""
    options, rest = parser().parse_known_args(words)
    asked = asked_of(options, rest)
    duration_s = duration_of(options.duration)
    if options.save is not None and Path(options.save).expanduser().exists():
        from tputtui.errors import ProfileExists

        raise ProfileExists(f"{options.save} exists already.", "Choose another name.")
    headless = started(asked, duration_s, quiet=options.quiet)
    return _bench(headless, asked, options, duration_s)


def parser() -> argparse.ArgumentParser:
    """The flags of `bench`."""
    made = argparse.ArgumentParser(
        prog="tputtui bench",
        usage="tputtui bench [MODEL] [options] [any vLLM engine flag]",
        description="Boot, load, settle, measure, and print what was measured.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--duration", default="60s", metavar="TIME", help="how long to measure, once settled "
        "(default 60s): 90s, 5min")  # fmt: skip
    add("--format", choices=_FORMATS, default="table", help="what to print (default table); jsonl "
        "has a line a second, and the result as the last")  # fmt: skip
    add("--save", metavar="FILE", help="save a profile with the figures as its evidence")
    add("--quiet", action="store_true", help="no progress on stderr")
    add_settings(made)
    return made


def duration_of(text: str) -> float:
    """Seconds of 60, 60s, 5min or 1.5h. Raises UsageError."""
    from tputtui.errors import UsageError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip().lower())
    seconds = float(match[1]) * {"h": 3600, "m": 60, "min": 60}.get(match[2], 1) if match else 0
    if not 1 <= seconds <= 86400:
        raise UsageError(f"--duration {text!r} is no time from 1 s to a day.", "Write 60s or 5min.")
    return seconds


class Headless(NamedTuple):
    """A session that has been started, and where its words go."""

    session: Session
    log_path: Path
    out: TextIO
    err: TextIO
    exporter: Exporter | None

    def close(self, timeout_s: float) -> bool:
        """Stop everything; whether the engine did so in time."""
        closed = self.session.close(timeout_s)
        if self.exporter is not None:
            self.exporter.close()
        return closed


def started(
    asked: Asked, duration_s: float, *, quiet: bool, profile: Profile | None = None
) -> Headless:
    """Start what was asked for, or `profile` in its place, with the log in stdout's place."""
    from tputtui.engine.host import Host
    from tputtui.engine.isolated import IsolatedHost
    from tputtui.engine.vllm_inproc import VllmEngine
    from tputtui.hardware import HardwareSampler
    from tputtui.record.journal import open_session_log
    from tputtui.redirect import Redirected
    from tputtui.session import Session
    from tputtui.terminal import open_log

    log_path = open_log()
    exporter = exporter_of(asked)
    session_log = open_session_log() if asked.settings["record"].on else None
    redirected = Redirected(log_path)
    session = Session(
        VllmEngine,
        profile or asked.profile,
        hardware=HardwareSampler(),
        make_host=IsolatedHost if asked.settings["isolate"].on else Host,
        written=asked.written,
        log_path=session_log,
        span_s=duration_s,
    )
    err = redirected.file(2)
    if exporter is not None:
        session.watch(exporter.see)
        if not quiet:
            print(f"tputtui: metrics at {exporter.address}", file=err, flush=True)
    session.start()
    return Headless(session, log_path, redirected.file(1), err, exporter)


def _bench(headless: Headless, asked: Asked, options: argparse.Namespace, duration_s: float) -> int:
    from tputtui.headless.results import result_text, sample_line
    from tputtui.headless.running import Interrupted, measure
    from tputtui.tune.measuring import Measuring, Stage

    session, out, err = headless.session, headless.out, headless.err
    interrupted = Interrupted(lambda: print("left at once", file=err, flush=True))
    measuring = Measuring(duration_s)

    def each_second(frame: Frame) -> None:
        out.write(sample_line(frame))
        out.flush()

    last = measure(
        session,
        measuring,
        interrupted,
        err,
        quiet=options.quiet,
        each_second=each_second if options.format == "jsonl" else None,
    )
    failed = measuring.stage is Stage.FAILED
    outcome = "failed" if failed else "interrupted" if not measuring.over else "complete"
    files = {"log": str(headless.log_path)}
    if session.journal is not None:
        files["session"] = str(session.journal.path)
    if options.save is not None and measuring.result is not None and not failed:
        files["profile"] = str(session.save(Path(options.save)))
    found = _result(measuring, session, last, outcome, files)
    closed = headless.close(_CLOSE_TIMEOUT_S if last.status.facts else 0.2)
    out.write(result_text(found, options.format))
    out.flush()
    code = _code(found, last, err)
    if not closed:
        err.flush()
        os._exit(code)
    return code


def _result(
    measuring: Measuring, session: Session, last: Frame, outcome: str, files: dict[str, str]
) -> Result:
    from tputtui.headless.results import Result, goals_met
    from tputtui.proof import measured

    frame = measuring.result
    found = measured(frame, session.recorder) if frame is not None else None
    failure = last.status.failure
    return Result(
        outcome=outcome,
        measured=found,
        goals_met=goals_met(found, len(last.profile.goals)),
        note=str(failure) if failure else measuring.note,
        accounting=asdict(last.accounting),
        files=files,
    )


def _code(found: Result, last: Frame, err: TextIO) -> int:
    """The exit code, and on stderr why it is not 0."""
    failure = last.status.failure or last.status.load_failure
    if found.outcome == "failed":
        print(f"tputtui: {failure.message if failure else found.note}", file=err)
        if failure is not None and failure.hint:
            print(f"         {failure.hint}", file=err)
        err.flush()
        return getattr(failure, "exit_code", _ENGINE_FAILED)
    if found.outcome == "interrupted":
        print("tputtui: interrupted; the figures are of the time until then.", file=err, flush=True)
        return INTERRUPTED
    if found.goals_met is False:
        verdicts = found.measured.goals if found.measured else {}
        missed = [f"{name} {each.verdict}" for name, each in verdicts.items()
                  if each.verdict != "met"]  # fmt: skip
        print(
            f"tputtui: goals not met: {', '.join(missed) or 'no requests'}.", file=err, flush=True
        )
        return 1
    return 0

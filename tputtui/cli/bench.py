"""`tputtui bench`: measure without a screen; figures on stdout, goals as the exit code."""

from __future__ import annotations

import argparse
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from tputtui.cli.asked import asked_of
from tputtui.cli.headless import Headless
from tputtui.cli.main import INTERRUPTED
from tputtui.cli.options import add_settings, new_file, parsed
from tputtui.cli.page import Page

if TYPE_CHECKING:
    from tputtui.experiments.measuring import Measuring
    from tputtui.frame import Frame
    from tputtui.headless.results import Result
    from tputtui.session.session import Session

__all__ = ["add_virtual", "duration_of", "parser", "run"]

_FORMATS = ("table", "json", "jsonl", "csv")
_ENGINE_FAILED = 3

_EPILOG = """\
exit codes: 0 goals met (or none asked for), 1 a goal missed or not to be told from so few
requests, 2 input that cannot be used, 3 the engine failed, 74 the output could not be
written, 130 interrupted (what was measured until then is printed).

examples:
  tputtui bench --profile chat --duration 60s
  tputtui bench MODEL --load 8/s --goal ttft_p99=500ms --format json > result.json
  tputtui bench --profile tuned.yaml --format csv --quiet >> results.csv      from cron"""


def run(words: list[str]) -> int:
    """Measure; returns the exit code."""
    options, rest = parsed(parser(), words)
    asked = asked_of(options, rest)
    duration_s = duration_of(options.duration)
    new_file(options.save)
    with Headless(asked, duration_s, quiet=options.quiet, virtual=options.virtual) as headless:
        return headless.leave(_bench(headless, options, duration_s))


def parser() -> argparse.ArgumentParser:
    """The flags of `bench`."""
    made = Page(
        example="tputtui bench MODEL --load 8/s --goal ttft_p99=500ms",
        prog="tputtui bench",
        usage="tputtui bench [MODEL] [options] [any vLLM engine flag]",
        description="Boot, load, settle, measure, and print what was measured.",
        epilog=_EPILOG,
    )
    add = made.add_argument
    add("--duration", default="60s", metavar="TIME", help="how long to measure, once settled "
        "(default 60s): 90s, 5min")  # fmt: skip
    add("--format", choices=_FORMATS, default="table", help="what to print (default table); jsonl "
        "has a line a second, and the result as the last")  # fmt: skip
    add("--save", metavar="FILE", help="save a profile with the figures as its evidence")
    add("--quiet", action="store_true", help="no progress on stderr")
    add_virtual(made)
    add_settings(made, screen=False)
    return made


def add_virtual(parser: argparse.ArgumentParser) -> None:
    """Add the flag for virtual time."""
    parser.add_argument("--virtual", action="store_true", help="with --simulate: as fast as this "
                        "CPU goes, in the simulation's own time")  # fmt: skip


def duration_of(
    text: str, flag: str = "--duration", least: float = 1, most: float = 86400
) -> float:
    """Seconds of 60, 60s, 5min or 1.5h, `least` to `most` of them. Raises UsageError."""
    from tputtui.errors import UsageError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|m|min|h|)", text.strip().lower())
    seconds = float(match[1]) * {"h": 3600, "m": 60, "min": 60}.get(match[2], 1) if match else 0
    if not least <= seconds <= most:
        longest = "a day" if most == 86400 else f"{most:g} s"
        raise UsageError(
            f"{flag} {text!r} is no time from {least:g} s to {longest}.", "Write 60s or 5min."
        )
    return seconds


def _bench(headless: Headless, options: argparse.Namespace, duration_s: float) -> int:
    from tputtui.errors import TputError
    from tputtui.experiments.measuring import Measuring, Stage
    from tputtui.headless.results import result_text, sample_line
    from tputtui.headless.running import Interrupted, measure

    session, out, err = headless.session, headless.out, headless.err
    interrupted = Interrupted(err)
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
    unsaved: TputError | None = None
    if options.save is not None and measuring.result is not None and not failed:
        try:
            files["profile"] = str(session.save(Path(options.save)))
        except TputError as error:
            # The figures are printed all the same.
            unsaved = error
    result = _result(measuring, session, last, outcome, files)
    out.write(result_text(result, options.format))
    out.flush()
    code = _code(result, last, headless)
    if unsaved is not None:
        headless.say(str(unsaved))
        return unsaved.exit_code
    return code


def _result(
    measuring: Measuring, session: Session, last: Frame, outcome: str, files: dict[str, str]
) -> Result:
    from tputtui.frame.proof import measured
    from tputtui.headless.results import Result, goals_met
    from tputtui.knobs import kept_limits

    frame, status = measuring.result, last.status
    measurement = measured(frame, session.recorder) if frame is not None else None
    failure, knobs, facts = status.failure, status.knobs, status.facts
    return Result(
        outcome=outcome,
        measured=measurement,
        goals_met=goals_met(measurement, len(last.profile.judged)),
        note=str(failure) if failure else measuring.note,
        accounting=asdict(last.accounting),
        files=files,
        stops=dict(last.stops),
        requests=last.requests,
        tokenizes=facts is None or facts.tokenizes,
        kept=kept_limits(knobs, facts.booted) if knobs and facts else {},
    )


def _code(result: Result, last: Frame, headless: Headless) -> int:
    """The exit code; says on stderr why it is not 0."""
    failure = last.status.failure or last.status.load_failure
    if result.outcome == "failed":
        headless.say(failure.message if failure else result.note, failure.hint if failure else "")
        return getattr(failure, "exit_code", _ENGINE_FAILED)
    if result.outcome == "interrupted":
        until_then = "the figures are of the time until then"
        detail = until_then if result.measured is not None else "nothing was measured"
        headless.say(f"interrupted; {detail}.")
        return INTERRUPTED
    if result.goals_met is False:
        verdicts = result.measured.goals if result.measured else {}
        missed = [f"{name} {each.verdict}" for name, each in verdicts.items()
                  if each.verdict != "met"]  # fmt: skip
        headless.say(f"goals not met: {', '.join(missed) or 'no requests'}.")
        return 1
    if nothing := _nothing_served(last):
        fits = "A request has to fit max_model_len; the log has vLLM's words."
        headless.say(nothing, fits if last.accounting.issued else "Measure longer: --duration.")
        return 1
    return 0


def _nothing_served(last: Frame) -> str:
    """A sentence where no request came, or every one was rejected or failed; else empty."""
    account = last.accounting
    if not account.issued:
        return "nothing was served: no request was due in this time."
    turned_away = account.rejected + account.failed
    if not turned_away or account.finished or account.cut or account.running:
        return ""
    how = "were rejected" if account.rejected else "failed"
    return f"nothing was served: {turned_away:,} of {account.issued:,} requests {how}."

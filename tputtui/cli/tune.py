"""`tputtui tune`: search for the setting that meets a goal best; a profile on stdout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from tputtui.cli.asked import CommandLine, asked_of
from tputtui.cli.bench import add_virtual, duration_of
from tputtui.cli.headless import Headless
from tputtui.cli.main import INTERRUPTED
from tputtui.cli.options import add_settings, new_file, parsed
from tputtui.cli.page import Page

if TYPE_CHECKING:
    from tputtui.experiments.tuner.plan import Plan
    from tputtui.headless.running import Interrupted
    from tputtui.profile import Profile

__all__ = ["parser", "run"]

_MISSED, _ENGINE_FAILED = 1, 3

_EPILOG = """\
It boots once and changes the limits live: trial after trial from an empty engine under the same
requests, then the best against the start in pairs. The profile that comes out is the start's own
where nothing beats it beyond noise.

exit codes: 0 a profile is on stdout, 1 it misses a goal, or no setting met them (then there is
none, and the closest is named), 2 input that cannot be used, 3 the engine failed, 74 the
output could not be written, 130 interrupted (--resume goes on from there).

examples:
  tputtui tune chat --goal ttft_p99=500ms,tpot_p99=50ms > tuned.yaml
  tputtui tune mine.yaml --find load --budget 20min -o tuned.yaml --verify
  tputtui tune mine.yaml --vary max_num_seqs=16..256,max_num_batched_tokens=512..8192
  tputtui tune mine.yaml --boots 'async_scheduling=true,false'"""


def run(words: list[str]) -> int:
    """Tune; returns the exit code."""
    made = parser()
    options, rest = parsed(made, words)
    from tputtui import profile
    from tputtui.engine import flags

    # argparse would take the value of vLLM's flag for it, in `tune --max-num-seqs 64 chat`.
    name, rest = flags.positional(rest)
    if name is None:
        made.error("the following arguments are required: PROFILE")
    options.profile = str(profile.find(name))
    asked = asked_of(options, rest)
    plan = _plan(options, asked)
    plan.check(asked.profile.load, asked.profile.judged)
    duration_s = duration_of(options.measure)
    new_file(options.output or None)
    if options.verify:
        from tputtui.experiments.verifying import check_real

        check_real(asked.settings["simulate"].text)
    with Headless(asked, duration_s, quiet=options.quiet, virtual=options.virtual) as headless:
        return headless.leave(_tune(headless, plan, options, duration_s))


def parser() -> argparse.ArgumentParser:
    """The flags of `tune`."""
    made = Page(
        example="tputtui tune chat --goal ttft_p99=500ms,tpot_p99=50ms > tuned.yaml",
        prog="tputtui tune",
        usage="tputtui tune PROFILE [options] [any vLLM engine flag]",
        description="Search for the best setting under a profile's load, on one warm engine.\n"
        "PROFILE is a name or a file: engine, load, goals, start setting.",
        epilog=_EPILOG,
    )
    add = made.add_argument
    add("--find", choices=("limits", "load"), default=None, help="the best limits for the load as "
        "given (default), or the most load that meets the goals, at the best limits")  # fmt: skip
    add("--vary", metavar="LIMITS", help="what to change, and through which values (default "
        "max_num_seqs and max_num_batched_tokens, halved down from their ceilings)")  # fmt: skip
    add("--boots", metavar="ARGS", help="engine arguments to boot with as well, in an outer loop; "
        "each boot counts into the budget")  # fmt: skip
    add("--search", metavar="HOW", default=None, help="physics (default), model, random or grid")
    add("--seed", type=int, default=0, metavar="N", help="of the search (default 0)")
    add("--budget", default="10min", metavar="TIME", help="for search and confirmation together "
        "(default 10min)")  # fmt: skip
    add("--measure", default="30s", metavar="TIME", help="how long to measure what comes out, as "
        "its evidence (default 30s)")  # fmt: skip
    add("--verify", action="store_true", help="boot with exactly its values, and measure again")
    add("--resume", nargs="?", const="", metavar="LOG", help="go on from the trials of a run that "
        "was stopped early: the newest, or this session log")  # fmt: skip
    add("-o", "--output", metavar="FILE", help="write the profile there instead of to stdout")
    add("--anyway", action="store_true", help="also beside requests of other people at a server")
    add("--quiet", action="store_true", help="no progress on stderr")
    add_virtual(made)
    add_settings(made, "goal", "load", "prompt_tokens", "output_tokens", "length_pairs", "prefix",
                 "sessions", "trace", "cancel", "priority", "lora_mix", "structured", "answers",
                 "classes", "load_seed", "limit", "simulate", "isolate", "served",
                 "record", "metrics_port", "metrics_host")  # fmt: skip
    return made


def _plan(options: argparse.Namespace, asked: CommandLine) -> Plan:
    from tputtui.experiments.tuner.plan import Plan

    plan = Plan(
        load=options.find == "load",
        vary=options.vary or "",
        engines=options.boots or "",
        search=options.search or "physics",
        budget_s=duration_of(options.budget),
        seed=options.seed,
    )
    if options.resume is None:
        return plan
    from tputtui.record.resuming import resumed

    return resumed(plan, asked.profile, options.resume)


def _tune(headless: Headless, plan: Plan, options: argparse.Namespace, duration_s: float) -> int:
    from tputtui.headless.running import Interrupted, until_up
    from tputtui.headless.tuning import tune

    session = headless.session
    interrupted = Interrupted(headless.err)
    if not until_up(session, session.engine, interrupted):
        return _why_not(headless, interrupted)
    if plan.earlier_trials and not options.quiet:
        headless.say(f"going on after {len(plan.earlier_trials)} trials")
    last = tune(
        session, plan, interrupted, headless.err, quiet=options.quiet, anyway=options.anyway
    )
    state = last.tuner
    assert state is not None
    if interrupted.asked or last.status.failure is not None:
        return _why_not(headless, interrupted)
    headless.say(state.verdict)
    if not state.holds:
        return _MISSED
    tuned, code = _settled(headless, interrupted, state.offered, duration_s, options)
    if tuned is None:
        return code
    from tputtui import profile

    if options.output:
        like = profile.read(Path(options.profile))
        path = profile.save(tuned, Path(options.output), like=like)
        headless.say(f"written to {path}")
        if not options.verify:
            anew = " --anew" if tuned.evidence and tuned.evidence.simulated else ""
            where = ", on the device it is for" if anew else ""
            headless.say(
                f"`tputtui verify {options.output}{anew}` boots with exactly these values{where}."
            )
    else:
        headless.out.write(profile.dump(tuned))
        headless.out.flush()
    return _MISSED if _missed(tuned) else 0


def _missed(profile: Profile) -> bool:
    """Whether the newest measurement of the profile misses a goal beyond chance."""
    evidence = profile.evidence
    measured = evidence.in_process if evidence else None
    return measured is not None and bool(measured.missed)


def _settled(
    headless: Headless,
    interrupted: Interrupted,
    offered: bool,
    duration_s: float,
    options: argparse.Namespace,
) -> tuple[Profile | None, int]:
    """The profile to keep, with its evidence; without a profile, the exit code."""
    from tputtui.experiments.measuring import Measuring
    from tputtui.headless.running import measure, until, until_up

    session = headless.session
    if offered:
        session.steer.take(boot=True)
        if not until_up(session, session.engine, interrupted):
            return None, _why_not(headless, interrupted)
    measuring = Measuring(duration_s, session.steer.load.restart())
    measure(session, measuring, interrupted, headless.err, quiet=options.quiet)
    if options.verify and not interrupted.asked:
        headless.say(session.steer.experiments.verify())
        until(session, interrupted, lambda frame: frame.compare is None or frame.compare.done)
        compare = session.latest.compare
        if compare is not None:
            headless.say(compare.note)
    if interrupted.asked or session.host.status.failure is not None:
        return None, _why_not(headless, interrupted)
    return session.snapshot(), 0


def _why_not(headless: Headless, interrupted: Interrupted) -> int:
    """Say why there is no profile; returns the exit code."""
    from tputtui.experiments.tuner.outcome import limits_text
    from tputtui.text.format import counted

    session = headless.session
    status = session.host.status
    failure = status.failure or status.refused
    if interrupted.asked:
        state = session.latest.tuner
        count = len(state.trials) if state else 0
        more = "; --resume goes on from there" if count and session.journal else ""
        headless.say(f"interrupted after {counted(count, 'trial')}{more}.")
        if state is not None and state.holds:
            headless.say(f"the best so far, not confirmed: {limits_text(state.found)}.")
        return INTERRUPTED
    if failure is not None:
        headless.say(failure.message, failure.hint)
    return getattr(failure, "exit_code", _ENGINE_FAILED)

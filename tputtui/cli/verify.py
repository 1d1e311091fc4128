"""`tputtui verify`: boot with exactly a profile's values, measure again, write both into it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tputtui.cli.asked import asked_of
from tputtui.cli.bench import duration_of
from tputtui.cli.headless import Headless
from tputtui.cli.main import INTERRUPTED
from tputtui.cli.options import add_settings
from tputtui.cli.page import Page

if TYPE_CHECKING:
    from tputtui.headless.asking import QualityGate
    from tputtui.headless.running import Interrupted
    from tputtui.profile import EngineSpec, Profile
    from tputtui.profile.evidence import Evidence, Measured

    Measure = Callable[..., tuple[Measured | None, int]]
    """Measures the engine, booted as a spec if one is given; without figures, the exit code."""

__all__ = ["parser", "run"]

_EPILOG = """\
The figures it was tuned with are taken from the profile; where it has none, or with --anew, they
are measured first, with the limits set live on the profile's own ceilings. With --served vLLM's
own server is booted with the values that `profiles export` writes, under the same load over HTTP,
and the figures go beside those of the engine in process, with what the server adds.

--quality asks a set of prompts of the engine before and after the boot, alone and under load, and
compares the greedy answers; the same engine asked twice tells how much of that is noise. The set is
a FILE as --requests reads it, or `builtin`. A profile that gives dtype, quantization,
kv_cache_dtype, speculative_config, or no prefix caching, is compared with an engine without those,
and is not called verified without --quality or --no-quality.

exit codes: 0 verified, 1 worse than it was tuned, answers changed, or a goal missed; 2 input that
cannot be used, 3 the engine failed or does not boot with these values, 74 the output could not be
written, 130 interrupted."""


def run(words: list[str]) -> int:
    """Verify; returns the exit code."""
    options = parser().parse_args(words)
    from tputtui import profile
    from tputtui.errors import UsageError

    duration_s = duration_of(options.duration)
    source = profile.find(options.profile)
    base = profile.parse(profile.read(source), str(source))
    target = Path(options.output).expanduser() if options.output else source
    if not options.output and source in profile.shipped().values():
        raise UsageError(
            f"{options.profile} comes with tputtui and is not written to.",
            "Give a file of your own: -o FILE.",
        )
    if options.output and target.exists() and target.resolve() != source.resolve():
        raise UsageError(f"{target} exists already.", "Choose another name.")
    return _verify(base, source, target, options, duration_s)


def parser() -> argparse.ArgumentParser:
    """The flags of `verify`."""
    made = Page(
        example="tputtui verify tuned.yaml",
        prog="tputtui verify",
        description="Boot with exactly a profile's values as ceilings, measure under the same "
        "load, and write both sets of figures and their difference into the profile.",
        epilog=_EPILOG,
    )
    add = made.add_argument
    add("profile", metavar="PROFILE", help="a name or a file; its comments stay")
    add("--duration", default="60s", metavar="TIME", help="how long to measure (default 60s)")
    add("--anew", action="store_true", help="measure the tuned setting again as well")
    add("-o", "--output", metavar="FILE", help="write there instead")
    add("--format", choices=("table", "json"), default="table")
    answers = made.add_mutually_exclusive_group()
    answers.add_argument(
        "--quality",
        metavar="FILE|builtin",
        help="whether it answers as before, by prompts of yours or of ours",
    )
    answers.add_argument(
        "--no-quality", action="store_true", help="call it verified without; the evidence says so"
    )
    add("--quiet", action="store_true", help="no progress on stderr")
    add_settings(made, "isolate", "served", "record", "metrics_port", "metrics_host")
    return made


def _verify(
    base: Profile, source: Path, target: Path, options: argparse.Namespace, duration_s: float
) -> int:
    import msgspec

    from tputtui import profile
    from tputtui.errors import UsageError
    from tputtui.experiments.verifying import check_real
    from tputtui.export.startup import start_up
    from tputtui.headless.running import Interrupted

    options.profile = str(source)
    asked = asked_of(options, [])
    check_real(asked.settings["simulate"].text)
    served = asked.settings["served"].on
    if served:
        if options.quality or options.no_quality:
            raise UsageError(
                "Answers are compared on an engine in this process, not on a server.",
                f"tputtui verify {source} --quality builtin compares them.",
            )
        _check_served(base, source, anew=options.anew)
    gate = None
    if options.quality:
        from tputtui.headless.asking import QualityGate

        gate = QualityGate(options.quality, base)
    known = base.evidence.tuned if base.evidence and not options.anew else None
    if known is not None and known.machine.simulated:
        raise UsageError(
            f"What {source} says of its setting was simulated, and verifies nothing.",
            "--anew measures the setting on this machine first.",
        )
    start = start_up(base)
    if start.refused:
        raise UsageError(start.refused)
    exact = msgspec.structs.replace(base, engine=start.spec, evidence=None)
    first = gate.reference if gate else exact if known or served else base
    with Headless(asked, duration_s, quiet=options.quiet, profile=first) as headless:
        for note in start.notes:
            headless.say(note)
        interrupted = Interrupted(headless.err)
        measure = partial(_measured, headless, duration_s, interrupted, options.quiet)
        if served:
            evidence, code = _served(headless, base, start.spec, measure)
        else:
            both = _Both(headless, base, start.spec, measure, interrupted)
            evidence, code = both.evidence(known, gate, declined=options.no_quality)
        if evidence is None:
            return headless.leave(code)
        # Each of the two is written even if the other cannot be.
        try:
            headless.out.write(_text(evidence, options.format, served=served))
            headless.out.flush()
        finally:
            saved, like = msgspec.structs.replace(base, evidence=evidence), profile.read(source)
            over = target == source or target.exists()
            headless.say(f"written to {profile.save(saved, target, overwrite=over, like=like)}")
        if gate is not None and headless.err.isatty():
            # Where single answers differ is for a screen, and for no file.
            from tputtui.headless.asking import differences_text

            headless.err.write(differences_text(gate.comparisons))
        return headless.leave(_code(evidence, headless.err, served=served))


class _Both:
    """Measures a profile as tuned and as booted with exactly its values, and asks both."""

    def __init__(
        self,
        headless: Headless,
        base: Profile,
        exact: EngineSpec,
        measure: Measure,
        interrupted: Interrupted,
    ) -> None:
        self._headless, self._base, self._exact = headless, base, exact
        self._measure, self._interrupted = measure, interrupted

    def evidence(
        self, known: Measured | None, gate: QualityGate | None, *, declined: bool
    ) -> tuple[Evidence | None, int]:
        """The evidence; without it, an exit code.

        known: figures as tuned; None to measure them first. gate: asks for answers; None where they
        are not compared. declined: whether that was asked for.
        """
        from tputtui.frame.proof import compared
        from tputtui.profile.answering import changes_answers
        from tputtui.profile.evidence import Quality

        headless, base, first = self._headless, self._base, None
        changes = changes_answers(base)
        if gate is not None and changes:
            # Its answers are compared with those of an engine that is not the tuned one.
            if not self._asked_before(gate):
                return None, self._failed(gate)
            first = base.engine
        if known is None:
            if first is not None:
                headless.session.steer.engine.boot_with(first.args, dict(base.knobs), only=True)
            headless.say("measuring the tuned setting first")
            known, code = self._measure(first)
            if known is None:
                return None, code
            first = base.engine
        if gate is not None and not changes:
            if not self._asked_before(gate):
                return None, self._failed(gate)
            first = base.engine
        if first is not None:
            args = self._exact.args
            headless.session.steer.engine.boot_with(args, dict(base.knobs), only=True)
        headless.say("measuring with exactly these values booted")
        again, code = self._measure(self._exact)
        if again is None:
            return None, code
        quality = Quality("not compared", changes) if declined else None
        if gate is not None:
            quality = gate.ask_after(headless.session, self._interrupted, headless.say)
            if quality is None:
                return None, self._failed(gate)
        return compared(known, again, changes, quality), 0

    def _asked_before(self, gate: QualityGate) -> bool:
        return gate.ask_before(self._headless.session, self._interrupted, self._headless.say)

    def _failed(self, gate: QualityGate) -> int:
        if self._interrupted.asked:
            self._headless.say("interrupted; nothing was written.")
            return INTERRUPTED
        self._headless.say(gate.broken)
        return 3


def _check_served(base: Profile, source: Path, *, anew: bool) -> None:
    """Raise UsageError where a server's figures would stand beside nothing."""
    from tputtui.errors import UsageError

    if anew:
        raise UsageError("--served measures the server alone.", "Leave --anew out.")
    if base.evidence is None or base.evidence.in_process is None:
        raise UsageError(
            f"{source} has no figures of an engine in process to compare with.",
            f"tputtui verify {source} measures them.",
        )


def _served(
    headless: Headless, base: Profile, exact: EngineSpec, measure: Measure
) -> tuple[Evidence | None, int]:
    """The evidence with a server's figures; without them, an exit code."""
    from tputtui.frame.proof import as_served

    headless.say("measuring vLLM's own server with exactly these values")
    figures, code = measure(exact)
    assert base.evidence is not None
    return (as_served(base.evidence, figures) if figures is not None else None), code


def _measured(
    headless: Headless,
    duration_s: float,
    interrupted: Interrupted,
    quiet: bool,
    spec: EngineSpec | None = None,
) -> tuple[Measured | None, int]:
    """The figures of the engine, booted as `spec` if given; without figures, the exit code."""
    from tputtui.experiments.measuring import Measuring
    from tputtui.frame.proof import measured
    from tputtui.headless.running import measure, until_up

    session, err = headless.session, headless.err
    load = 0
    if spec is not None and until_up(session, spec, interrupted):
        # The load begins with its first request, as it did for the tuned figures.
        load = session.steer.load.restart()
    measuring = Measuring(duration_s, load)
    frame = session.advance()
    if spec is None or frame.status.spec == spec:
        frame = measure(session, measuring, interrupted, err, quiet=quiet)
    if interrupted.asked:
        headless.say("interrupted; nothing was written.")
        return None, INTERRUPTED
    figures = measured(measuring.result, session.recorder) if measuring.result else None
    if figures is None:
        failure = frame.status.failure or frame.status.refused
        reason = failure.message if failure else measuring.note or "nothing could be measured"
        headless.say(reason, failure.hint if failure else "")
    return figures, 3


def _text(evidence: Evidence, format: str, *, served: bool) -> str:
    if format == "json":
        import msgspec

        return json.dumps(msgspec.to_builtins(evidence), indent=2, ensure_ascii=False) + "\n"
    from tputtui.headless.results import served_text, verified_text

    return served_text(evidence) if served else verified_text(evidence)


def _code(evidence: Evidence, err: TextIO, *, served: bool) -> int:
    """0 if all is well, else 1; then says why on stderr.

    A server is always slower than its engine alone: only goals speak for it.
    """
    # Nothing is called worse of a server.
    judged = {} if served else evidence.difference
    worse = [name for name, change in judged.items() if change.verdict == "worse"]
    figures = evidence.served if served else evidence.verified
    missed = figures.missed if figures else []
    quality = evidence.quality
    changed = [quality.sentence] if quality and quality.verdict == "changed" and not served else []
    if worse or missed or changed:
        reasons = [f"worse than it was tuned: {', '.join(worse)}"] if worse else []
        reasons += [f"goals missed: {', '.join(missed)}"] if missed else []
        reasons += changed
        print(f"tputtui: {'; '.join(reasons)}.", file=err, flush=True)
        return 1
    return 0

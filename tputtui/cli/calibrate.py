"""`tputtui calibrate`: measure what steps of an engine cost, for simulations of it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from tputtui.cli.asked import asked_of
from tputtui.cli.bench import duration_of
from tputtui.cli.main import INTERRUPTED
from tputtui.cli.options import add_settings, new_file, parsed
from tputtui.cli.page import Page

if TYPE_CHECKING:
    from tputtui.engine.protocol import EngineFacts
    from tputtui.profile import EngineSpec
    from tputtui.simulate.calibration import Calibration
    from tputtui.simulate.design import Load
    from tputtui.simulate.fitted import Measurement

__all__ = ["calibration_of", "parser", "run"]

_EPILOG = """\
The engine is booted with synchronous scheduling, so that the model's time and vLLM's own are told
apart, and put under about twenty loads of its own making: batches of all sizes, short and long,
prompts and outputs alone and mixed. Each is then predicted from all the others; how far off that
is, is what the badge of a simulation says.

examples:
  tputtui calibrate MODEL -o h100.yaml
  tputtui --simulate h100.yaml MODEL                on any machine"""


def run(words: list[str]) -> int:
    """Calibrate; returns the exit code."""
    options, rest = parsed(parser(), words)
    from tputtui.engine.target import is_server
    from tputtui.errors import UsageError

    asked = asked_of(options, rest)
    seconds = duration_of(options.measure, "--measure", 0.2, 600)
    spec = asked.profile.engine
    if is_server(spec.model):
        raise UsageError("The steps of a server are not seen from here.", "Calibrate on its GPU.")
    if asked.settings["simulate"].text:
        raise UsageError("A simulation is not calibrated by itself.", "Leave --simulate out.")
    return _calibrate(spec, seconds, new_file(options.output or None), quiet=options.quiet)


def parser() -> argparse.ArgumentParser:
    """The flags of `calibrate`."""
    made = Page(
        example="tputtui calibrate MODEL -o gpu.yaml",
        prog="tputtui calibrate",
        usage="tputtui calibrate [MODEL] [options] [any vLLM engine flag]",
        description="Measure what steps of an engine cost on this machine, and write it down for "
        "simulations of it elsewhere.",
        epilog=_EPILOG,
    )
    add = made.add_argument
    add("-o", "--output", metavar="FILE", help="write it there instead of to stdout")
    add("--measure", default="4s", metavar="TIME", help="how long under each load (default 4s)")
    add("--quiet", action="store_true", help="no progress on stderr")
    add_settings(made, "profile")
    return made


def _calibrate(spec: EngineSpec, seconds: float, target: Path | None, *, quiet: bool) -> int:
    from tputtui.engine.vllm.measured import MeasuredEngine
    from tputtui.headless.calibrating import Calibrating
    from tputtui.headless.progress import Progress
    from tputtui.headless.running import Interrupted
    from tputtui.process.redirect import Redirected
    from tputtui.process.terminal import open_log

    redirected = Redirected(open_log())
    out, err = redirected.file(1), redirected.file(2)
    interrupted = Interrupted(err)
    calibrating = Calibrating(MeasuredEngine(), seconds, lambda: interrupted.asked)
    try:
        with Progress(err, quiet=quiet) as progress:
            progress.tell(f"booting {spec.model}", "boot", 0.0)
            # Asynchronous scheduling would mix the model's time with vLLM's own.
            facts = calibrating.boot(spec.overridden(None, {"async_scheduling": False}))
            rows = calibrating.measure(progress)
        calibrating.close()
        if interrupted.asked:
            print("tputtui: interrupted; nothing was written.", file=err)
            return INTERRUPTED
        calibration = calibration_of(spec, facts, rows, calibrating.loads)
        print(_table(calibration), file=err)
        written = _written(calibration, target, out)
        if written is not None:
            print(f"written to {written}", file=err)
    finally:
        err.flush()
        redirected.restore()
    return 0


def calibration_of(
    spec: EngineSpec, facts: EngineFacts, rows: list[Measurement], loads: list[Load]
) -> Calibration:
    """The calibration from `rows`, measured on `spec`, which booted with `facts`."""
    import datetime

    from tputtui.headless.calibrating import residuals
    from tputtui.measure.normal import Z95
    from tputtui.simulate.calibration import VERSION, Calibration
    from tputtui.simulate.fitted import fitted

    off = residuals(rows, loads)
    spread = math.sqrt(sum(each.off_frac**2 for each in off) / len(off))
    ceilings, blocks = facts.ceilings, facts.ceilings.num_gpu_blocks
    return Calibration(
        tputtui_calibration=VERSION,
        model=spec.model,
        config_sha256=facts.config_sha256,
        device=facts.device,
        vllm=facts.versions.get("vllm", ""),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        error_frac=float(f"{Z95 * spread:.2g}"),
        # vLLM schedules ahead by default, except on a CPU.
        overlapped=facts.device != "cpu",
        engine={
            "max_num_seqs": ceilings.max_num_seqs,
            "max_num_batched_tokens": ceilings.max_num_batched_tokens,
            "max_model_len": ceilings.max_model_len,
            "block_size": facts.block_size,
            "kv_cache_memory_bytes": facts.kv_block_bytes * blocks // _devices(spec),
            "dtype": facts.dtype,
        },
        booted=dict(spec.args),
        fitted=fitted(rows),
        residuals=off,
    )


def _devices(spec: EngineSpec) -> int:
    """Number of devices that share the model; `kv_block_bytes` is the sum over all of them."""
    sizes = (spec.args.get(name, 1) for name in ("tensor_parallel_size", "pipeline_parallel_size"))
    return math.prod(size if isinstance(size, int) else 1 for size in sizes)


def _written(calibration: Calibration, target: Path | None, out: TextIO) -> Path | None:
    """Write the calibration to `target`, or to `out` without one; returns the file."""
    from tputtui.simulate.calibration import calibration_text, save_calibration

    if target is not None:
        return save_calibration(calibration, target)
    out.write(calibration_text(calibration))
    out.flush()
    return None


def _table(calibration: Calibration) -> str:
    lines = [f"{'load':<28}{'steps':>7}{'seconds':>9}   predicted from the others"]
    lines += [
        f"{each.load:<28}{each.steps:>7}{each.seconds:>9.2f}{each.off_frac:>+9.1%}"
        for each in calibration.residuals
    ]
    lines.append(
        f"calibrated ±{calibration.error_frac:.0%}: {calibration.model} on {calibration.device}"
    )
    return "\n".join(lines)

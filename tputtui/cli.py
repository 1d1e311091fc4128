"""The command: flags, exit codes, the summary. Owns the terminal before vLLM is imported.

Exit codes: 0 left by the person, 1 the screen failed (a bug), 2 usage, 3 the engine failed,
130 left at once.
Textual, vLLM and torch are imported only once a screen is wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tputtui import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from tputtui.errors import TputError
    from tputtui.load.workload import Workload
    from tputtui.profile import EngineSpec, Profile
    from tputtui.session import Session
    from tputtui.terminal import Terminal
    from tputtui.tune.guard import Guard
    from tputtui.ui.app import TputApp

__all__ = ["main"]

_CLOSE_TIMEOUT_S = 20.0
_LEFT_AT_ONCE = 130

_LOAD_FLAGS = (
    ("--load", "ARRIVALS", "96: in flight (closed loop); 8/s: Poisson; constant:8/s; "
     "gamma(0.5):8/s; 1..30/s over 60s; 5,10,20/s each 30s; 20/s for 5s, 2 for 10s; recorded x2"),
    ("--prompt-tokens", "LENGTHS", "256, 64-512, 256~0.5[16-2048] (lognormal), normal:256±64, "
     "zipf:1.2[1-2048], hist:1-100=3,101-400=1"),
    ("--output-tokens", "LENGTHS", "likewise"),
    ("--length-pairs", "PAIRS", "100/50=3,2000/100=1: prompt/output=weight, drawn together"),
    ("--prefix", "PREFIX", "'share=0.8 tokens=256 groups=16 zipf=1': prompts that begin alike"),
    ("--sessions", "SESSIONS", "'turns=1-6 think=5s': conversations whose context grows"),
    ("--trace", "FILE", "replay: Azure, BurstGPT, Mooncake, ShareGPT or our own JSONL"),
    ("--load-seed", "SEED", "same seed, same requests (default 0)"),
)  # fmt: skip

_DESCRIPTION = """\
Tune a real vLLM engine live: load it, turn its limits, see what each turn did, save the profile.

MODEL comes first: a local folder, a hub id, or shape:NAME (published dimensions with random
weights: {shapes}). Without MODEL or --profile, a built-in demo runs.
Every flag that is not listed here goes to vLLM, named as for `vllm serve`."""

_EPILOG = """\
examples:
  tputtui                                         the built-in demo
  tputtui meta-llama/Llama-3.1-8B-Instruct --max-num-seqs 512 --max-model-len 8192
  tputtui shape:qwen3-8b --tensor-parallel-size 2 --load 8/s --prompt-tokens 400~0.9[16-4096]
  tputtui --profile chat                          a shipped profile (demo, chat, agent, rag, batch)
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] not in ("-V", "--version"):
        from tputtui.errors import TputError

        try:
            return _run(words)
        except TputError as error:
            return _say(error)
    print(f"tputtui {__version__}")
    return 0


def _say(error: TputError) -> int:
    """Print what failed and what to do; returns the exit code."""
    print(f"tputtui: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"         {error.hint}", file=sys.stderr)
    return error.exit_code


def _run(words: list[str]) -> int:
    options, rest = _parser().parse_known_args(words)
    model = rest.pop(0) if rest and not rest[0].startswith("-") else None
    profile = _profile(options, model, rest)
    from tputtui.terminal import Terminal, open_log
    from tputtui.tune.guard import parse_guard

    guard = parse_guard(options.guard) if options.guard is not None else None
    log_path = open_log()
    with Terminal(log_path) as terminal:
        outcome = _screen(options, profile, guard, log_path, terminal)
    return outcome


def _parser() -> argparse.ArgumentParser:
    from tputtui.engine.models import shapes

    parser = argparse.ArgumentParser(
        prog="tputtui",
        usage="tputtui [MODEL] [options] [any vLLM engine flag]",
        description=_DESCRIPTION.format(shapes=", ".join(shapes())),
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("-V", "--version", action="store_true", help="print the version")
    add("--profile", metavar="FILE|NAME", help="start from a profile; flags go on top")
    load = parser.add_argument_group("load")
    for flag, metavar, told in _LOAD_FLAGS:
        load.add_argument(flag, metavar=metavar, help=told)
    add(
        "--goal",
        metavar="GOALS",
        help="ttft_p99=500ms,tpot_p99=50ms,e2e_p95=10s: what requests should be served within",
    )
    add("--price-per-hour", metavar="PRICE", help="of the machine: shows the cost of tokens")
    add(
        "--knob",
        metavar="LIMIT=VALUE",
        action="append",
        default=[],
        help="start a live limit below its ceiling, e.g. max_num_seqs=64",
    )
    add(
        "--guard",
        metavar="LIMITS",
        help="ttft_p99=2s,kv=0.97: a turn that breaks it is undone by itself",
    )
    add("--hold", action="store_true", help="boot with the load held")
    add(
        "--isolate",
        action="store_true",
        help="the engine in a process of its own: the screen outlives it",
    )
    add("--theme", default="dark", help="dark, light, terminal or terminal-light")
    return parser


def _profile(options: argparse.Namespace, model: str | None, rest: list[str]) -> Profile:
    """The profile asked for with the command line's model, flags, load and limits put on top."""
    from tputtui import profile
    from tputtui.engine import flags, models
    from tputtui.errors import UsageError, nearest
    from tputtui.goals import parse_goals
    from tputtui.knobs import parse_value, started_at

    themes = ("dark", "light", "terminal", "terminal-light")
    if options.theme not in themes:
        hint = nearest(options.theme, themes) or f"Known: {', '.join(themes)}."
        raise UsageError(f"There is no theme called {options.theme!r}.", hint)
    args = flags.from_argv(rest)
    named = args.pop("model", None)
    if isinstance(named, str):
        model = model or named
    if options.profile:
        base = profile.load(profile.find(options.profile))
    elif model is None:
        base = profile.load(profile.shipped()["demo"])
    else:
        base = profile.Profile(profile.EngineSpec(model))
    engine = base.engine.overridden(model, args)
    models.resolve(engine)
    _check_flags(rest, engine)
    load = _load(options, base.load, engine)
    goals = base.goals if options.goal is None else parse_goals(options.goal)
    price = base.price_per_hour
    if options.price_per_hour is not None:
        price = _price(options.price_per_hour)
    knobs = dict(base.knobs)
    for text in options.knob:
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        knobs[name] = started_at(name, parse_value(name, value))
    return profile.Profile(engine, load, knobs, base.about, goals=goals, price_per_hour=price)


def _load(options: argparse.Namespace, base: Workload, engine: EngineSpec) -> Workload:
    """The profile's load with the command line's put on top; its trace can be opened."""
    import msgspec

    from tputtui.errors import UsageError
    from tputtui.load.sections import FIELDS, from_texts
    from tputtui.load.source import check_trace
    from tputtui.profile import tokenizer_of

    typed = {field.name: getattr(options, field.flag[2:].replace("-", "_")) for field in FIELDS}
    load = from_texts(base, {name: text for name, text in typed.items() if text is not None})
    seed = options.load_seed
    if seed is not None:
        if not (seed.isascii() and seed.isdigit() and int(seed) < 2**63):
            raise UsageError(f"--load-seed {seed!r} is not a whole number from 0 to 2⁶³ - 1.")
        load = msgspec.structs.replace(load, seed=int(seed))
    check_trace(load, tokenizer_of(engine))
    return load


def _price(text: str) -> float:
    from tputtui.errors import UsageError

    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise UsageError(f"--price-per-hour {text!r} is not a price.", "Write a number, like 2.50.")
    return price


def _check_flags(rest: list[str], engine: EngineSpec) -> None:
    """Find a misspelt flag before the screen opens.

    The installed vLLM's source is looked through in milliseconds; only when a flag does not
    stand there is vLLM imported, so that its own parser decides.
    """
    from importlib.util import find_spec

    from tputtui.engine import flags
    from tputtui.engine.vllm_args import INSTALL_HINT, check_arguments
    from tputtui.errors import EngineError

    if find_spec("vllm") is None:
        raise EngineError("vLLM is not installed here.", INSTALL_HINT)
    known = flags.known_flags()
    suspects = [
        word
        for word in (w.partition("=")[0].partition(".")[0].replace("_", "-") for w in rest)
        if word.startswith("--") and word not in known and f"--{word[5:]}" not in known
    ]
    if suspects and known:
        print(f"asking vLLM about {', '.join(suspects)} …", file=sys.stderr)
        check_arguments(engine)


def _screen(
    options: argparse.Namespace,
    profile: Profile,
    guard: Guard | None,
    log_path: Path,
    terminal: Terminal,
) -> int:
    """Run the screen; the summary is printed once the terminal is back."""
    import signal

    from tputtui.engine.host import Host
    from tputtui.engine.isolated import IsolatedHost
    from tputtui.engine.vllm_inproc import VllmEngine
    from tputtui.hardware import HardwareSampler
    from tputtui.session import Session
    from tputtui.terminal import thrifty_switching
    from tputtui.ui.app import TputApp

    make_host = IsolatedHost if options.isolate else Host
    session = Session(
        VllmEngine, profile, hardware=HardwareSampler(), make_host=make_host, guard=guard
    )

    def leave_now() -> None:
        terminal.force()
        print(f"left at once; log: {log_path}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(_LEFT_AT_ONCE)

    app = TputApp(
        session,
        start=lambda: session.start(load=not options.hold),
        log_path=log_path,
        theme=options.theme,
        leave_now=leave_now,
    )
    with thrifty_switching():
        app.run()
    # From here on Ctrl+C means: now.
    signal.signal(signal.SIGINT, lambda *_: os._exit(_LEFT_AT_ONCE))
    terminal.restore()
    return _leave(app, session, log_path)


def _leave(app: TputApp, session: Session, log_path: Path) -> int:
    """Stop the engine, print the summary, and say how it went as an exit code."""
    from tputtui.engine.protocol import State
    from tputtui.summary import summary

    frame = session.frame()
    failure = frame.status.failure
    booting = frame.status.state in (State.IMPORTING, State.LOADING)
    # An import or a model load cannot be interrupted: do not wait for it.
    closed = session.close(0.2 if booting else _CLOSE_TIMEOUT_S)
    code = app.return_code or 0
    if code:
        print("tputtui: the screen failed. The log has the traceback.", file=sys.stderr)
    elif failure is not None:
        code = _say(failure)
    # The terminal itself may be what has gone (SIGHUP).
    with contextlib.suppress(OSError):
        for line in summary(frame, app.saved, log_path):
            print(line)
        if not closed and not booting:
            print("the engine did not stop in time and was left behind", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
    if not closed:
        os._exit(code)
    return code

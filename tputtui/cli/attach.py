"""`tputtui attach`: watches servers that run elsewhere through their /metrics. Needs no vLLM."""

from __future__ import annotations

import argparse
import sys
import time
from typing import TYPE_CHECKING

from tputtui.cli.bench import duration_of
from tputtui.cli.main import BUG, INTERRUPTED, screen_failed
from tputtui.cli.page import Page
from tputtui.cli.settings import THEMES

if TYPE_CHECKING:
    from tputtui.attach.fleet import Fleet
    from tputtui.attach.poller import Poller

__all__ = ["parser", "run"]

_FORMATS = ("table", "json")
_TICK_S = 0.25
_EPILOG = """\
URL is host:8000, https://host/prefix or unix:/run/vllm.sock; NAME=URL gives it a name.
A token is taken from the variable TPUTTUI_TOKEN, or from where a flag says; it is sent to every
URL, never shown, and never followed into a redirect.

exit codes with --for: 0 every server told figures, 1 some did not, 2 input that cannot be used.

examples:
  tputtui attach                  what serves on this machine, and whether its limits can be changed
  tputtui attach gpu1:8000
  tputtui attach gpu{1..16}:8000 --every 2s
  tputtui attach prod=https://llm.example.com --token-file ~/.llm-token --ca ca.pem
  tputtui attach gpu1:8000 gpu2:8000 --for 30s --format json
  tputtui attach gpu1:8000 --control-token-file ~/.tputtui-control"""


def run(words: list[str]) -> int:
    """Watch; returns the exit code."""
    options = parser().parse_args(words)
    from tputtui.attach.access import access_of
    from tputtui.attach.address import parse_addresses
    from tputtui.errors import UsageError

    if not options.url:
        return _print_here()
    if options.control_token_file:
        return _control(options)
    if options.keep:
        raise UsageError("--keep needs control.", "--control-token-file FILE.")
    addresses = parse_addresses(options.url)
    access = access_of(
        options.header,
        token_env=options.token_env,
        token_file=options.token_file,
        token_keyring=options.token_keyring,
        ca=options.ca,
    )
    open_to_all = [address.name for address in addresses if not address.private]
    if access.token and open_to_all:
        print(f"tputtui: the token goes unencrypted to {', '.join(open_to_all)}", file=sys.stderr)
    period_s = duration_of(options.every, "--every", 0.25, 60)
    watched_s = duration_of(options.duration, "--for") if options.duration else None
    if watched_s is not None and watched_s < 2 * period_s:
        raise UsageError("--for is too short for two scrapes.", "A rate lies between two of them.")
    from tputtui.attach.fleet import Fleet
    from tputtui.attach.poller import Poller

    poller = Poller(addresses, access, period_s)
    fleet = Fleet(addresses, poller, period_s)
    try:
        if watched_s is not None:
            return _print(poller, fleet, watched_s, options.format)
        return _screen(poller, fleet, len(addresses), options.theme)
    finally:
        poller.stop()


def parser() -> argparse.ArgumentParser:
    """The flags of `attach`."""
    made = Page(
        example="tputtui attach gpu1:8000 gpu2:8000",
        prog="tputtui attach",
        usage="tputtui attach [URL …] [options]",
        description="Watch servers that run elsewhere (vLLM, SGLang, TGI) through their /metrics.",
        epilog=_EPILOG,
    )
    add = made.add_argument
    add("url", metavar="URL", nargs="*", help="1 to 64 servers; without one, list what serves here")
    add("--every", metavar="TIME", default="1s", help="how often each is scraped (default 1s)")
    add("--token-env", metavar="NAME", default="", help="the variable that holds the token")
    add("--token-file", metavar="FILE", default="", help="a file that holds the token")
    add("--token-keyring", metavar="SERVICE[/USER]", default="",
        help="where the token is in the keyring (needs the package keyring)")  # fmt: skip
    add("--control-token-file", metavar="FILE", default="", help="of a server that has our plugin "
        "inside: change its limits, and judge that by its live traffic")  # fmt: skip
    add("--keep", action="store_true", help="leave the limits as they are at the end")
    add("--header", metavar="'NAME: VALUE'", action="append", default=[],
        help="send this as well; a value env:VARIABLE is that variable's")  # fmt: skip
    add("--ca", metavar="FILE", default="", help="trust these certificates (PEM), no others")
    add("--for", dest="duration", metavar="TIME", default="",
        help="no screen: watch for so long, and print")  # fmt: skip
    add("--format", choices=_FORMATS, default="table", help="what --for prints (default table)")
    add("--theme", default="dark", choices=THEMES, metavar="NAME", help=", ".join(THEMES))
    return made


def _control(options: argparse.Namespace) -> int:
    """The board of one server, on its live traffic: nothing is sent, limits can be changed."""
    from tputtui.cli.run import run as run_board
    from tputtui.errors import UsageError

    if len(options.url) != 1 or options.duration:
        raise UsageError(
            "Limits are changed at one server, on the screen.", "Leave out --for and other servers."
        )
    words = [f"server:{options.url[0]}", "--live", "--theme", options.theme]
    for name in ("token_env", "token_file", "token_keyring", "control_token_file", "ca"):
        if text := getattr(options, name):
            words += [f"--{name.replace('_', '-')}", text]
    for text in options.header:
        words += ["--header", text]
    return run_board([*words, "--keep"] if options.keep else words)


def _screen(poller: Poller, fleet: Fleet, servers: int, theme: str) -> int:
    from tputtui.process.terminal import Terminal, open_log
    from tputtui.ui.attach_app import AttachApp

    with Terminal(open_log()) as terminal:
        poller.start()
        leave_now = lambda: terminal.abandon(INTERRUPTED)  # noqa: E731
        app = AttachApp(fleet, servers, theme=theme, leave_now=leave_now)
        app.run()
        if app.gone:
            terminal.abandon(BUG if app.return_code else 0)
    return screen_failed() if app.return_code else 0


def _print_here() -> int:
    """List what serves on this machine."""
    from tputtui.attach.here import serving_here
    from tputtui.errors import UsageError

    servers = serving_here(_gpus_by_pid())
    if not servers:
        raise UsageError(
            "No server that this user can see serves on this machine.",
            "Give the address of one: tputtui attach HOST:8000.",
        )
    print(f"{'port':>5}  {'model':<28}  {'kind':<7} {'GPUs':<8} limits")
    for each in servers:
        gpus = ",".join(map(str, each.gpus)) or "–"
        model = (each.model or "–")[:28]
        print(f"{each.port:>5}  {model:<28}  {each.kind:<7} {gpus:<8} {each.limits}")
    for each in servers:
        if each.start:
            print(f"\nto change the limits of {each.port}, start it as\n  {each.start}")
    first = servers[0].port
    print(f"\ntputtui attach localhost:{first} watches it; tputtui server:localhost:{first} also "
          "puts a load on it.")  # fmt: skip
    return 0


def _gpus_by_pid() -> dict[int, list[int]]:
    """The GPUs that each process uses, as far as their driver tells."""
    from tputtui.hardware import HardwareSampler

    sample = HardwareSampler().look_once(1.0)
    used: dict[int, list[int]] = {}
    for gpu in sample.gpus if sample else ():
        for process in gpu.processes:
            used.setdefault(process.pid, []).append(gpu.index)
    return used


def _print(poller: Poller, fleet: Fleet, watched_s: float, format: str) -> int:
    from tputtui.headless.fleet import fleet_text

    poller.start()
    end_s, interrupted = time.monotonic() + watched_s, False
    try:
        while time.monotonic() < end_s:
            time.sleep(_TICK_S)
            fleet.take()
    except KeyboardInterrupt:
        interrupted = True
    looked = fleet.look()
    sys.stdout.write(fleet_text(looked, format))
    sys.stdout.flush()
    if interrupted:
        return INTERRUPTED
    return 0 if looked.counted == len(looked.servers) else 1

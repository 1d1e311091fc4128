"""`tputtui help`: topics, on a pager where there is a terminal."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Callable, Iterable

from tputtui.cli.page import WIDTH, Page, fitted_page

__all__ = ["TOPICS", "parser", "run"]


def run(words: list[str]) -> int:
    """Show a topic, or the list; returns the exit code."""
    options = parser().parse_args(words)
    from tputtui.errors import UsageError, nearest

    if options.topic is None:
        print("tputtui help TOPIC:\n")
        print(_rows([(name, summary) for name, (summary, _) in TOPICS.items()], 15))
        print("\n`tputtui --help` lists the flags, `tputtui COMMAND --help` those of a command.")
        return 0
    if options.topic not in TOPICS:
        hint = nearest(options.topic, TOPICS) or f"Topics: {', '.join(TOPICS)}."
        raise UsageError(f"There is no topic called {options.topic!r}.", hint)
    summary, text = TOPICS[options.topic]
    page = fitted_page(f"{options.topic}: {summary}\n\n{text()}\n")
    if sys.stdout.isatty():
        import pydoc

        pydoc.pager(page)
    else:
        print(page, end="")
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags of `help`."""
    made = Page(prog="tputtui help", example="tputtui help load")
    made.add_argument("topic", metavar="TOPIC", nargs="?", help=", ".join(TOPICS))
    return made


def _rows(rows: Iterable[tuple[str, str]], indent: int) -> str:
    lines: list[str] = []
    for name, text in rows:
        head = f"  {name}"
        if len(head) > indent - 2:
            lines.append(head)
            head = ""
        lines += textwrap.wrap(
            " ".join(text.split()),
            WIDTH,
            initial_indent=f"{head:<{indent}}",
            subsequent_indent=" " * indent,
            break_on_hyphens=False,
        ) or [head]
    return "\n".join(lines)


def _load() -> str:
    from tputtui.load.requests.formats import FORMATS
    from tputtui.load.sections import FIELDS

    parts = []
    for field in FIELDS:
        forms = [(text, what) for what, text in field.forms]
        parts.append(f"{field.flag}  {field.label}\n{_rows(forms, 44)}")
    lines = [(form.title, form.example) for form in FORMATS]
    parts.append(f"lines of a file of real requests, told by their keys\n{_rows(lines, 22)}")
    return "\n\n".join(parts)


def _goals() -> str:
    return _rows(
        [
            ("ttft_p99=500ms", "time to first token, from when the request was due"),
            ("tpot_p99=50ms", "time per output token after the first"),
            ("e2e_p95=10s", "to the last token, from when the request was due"),
            ("job_p95=60s", "of a job of several steps: to its last token, from its first step"),
            ("met", "the 95 % interval of the share of requests within the limit lies at or above "
             "the percentile; missed: below it; unresolved: it straddles it, or there are fewer "
             "than 30 requests or three generations of them"),
        ],
        20,
    )  # fmt: skip


def _limits() -> str:
    from tputtui.knobs import KNOBS

    return _rows([(k.name, f"{k.trade} {k.flag}, {k.reach}.") for k in KNOBS], 34)


def _profiles() -> str:
    return textwrap.dedent("""\
        tputtui: 1                 version of the format
        about: ...                 a line
        engine: {model: ..., ...}  what needs a boot: any vLLM argument by its long name
        serve: {port: 8000, ...}   flags of vLLM's HTTP server: no effect here, kept for exports
        limits: {...}              the live limits, at or below their ceilings
        load: {...}                arrivals, lengths, prefixes, conversations, trace, requests, seed
        goal: {ttft_p99: 500ms}    what requests should be served within
        price_per_hour: 2.5        for the cost of a million tokens
        evidence: {...}            what was measured: written by `s`, bench --save, verify

        tputtui profiles list | show | diff A B | validate | export | schema
        tputtui verify PROFILE     boots with exactly its values, and measures again

        A name is looked for in the config directory's folder `profiles`, then among those that
        come with tputtui. Comments survive a re-save. `tputtui profiles schema` is for editors.""")


def _bench() -> str:
    return textwrap.dedent("""\
        tputtui bench [MODEL] --duration 60s --format table|json|jsonl|csv

        Boots, loads, warms up, settles until every request that was in flight has left, measures.
        Figures go to stdout, progress to stderr (a live line on a terminal, a few lines elsewhere).
        jsonl has a line a second, {"sample": ...}, and the result as the last, {"result": ...}.
        Interrupted, it prints what was measured until then. It needs no terminal: cron and CI will
        do. `--save FILE` keeps a profile with the figures as evidence.""")


def _tune() -> str:
    from tputtui.experiments.tuner.proposers import SEARCHES

    rows = [
        ("--find limits", "the most goodput (tokens/s without goals) under the load as given"),
        ("--find load", "the most load that meets the goals, at the best limits"),
        *((f"--search {name}", what) for name, what in SEARCHES.items()),
        ("--vary max_num_seqs=16..256", "doubling; or max_num_seqs=16,64; or a name alone: all of "
         "a choice, else halved down from the ceiling"),
        ("--boots 'block_size=16,32'", "engine arguments to boot with as well; each boot counts "
         "into the budget"),
    ]  # fmt: skip
    return textwrap.dedent("""\
        tputtui tune PROFILE --goal ttft_p99=500ms,tpot_p99=50ms --budget 10min > tuned.yaml

        Every trial begins on an empty engine, with the prefix cache reset, and serves the same
        requests; it stops early once it is clearly below the best or misses a goal. The best
        is measured again in between, and in the end compared with the start in pairs, on other
        requests. Where nothing beats the start beyond noise, the start comes out.

        """) + _rows(rows, 30)


def _replay() -> str:
    return textwrap.dedent("""\
        Every run writes a session log (`--no-record`: none): JSON Lines, a line a second, each a
        Zstandard frame, below 1 MB a minute. Cut anywhere, all whole lines are read back;
        `zstdcat FILE` shows them. The newest 100 are kept, 1 GiB in all.

        tputtui replay [FILE]      the same screen: space plays, + - speed, ← → 10 s
                                   (Shift: 60), , . marks, s a time, Home End,
                                   h the table, t the tuner, f the plot
        tputtui report [FILE] -o page.html | page.md
        tputtui compare A B [--setting-a N --setting-b N]""")


def _metrics() -> str:
    return textwrap.dedent("""\
        --metrics-port 9100 serves /metrics, on 127.0.0.1 unless --metrics-host says otherwise:
        vLLM's own names (vllm:...) beside ours (tputtui_...): exact quantiles over the window
        (tputtui_latency_seconds), rates, limits in force and their ceilings, goals, GPUs.""")


def _paste() -> str:
    return textwrap.dedent("""\
        What starts vLLM for you may stand where MODEL does:

        tputtui vllm serve MODEL --max-num-seqs 256 --port 8000
        tputtui VLLM_LOGGING_LEVEL=INFO python3 -m vllm.entrypoints.openai.api_server --model MODEL
        tputtui docker run --gpus all vllm/vllm-openai:latest --model MODEL
        tputtui @start.sh              the line in a script, with the variables that it sets
        tputtui MODEL --config c.yaml  vLLM's own file: below what is typed, above a profile

        Variables in front are set for this run where vLLM reads them. A script is read as bash
        reads it, and nothing in it is run. MODEL and flags of ours stand where they like. Any
        spelling of a flag is taken (-tp 2, -O3, -cc.mode=3, 8k) and kept by its long name.
        Flags of vLLM's HTTP server have no effect in this process: a saved profile keeps them
        under `serve:`, and exports write them; the API key is kept nowhere.
        `tputtui config show`, with the same words behind it, says what came of them.""")


def _simulate() -> str:
    from tputtui.simulate.devices import DEVICES

    devices = [
        (device.name, f"{device.title}: {device.bf16_tflops:g} TFLOP/s bf16, "
         f"{f'{device.fp8_tflops:g} fp8, ' if device.fp8_tflops else ''}"
         f"{device.bandwidth_gbs:,.0f} GB/s, {device.memory_gib:g} GiB, {device.tdp_w:g} W")
        for device in DEVICES
    ]  # fmt: skip
    uses = [
        ("tputtui --simulate h100 MODEL", "vLLM's own scheduler and KV cache on a datasheet; steps "
         "take as long as they would there"),
        ("tputtui bench --simulate l4 --virtual MODEL", "as fast as this CPU goes, in the "
         "simulation's own time; tune likewise"),
        ("tputtui calibrate MODEL -o gpu.yaml", "on the GPU: measure what its steps cost"),
        ("tputtui --simulate gpu.yaml MODEL", "anywhere: the same engine by what was measured"),
    ]  # fmt: skip
    tail = (
        "Figures of a simulation are marked wherever they stand, and verify nothing. Without a "
        "calibration they are a roofline: tell sizes of machines apart by them, not percents."
    )
    tail = textwrap.fill(tail, WIDTH)
    return f"{_rows(uses, 8)}\n\ndevices:\n{_rows(devices, 14)}\n\n{tail}"


def _servers() -> str:
    return textwrap.dedent("""\
        tputtui attach URL [URL …]     watch, through /metrics: vLLM, SGLang, TGI; no vLLM needed
        tputtui server:URL --load 8/s  drive one with any load, on the same screen; bench likewise

        URL is host:8000, https://host/prefix or unix:/run/vllm.sock. NAME=URL names it (attach).
        A token comes from TPUTTUI_TOKEN, --token-env, --token-file or --token-keyring. Percentiles
        of `attach` are bucketed: shown as the bounds that they lie between. What `server:` measures
        is exact, from due to the first chunk with content, tokens by the server's usage.""")


def _exit_codes() -> str:
    return _rows(
        [
            ("0", "done; goals met, or none asked for; ended by the user"),
            ("1", "bench: a goal missed or unresolved, or nothing served. verify: worse than "
             "tuned, or a goal missed. tune: no setting met the goals. attach --for: a server told "
             "no figures. profiles diff: something differs"),
            ("2", "input that cannot be used: nothing was started"),
            ("3", "the engine would not boot, or failed"),
            ("70", "a bug of ours; the log has the traceback"),
            ("74", "the output could not be written: a full disk, say"),
            ("130", "interrupted, or left at once"),
        ],
        8,
    )  # fmt: skip


def _files() -> str:
    from tputtui import profile
    from tputtui.cli.user_config import config_path
    from tputtui.process.state import sessions_dir, state_dir

    return _rows(
        [
            (str(config_path()), "settings (`tputtui config init` writes one to start from)"),
            (str(profile.user_dir()), "profiles that are found by name"),
            (str(state_dir() / "logs"), "what vLLM prints, a file a run; the newest 20 are kept"),
            (str(sessions_dir()), "recorded runs; the newest 100 are kept"),
        ],
        8,
    )


def _environment() -> str:
    from tputtui.cli.settings import OPTIONS

    own = [(s.variable, f"as {s.flag}") for s in OPTIONS]
    return (
        _rows(
            [
                *own,
                ("TPUTTUI_CONFIG", "another config file"),
                ("XDG_CONFIG_HOME, XDG_STATE_HOME", "where config, profiles, logs and runs are"),
                ("NO_COLOR", "no colours"),
                (
                    "OMP_WAIT_POLICY, GOMP_SPINCOUNT, KMP_BLOCKTIME",
                    "how threads of the CPU engine wait",
                ),
            ],
            28,
        )
        + "\n\nA flag wins over the environment, that over a profile, that over the config file."
    )


def _keys() -> str:
    from tputtui.ui.keys import bound

    rows = [
        (name, f"{binding.key_display or binding.key}: {binding.tooltip or binding.description}")
        for name, binding in bound().items()
    ]
    head = "By these names the config file gives other keys (`keys: {undo: z}`).\n\n"
    return head + _rows(rows, 22)


TOPICS: dict[str, tuple[str, Callable[[], str]]] = {
    "load": ("what to put on the engine, and how it is written", _load),
    "goals": ("what requests should be served within", _goals),
    "limits": ("what can be changed while it runs", _limits),
    "profiles": ("the file, and what can be done with it", _profiles),
    "paste": ("a whole `vllm serve` line, a script, vLLM's --config file", _paste),
    "bench": ("measuring without a screen", _bench),
    "tune": ("ask for a goal, get a setting", _tune),
    "replay": ("recorded runs: replay, report, compare", _replay),
    "simulate": ("a GPU that is not here", _simulate),
    "servers": ("attach to servers that run elsewhere, or drive them", _servers),
    "metrics": ("figures for Prometheus", _metrics),
    "exit-codes": ("what they mean", _exit_codes),
    "files": ("where things are kept", _files),
    "environment": ("variables", _environment),
    "keys": ("the board's keys, and their names", _keys),
}
"""Topic to a summary of one line, and a function that makes its text."""

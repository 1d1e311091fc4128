"""The settings of a run, and the order of their sources. Pure.

    flag  >  environment  >  profile  >  config file  >  default

One table holds every setting; its flag, its variable (TPUTTUI_…) and its key in the config file
follow from its name. vLLM's own flags are not here: they go to vLLM, and a config file may hold
some to start from under `engine`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["OPTIONS", "THEMES", "Option", "Value", "resolved"]

THEMES = ("dark", "light", "nord", "gruvbox", "colour-blind", "terminal", "terminal-light")

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("", "0", "false", "no", "off")


class Option(NamedTuple):
    """One setting."""

    name: str
    metavar: str
    """Stands for the value in the help; empty for a switch."""
    help: str
    group: str = "run"
    """Heading of --help that lists the flag; "run" has none."""
    default: str = ""
    in_profile: bool = False
    """Whether a profile can hold it."""
    former: str = ""
    """A name that it had once, and is still read by."""
    of_screen: bool = False
    """Whether it means something on the screen only."""

    @property
    def flag(self) -> str:
        """Name on the command line."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def variable(self) -> str:
        """Name in the environment."""
        return f"TPUTTUI_{self.name.upper()}"

    def in_environment(self, environ: Mapping[str, str]) -> str:
        """What the environment says, by the name of today or the former one; empty for nothing."""
        return environ.get(self.variable) or (
            environ.get(f"TPUTTUI_{self.former.upper()}", "") if self.former else ""
        )

    @property
    def switch(self) -> bool:
        """Whether it is on or off."""
        return not self.metavar


OPTIONS = (
    Option("profile", "FILE|NAME", "start from a profile; flags go on top"),
    Option("load", "ARRIVALS", "96: in flight (closed loop); 8/s: Poisson; constant:8/s; "
            "gamma(0.5):8/s; 1..30/s over 60s; 5,10,20/s each 30s; 20/s for 5s, 2 for 10s; "
            "recorded x2", "load", in_profile=True),
    Option("prompt_tokens", "LENGTHS", "256, 64-512, 256~0.5[16-2048] (lognormal), normal:256±64, "
            "zipf:1.2[1-2048], hist:1-100=3,101-400=1", "load", in_profile=True),
    Option("output_tokens", "LENGTHS", "likewise", "load", in_profile=True),
    Option("length_pairs", "PAIRS", "100/50=3,2000/100=1: prompt/output=weight, drawn together",
            "load", in_profile=True),
    Option("prefix", "PREFIX", "'share=0.8 tokens=256 groups=16 zipf=1': prompts that begin alike",
            "load", in_profile=True),
    Option("sessions", "SESSIONS", "'turns=1-6 think=5s': conversations whose context grows",
            "load", in_profile=True),
    Option("trace", "FILE", "replay: Azure, BurstGPT, Mooncake, Bailian, ShareGPT, our own JSONL",
            "load", in_profile=True),
    Option("requests", "FILE", "real prompts as JSON Lines: OpenAI batch, messages, ShareGPT, "
            "AIPerf, GuideLLM, vllm bench custom, gateway logs", "load", in_profile=True),
    Option("force_lengths", "", "real prompts: exactly as many tokens as were recorded, instead of "
            "natural ends", "load"),
    Option("sampling", "SAMPLING", "real prompts: temperature=0.7,top_p=0.9 on top of what is "
            "recorded", "load"),
    Option("detokenize", "", "real prompts: make text of the answers, as a server does", "load",
            "on"),
    Option("cancel", "CANCEL", "'share=0.02 after=1s~0.5': requests that their client gives up",
            "load", in_profile=True),
    Option("priority", "PRIORITIES", "'0=0.9 10=0.1': priority=share, a lower number is earlier",
            "load", in_profile=True),
    Option("lora_mix", "ADAPTERS", "'a=0.7 b=0.2': adapter=share, over --lora-modules", "load",
            in_profile=True),
    Option("structured", "FORM", "'share=0.3 schema=FILE' or 'share=0.3 regex=…': structured "
            "output", "load", in_profile=True),
    Option("answers", "ANSWERS", "'n=2 logprobs=5': several answers, log-probabilities", "load",
            in_profile=True),
    Option("classes", "CLASSES", "'chat share=0.7 prompt=256 output=64 goal=ttft_p99=500ms; "
            "batch at=16 priority=9': classes of traffic, by share or arrivals of their own",
            "load", in_profile=True),
    Option("load_seed", "SEED", "same seed, same requests", "load", "0", in_profile=True),
    Option("goal", "GOALS", "ttft_p99=500ms,tpot_p99=50ms,e2e_p95=10s: what requests should be "
            "served within", in_profile=True),
    Option("price_per_hour", "PRICE", "of the machine: shows the cost of tokens",
            in_profile=True),
    Option("limit", "LIMIT=VALUE", "start a live limit below its ceiling, e.g. max_num_seqs=64 "
            "(4k is 4,000, 4K is 4,096, as in vLLM's flags)",
            in_profile=True, former="knob"),
    Option("guard", "BOUNDS", "ttft_p99=2s,kv=0.97: a change that breaks it is undone by itself",
            of_screen=True),
    Option("simulate", "DEVICE|FILE", "vLLM itself on a GPU that is not here: h100, l4, …, or a "
            "calibration's file"),
    Option("hold", "", "boot with the load held", of_screen=True),
    Option("isolate", "", "the engine in a process of its own: the screen outlives it"),
    Option("served", "", "boot vLLM's own server, and tune what it serves: HTTP in the path, data "
           "parallelism"),
    Option("metrics_port", "PORT", "serve the figures to Prometheus on this port"),
    Option("metrics_host", "ADDRESS", "where to listen for Prometheus", default="127.0.0.1"),
    Option("record", "", "write a session log, to replay and to report from", default="on"),
    Option("theme", "NAME", ", ".join(THEMES), default="dark", of_screen=True),
    Option("save_dir", "FOLDER", "where `s` saves profiles", default=".", of_screen=True),
)  # fmt: skip
"""Every setting, in the order that --help shows them."""


class Value(NamedTuple):
    """A setting's value as text ("on", "off" for a switch), and where it comes from.

    source: "flag", "environment", "profile", "config" or "default".
    """

    text: str
    source: str

    @property
    def on(self) -> bool:
        """Whether a switch is on."""
        return self.text == "on"


def resolved(
    flags: Mapping[str, str],
    environ: Mapping[str, str],
    profile: Mapping[str, str],
    config: Mapping[str, str],
) -> dict[str, Value]:
    """Every setting's value by name; each mapping gives texts by name, `environ` by variable.

    Raises ValueError with source and text for a switch that is neither on nor off.
    """
    from_environ = {s.name: text for s in OPTIONS if (text := s.in_environment(environ))}
    sources = (
        ("flag", flags),
        ("environment", from_environ),
        ("profile", profile),
        ("config", config),
    )
    values = {}
    for setting in OPTIONS:
        text, source = next(
            ((given[setting.name], name) for name, given in sources if setting.name in given),
            (setting.default, "default"),
        )
        if setting.switch:
            plain = text.strip().lower()
            if plain not in (*_TRUE, *_FALSE):
                raise ValueError(f"{source}: {setting.name} is {text!r}, neither on nor off")
            text = "on" if plain in _TRUE else "off"
        values[setting.name] = Value(text, source)
    return values

"""The settings of a run from every source, and the profile that they make together.

Every command imports this module first, so functions import what is heavy.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from tputtui.cli.arguments import together, typed_arguments
from tputtui.cli.settings import OPTIONS, THEMES, Value, resolved

if TYPE_CHECKING:
    from tputtui.cli.user_config import Config
    from tputtui.load.workload import Workload
    from tputtui.profile import EngineSpec, EngineValue, Profile
    from tputtui.report.prometheus import Exporter

__all__ = ["CommandLine", "asked_of", "exporter_of", "profile_settings"]

_LOAD_FIELDS = {
    "load": "arrivals",
    "prompt_tokens": "prompt",
    "output_tokens": "output",
    "length_pairs": "pairs",
    "prefix": "prefix",
    "sessions": "sessions",
    "trace": "trace",
    "requests": "requests",
    "cancel": "cancel",
    "priority": "priority",
    "lora_mix": "lora",
    "structured": "structured",
    "answers": "answers",
    "classes": "classes",
}
"""Name of a setting to the field of the load that its text describes."""


class CommandLine(NamedTuple):
    """What a command is asked to run."""

    profile: Profile
    settings: Mapping[str, Value]
    """Every setting by name, with its value and its source."""
    engine_sources: Mapping[str, str]
    """Source of each of vLLM's arguments, by name."""
    config: Config
    written: str
    """Text of the profile file that the run starts from; empty without one."""


def asked_of(options: argparse.Namespace, rest: list[str]) -> CommandLine:
    """The profile to run, with the values of flags, environment and config file put in.

    rest: what argparse left over: MODEL, and vLLM's own flags. Raises TputError.
    """
    from tputtui import profile
    from tputtui.cli.user_config import read_config
    from tputtui.engine.target import is_server

    def tell(sentence: str) -> None:
        if not getattr(options, "quiet", False):
            print(f"tputtui: {sentence}.", file=sys.stderr)

    config = read_config()
    flags = _typed(options)
    typed = typed_arguments(rest, tell)
    if variables := getattr(options, "variables", {}):
        tell(f"set for this run, and kept in no profile: {', '.join(variables)}")
    start = _resolved(flags, {}, config)["profile"].text
    written = ""
    if start:
        path = profile.find(start)
        written = profile.read(path)
        base = profile.beside(profile.parse(written, str(path)), path)
    elif typed.model is None:
        base = profile.load(profile.shipped()["demo"])
    else:
        base = profile.Profile(profile.EngineSpec(typed.model))
    if is_server(typed.model or base.engine.model):
        base, left_out = _for_a_server(base)
        if left_out:
            tell(f"set where the server is started, so left out of {start}: {left_out}")
    settings = _resolved(flags, profile_settings(base) if start else {}, config)
    served = settings["served"].on
    base, sources = together(typed, base, config, start, tell, served=served)
    return CommandLine(_put_on(base, base.engine, settings), settings, sources, config, written)


def _for_a_server(base: Profile) -> tuple[Profile, str]:
    """`base` without the values that only an engine of our own can take, and their names as text.

    Limits of a profile that was saved from a server belong to that server, and stay.
    """
    import msgspec

    from tputtui.engine.target import is_server, settable
    from tputtui.profile import EngineSpec

    args = {name: value for name, value in base.engine.args.items() if settable(name)}
    knobs = base.knobs if is_server(base.engine.model) else {}
    left_out = [f"engine.{name}" for name in base.engine.args if name not in args]
    left_out += [f"limits.{name}" for name in base.knobs if name not in knobs]
    engine = EngineSpec(base.engine.model, args)
    return msgspec.structs.replace(base, engine=engine, knobs=knobs), ", ".join(left_out)


def exporter_of(asked: CommandLine) -> Exporter | None:
    """Serves the figures to Prometheus; None when no port was given. Raises UsageError."""
    port = asked.settings["metrics_port"].text
    if not port:
        return None
    from tputtui.report.prometheus import Exporter

    return Exporter(asked.settings["metrics_host"].text, int(port))


def _typed(options: argparse.Namespace) -> dict[str, str]:
    """The flags that were given, as text by name."""
    texts = {}
    for setting in OPTIONS:
        value = getattr(options, setting.name, None)
        if isinstance(value, bool):
            texts[setting.name] = "on" if value else "off"
        elif isinstance(value, list):
            texts[setting.name] = ",".join(value)
        elif value is not None:
            texts[setting.name] = value
    return texts


def _resolved(
    typed: Mapping[str, str], profile: Mapping[str, str], config: Config
) -> dict[str, Value]:
    from tputtui.errors import UsageError

    try:
        return resolved(typed, os.environ, profile, config.values)
    except ValueError as error:
        raise UsageError(f"{error}.", "Write on or off.") from None


def profile_settings(base: Profile) -> dict[str, str]:
    """The settings that a profile holds, as text by name."""
    from tputtui.goals import describe_goals
    from tputtui.knobs import spoken
    from tputtui.load.sections import to_texts

    texts = to_texts(base.load)
    settings = {name: texts[field] for name, field in _LOAD_FIELDS.items()}
    settings["load_seed"] = str(base.load.seed)
    if base.goals:
        settings["goal"] = describe_goals(base.goals)
    if base.price_per_hour is not None:
        settings["price_per_hour"] = repr(base.price_per_hour)
    if base.knobs:
        settings["limit"] = ",".join(f"{name}={spoken(name, v)}" for name, v in base.knobs.items())
    return settings


def _put_on(base: Profile, engine: EngineSpec, settings: Mapping[str, Value]) -> Profile:
    """`base` with every setting put in that another source gives."""
    import msgspec

    from tputtui.engine.target import LIVE, is_server
    from tputtui.errors import UsageError
    from tputtui.goals import parse_goals
    from tputtui.knobs import knob, parse_value, started_at
    from tputtui.profile.spelling import ceiling_of

    above = {
        name: value.text
        for name, value in settings.items()
        if value.source not in ("profile", "default")
    }
    _check_plain(settings)
    knobs = dict(base.knobs)
    for text in filter(None, above.get("limit", "").split(",")):
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        knobs[name] = started_at(name, parse_value(name, value))
        controlled = "control_token_file" in engine.args
        if is_server(engine.model) and name not in LIVE and not controlled:
            raise UsageError(
                f"--limit {name} is given where the server is started, not here.",
                f"Only {', '.join(LIVE)} can be changed at some servers; more with our plugin "
                "inside it, and --control-token-file.",
            )
    # A ceiling given here may lie below what the profile asks for.
    for limit, asked in knobs.items():
        ceiling = ceiling_of(engine.args, knob(limit).argument)
        if knob(limit).boots and ceiling is not None:
            knobs[limit] = min(asked, ceiling)
    goals = base.goals if "goal" not in above else parse_goals(above["goal"])
    price = base.price_per_hour
    if "price_per_hour" in above:
        price = _price(above["price_per_hour"])
    return msgspec.structs.replace(
        base,
        engine=engine,
        load=_templated(_load(above, base.load, engine, settings), base.serve),
        knobs=knobs,
        goals=goals,
        price_per_hour=price,
        # The evidence was measured for the profile as its file has it.
        evidence=None,
    )


def _load(
    above: Mapping[str, str], base: Workload, engine: EngineSpec, settings: Mapping[str, Value]
) -> Workload:
    """The profile's load with the given settings put in; checks that its file can be opened."""
    import msgspec

    from tputtui.errors import UsageError
    from tputtui.load.sections import from_texts
    from tputtui.profile import may_render, tokenizer_of

    typed = {field: above[name] for name, field in _LOAD_FIELDS.items() if name in above}
    load = from_texts(base, typed)
    if (seed := above.get("load_seed")) is not None:
        if not (seed.isascii() and seed.isdigit() and int(seed) < 2**63):
            raise UsageError(f"--load-seed {seed!r} is not a whole number from 0 to 2⁶³ - 1.")
        load = msgspec.structs.replace(load, seed=int(seed))
    load = _served_as_asked(above, load, settings)
    if load.traces or load.request_files:
        # This imports numpy, for which the first frame must not wait.
        from tputtui.load.source import check_files

        check_files(load, tokenizer_of(engine), by_server=may_render(engine))
    if load.carries:
        from tputtui.engine.carrying import check_carried
        from tputtui.load.carrier import check_schema

        check_schema(load)
        check_carried(load, engine, simulated=bool(settings["simulate"].text))
    return load


def _templated(load: Workload, serve: Mapping[str, EngineValue]) -> Workload:
    """The load with the chat template that the server's flags name, where it names none itself."""
    import msgspec

    from tputtui.load.requests.file import RequestFile
    from tputtui.load.workload import with_files

    template = serve.get("chat_template")
    if not load.request_files or not isinstance(template, str):
        return load

    def templated(file: RequestFile) -> RequestFile:
        named = file.chat_template or template
        return msgspec.structs.replace(file, chat_template=named)

    return with_files(load, requests=templated)


def _served_as_asked(
    above: Mapping[str, str], load: Workload, settings: Mapping[str, Value]
) -> Workload:
    """The load with the flags that say how real requests are served. Raises UsageError."""
    import msgspec

    from tputtui.errors import UsageError
    from tputtui.load.requests.notation import parse_sampling
    from tputtui.load.workload import with_files

    changes: dict[str, object] = {}
    if "force_lengths" in above:
        changes["force_lengths"] = above["force_lengths"] == "on"
    if "detokenize" in above:
        changes["detokenize"] = above["detokenize"] == "on"
    if "sampling" in above:
        changes["sampling"] = parse_sampling(above["sampling"])
    if not changes:
        return load
    if not load.request_files:
        if not any(settings[name].source == "flag" for name in changes):
            return load
        flag = next(iter(changes)).replace("_", "-")
        raise UsageError(f"--{flag} is for real prompts.", "Add --requests FILE.")
    return with_files(load, requests=lambda file: msgspec.structs.replace(file, **changes))


def _price(text: str) -> float:
    from tputtui.errors import UsageError

    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 < price < math.inf:
        raise UsageError(f"--price-per-hour {text!r} is not a price.", "Write a number, like 2.50.")
    return price


def _check_plain(settings: Mapping[str, Value]) -> None:
    """Check the settings that belong to neither load nor profile. Raises UsageError."""
    from tputtui.errors import UsageError, nearest

    theme = settings["theme"].text
    if theme not in THEMES:
        hint = nearest(theme, THEMES) or f"Known: {', '.join(THEMES)}."
        raise UsageError(f"There is no theme called {theme!r}.", hint)
    port = settings["metrics_port"].text
    if port and not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise UsageError(
            f"--metrics-port {port!r} is not a port.", "Write 0 to 65535; 0 takes a free one."
        )
    if guard := settings["guard"].text:
        from tputtui.session.guard import parse_guard

        parse_guard(guard)

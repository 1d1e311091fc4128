"""What a run is asked for: settings from every source, and the profile they make together.

Imports nothing heavy until it is asked for a profile: `--help` must come at once.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tputtui.cli.pasted import pasted
from tputtui.cli.settings import SETTINGS, THEMES, Value, resolved

if TYPE_CHECKING:
    from tputtui.cli.config_file import Config
    from tputtui.load.workload import Workload
    from tputtui.profile import EngineSpec, EngineValue, Profile
    from tputtui.report.prometheus import Exporter

__all__ = ["Asked", "add_settings", "asked_of", "exporter_of", "new_file", "parsed", "said_by"]

_LOAD_FIELDS = {
    "load": "arrivals",
    "prompt_tokens": "prompt",
    "output_tokens": "output",
    "length_pairs": "pairs",
    "prefix": "prefix",
    "sessions": "sessions",
    "trace": "trace",
}
"""Setting to the field of a load that it is the text of."""


class Asked(NamedTuple):
    """What is to be run.

    settings: every setting's value with its source; engine_sources: likewise of vLLM's arguments.
    written: the text of the profile file it was started from, empty without one.
    """

    profile: Profile
    settings: Mapping[str, Value]
    engine_sources: Mapping[str, str]
    config: Config
    written: str


def add_settings(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add the flags of these settings, of all without names."""
    groups: dict[str, argparse._ArgumentGroup] = {}
    for setting in SETTINGS:
        if names and setting.name not in names:
            continue
        if setting.group == "run":
            add = parser.add_argument
        else:
            group = groups.setdefault(setting.group, parser.add_argument_group(setting.group))
            add = group.add_argument
        if setting.switch:
            action = argparse.BooleanOptionalAction
            add(setting.flag, action=action, default=None, help=setting.help)
        elif setting.name == "knob":
            add(setting.flag, metavar=setting.metavar, action="append", help=setting.help)
        else:
            default = f" (default {setting.default})" if setting.default else ""
            add(setting.flag, metavar=setting.metavar, help=setting.help + default)


def parsed(
    parser: argparse.ArgumentParser, words: list[str], first: int = 0
) -> tuple[argparse.Namespace, list[str]]:
    """The parser's own options, and what is left for `asked_of`: MODEL and vLLM's flags.

    first: how many words stand before what may be a whole command line that was pasted.
    Raises UsageError for a flag that is rather a misspelt one of the parser's than one of vLLM's,
    or that another command has.
    """
    line = pasted(words[first:])
    options, rest = parser.parse_known_args([*words[:first], *line.words])
    # As the shell would have set them for vLLM.
    os.environ.update(line.variables)
    options.variables = line.variables
    given = [word.partition("=")[0] for word in rest if word.startswith("--")]
    if not given:
        return options, rest
    from tputtui.engine import flags
    from tputtui.engine.target import FLAGS
    from tputtui.errors import UsageError, closest

    theirs = {*flags.known_flags(), *FLAGS}
    own = _flags_of(parser)
    for flag in given:
        name = flag.partition(".")[0].replace("_", "-")
        if name in theirs or f"--{name[5:]}" in theirs:
            continue
        # Without the dashes, which would make short names all alike.
        plain = {known.lstrip("-"): known for known in (*theirs, *own)}
        meant = plain.get(closest(name.lstrip("-"), plain), "")
        if meant in own:
            raise UsageError(f"There is no flag {flag}.", f"Did you mean `{meant}`?")
        if others := _commands_with(name):
            raise UsageError(f"There is no flag {flag} here.", f"It is one of {others}.")
    return options, rest


def _flags_of(parser: argparse.ArgumentParser) -> set[str]:
    found: set[str] = set()
    for action in parser._actions:
        found.update(option for option in action.option_strings if option.startswith("--"))
        if isinstance(action, argparse._SubParsersAction):
            for each in action.choices.values():
                found |= _flags_of(each)
    return found


def _commands_with(flag: str) -> str:
    """The commands that have a flag of that name, as a sentence names them."""
    import importlib

    from tputtui.cli.main import COMMANDS

    modules = {word: importlib.import_module(f"tputtui.cli.{word}") for word in COMMANDS}
    having = [word for word, module in modules.items() if flag in _flags_of(module.parser())]
    return ", ".join(f"`tputtui {word}`" for word in having)


def asked_of(options: argparse.Namespace, rest: list[str]) -> Asked:
    """The profile asked for, with environment, flags and config in their places.

    rest: what argparse left over: MODEL, and vLLM's own flags. Raises TputError.
    """
    import msgspec

    from tputtui import profile
    from tputtui.cli.config_file import read_config
    from tputtui.engine import flags, models
    from tputtui.engine.config_file import expanded
    from tputtui.engine.serve_flags import SECRET, gone, parted, told
    from tputtui.engine.target import is_server, settable
    from tputtui.errors import UsageError
    from tputtui.redact import conceal, secret_in, secrets_of

    config = read_config()
    typed = _typed(options)
    rest = list(rest)
    quiet = getattr(options, "quiet", False)

    def tell(sentence: str) -> None:
        if not quiet:
            print(f"tputtui: {sentence}.", file=sys.stderr)

    model, rest = flags.positional(rest)
    given, of_file, serve = _given(rest, tell)
    named = given.pop("model", None)
    if named is not None and model is not None and "model" not in of_file:
        raise UsageError(f"MODEL is given twice: {model}, and --model {named}.", "Keep one.")
    model = model or (str(named) if named is not None else None)
    if variables := getattr(options, "variables", {}):
        names = ", ".join(variables)
        tell(f"set for this run, and kept in no profile: {names}")

    start = _resolved(typed, {}, config)["profile"].text
    written = ""
    if start:
        path = profile.find(start)
        written = profile.read(path)
        base = profile.parse(written, str(path))
    elif model is None:
        path = profile.shipped()["demo"]
        base = profile.load(path)
    else:
        base = profile.Profile(profile.EngineSpec(model))
    for_a_server = is_server(model or base.engine.model)
    if for_a_server:
        base, left_out = _for_a_server(base)
        if left_out:
            tell(f"set where the server is started, so left out of {start}: {left_out}")
    settings = _resolved(typed, said_by(base) if start else {}, config)

    under = {key: value for key, value in config.engine.items() if key != "model"}
    of_config, more = parted(expanded(under))
    of_base, others = parted(expanded(base.engine.args))
    inner = "profile" if start else "default"
    _check_names(of_config, f"{config.path}: engine")
    _check_names(of_base, start)
    _check_names({name: given[name] for name in of_file if name in given}, "--config")
    lost = gone({**more, **others, **serve})
    if lost:
        tell(f"no flag of the vLLM installed here, and left out: {flags.spoken(lost)}")
    for secret in secrets_of({**more, **base.serve, **others, **serve}, SECRET):
        conceal(secret)
    unserved = {name: v for name, v in {**more, **others, **serve}.items() if name not in lost}
    if unserved and not for_a_server:
        tell(told(unserved))
    sources = {f"serve.{name}": "config" for name in more}
    sources |= {f"serve.{name}": inner for name in (*base.serve, *others)}
    sources |= {f"serve.{name}": of_file.get(name, "flag") for name in serve}
    kept = {**more, **base.serve, **others, **serve}
    kept = {
        name: value
        for name, value in kept.items()
        if name not in SECRET and name not in lost and not secret_in({name: value})
    }
    base = msgspec.structs.replace(base, serve=kept)
    if for_a_server:
        of_config = {key: value for key, value in of_config.items() if settable(key)}
    engine = profile.EngineSpec(base.engine.model, {**of_config, **of_base})
    engine = engine.overridden(model, given)
    models.resolve(engine)
    _check_flags(rest, engine)
    sources |= dict.fromkeys(of_config, "config") | dict.fromkeys(of_base, inner)
    sources |= {name: of_file.get(name, "flag") for name in given}
    return Asked(_put_on(base, engine, settings), settings, sources, config, written)


def _check_names(args: Mapping[str, EngineValue], source: str) -> None:
    """Raise UsageError for an argument that the installed vLLM does not have."""
    from tputtui.engine import flags
    from tputtui.errors import UsageError, nearest

    if unknown := flags.unknown(args):
        name = unknown[0]
        raise UsageError(
            f"{source}: the vLLM installed here has no flag --{name.replace('_', '-')}.",
            nearest(name, [flag.lstrip("-").replace("-", "_") for flag in flags.known_flags()]),
        )


def _given(
    rest: list[str], tell: Callable[[str], None]
) -> tuple[dict[str, EngineValue], dict[str, str], dict[str, EngineValue]]:
    """Of the words that are vLLM's: the engine's arguments, the file of those that no flag gives
    but `--config FILE`, and the HTTP server's. `rest` keeps the words of the first."""
    from tputtui.engine import flags
    from tputtui.engine.config_file import ARGUMENT, expanded
    from tputtui.engine.serve_flags import SECRET, parted
    from tputtui.errors import UsageError, nearest
    from tputtui.redact import conceal, secrets_of

    typed = flags.from_argv(rest)
    short = next((name for name in typed if name.startswith("-")), None)
    if short is not None:
        hint = nearest(f"-{short}", flags.known_flags()) or "Flags begin with two dashes."
        raise UsageError(f"vLLM has no flag {short}.", hint)
    for secret in secrets_of(typed, SECRET):
        conceal(secret)
    args, server = parted(expanded(typed, tell))
    file = f"--config {typed.get(ARGUMENT)}"
    of_file = {name: file for name in (*args, *server) if name not in typed}
    rest[:] = flags.without(rest, {*server, ARGUMENT})
    return args, of_file, server


def _for_a_server(base: Profile) -> tuple[Profile, str]:
    """`base` without what only another engine could be booted with, and what that was, in words.

    The limits of a profile that was saved from a server are that server's, and stay.
    """
    import msgspec

    from tputtui.engine.target import is_server, settable
    from tputtui.profile import EngineSpec

    args = {name: value for name, value in base.engine.args.items() if settable(name)}
    knobs = base.knobs if is_server(base.engine.model) else {}
    left_out = [f"engine.{name}" for name in base.engine.args if name not in args]
    left_out += [f"knobs.{name}" for name in base.knobs if name not in knobs]
    engine = EngineSpec(base.engine.model, args)
    return msgspec.structs.replace(base, engine=engine, knobs=knobs), ", ".join(left_out)


def new_file(text: str | None) -> Path | None:
    """The file called so, None for none. Raises ProfileExists where there is one already."""
    from tputtui.errors import ProfileExists

    if text is None:
        return None
    path = Path(text).expanduser()
    if path.exists():
        raise ProfileExists(f"{text} exists already.", "Choose another name.")
    return path


def exporter_of(asked: Asked) -> Exporter | None:
    """What serves the figures to Prometheus, if a port was asked for. Raises UsageError."""
    port = asked.settings["metrics_port"].text
    if not port:
        return None
    from tputtui.report.prometheus import Exporter

    return Exporter(asked.settings["metrics_host"].text, int(port))


def _typed(options: argparse.Namespace) -> dict[str, str]:
    """The flags that were given, as text by name."""
    found = {}
    for setting in SETTINGS:
        value = getattr(options, setting.name, None)
        if isinstance(value, bool):
            found[setting.name] = "on" if value else "off"
        elif isinstance(value, list):
            found[setting.name] = ",".join(value)
        elif value is not None:
            found[setting.name] = value
    return found


def _resolved(
    typed: Mapping[str, str], profile: Mapping[str, str], config: Config
) -> dict[str, Value]:
    from tputtui.errors import UsageError

    try:
        return resolved(typed, os.environ, profile, config.values)
    except ValueError as error:
        raise UsageError(f"{error}.", "Write on or off.") from None


def said_by(base: Profile) -> dict[str, str]:
    """What a profile says of the settings it can say, as text."""
    from tputtui.goals import describe_goals
    from tputtui.knobs import spoken
    from tputtui.load.sections import to_texts

    texts = to_texts(base.load)
    said = {name: texts[field] for name, field in _LOAD_FIELDS.items()}
    said["load_seed"] = str(base.load.seed)
    if base.goals:
        said["goal"] = describe_goals(base.goals)
    if base.price_per_hour is not None:
        said["price_per_hour"] = repr(base.price_per_hour)
    if base.knobs:
        said["knob"] = ",".join(f"{name}={spoken(name, v)}" for name, v in base.knobs.items())
    return said


def _put_on(base: Profile, engine: EngineSpec, settings: Mapping[str, Value]) -> Profile:
    """`base` with every setting that is not its own put on."""
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
    for text in filter(None, above.get("knob", "").split(",")):
        name, _, value = text.partition("=")
        name = name.strip().replace("-", "_")
        knobs[name] = started_at(name, parse_value(name, value))
        if is_server(engine.model) and name not in LIVE:
            raise UsageError(
                f"--knob {name} is given where the server is started, not here.",
                f"Only {', '.join(LIVE)} can be turned at some servers.",
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
        load=_load(above, base.load, engine),
        knobs=knobs,
        goals=goals,
        price_per_hour=price,
        # What was measured is of the profile as it stands in its file.
        evidence=None,
    )


def _load(above: Mapping[str, str], base: Workload, engine: EngineSpec) -> Workload:
    """The profile's load with what was asked for put on top; its trace can be opened."""
    import msgspec

    from tputtui.errors import UsageError
    from tputtui.load.sections import from_texts
    from tputtui.profile import tokenizer_of

    typed = {field: above[name] for name, field in _LOAD_FIELDS.items() if name in above}
    load = from_texts(base, typed)
    if (seed := above.get("load_seed")) is not None:
        if not (seed.isascii() and seed.isdigit() and int(seed) < 2**63):
            raise UsageError(f"--load-seed {seed!r} is not a whole number from 0 to 2⁶³ - 1.")
        load = msgspec.structs.replace(load, seed=int(seed))
    if load.trace is not None:
        # With it comes numpy, for which the first frame does not wait.
        from tputtui.load.source import check_trace

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


def _check_plain(settings: Mapping[str, Value]) -> None:
    """Settings that are neither the load's nor the profile's."""
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


def _check_flags(rest: list[str], engine: EngineSpec) -> None:
    """Find a misspelt flag before anything is booted.

    The installed vLLM's source is looked through in milliseconds; only when a flag does not
    stand there is vLLM imported, so that its own parser decides.
    """
    from importlib.util import find_spec

    from tputtui.engine import flags
    from tputtui.engine.parallel import check_in_process
    from tputtui.engine.target import is_server
    from tputtui.engine.vllm.args import INSTALL_HINT, check_arguments
    from tputtui.errors import EngineError
    from tputtui.process.redirect import silent

    if is_server(engine.model):
        return
    check_in_process(engine.args)
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
        # vLLM has things to say as it is imported.
        with silent():
            check_arguments(engine)

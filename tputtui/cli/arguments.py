"""vLLM's own arguments, merged from every place that gives them.

    flags  >  --config FILE  >  profile  >  config.yaml

Arguments of vLLM's HTTP server are kept apart: they have no effect in this process, and go into
exports.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tputtui.cli.user_config import Config
    from tputtui.profile import EngineSpec, EngineValue, Profile

__all__ = ["Typed", "together", "typed_arguments"]

Tell = Callable[[str], None]


class Typed(NamedTuple):
    """vLLM's arguments on a command line.

    engine, serve: arguments of the engine and of the HTTP server, by name. of_file: names that
    only `--config FILE` gives, each with that flag as text.
    """

    model: str | None
    engine: dict[str, EngineValue]
    serve: dict[str, EngineValue]
    of_file: dict[str, str]


def typed_arguments(line: list[str], tell: Tell) -> Typed:
    """vLLM's arguments in `line`, the words that argparse left over.

    tell: called with one sentence for each thing that is ignored. Raises UsageError.
    """
    from tputtui.engine import flags
    from tputtui.engine.config_file import ARGUMENT, expanded
    from tputtui.engine.serve_flags import SECRET, parted
    from tputtui.errors import UsageError, nearest
    from tputtui.profile.spelling import replaced
    from tputtui.redact import conceal, secrets_of

    model, words = flags.positional(line)
    typed = flags.from_argv(words)
    if lost := flags.dropped_keys(words):
        tell(replaced(lost))
    short = next((name for name in typed if name.startswith("-")), None)
    if short is not None:
        hint = nearest(f"-{short}", flags.known_flags()) or "Flags begin with two dashes."
        raise UsageError(f"vLLM has no flag {short}.", hint)
    for secret in secrets_of(typed, SECRET):
        conceal(secret)
    args, server = parted(expanded(typed, tell))
    file = f"--config {typed.get(ARGUMENT)}"
    of_file = {name: file for name in (*args, *server) if name not in typed}
    named = args.pop("model", None)
    if named is not None and model is not None and "model" not in of_file:
        raise UsageError(f"MODEL is given twice: {model}, and --model {named}.", "Keep one.")
    model = model or (str(named) if named is not None else None)
    return Typed(model, args, server, of_file)


def together(
    typed: Typed, base: Profile, config: Config, start: str, tell: Tell, *, served: bool = False
) -> tuple[Profile, dict[str, str]]:
    """`base` with the arguments of every source merged in, and the source of each by name.

    start: the profile that `base` was read from, empty without one. served: whether vLLM's own
    server is to run it. Raises TputError.
    """
    import msgspec

    from tputtui.engine import flags, models
    from tputtui.engine.carrying import MODULES
    from tputtui.engine.config_file import expanded
    from tputtui.engine.serve_flags import SECRET, gone, notice, parted
    from tputtui.engine.target import is_server, settable
    from tputtui.profile import EngineSpec
    from tputtui.redact import conceal, secret_in, secrets_of

    under = {key: value for key, value in config.engine.items() if key != "model"}
    of_config, config_serve = parted(expanded(under))
    of_base, base_serve = parted(expanded(base.engine.args))
    base_serve = {**base.serve, **base_serve}
    serve = {**config_serve, **base_serve, **typed.serve}
    for secret in secrets_of(serve, SECRET):
        conceal(secret)
    inner = "profile" if start else "default"
    sources = {f"serve.{name}": "config" for name in config_serve}
    sources |= {f"serve.{name}": inner for name in base_serve}
    sources |= {f"serve.{name}": typed.of_file.get(name, "flag") for name in typed.serve}
    sources |= dict.fromkeys(of_config, "config") | dict.fromkeys(of_base, inner)
    sources |= {name: typed.of_file.get(name, "flag") for name in typed.engine}
    lost = gone(serve)
    if is_server(typed.model or base.engine.model):
        of_config = {key: value for key, value in of_config.items() if settable(key)}
    else:
        _check_names(of_config, f"{config.path}: engine")
        _check_names(of_base, start)
        of_file = {name: typed.engine[name] for name in typed.of_file if name in typed.engine}
        _check_names(of_file, "--config")
        if lost:
            tell(f"no flag of the vLLM installed here, and left out: {flags.spoken(lost)}")
        # Flags in a profile's `serve:` were reported when the profile was made.
        shown = [name for name in serve if name not in lost and name not in base.serve]
        if new := [name for name in shown if name != MODULES]:
            tell(notice(new))
    kept = {
        name: value
        for name, value in serve.items()
        if name not in SECRET and name not in lost and not secret_in({name: value})
    }
    # An engine here loads adapters as well as a server does.
    modules = {MODULES: kept.pop(MODULES)} if MODULES in kept else {}
    engine = EngineSpec(base.engine.model, {**of_config, **of_base, **modules})
    engine = engine.overridden(typed.model, typed.engine)
    models.resolve(engine)
    _check_flags(typed.engine, engine, served)
    return msgspec.structs.replace(base, engine=engine, serve=kept), sources


def _check_names(args: Mapping[str, EngineValue], source: str) -> None:
    """Raise UsageError for an argument that the installed vLLM does not have."""
    from tputtui.engine import flags
    from tputtui.errors import UsageError, nearest
    from tputtui.profile.spelling import flag_of

    if unknown := flags.unknown(args):
        name = unknown[0]
        raise UsageError(
            f"{source}: the vLLM installed here has no flag {flag_of(name)}.",
            nearest(name, [flag.lstrip("-").replace("-", "_") for flag in flags.known_flags()]),
        )


def _check_flags(typed: Mapping[str, EngineValue], engine: EngineSpec, served: bool) -> None:
    """Find a misspelt flag before anything is booted.

    Searching the installed vLLM's source takes milliseconds. vLLM itself is imported only when a
    flag is not in that source: its own parser then decides.
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
    check_in_process(engine.args, served=served)
    if find_spec("vllm") is None:
        raise EngineError("vLLM is not installed here.", INSTALL_HINT)
    if suspects := flags.unknown(typed):
        print(f"asking vLLM about {flags.spoken(suspects)} …", file=sys.stderr)
        # vLLM prints while it is imported.
        with silent():
            check_arguments(engine)

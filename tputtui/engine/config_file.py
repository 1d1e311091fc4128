"""`--config FILE`, vLLM's own file of arguments; arguments on the command line override it.

    model: Qwen/Qwen3-8B
    max-num-seqs: 64
    port: 8000

vLLM reads the file only while it boots. Here the file is read before anything else, so the
arguments that are shown, checked, saved and exported are the ones in force.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tputtui.errors import UsageError
from tputtui.profile import EngineValue
from tputtui.profile.spelling import canonical, dropped, repeated, replaced

__all__ = ["ARGUMENT", "expanded", "read_config_file"]

ARGUMENT = "config"
_HINT = "It holds keys and values, the flags of `vllm serve` without their dashes."


def expanded(
    args: Mapping[str, EngineValue], tell: Callable[[str], None] | None = None
) -> dict[str, EngineValue]:
    """`args` with the file's name replaced by the file's arguments, which `args` override.

    tell: receives a sentence about keys of the file that vLLM ignores. Raises UsageError for a
    file that vLLM would refuse.
    """
    path = args.get(ARGUMENT)
    if path is None:
        return dict(args)
    if not isinstance(path, str):
        raise UsageError("--config takes the name of one file.", _HINT)
    typed = {name: value for name, value in args.items() if name != ARGUMENT}
    return read_config_file(path, tell) | typed


def read_config_file(
    path: str, tell: Callable[[str], None] | None = None
) -> dict[str, EngineValue]:
    """The arguments in a config file, by name. Raises UsageError."""
    import yaml

    from tputtui.profile.explain import where
    from tputtui.profile.files import read_text
    from tputtui.profile.yamltext import read_yaml

    if not path.endswith((".yaml", ".yml")):
        raise UsageError(f"--config {path}: vLLM takes a file whose name ends in .yaml or .yml.")
    try:
        raw = read_yaml(read_text(path, f"--config {path}", _HINT))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"--config {path}: not readable as YAML: {where(error)}.", _HINT) from None
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(isinstance(key, str) for key in raw):
        raise UsageError(f"--config {path}: expected keys and values.", _HINT)
    if "tputtui" in raw:
        raise UsageError(f"--config {path}: a profile of tputtui.", f"Start with --profile {path}.")
    for key, value in raw.items():
        if value is None:
            raise UsageError(f"--config {path}: {key} has no value.", "Leave it out, or give one.")
        if key.startswith("-"):
            raise UsageError(f"--config {path}: {key} is no long name.", _HINT)
    if twice := repeated(raw):
        raise UsageError(f"--config {path}: {twice[0]} stands twice, as {twice[1]} as well.", _HINT)
    off = [key for key, value in raw.items() if value is False]
    if off and tell is not None:
        tell(
            f"{', '.join(off)}: `vllm serve` passes over a `false` in its config file, and so does "
            "tputtui; `no-…: true` turns a switch off"
        )
    # vLLM ignores an empty list, too.
    given = {key: value for key, value in raw.items() if value is not False and value != []}
    args = canonical(given)
    if tell is not None and (lost := dropped(given)):
        tell(f"--config {path}: {replaced(lost)}")
    if ARGUMENT in args:
        raise UsageError(f"--config {path}: a config file cannot name another one.")
    return args

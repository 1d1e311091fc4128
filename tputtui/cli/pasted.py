"""Command lines as people have them: `vllm serve …` as it stands, or in a script (`@FILE`).

    tputtui VLLM_USE_V1=1 vllm serve MODEL --port 8000
    tputtui @start.sh
    docker run … vllm/vllm-openai:latest --model MODEL

Words in front (variables, a command that runs another, docker's own flags) are read as the shell
reads them, as far as they concern vLLM; MODEL and vLLM's flags remain.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tputtui.cli.shellwords import UNKNOWN, Command, commands
from tputtui.errors import UsageError
from tputtui.profile.files import read_text

__all__ = ["Pasted", "pasted"]

_VARIABLE = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.S)
_OURS = re.compile(r"(VLLM|CUDA|NCCL|HF|TORCH|OMP|HIP|ROCR)_\w+")
"""Variables that vLLM, or what it stands on, reads."""
_MODULE = re.compile(r"vllm\.entrypoints\.(openai\.)?api_server")
_IMAGE = re.compile(r"(?:[\w.-]+(?::\d+)?/)*[\w.-]*vllm[\w.-]*(?::[\w.-]+)?(?:@sha256:\w+)?")
_CONTAINERS = frozenset({"docker", "podman", "nerdctl"})
_SAYS = frozenset({"echo", "printf", "pkill", "pgrep", "grep", "which", "pip"})
"""Commands that only name vLLM."""
_LIKE = "A file with a line like `vllm serve MODEL --max-num-seqs 256`."


class Pasted(NamedTuple):
    """Words of a command line, without those that start vLLM.

    variables: environment variables that the line sets for vLLM.
    """

    words: list[str]
    variables: dict[str, str]


def pasted(words: Sequence[str]) -> Pasted:
    """MODEL and vLLM's flags out of a pasted command line; other words are returned as they are.

    Raises UsageError for a file without such a line, and for another command of vLLM's.
    """
    if words and words[0].startswith("@"):
        of_file = _in_file(words[0][1:])
        return Pasted([*of_file.words, *words[1:]], of_file.variables)
    try:
        return _in_words(list(words))
    except ValueError as error:
        raise UsageError(f"The pasted line: {error}.", _LIKE) from None


def _in_words(words: list[str]) -> Pasted:
    if len(words) == 1 and re.search(r"\s", words[0]) and "vllm" in words[0]:
        # The whole line in quotes.
        words = next(iter(commands(words[0], os.environ)), Command(words, 1, {})).words
    if words and words[0].startswith("-"):
        # Flags of ours in front of it.
        at = next((i for i, pair in enumerate(_pairs(words)) if _serves(*pair)), None)
        return Pasted(words if at is None else words[:at] + words[at + 2 :], {})
    return _server_in(words) or Pasted(words, {})


def _server_in(words: list[str]) -> Pasted | None:
    """The words after those that start a server; None where none start one."""
    name = os.path.basename(words[0]) if words else ""
    if name in _SAYS:
        return None
    for i, (word, after) in enumerate(_pairs(words)):
        if _serves(word, after):
            return Pasted(words[i + 2 :], _variables(words[:i]))
        if _MODULE.fullmatch(word):
            return Pasted(words[i + 1 :], _variables(words[:i]))
        if re.fullmatch(r"-\w*c", word) and re.search(r"\bvllm\b", after):
            # bash -c "vllm serve …"
            for command in commands(after, os.environ):
                if inner := _server_in(command.words):
                    return Pasted(inner.words, {**_variables(words[:i]), **inner.variables})
    at = next((i for i, pair in enumerate(_pairs(words)) if _runs_container(*pair)), None)
    if at is not None:
        return _in_container(words, at)
    if name == "vllm" and len(words) > 1 and not words[1].startswith("-"):
        raise UsageError(
            f"`vllm {words[1]}` is not a line that starts a server.", "Paste `vllm serve MODEL …`."
        )
    return None


def _in_container(words: list[str], start: int) -> Pasted | None:
    image = next((i for i in range(start, len(words)) if _is_image(words, i)), None)
    if image is None:
        return None
    after = words[image + 1 :]
    # The image starts a server by itself; with another entry point the line has `serve`.
    if after[:1] == ["serve"]:
        after = after[1:]
    return Pasted(after, _variables(words[:image]))


def _is_image(words: list[str], at: int) -> bool:
    return bool(_IMAGE.fullmatch(words[at])) and words[at - 1] not in ("--entrypoint", "--name")


def _runs_container(word: str, after: str) -> bool:
    return os.path.basename(word) in _CONTAINERS and after == "run"


def _serves(word: str, after: str) -> bool:
    return os.path.basename(word) == "vllm" and after == "serve"


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    return itertools.pairwise([*words, ""])


def _variables(before: Sequence[str]) -> dict[str, str]:
    """Variables for vLLM among the words in front of it, docker's `-e` and `--env` included."""
    variables: dict[str, str] = {}
    for word in before:
        word = re.sub(r"^(--env=|-e(?=[A-Za-z_]\w*=)|Environment=)", "", word)
        match = _VARIABLE.fullmatch(word)
        if match and _OURS.fullmatch(match["name"]) and match["value"]:
            variables[match["name"]] = match["value"]
    return variables


def _in_file(path: str) -> Pasted:
    """The line in a script that starts a server; if the file has one command only, its words.

    Raises UsageError.
    """
    text = read_text(path, f"@{path}", _LIKE)
    servers: list[tuple[Command, Pasted]] = []
    others: list[Command] = []
    systemd: dict[str, str] = {}
    try:
        for command in commands(text, os.environ):
            if server := _server_in(command.words):
                servers.append((command, server))
            elif not command.words[0].startswith("["):
                others.append(command)
                systemd |= _variables(command.words)
    except ValueError as error:
        raise UsageError(f"@{path}, {error}.", _LIKE) from None
    if not servers and len(others) == 1 and not path.endswith((".yaml", ".yml")):
        servers = [(others[0], Pasted(others[0].words, {}))]
    if not servers:
        hint = _LIKE
        if path.endswith((".yaml", ".yml")):
            hint = f"vLLM's own file of arguments: --config {path}. A profile: --profile {path}."
        raise UsageError(f"@{path} has no line that starts a server.", hint)
    command, server = servers[0]
    if any(other.words != server.words for _, other in servers[1:]):
        lines = ", ".join(str(other.line) for other, _ in servers)
        raise UsageError(
            f"@{path} starts several servers, on lines {lines}.", "Give the one line by itself."
        )
    words = _without_unknown(server.words)
    if words is None:
        raise UsageError(
            f"@{path}, line {command.line}: what stands in $(…) only a shell can work out.",
            "Write its value.",
        )
    exported = _variables([f"{name}={value}" for name, value in command.exported.items()])
    variables = {**systemd, **exported, **server.variables}
    known = {name: value for name, value in variables.items() if UNKNOWN not in value}
    return Pasted(words, known)


def _without_unknown(words: list[str]) -> list[str] | None:
    """`words` without flags of the HTTP server whose value is unknown.

    None where the value of another flag is unknown.
    """
    if not any(UNKNOWN in word for word in words):
        return words
    from tputtui.engine.flags import grouped, without
    from tputtui.engine.serve_flags import is_of_the_server
    from tputtui.profile.spelling import named

    unknown = {named(flag) for flag, values in grouped(words) if UNKNOWN in "".join(values)}
    return without(words, unknown) if all(map(is_of_the_server, unknown)) else None

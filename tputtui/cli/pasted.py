"""Command lines as people have them: `vllm serve …` as it stands, or in a file (`@FILE`).

    tputtui VLLM_USE_V1=1 vllm serve MODEL --port 8000
    tputtui @start.sh
    docker run … vllm/vllm-openai:latest --model MODEL

What stands in front (variables, a shell, docker's own flags) is taken as the shell would take it,
as far as it concerns vLLM; MODEL and vLLM's flags are what is left.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from tputtui.errors import UsageError

__all__ = ["pasted"]

_ASSIGNED = re.compile(r"(?P<name>[A-Za-z_]\w*)=(?P<value>.*)", re.S)
_OURS = re.compile(r"(VLLM|CUDA|NCCL|HF|TORCH|OMP|HIP|ROCR)_\w+")
"""Variables that vLLM, or what it stands on, reads."""
_VARIABLE = re.compile(r"\$(?:\{(?P<name>\w+)(?::?-(?P<default>[^}]*))?\}|(?P<plain>[A-Za-z_]\w*))")
_IMAGE = re.compile(r"(?:[\w.:/-]+/)?vllm-[\w-]*openai[\w-]*(?::[\w.-]+)?(?:@sha256:\w+)?")
_ENDS = frozenset({"&", "&&", "||", "|", ";", ">", ">>", "<", "2>&1", "&>", "2>", "1>"})


def pasted(words: Sequence[str]) -> list[str]:
    """MODEL and vLLM's flags, of words that may be a whole command line; the variables that it
    sets for vLLM are set from here on. Words that are none are returned as they are.

    Raises UsageError for a file without one, and for another command of vLLM's.
    """
    if words and words[0].startswith("@"):
        words = [*_words_in(words[0][1:]), *words[1:]]
    before, line = _split(list(words))
    if line is None:
        return list(words)
    for word in before:
        match = _ASSIGNED.fullmatch(word)
        if match and _OURS.fullmatch(match["name"]):
            os.environ[match["name"]] = match["value"]
    end = next((i for i, word in enumerate(line) if word in _ENDS), len(line))
    return line[:end]


def _split(words: list[str]) -> tuple[list[str], list[str] | None]:
    """What stands before vLLM's own words, and those; None where nothing of vLLM is called."""
    if words and words[0].startswith("-"):
        return [], None
    for i, word in enumerate(words):
        before, after = words[:i], words[i + 1 :]
        if _IMAGE.fullmatch(word) and "/" in word:
            return before, after
        if re.fullmatch(r"vllm\.entrypoints\.(openai\.)?api_server", word):
            return before, after
        called = os.path.basename(word) == "vllm" and (i == 0 or _is_before(before))
        # A flag behind it: a model of that name.
        if called and after and not after[0].startswith("-"):
            if after[0] != "serve":
                raise UsageError(
                    f"`vllm {after[0]}` is not a line that starts a server.",
                    "Paste `vllm serve MODEL …`.",
                )
            return before, after[1:]
    return [], None


def _is_before(words: Sequence[str]) -> bool:
    """Whether these may stand in front of a command: variables, and what runs another one."""
    runs = {"env", "exec", "nohup", "sudo", "uv", "uvx", "run", "time", "$", "export"}
    return all(_ASSIGNED.fullmatch(word) or word in runs or word.startswith("-") for word in words)


def _words_in(path: str) -> list[str]:
    """The words of the line in a file that starts a server, and before it the variables that the
    lines before set; of a file of one line its words, whatever they are. Raises UsageError."""
    hint = "A file with a line like `vllm serve MODEL --max-num-seqs 256`."
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"@{path}: {error.strerror or error}.", hint) from None
    except ValueError:
        raise UsageError(f"@{path} is no text.", hint) from None
    lines: list[list[str]] = []
    variables: dict[str, str] = {}
    for line in re.sub(r"\\[ \t]*\r?\n", " ", text).splitlines():
        try:
            words = shlex.split(line, comments=True)
        except ValueError as error:
            told = f"{str(error).lower()}: {line.strip()[:60]}"
            raise UsageError(f"@{path}: {told}", hint) from None
        words = [_put_in(word, variables) for word in words]
        if _split(words)[1] is not None:
            return [*(f"{name}={value}" for name, value in variables.items()), *words]
        assigned = [_ASSIGNED.fullmatch(word) for word in words if word != "export"]
        if assigned and all(assigned):
            variables.update((match["name"], match["value"]) for match in assigned if match)
        elif words:
            lines.append(words)
    if len(lines) != 1:
        raise UsageError(f"@{path} has no line that starts a server.", hint)
    return lines[0]


def _put_in(word: str, variables: Mapping[str, str]) -> str:
    """`word` with the variables in it that are known; `${PORT:-8000}` has a value of its own."""

    def value(match: re.Match[str]) -> str:
        name = match["name"] or match["plain"]
        return variables.get(name) or os.environ.get(name) or match["default"] or match[0]

    return _VARIABLE.sub(value, word)

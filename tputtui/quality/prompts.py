"""Sets of prompts to compare settings by: a file of a person's own, or the one that comes with us.

Front end's thread. Making tokens of a set takes as long as importing transformers does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from tputtui.errors import UsageError
from tputtui.load.requests.ask import Ask, BadLineError
from tputtui.load.requests.file import RequestFile
from tputtui.load.requests.notation import parse_requests
from tputtui.load.requests.reading import Reader, opened, untokenized
from tputtui.load.requests.rendering import ChatTokenizer, tokenizer_for
from tputtui.process.privacy import keep_private
from tputtui.quality.answers import Question

__all__ = ["BUILTIN", "PromptSet", "check_set", "prompt_set"]

BUILTIN = "builtin"
_SHIPPED = Path(__file__).with_name("builtin.jsonl")
_MOST = 500
_LONGEST_ANSWER = 64
_BYTES_FROM = 4
"""Token ids below are special in most vocabularies."""
_HINT = "Write --quality builtin, or --quality FILE in a format of --requests."


@dataclass(frozen=True, slots=True)
class PromptSet:
    """What is asked. name: "builtin" or "file". sha256: of the file.

    skipped: lines that cannot be used. private: whether the prompts are a person's own.
    """

    name: str
    sha256: str
    questions: tuple[Question, ...] = field(repr=False)
    skipped: int
    private: bool


def check_set(text: str, tokenizer: str) -> RequestFile:
    """The file that `--quality` names, once its beginning was read. Raises UsageError.

    tokenizer: the model's; empty where it brings none.
    """
    if text.strip() == BUILTIN:
        return RequestFile(str(_SHIPPED))
    file = parse_requests(text)
    if file is None:
        raise UsageError(f"Quality {text!r} names no set of prompts.", _HINT)
    reader = Reader(file)
    try:
        _, ask = next(iter(reader))
    finally:
        reader.close()
    if not (file.tokenizer or tokenizer or isinstance(ask.prompt, tuple)):
        error = untokenized(file)
        raise UsageError(error.message, f"Write --quality '{file.path} tokenizer=FOLDER'.")
    return file


def prompt_set(text: str, tokenizer: str) -> PromptSet:
    """The set that `--quality` names, as tokens. Raises UsageError.

    Of a conversation the first turn is asked. At most 500 prompts, of at most 64 tokens each, are
    enough to see a difference in. Without a tokenizer (a built-in shape) the set that comes with us
    is asked byte by byte.
    """
    file = check_set(text, tokenizer)
    shipped = file.path == str(_SHIPPED)
    if not shipped:
        keep_private()
    named = file.tokenizer or tokenizer
    maker = tokenizer_for(named, file.chat_template) if named else None
    reader, questions = Reader(file), []
    try:
        for number, ask in islice(reader, _MOST):
            try:
                questions.append(_question(ask, maker, file, shipped=shipped))
            except BadLineError as error:
                reader.skip(number, error)
    finally:
        reader.close()
    if not questions:
        raise UsageError(f"{file.path}: no prompt of it can be asked.", _HINT)
    name = BUILTIN if shipped else "file"
    return PromptSet(name, _sha256(reader.path), tuple(questions), reader.skipped, not shipped)


# -- inside ------------------------------------------------------------------------------------


def _sha256(path: Path) -> str:
    made = hashlib.sha256()
    with opened(path) as file:
        while block := file.read(1 << 20):
            made.update(block)
    return made.hexdigest()


def _question(
    ask: Ask, tokenizer: ChatTokenizer | None, file: RequestFile, *, shipped: bool
) -> Question:
    """One line as a question. Raises BadLineError, UsageError for a chat without a template."""
    turn = ask.turns[0]
    most = turn.max_tokens or turn.output_tokens or _LONGEST_ANSWER
    ids = tuple(_ids(ask, tokenizer, file, shipped=shipped))
    if not ids or min(ids) < 0:
        raise BadLineError("no prompt that could be sent")
    return Question(ids, min(most, _LONGEST_ANSWER))


def _ids(
    ask: Ask, tokenizer: ChatTokenizer | None, file: RequestFile, *, shipped: bool
) -> list[int]:
    if isinstance(ask.prompt, tuple):
        return list(ask.prompt)
    if tokenizer is None:
        if not shipped:
            raise untokenized(file)
        return [byte + _BYTES_FROM for byte in str(ask.prompt).encode()]
    if ask.prompt is None:
        return tokenizer.chat(ask.turns[0].messages, ask.tools, ask.template)
    if shipped and tokenizer.has_template:
        return tokenizer.chat([{"role": "user", "content": ask.prompt}])
    return tokenizer.text(ask.prompt)

"""Makes the token ids of a prompt by the model's own tokenizer and chat template.

On the renderer's thread. Importing transformers and loading a tokenizer take seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from tputtui.errors import UsageError
from tputtui.load.requests.ask import BadLineError, Message

__all__ = ["ChatTokenizer", "tokenizer_for"]

_GIVE = "Give a folder that holds a tokenizer, or the name of a model on the hub."


@lru_cache(maxsize=2)
def tokenizer_for(name: str, template: str = "") -> ChatTokenizer:
    """The tokenizer, loaded once: each leg of a comparison begins with a renderer of its own."""
    return ChatTokenizer(name, template)


class ChatTokenizer:
    """The tokenizer `name`: a folder or a hub id; `template`: another one, in a file or as text.

    Raises UsageError if it cannot be loaded.
    """

    def __init__(self, name: str, template: str = "") -> None:
        self._name = name
        self._ignores_tools: bool | None = None
        self._template: str | None = None
        if "{" in template:
            # vLLM's own flag takes a template as text as well.
            self._template = template
        elif template:
            try:
                self._template = Path(template).expanduser().read_text(encoding="utf-8")
            except (OSError, ValueError) as error:
                why = getattr(error, "strerror", None) or "no text in UTF-8"
                raise UsageError(f"Chat template {template}: {why}.") from None
        place = Path(name).expanduser()
        if name.startswith(("/", ".", "~")) and not place.is_dir():
            raise UsageError(f"Tokenizer {name}: there is no such folder.", _GIVE)
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise UsageError(
                "Real prompts need the transformers package.", "pip install transformers"
            ) from None
        try:
            # The library raises Exception itself, and OSError for a name that it does not find.
            self._tokenizer: Any = AutoTokenizer.from_pretrained(
                str(place) if place.is_dir() else name
            )
        except Exception as error:
            first = str(error).strip().partition("\n")[0].removesuffix(".")
            raise UsageError(f"Tokenizer {name}: {first}.", _GIVE) from None

    @property
    def ignores_tools(self) -> bool:
        """Whether the template was given tools and made the same prompt without them."""
        return self._ignores_tools is True

    @property
    def has_template(self) -> bool:
        """Whether chats can be made into prompts."""
        return bool(self._template or self._tokenizer.chat_template)

    def text(self, text: str) -> list[int]:
        """The ids of a text with the special tokens of a completion. Raises BadLineError."""
        return self._encoded(text, special=True)

    def length(self, text: str) -> int:
        """How many tokens a text has, without special ones."""
        return len(self._encoded(text, special=False))

    def decoded(self, ids: Sequence[int]) -> str:
        """The text of an answer, without special tokens."""
        text: str = self._tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message] = (),
        values: Mapping[str, Any] | None = None,
    ) -> list[int]:
        """The ids of a chat, up to where the answer begins.

        Raises BadLineError for a chat that the template refuses, UsageError without a template.
        """
        if not self.has_template:
            raise UsageError(
                f"Tokenizer {self._name} has no chat template, so chats cannot be made into "
                "prompts.",
                "Write chat-template=FILE beside the file of requests.",
            )
        prompt = self._rendered(messages, tools, values)
        if tools and self._ignores_tools is None:
            self._ignores_tools = prompt == self._rendered(messages, (), values)
        return self._encoded(prompt, special=False)

    def _encoded(self, text: str, *, special: bool) -> list[int]:
        try:
            # The library raises Exception itself, for half a surrogate pair for example.
            encoded = self._tokenizer(text, add_special_tokens=special, verbose=False)
        except Exception as error:
            raise BadLineError(f"the tokenizer refuses it ({type(error).__name__})") from None
        ids: list[int] = encoded.input_ids
        return ids

    def _rendered(
        self,
        messages: Sequence[Message],
        tools: Sequence[Message],
        values: Mapping[str, Any] | None,
    ) -> str:
        known = {k: v for k, v in (values or {}).items() if isinstance(k, str) and k not in _OURS}
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages),
                tools=list(tools) or None,
                chat_template=self._template,
                add_generation_prompt=True,
                tokenize=False,
                **known,
            )
        except Exception as error:
            # What a template says of a chat may quote it.
            raise BadLineError(f"the chat template refuses it ({type(error).__name__})") from None
        return text


_OURS = frozenset({"conversation", "tools", "chat_template", "add_generation_prompt", "tokenize",
                   "documents", "continue_final_message", "padding", "truncation", "max_length",
                   "return_tensors", "return_dict", "tokenizer_kwargs"})  # fmt: skip
"""Arguments that decide what is rendered; a line cannot set them."""

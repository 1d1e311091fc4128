"""A real prompt that a server makes into tokens itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tputtui.load.requests.ask import Message

__all__ = ["UnrenderedPrompt", "estimated_tokens"]

_CHARACTERS_A_TOKEN = 4
"""Of English text; only the server knows how many tokens there are."""


class UnrenderedPrompt:
    """Messages or a text, as they were recorded. Its repr has none of them.

    text: the prompt where there are no messages, or its token ids. asks: further fields of the
    request as they were recorded. open_ended: whether no length is asked for. keep: whether the
    text of the answer is needed, because a conversation goes on with it.
    """

    __slots__ = ("answer", "asks", "length", "messages", "open_ended", "template", "text", "tools")

    def __init__(
        self,
        messages: Sequence[Message] = (),
        text: str | tuple[int, ...] = "",
        tools: Sequence[Message] = (),
        template: Mapping[str, Any] | None = None,
        asks: Mapping[str, Any] | None = None,
        *,
        open_ended: bool = False,
        keep: bool = False,
    ) -> None:
        self.messages = tuple(messages)
        self.text = text
        self.tools = tuple(tools)
        self.template = template
        self.asks = asks or {}
        self.open_ended = open_ended
        self.answer: list[str] | None = [] if keep else None
        """Parts of the answer's text, put here by whoever receives them."""
        self.length = _estimated(self)
        """About how many tokens it has."""

    def fits(self, max_model_len: int) -> bool:
        """Whether it may leave room for an answer: only the server knows."""
        return True

    def ids(self) -> list[int]:
        """The token ids, where these were recorded. Raises ValueError for text."""
        if isinstance(self.text, str):
            raise ValueError("a prompt of text, whose tokens are not known")
        return list(self.text)

    def token_ids(self) -> NDArray[np.int64]:
        """The same, shape (length,). Raises ValueError for text."""
        return np.array(self.ids(), dtype=np.int64)


def estimated_tokens(text: str) -> int:
    """About how many tokens a text has."""
    return max(1, -(-len(text) // _CHARACTERS_A_TOKEN))


def _estimated(prompt: UnrenderedPrompt) -> int:
    if not isinstance(prompt.text, str):
        return len(prompt.text)
    said = sum(estimated_tokens(each["content"]) for each in prompt.messages)
    tools = sum(estimated_tokens(str(tool)) for tool in prompt.tools)
    return said + tools or estimated_tokens(prompt.text)

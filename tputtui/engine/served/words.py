"""Text of about as many tokens as a prompt of ids has, for servers that take text only. Pure.

Each id is a word, so prompts that begin with the same ids begin with the same text.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["text_of"]

_TEXT = (
    "the of and to in is you that it he was for on are as with his they at be this have from or "
    "one had by word but not what all were we when your can said there use an each which she do "
    "how their if will up other about out many then them these so some her would make like him "
    "into time has look two more write go see number no way could people my than first water "
    "been call who oil its now find long down day did get come made may part over new sound take "
    "only little work know place year live me back give most very after thing our just name good "
    "sentence man think say great where help through much before line right too mean old any "
    "same tell boy follow came want show also around form three small set put end does another "
    "well large must big even such because turn here why ask went men read need land different "
    "home us move try kind hand picture again change off play spell air away animal house point "
    "page letter mother answer found study still learn should world"
)
"""Frequent English words: in most vocabularies each is one token with the space before it."""
_WORDS = _TEXT.split()


def text_of(ids: Sequence[int]) -> str:
    """A word for each id."""
    return " ".join([_WORDS[number % len(_WORDS)] for number in ids])

"""The commands that a shell script would run, with their words and variables. Pure.

    N=3                                 →  a variable
    source env && A=1 vllm serve m \\
        --seed ${N:-1} "$EXTRA" > log   →  ["source", "env"], ["A=1", "vllm", "serve", "m", …]

Quotes, `\\`, comments, variables with their defaults, arrays and redirections are read as a POSIX
shell (and bash, for arrays) reads them. Nothing is run: what only a shell can work out, `$(…)`, is
left in the word as UNKNOWN.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

__all__ = ["UNKNOWN", "Command", "commands"]

UNKNOWN = "\ue000"
"""Stands in a word for what only a shell can work out."""
_ASSIGNED = re.compile(r"(?P<name>[A-Za-z_]\w*)(?P<more>\+?)=(?P<value>.*)", re.S)
_BRACED = re.compile(
    r"(?P<name>[A-Za-z_]\w*)(?P<all>\[[@*]\])?(?:(?P<how>:?[-=+?])(?P<other>.*))?", re.S
)
_EXPORTS = frozenset({"export", "declare", "typeset", "readonly", "local"})


class Command(NamedTuple):
    """One command of a script.

    line: where it begins, from 1. exported: variables that the script exports to it.
    """

    words: list[str]
    line: int
    exported: Mapping[str, str]


def commands(text: str, environment: Mapping[str, str]) -> Iterator[Command]:
    """The commands of a script in order, without those that only set variables.

    Raises ValueError, with the line, for a quote that is not closed.
    """
    return _Reader(text, environment).commands()


class _Reader:
    def __init__(self, text: str, environment: Mapping[str, str]) -> None:
        self._text = text
        self._at = 0
        self._environment = environment
        self._variables: dict[str, str] = {}
        self._arrays: dict[str, list[str]] = {}
        self._exported: set[str] = set()
        self._exports_all = False
        self._words: list[str] = []
        self._word: str | None = None
        self._skips = False  # the next word is a redirection's file
        self._array: str | None = None
        self._began = 0

    def commands(self) -> Iterator[Command]:
        while self._at < len(self._text):
            yield from self._next()
        yield from self._command()

    def _next(self) -> Iterator[Command]:
        """Read one character, or several that belong together."""
        text, at = self._text, self._at
        char = text[at]
        self._at += 1
        if char in " \t\r":
            self._end_word()
        elif char == "#" and self._word is None:
            self._at = self._find("\n")
        elif char in "<>" or text.startswith("&>", at):
            self._redirect(char)
        elif char == "(" and self._is_array():
            self._array, self._word = self._word, None
        elif char == ")" and self._array is not None:
            self._end_word()
            self._end_array(self._array)
        elif char in "\n;&|()":
            self._end_word()
            if self._array is None:
                yield from self._command()
        elif char == "'":
            end = self._find("'", at + 1)
            self._add(text[at + 1 : end])
            self._at = end + 1
        elif char == '"':
            self._double()
        elif char == "\\":
            self._escape()
        elif char == "$":
            self._expand(quoted=False)
        elif char == "`":
            self._at = self._find("`", at + 1) + 1
            self._add(UNKNOWN)
        else:
            self._add(char)

    # -- pieces ----------------------------------------------------------------------------

    def _add(self, piece: str) -> None:
        if self._word is None and not self._words and self._array is None:
            self._began = self._at
        self._word = (self._word or "") + piece

    def _find(self, end: str, start: int | None = None) -> int:
        """Position of the next `end`; for a line break that is missing, the end of the text."""
        start = self._at if start is None else start
        position = self._text.find(end, start)
        if position >= 0:
            return position
        if end == "\n":
            return len(self._text)
        raise ValueError(f"line {self._line(start)}: a {end} is opened and not closed")

    def _line(self, at: int) -> int:
        return self._text.count("\n", 0, max(at - 1, 0)) + 1

    def _escape(self) -> None:
        joined = re.compile(r"(?P<space>[ \t]*)\r?\n").match(self._text, self._at)
        if joined:
            self._at = joined.end()
            # A blank after the `\` is a common slip.
            if joined["space"]:
                self._end_word()
        elif self._at < len(self._text):
            self._add(self._text[self._at])
            self._at += 1

    def _double(self) -> None:
        opened = self._at
        if self._text.startswith('$@"', self._at) or self._text.startswith('$*"', self._at):
            # The script's own arguments: there are none.
            self._at += 3
            return
        self._add("")
        while True:
            if self._at >= len(self._text):
                raise ValueError(f'line {self._line(opened)}: a " is opened and not closed')
            char = self._text[self._at]
            self._at += 1
            if char == '"':
                return
            if char == "\\" and self._at < len(self._text):
                after = self._text[self._at]
                self._at += 1
                if after != "\n":
                    self._add(after if after in '\\"$`' else "\\" + after)
            elif char == "$":
                self._expand(quoted=True)
            elif char == "`":
                self._at = self._find("`") + 1
                self._add(UNKNOWN)
            else:
                self._add(char)

    def _redirect(self, char: str) -> None:
        if self._word is not None and self._word.isdecimal():
            self._word = None  # 2> and the like
        self._end_word()
        if char == "&":
            self._at += 1
        match = re.compile(r"[<>|]*(?P<to>&(?:\d+|-))?").match(self._text, self._at)
        assert match is not None
        self._at = match.end()
        self._skips = match["to"] is None

    # -- variables -------------------------------------------------------------------------

    def _expand(self, *, quoted: bool) -> None:
        """Add the value of what stands after a `$`."""
        text, at = self._text, self._at
        if text.startswith("(", at):
            self._at = self._closing(at, "(", ")") + 1
            self._add(UNKNOWN)
        elif text.startswith("{", at):
            end = self._closing(at, "{", "}")
            self._at = end + 1
            self._braced(text[at + 1 : end], quoted)
        elif match := re.compile(r"[A-Za-z_]\w*").match(text, at):
            self._at = match.end()
            self._put(self._value(match[0]) or "", quoted)
        elif match := re.compile(r"[@*#?0-9]").match(text, at):
            # The script's own arguments: there are none.
            self._at = match.end()
        elif text.startswith("'", at) and not quoted:
            return
        else:
            self._add("$")

    def _closing(self, at: int, opened: str, closed: str) -> int:
        depth = 0
        for place in range(at, len(self._text)):
            depth += (self._text[place] == opened) - (self._text[place] == closed)
            if not depth:
                return place
        raise ValueError(f"line {self._line(at)}: a ${opened} is opened and not closed")

    def _braced(self, inner: str, quoted: bool) -> None:
        match = _BRACED.fullmatch(inner)
        if match is None:
            if not re.match(r"[@*]", inner):
                self._add(UNKNOWN)
            return
        if match["all"]:
            words = self._arrays.get(match["name"], [])
            if self._word == "":
                self._word = None
            self._each(words if quoted else [piece for word in words for piece in word.split()])
            return
        value = self._value(match["name"])
        how = match["how"] or ""
        missing = value is None or (how.startswith(":") and not value)
        if how and missing != how.endswith("+"):
            words = self._nested(match["other"])
            value = " ".join(words)
            if how.endswith("="):
                self._variables[match["name"]] = value
            if how[-1] in "-=+":
                # Quotes in the default hold.
                self._each([value] if quoted else words)
        elif not how.endswith("+"):
            self._put(value or "", quoted)

    def _nested(self, text: str) -> list[str]:
        inner = _Reader(text, {**self._environment, **self._variables})
        return [word for command in inner.commands() for word in command.words]

    def _each(self, words: list[str]) -> None:
        """Add words that are not split any further."""
        for place, word in enumerate(words):
            if place:
                self._end_word()
            self._add(word)

    def _value(self, name: str) -> str | None:
        if name in self._arrays:
            return self._arrays[name][0] if self._arrays[name] else ""
        return self._variables.get(name, self._environment.get(name))

    def _put(self, value: str, quoted: bool) -> None:
        if quoted:
            self._add(value)
            return
        # An unquoted value is split; an empty one makes no word.
        pieces = value.split()
        if not pieces:
            return
        if value[0].isspace():
            self._end_word()
        self._add(pieces[0])
        for piece in pieces[1:]:
            self._end_word()
            self._add(piece)

    # -- words and commands ----------------------------------------------------------------

    def _end_word(self) -> None:
        if self._word is not None:
            word, self._word = self._word, None
            if self._skips:
                self._skips = False
                return
            self._words.append(word)

    def _is_array(self) -> bool:
        return self._word is not None and bool(re.fullmatch(r"[A-Za-z_]\w*\+?=", self._word))

    def _end_array(self, assigned: str) -> None:
        name = assigned.rstrip("+=")
        before = self._arrays.get(name, []) if assigned.endswith("+=") else []
        self._arrays[name] = before + self._words
        self._words, self._array = [], None

    def _command(self) -> Iterator[Command]:
        self._end_word()
        words, self._words, self._skips = self._words, [], False
        if not words:
            return
        if words[0] == "set" and any(re.fullmatch(r"-\w*a\w*", word) for word in words[1:]):
            self._exports_all = True
        exports = words[0] in _EXPORTS
        assigned = [_ASSIGNED.fullmatch(word) for word in words[exports:]]
        if exports or all(assigned):
            for word, match in zip(words[exports:], assigned, strict=True):
                if match:
                    before = self._value(match["name"]) or "" if match["more"] else ""
                    self._variables[match["name"]] = before + match["value"]
                if words[0] == "export":
                    self._exported.add(match["name"] if match else word)
            return
        exported = {
            name: value
            for name, value in self._variables.items()
            if self._exports_all or name in self._exported
        }
        yield Command(words, self._line(self._began), exported)

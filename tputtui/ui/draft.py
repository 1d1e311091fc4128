"""The engine's arguments for the next boot: a draft, to search and edit. Pure.

Nothing here is in force; the form passes `ArgumentDraft.args` on when the engine is booted.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

from tputtui.engine.arguments import text_of, value_of
from tputtui.engine.protocol import Argument
from tputtui.engine.resolved import Resolved
from tputtui.errors import UsageError
from tputtui.profile import EngineValue

__all__ = ["ELSEWHERE", "GOT", "VIEWS", "ArgumentDraft", "Entry"]

Entry = Argument | str
"""A row of the list: an argument, or a heading."""

VIEWS = ("all", "given", "changed", "got")
GOT = VIEWS[3]
"""The view of what the last boot was asked for, and what vLLM made of it."""
ELSEWHERE = "given otherwise"
KEYS = "keys of a section"
_KEY = "Asked for as a key of {section}; here only what the boot came to is shown."
_UNLISTED = (
    "Given in the profile or on the command line in a spelling that is no row of its own here: "
    "a short flag, one key of a section, or an option that this form leaves out."
)
_FIRST = (
    "SchedulerConfig", "CacheConfig", "ParallelConfig", "CompilationConfig", "KernelConfig",
    "AttentionConfig", "ModelConfig",
)  # fmt: skip
"""Groups that decide throughput come first; the others keep the parser's order."""


class ArgumentDraft:
    """The arguments of the last boot, and the changes that the next one is to make.

    args: the whole new mapping, including keys that no row shows.
    resolved: what the last boot made of its arguments, by name.
    """

    def __init__(
        self,
        arguments: Sequence[Argument],
        current: Mapping[str, EngineValue],
        resolved: Sequence[Resolved] = (),
    ) -> None:
        self.resolved = {row.name: row for row in resolved}
        self._current = dict(current)
        self.args: dict[str, EngineValue] = dict(current)
        ranks = {group: rank for rank, group in enumerate(_FIRST, -len(_FIRST))}
        # argparse's own heading for arguments that vLLM puts under none.
        ranks |= {"options": 1, "optional arguments": 1, ELSEWHERE: 2, KEYS: 2}
        known = {argument.name for argument in arguments}
        every = [_unlisted(n, v) for n, v in current.items() if n not in known and v is not None]
        every += arguments
        keys = [name for name in self.resolved if "." in name and name not in known]
        every += [_key(name) for name in keys]
        every.sort(key=lambda each: ranks.get(each.group, 0))
        self.arguments = {argument.name: argument for argument in every}

    @property
    def views(self) -> tuple[str, ...]:
        """The VIEWS that there is something to see in: GOT only after a boot that tells."""
        return VIEWS if self.resolved else VIEWS[:-1]

    def old(self, argument: Argument) -> str:
        """The value at present, as text; empty without one."""
        return text_of(self._current.get(argument.name))

    def new(self, argument: Argument) -> str:
        """The value of the draft, as text; empty without one."""
        return text_of(self.args.get(argument.name))

    def changed(self, argument: Argument) -> bool:
        """Whether the draft changes the argument."""
        return self.old(argument) != self.new(argument)

    def put(self, argument: Argument, text: str) -> None:
        """Take the typed text. Raises UsageError, and changes nothing, where it is invalid."""
        if argument.group == KEYS:
            section, _, key = argument.name.partition(".")
            raise UsageError(
                f"{key} has no flag of its own.", f'Edit {section}, such as {{"{key}": …}}.'
            )
        value = value_of(argument, text)
        same = text_of(value)
        name = argument.name
        if same and same == self.old(argument):
            self.args[name] = self._current[name]
        elif value is None or (not self.old(argument) and same == argument.default):
            self.args.pop(name, None)
        else:
            self.args[name] = value

    def ring(self, argument: Argument) -> list[str]:
        """The texts of all known values, including the default; empty without known values."""
        if not argument.choices or argument.kind == "whole":
            return []
        ring = list(argument.choices)
        return ring if argument.default in ring else [argument.default, *ring]

    def reset(self, argument: Argument) -> None:
        """Go to the engine's default; from the default, back to the present value."""
        name = argument.name
        if self.args.get(name) is not None:
            del self.args[name]
        elif self._current.get(name) is not None:
            self.args[name] = self._current[name]

    def changes(self) -> list[Argument]:
        """The arguments that a boot would change, in the list's order."""
        return [each for each in self.arguments.values() if self.changed(each)]

    def summary(self) -> str:
        """The changes in a sentence: "dtype auto → bfloat16, block_size 16 → 32"."""
        return ", ".join(
            f"{each.name} {self.old(each) or each.default or 'unset'} → "
            f"{self.new(each) or self.default_text(each)}"
            for each in self.changes()
        )

    def default_text(self, argument: Argument) -> str:
        """The default, as the right side of an arrow."""
        return f"{argument.default} (default)" if argument.default else "default"

    def shown(self, view: str) -> list[Argument]:
        """The arguments of one of the VIEWS."""
        if view == "all":
            return list(self.arguments.values())
        if view == "changed":
            return self.changes()
        if view == GOT:
            return [each for each in self.arguments.values() if each.name in self.resolved]
        return [each for each in self.arguments.values() if self.old(each) or self.changed(each)]

    def entries(self, view: str, words: str) -> list[Entry]:
        """Rows of a view under their headings; with words to search for, the best match first.

        Every word must be in the name, abbreviate it ("mns"), or be in the help. Where no name
        matches, names of similar spelling are taken.
        """
        shown = self.shown(view)
        if not (wanted := words.lower().replace("-", "_").strip("_ ").split()):
            return list(_under_headings(shown))
        ranked = [(max(_rank(word, each) for word in wanted), each) for each in shown]
        named = [pair for pair in ranked if pair[0] <= _INITIALS]
        if not named:
            names = [each.name for each in shown]
            close = set(difflib.get_close_matches("_".join(wanted), names, n=5, cutoff=0.6))
            named = [
                (0, each) for each in shown
                if each.name in close or all(_scattered(word, each.name) for word in wanted)
            ]  # fmt: skip
        named.sort(key=lambda pair: (pair[0], len(pair[1].name)))
        entries: list[Entry] = [each for _, each in named]
        in_help = [each for rank, each in ranked if rank == _IN_HELP and each not in entries]
        return [*entries, "in the help", *in_help] if in_help else entries


_INITIALS, _IN_HELP, _NOWHERE = 4, 5, 6


def _rank(word: str, argument: Argument) -> int:
    """How well a word fits: the name, its start, the start of a part, inside, initials, help."""
    name = argument.name.lower()
    if word == name:
        return 0
    if name.startswith(word):
        return 1
    if f"_{word}" in name:
        return 2
    if word in name:
        return 3
    if len(word) > 1 and "".join(part[:1] for part in name.split("_")).startswith(word):
        return _INITIALS
    return _IN_HELP if word in argument.help.lower().replace("-", "_") else _NOWHERE


def _scattered(word: str, name: str) -> bool:
    """Whether the letters of a word come in this order in the name."""
    letters = iter(name)
    return len(word) > 2 and all(letter in letters for letter in word)


def _under_headings(arguments: Iterable[Argument]) -> Iterable[Entry]:
    group = ""
    for argument in arguments:
        if argument.group != group:
            group = argument.group
            yield group
        yield argument


def _key(name: str) -> Argument:
    return Argument(name, "text", "", _KEY.format(section=name.partition(".")[0]), KEYS)


def _unlisted(name: str, value: EngineValue) -> Argument:
    switch = isinstance(value, bool)
    return Argument(
        name, "switch" if switch else "text", "", _UNLISTED, ELSEWHERE,
        ("on", "off") if switch else (),
    )  # fmt: skip

"""The page of `--help`: an example first, and never wider than 80 columns."""

from __future__ import annotations

import argparse
import re
import textwrap
from typing import Any, NoReturn

__all__ = ["WIDTH", "Page", "fitted_page"]

WIDTH = 80
_COMMENT = re.compile(r"^( *\S.*?) {2,}(\S.*)$")
"""A line of an epilog: a command or a name, and what it is."""
_COMMANDS = ("tputtui ", "vllm ", "make ")


class Page(argparse.ArgumentParser):
    """A parser whose help begins with `example`, a line that works as it stands.

    Text that its author has broken into lines stays as it is where it fits.
    """

    def __init__(self, *, example: str = "", **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        options.setdefault("allow_abbrev", False)
        super().__init__(**options)
        self.example = example

    def error(self, message: str) -> NoReturn:
        """Raise UsageError for a line that argparse does not take, told by `message`."""
        from tputtui.cli.misused import misused

        raise misused(self, message, self.example)

    def format_help(self) -> str:
        """The page as text."""
        example = f"{fitted_page(f'  {self.example}')}\n\n" if self.example else ""
        return example + fitted_page(super().format_help())


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=WIDTH)


def fitted_page(text: str) -> str:
    """`text` with every line that is wider than `WIDTH` broken, paragraphs as a whole."""
    made: list[str] = []
    lines = text.split("\n")
    while lines:
        line = lines.pop(0)
        if len(line) <= WIDTH:
            made.append(line)
        elif not _is_prose(line):
            made += _broken(line)
        else:
            # What follows in the paragraph is filled up as well.
            while lines and lines[0] and _is_prose(lines[0]):
                line = f"{line} {lines.pop(0)}"
            made += textwrap.wrap(line, WIDTH, break_on_hyphens=False, break_long_words=False)
    return "\n".join(made)


def _is_prose(line: str) -> bool:
    """Whether the line is one of a paragraph: no command, none of a table, and not indented."""
    return not (line.startswith((" ", *_COMMANDS)) or _COMMENT.match(line))


def _broken(line: str) -> list[str]:
    """A line by itself: what stands behind the gap goes below, else it goes on indented."""
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    if (parts := _COMMENT.match(line)) and len(parts[1]) <= WIDTH:
        column = parts.start(2)
        if column <= WIDTH // 2:
            # A table: its second column stays one.
            return textwrap.wrap(
                parts[2], WIDTH, initial_indent=line[:column], subsequent_indent=" " * column,
                break_on_hyphens=False,
            )  # fmt: skip
        return [parts[1], *textwrap.wrap(parts[2], WIDTH, initial_indent=indent,
                                         subsequent_indent=indent)]  # fmt: skip
    if line.lstrip().startswith(_COMMANDS):
        return _command(line, indent)
    return textwrap.wrap(
        line, WIDTH, subsequent_indent=indent[4:], break_on_hyphens=False, break_long_words=False
    )


def _command(line: str, indent: str) -> list[str]:
    """A command over several lines, as a shell takes it; a flag keeps its value beside it."""
    lines = [""]
    for piece in re.split(r" (?=-)", line):
        if lines[-1] and len(lines[-1]) + len(piece) + 1 > WIDTH - 2:
            lines.append(indent + piece)
        else:
            lines[-1] = f"{lines[-1]} {piece}" if lines[-1] else piece
    return [*(f"{part} \\" for part in lines[:-1]), lines[-1]]

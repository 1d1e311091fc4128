"""`tputtui report`: a recorded run as one self-contained page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tputtui.cli.page import Page
from tputtui.cli.replay import add_run, recorded_run

__all__ = ["parser", "run"]

_ENDINGS = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md"}


def run(words: list[str]) -> int:
    """Write the page; returns the exit code."""
    options = parser().parse_args(words)
    from tputtui.errors import UsageError
    from tputtui.profile.files import write_whole
    from tputtui.report.pages import html, markdown

    output = options.output
    format = options.format or (
        "md" if output and output.endswith((".md", ".markdown")) else "html"
    )
    if output and not options.format and not output.endswith((".html", ".htm", ".md", ".markdown")):
        raise UsageError(
            f"{output}: HTML or Markdown?", "End it in .html or .md, or give --format."
        )
    recording, note = recorded_run(options.file)
    if note:
        print(f"tputtui: {note}", file=sys.stderr)
    if output is None and format == "html" and sys.stdout.isatty():
        # Nobody reads HTML on a terminal.
        output = f"{recording.path.name.partition('.')[0]}.html"
    text = (html if format == "html" else markdown)(recording)
    if output is None:
        print(text, end="")
    else:
        print(write_whole(Path(output), text, overwrite=options.force))
    return 0


def parser() -> argparse.ArgumentParser:
    """The flags of `report`."""
    made = Page(
        example="tputtui report last -o page.html",
        prog="tputtui report",
        description="A recorded run as a page for a change ticket: settings, verdicts, charts with "
        "marks, the profile at the end. It loads nothing from anywhere.",
    )
    add_run(made)
    made.add_argument("-o", "--output", metavar="FILE", help=".html or .md; without: a file named "
                      "as the log on a terminal, else stdout")  # fmt: skip
    made.add_argument("--format", choices=("html", "md"), help="default html, or as FILE ends")
    made.add_argument("--force", action="store_true", help="write over an existing file")
    return made

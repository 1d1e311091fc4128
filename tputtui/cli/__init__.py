"""The command line: one module per command. Heavy modules wait until the command is known."""

from tputtui.cli.main import main, program

__all__ = ["main", "program"]

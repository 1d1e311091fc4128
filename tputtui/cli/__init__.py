"""The command line: one module a command. Nothing heavy is imported before it is known which."""

from tputtui.cli.main import main, program

__all__ = ["main", "program"]

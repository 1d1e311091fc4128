"""Exports a profile in the forms from which production starts vLLM. Pure; imports no vLLM."""

from tputtui.export.formats import FORMATS, export

__all__ = ["FORMATS", "export"]

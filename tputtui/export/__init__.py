"""The export room: a profile as what production starts from. Pure; imports no vLLM."""

from tputtui.export.formats import FORMATS, export

__all__ = ["FORMATS", "export"]

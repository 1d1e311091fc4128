"""A setting: what is measured, and goes back to what it was. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tputtui.knobs import Knobs
from tputtui.load.workload import Workload

__all__ = ["Setting"]


class Setting(NamedTuple):
    """Everything that can be changed while an engine runs."""

    knobs: Knobs
    load: Workload

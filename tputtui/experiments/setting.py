"""A setting: the limits and the load. Pure."""

from __future__ import annotations

from typing import NamedTuple

from tputtui.knobs import Knobs
from tputtui.load.workload import Workload

__all__ = ["Setting"]


class Setting(NamedTuple):
    """Limits and load: all that can be changed while an engine runs."""

    knobs: Knobs
    load: Workload

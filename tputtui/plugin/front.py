"""The limits of admission of one front process: vLLM's own, which refuse requests there (HTTP 503).

vLLM reads them anew for each request that arrives (`AsyncLLM.check_admission`). The engines keep
what is in force, with the lease on it; a front follows them. On vLLM's own event loop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tputtui.knobs import ADMISSION

__all__ = ["NO_FRONT", "Front"]

_WHY_NO_FRONT = "vLLM's API server refuses requests, and the engine's own socket does not reach it"
NO_FRONT = dict.fromkeys(ADMISSION, _WHY_NO_FRONT)
"""Limits that cannot be changed where there is no front, with the reason."""


class Front:
    """vLLM's own settings, in `config`, its SchedulerConfig.

    fronts: how many front processes the server has. fixed: limits that cannot be changed, and why.
    """

    def __init__(self, config: Any, fronts: int) -> None:
        self._config = config
        self.fixed: dict[str, str] = {}
        for name in ADMISSION:
            if fronts > 1:
                why = f"the server has {fronts} front processes, and each has a limit of its own"
                self.fixed[name] = why
            elif getattr(config, name, None) == 0:
                self.fixed[name] = "it was started with 0, with which vLLM refuses every request"

    def follow(self, limits: Mapping[str, int]) -> None:
        """Refuse from now on by `limits`, as an engine tells them."""
        for name in ADMISSION:
            if name in limits and name not in self.fixed and hasattr(self._config, name):
                setattr(self._config, name, limits[name] or None)

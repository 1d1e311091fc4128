"""The question under which name a profile is saved."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

from tputtui.errors import ProfileExists, UsageError
from tputtui.session.session import Session
from tputtui.ui.screens.dialog import Dialog

__all__ = ["save_dialog"]

_HINT = "`tputtui --profile FILE` starts from it; `tputtui profiles export` for production."
_AGAIN = "Enter again writes over it and keeps its comments; or choose another name."


def save_dialog(session: Session, folder: Path, saved: Callable[[Path], None]) -> Dialog:
    """Asks for a name and saves a profile; only a second Enter replaces an existing file.

    folder: where a name of ours would be. saved: called with the file that was written.
    Raises UsageError where there is no profile to save.
    """
    session.check_saves()
    there: list[str] = []

    def use(texts: list[str]) -> None:
        name = texts[0].strip()
        if not name:
            raise UsageError("A file needs a name.", "Type one, such as tuned.yaml.")
        try:
            path = session.save(Path(name), overwrite=name in there)
        except ProfileExists as refusal:
            there.append(name)
            raise ProfileExists(refusal.message, _AGAIN) from None
        saved(path)

    stem = re.sub(r"[^\w.-]+", "-", session.engine.model).strip("-.")[-40:] or "model"
    fresh = folder / f"tputtui-{stem}-{time.strftime('%Y%m%d-%H%M%S')}.yaml"
    return Dialog("save profile", [("", str(fresh))], _HINT, use)

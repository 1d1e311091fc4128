"""A vLLM below the oldest that is supported is refused in words, and nothing is left behind."""

from __future__ import annotations

import os

import pytest

from tests.engine.conftest import Served
from tputtui.engine.vllm.args import OLDEST, check_arguments
from tputtui.engine.vllm.inproc import VllmEngine
from tputtui.errors import EngineError
from tputtui.profile import EngineSpec

pytestmark = [pytest.mark.engine, pytest.mark.timeout(300)]

RELEASE = os.environ.get("TPUTTUI_VLLM_RELEASE", "")
REFUSED = rf"vLLM {RELEASE.replace('.', '[.]')} is too old\."


def test_this_release_is_too_old() -> None:
    import vllm

    assert vllm.__version__ == RELEASE
    assert f"/{RELEASE}/vllm/" in vllm.__file__
    assert vllm.__version_tuple__[:3] < OLDEST


def test_flags_are_not_checked_by_it() -> None:
    with pytest.raises(EngineError, match=REFUSED) as refusal:
        check_arguments(EngineSpec("shape:demo"))
    assert ".".join(map(str, OLDEST)) in refusal.value.hint


def test_a_boot_on_it_fails_with_the_reason_and_can_be_asked_for_again() -> None:
    engines = []

    def cold() -> VllmEngine:
        engines.append(VllmEngine())
        return engines[-1]

    for _ in range(2):
        with pytest.raises(EngineError, match=REFUSED):
            Served(cold, EngineSpec("shape:demo"))
    assert len(engines) == 2

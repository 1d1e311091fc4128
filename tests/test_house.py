"""The house as docs/architecture.md has it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "tputtui").rglob("*.py"))
LONGEST = 450


def test_the_rooms_of_the_architecture_page_are_those_of_the_contracts() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    contracts = project["tool"]["importlinter"]["contracts"]
    (layers,) = (each["layers"] for each in contracts if each["name"].startswith("The rooms"))
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?: · `\w+`)*) \|", page, re.M)
    told = [re.findall(r"`(\w+)`", row) for row in rows]
    assert told == [layer.split(" | ") for layer in layers]


def test_every_room_is_on_the_page_and_no_other() -> None:
    rooms = {path.name.removesuffix(".py") for path in (ROOT / "tputtui").iterdir()
             if path.suffix == ".py" or (path / "__init__.py").is_file()}  # fmt: skip
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`\w+`(?: · `\w+`)*) \|", page, re.M)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == rooms - {
        "__init__", "__main__",
    }  # fmt: skip


def test_no_module_is_longer_than_one_thing_should_be() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in MODULES
            if (lines := path.read_text().count("\n")) > LONGEST}  # fmt: skip
    assert not long


def test_no_order_is_carried_out_by_its_name() -> None:
    for path in MODULES:
        assert 'getattr(self, f"_' not in path.read_text(), path


def test_only_engine_vllm_and_the_plugin_inside_vllm_touch_it() -> None:
    inside = ("tputtui/engine/vllm/", "tputtui/plugin/")
    outside = [path for path in MODULES if not any(room in str(path) for room in inside)]
    for path in outside:
        assert not re.search(r"^\s*(import|from) (vllm|torch)\b", path.read_text(), re.M), path

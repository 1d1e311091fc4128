"""The wheel carries the package's data files and runs where the repository is not."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests import PATIENCE_S

ROOT = Path(__file__).resolve().parent.parent
PROFILES = sorted(path.name for path in (ROOT / "profiles").glob("*.yaml"))
SHAPES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "tputtui/engine/shapes").glob("*/config.json")
)


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    """Run a command to its end and return its standard output; its errors go into the assertion."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, (
        f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    )
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel built from that sdist, without the network."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    (path,) = dist.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed alone into a folder outside the repository."""
    target = tmp_path_factory.mktemp("installed")
    options = ("--quiet", "--no-index", "--no-deps", "--no-compile", "--target", target)
    run(sys.executable, "-m", "pip", "install", *options, wheel, cwd=target)
    return target


def test_wheel_has_every_data_file(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "demo.yaml" in PROFILES
    assert SHAPES
    wanted = {f"tputtui/_profiles/{name}" for name in PROFILES}
    wanted |= {"tputtui/ui/tputtui.tcss", *SHAPES}
    assert wanted <= names, f"missing: {sorted(wanted - names)}"


def test_wheel_has_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/", 1)[0] for name in names}
    assert tops == {"tputtui", wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"}
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_sdist_has_every_data_file(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.split("/", 1)[-1] for name in archive.getnames()}
    wanted = {f"profiles/{name}" for name in PROFILES}
    wanted |= {"LICENSE", "README.md", "tputtui/ui/tputtui.tcss", *SHAPES}
    assert wanted <= names, f"missing: {sorted(wanted - names)}"


def test_installed_wheel_is_the_one_that_runs(installed: Path, tmp_path: Path) -> None:
    show = "import tputtui; print(tputtui.__file__)"
    path = run(sys.executable, "-c", show, cwd=tmp_path, PYTHONPATH=str(installed))
    assert Path(path.strip()).is_relative_to(installed)


def test_installed_wheel_prints_its_version(installed: Path, tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    command = (sys.executable, "-m", "tputtui", "--version")
    assert project["version"] in run(*command, cwd=tmp_path, PYTHONPATH=str(installed))


def test_installed_wheel_prints_its_help(installed: Path, tmp_path: Path) -> None:
    command = (sys.executable, "-m", "tputtui", "--help")
    assert "tputtui" in run(*command, cwd=tmp_path, PYTHONPATH=str(installed))

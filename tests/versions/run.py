"""Runs the adapter's tests against other releases of vLLM: `make test-versions`.

    run.py [RELEASE …]      "0.26" is the newest 0.26.x; without any, those of RELEASES

Only a release's Python files are used, beside the torch and the other packages of .venv: the
executor is simulated, so nothing compiled is called. They are fetched once, through pip, into
.versions/; nothing else needs a network. Releases below `vllm_args.OLDEST` must be refused.
"""

# ruff: noqa: T201

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

from tputtui.engine.vllm.args import OLDEST

HERE = Path(__file__).parent
REPOSITORY = HERE.parent.parent
RELEASES = ("0.18", "0.22", "0.26", "0.29", "0.31", "0.33")
STORE = REPOSITORY / ".versions"
LONGEST_S = 1200.0

# pip asks a source archive's build backend for its metadata even when it only downloads it, and
# vLLM's would need torch, CMake and Rust for the answer, which stands in the archive already.
_BACKEND = """
import os, shutil

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(metadata_directory, config_settings=None):
    folder = os.path.join(metadata_directory, "vllm.dist-info")
    os.mkdir(folder)
    shutil.copy("PKG-INFO", os.path.join(folder, "METADATA"))
    return "vllm.dist-info"
"""


class FetchError(Exception):
    """A release is not there and could not be fetched."""


class Result(NamedTuple):
    """How one release fared; `why` says what kept its tests from running."""

    release: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    why: str = ""

    @property
    def good(self) -> bool:
        """A release whose tests were skipped, or not there at all, has not been tested."""
        return not (self.failed or self.skipped or self.why) and self.passed > 0


def numbers(release: str) -> tuple[int, ...]:
    """ "0.26.1.post1" as (0, 26, 1)."""
    return tuple(int(part) for part in release.split(".")[:3] if part.isdigit())


# -- fetching ------------------------------------------------------------------------------


def fetch(asked: str) -> Path:
    """The folder with a release's `vllm` package, fetched if it is not there."""
    there = [path for path in STORE.glob(f"{asked}*") if f"{path.name}.".startswith(f"{asked}.")]
    if there:
        return max(there, key=lambda path: numbers(path.name))
    STORE.mkdir(exist_ok=True)
    wanted = f"vllm=={asked}" if len(numbers(asked)) > 2 else f"vllm=={asked}.*"
    print(f"fetching {wanted} … ", end="", flush=True)
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(dir=STORE, prefix="fetching-") as name:
        archive = _download(wanted, Path(name))
        release = archive.name.removeprefix("vllm-").removesuffix(".tar.gz")
        folder = Path(name) / release
        _unpack(archive, folder)
        _say_it_is_a_cpu_build(folder, release)
        if OLDEST <= numbers(release) < (0, 24):
            # Imported by every boot then; what newer releases need is in .venv.
            _pip("install", "--no-deps", "--target", str(folder), "gguf", "diskcache")
        shutil.move(folder, STORE / release)
    print(f"{time.monotonic() - began_s:.0f} s")
    return STORE / release


def _download(wanted: str, into: Path) -> Path:
    backend = into / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").touch()
    (backend / "build_meta.py").write_text(_BACKEND)
    _pip(
        *("download", "--no-deps", "--no-binary", "vllm", "--no-build-isolation"),
        *("--dest", str(into), wanted),
        PYTHONPATH=str(backend.parent),
    )
    return next(into.glob("vllm-*.tar.gz"))


def _pip(*arguments: str, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print("failed")
        raise FetchError(f"pip {arguments[0]} failed:\n{done.stdout[-1000:]}{done.stderr[-3000:]}")


def _unpack(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = PurePosixPath(member.name).parts[1:]
            if not member.isfile() or parts[:1] != ("vllm",) or ".." in parts:
                continue
            if parts[-1].endswith(".py"):
                target = folder.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tar.extractfile(member).read())


def _say_it_is_a_cpu_build(folder: Path, release: str) -> None:
    """Older releases (0.26, no longer 0.29) find the platform by the installed version alone."""
    metadata = folder / f"vllm-{release}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n")


# -- running -------------------------------------------------------------------------------


def run_tests(folder: Path) -> Result:
    """Run the tests in a process whose `vllm` is the one in `folder`."""
    release, report, log = folder.name, folder / "junit.xml", folder / "pytest.log"
    name = "test_version.py" if numbers(release) >= OLDEST else "test_too_old.py"
    environment = os.environ | {
        "TPUTTUI_VLLM_RELEASE": release,
        "PYTHONPATH": str(folder),
        "VLLM_TARGET_DEVICE": "cpu",
        # What it has learnt about models is kept there, and releases misread one another's.
        "VLLM_CACHE_ROOT": str(folder / "cache"),
    }
    # Three times as fast to import once compiled.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [
        *(sys.executable, "-m", "pytest", str(HERE / name), f"--junitxml={report}"),
        # What another release warns of is not ours: `make test` is strict about the one in .venv.
        *("-W", "ignore", "-o", "addopts=", "-p", "no:cacheprovider", "--color=no"),
    ]
    report.unlink(missing_ok=True)
    began_s = time.monotonic()
    with log.open("w") as out:
        try:
            done = subprocess.run(
                command,
                cwd=REPOSITORY,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=LONGEST_S,
            )
        except subprocess.TimeoutExpired:
            return Result(release, why=f"not done after {LONGEST_S:.0f} s; see {_short(log)}")
    seconds = time.monotonic() - began_s
    result = _counted(release, report, seconds) if report.exists() else Result(release)
    # 1 says that tests failed; anything else is the end of the process itself.
    if done.returncode not in (0, 1):
        result = result._replace(why=f"pytest ended with {done.returncode}; see {_short(log)}")
    return result


def _counted(release: str, report: Path, seconds: float) -> Result:
    suites = ElementTree.parse(report).getroot().iter("testsuite")
    counts = [{key: int(suite.get(key, 0)) for key in _KEYS} for suite in suites]
    total = {key: sum(count[key] for count in counts) for key in _KEYS}
    failed = total["failures"] + total["errors"]
    passed = total["tests"] - failed - total["skipped"]
    return Result(release, passed, failed, total["skipped"], seconds)


def _told(result: Result) -> list[str]:
    """Every test that did not pass with the first line of its reason, and where the rest is."""
    log, report = STORE / result.release / "pytest.log", STORE / result.release / "junit.xml"
    told = []
    if report.exists():
        for case in ElementTree.parse(report).getroot().iter("testcase"):
            for found in case:
                if found.tag in ("failure", "error", "skipped"):
                    why = found.get("message", "").partition("\n")[0][:200]
                    told.append(f"  {found.tag} {case.get('name')}: {why}")
    return [*told, f"  {_short(log)} has the rest"] if log.exists() else told


_KEYS = ("tests", "failures", "errors", "skipped")


def _short(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def main(asked: list[str]) -> int:
    """The exit code: 0 if every release asked for was tested and all of its tests passed."""
    results = []
    folders: list[Path] = []
    for release in asked or RELEASES:
        try:
            folders.append(fetch(release))
        except FetchError as error:
            print(error, file=sys.stderr)
            results.append(Result(release, why="could not be fetched"))
    row = "{:<10} {:>7} {:>7} {:>8} {:>7}  {}"
    print(row.format("vLLM", "passed", "failed", "skipped", "s", "").rstrip())
    for folder in folders:
        result = run_tests(folder)
        results.append(result)
        print(row.format(*result[:4], f"{result.seconds:.0f}", result.why).rstrip(), flush=True)
    for result in results:
        if not result.good:
            print(f"\n{result.release}: {result.why or 'not all passed'}", *_told(result), sep="\n")
    return 0 if all(result.good for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

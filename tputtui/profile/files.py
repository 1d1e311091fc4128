"""Profiles on disk: looked up by name, read, and written completely or not at all."""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import msgspec

from tputtui.errors import ProfileError, ProfileExists, UsageError, nearest
from tputtui.load.requests.file import RequestFile
from tputtui.load.workload import TraceFile, with_files
from tputtui.profile.document import SHAPE_HINT, dump, parse
from tputtui.profile.resave import resaved
from tputtui.profile.spec import Profile

__all__ = ["beside", "find", "load", "read", "read_text", "save", "shipped", "user_dir", "users"]

_SHIPPED_HINT = "`tputtui --profile demo` starts from a shipped one."
_LARGEST = 1 << 20
_PIPE_TIMEOUT_S = 5.0


def read(path: Path) -> str:
    """The text of a profile. Raises ProfileError if the file is unreadable or no text."""
    try:
        return _text(path)
    except _NoTextError as error:
        raise ProfileError(f"{path}: {error}.", SHAPE_HINT) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ProfileError(f"{path}: {why}.", _SHIPPED_HINT) from None


def read_text(path: str, name: str, hint: str) -> str:
    """The text of a small file that a person named; `name` is its name in errors.

    Raises UsageError with `hint` if the file cannot be read, is no text, or exceeds 1 MiB.
    """
    try:
        return _text(Path(path).expanduser()).removeprefix("\ufeff")
    except (OSError, ValueError) as error:
        raise UsageError(f"{name}: {getattr(error, 'strerror', None) or error}.", hint) from None


class _NoTextError(ValueError):
    """The file was read, but is not the expected text."""


def _text(path: Path) -> str:
    # Non-blocking: otherwise a pipe without a writer would block forever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        data = b""
        while len(data) <= _LARGEST:
            if not select.select([file], [], [], _PIPE_TIMEOUT_S)[0]:
                raise _NoTextError("a pipe from which nothing comes")
            piece = file.read(_LARGEST + 1 - len(data))
            if not piece:
                break
            data += piece
    if len(data) > _LARGEST:
        raise _NoTextError("larger than such a file can be (1 MiB)")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _NoTextError("not a text file in UTF-8") from None
    if "\0" in text:
        raise _NoTextError("not a text file")
    return text


def load(path: Path) -> Profile:
    """Read the profile in `path`. Raises ProfileError with the file and the place."""
    return beside(parse(read(path), str(path)), path)


def beside(profile: Profile, path: Path) -> Profile:
    """`profile`, read from `path`, with the files of its load found.

    A relative path is one of the working directory; where there is none, one beside the profile.
    """
    folder, load = path.expanduser().absolute().parent, profile.load

    def found(name: str) -> str:
        there = folder / name
        elsewhere = not name or Path(name).expanduser().exists() or not there.exists()
        return name if elsewhere else str(there)

    def trace(file: TraceFile) -> TraceFile:
        return msgspec.structs.replace(file, path=found(file.path))

    def requests(file: RequestFile) -> RequestFile:
        return msgspec.structs.replace(
            file,
            path=found(file.path),
            tokenizer=found(file.tokenizer),
            chat_template=found(file.chat_template),
        )

    if not load.traces and not load.request_files:
        return profile
    return msgspec.structs.replace(profile, load=with_files(load, trace, requests))


def save(profile: Profile, path: Path, *, overwrite: bool = False, like: str | None = None) -> Path:
    """Write `profile` to `path` completely or not at all; without `overwrite` only to a new file.

    like: an older text of this profile, whose comments and order are kept.
    Raises ProfileError if the file exists or cannot be written. Returns the absolute path.
    """
    text = dump(profile) if like is None else resaved(profile, like)
    return write_whole(path, text, overwrite=overwrite)


def write_whole(path: Path, text: str, *, overwrite: bool = False, mode: int = 0o644) -> Path:
    """Write `text` to `path` so that neither a reader nor a crash leaves only a part of it.

    Raises ProfileError if the file exists (without `overwrite`) or cannot be written.
    """
    path = path.expanduser().absolute()
    scratch: Path | None = None
    try:
        if not path.parent.is_dir():
            path.parent.mkdir(parents=True)
        if overwrite and path.exists():
            # A symbolic link keeps its target, and the file keeps its permissions.
            path = path.resolve()
            mode = path.stat().st_mode & 0o777
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        scratch = Path(name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        if overwrite:
            os.replace(scratch, path)
        else:
            # A hard link fails if the name exists, so two instances cannot both succeed.
            os.link(scratch, path)
            scratch.unlink()
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:
        if scratch is not None and isinstance(error, FileExistsError):
            raise ProfileExists(f"{path} exists already.", "Choose another name.") from None
        why = getattr(error, "strerror", None) or error
        raise ProfileError(
            f"{path} could not be written: {why}.", "Choose another place."
        ) from None
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
    return path


def _sync_folder(folder: Path) -> None:
    """Flush the folder, so that the name of a new file is on the disk, too."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def shipped() -> dict[str, Path]:
    """Name to path of the profiles that come with tputtui."""
    return {path.stem: path for path in _listed(_shipped_dir())}


def users() -> dict[str, Path]:
    """Name to path of the person's own profiles."""
    return {path.stem: path for path in _listed(user_dir())}


def find(name: str) -> Path:
    """The file for `--profile NAME`: a path, else a user's profile, else a shipped one.

    Raises ProfileError if there is none.
    """
    if "/" in name or name.endswith((".yaml", ".yml")):
        return Path(name).expanduser()
    known = shipped() | users()
    if name in known:
        return known[name]
    if Path(name).is_file():
        return Path(name)
    if Path(name).is_dir():
        raise ProfileError(f"{name} is a folder.", "Give the file of a profile in it, or a name.")
    raise ProfileError(
        f"There is no profile called {name!r}.",
        nearest(name, known) or f"Known: {', '.join(sorted(known))}. Or give a file's path.",
    )


def user_dir() -> Path:
    """The folder of a person's profiles, which are looked up by name."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "tputtui" / "profiles"


def _shipped_dir() -> Path:
    package = Path(str(resources.files("tputtui")))
    installed = package / "_profiles"
    return installed if installed.is_dir() else package.parent / "profiles"


def _listed(folder: Path) -> Iterable[Path]:
    try:
        return sorted(folder.glob("*.yaml"))
    except OSError:
        return []

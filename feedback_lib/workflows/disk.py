"""Files that several processes write: read whole, added to at the end or replaced at once, by one process at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

from feedback_lib.errors import ConfigError

LOCK_S = 30.0  # nobody holds a folder for longer than it takes to write


def content(path: Path) -> bytes | None:
    """The bytes of a file; None when it is not there.

    Raises:
        ConfigError: it is no file, or cannot be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # what is no file must not keep us waiting
        with os.fdopen(handle, "rb") as file:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigError(f"{path}: is no file. Move it away.")
            return file.read()
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise ConfigError(f"{path}: {problem.strerror}. Make it a file that can be read.") from None


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a folder: of two processes the second sees what the first wrote. Not to be nested.

    Raises:
        ConfigError: the folder cannot be opened, or another process holds it for half a minute.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as problem:
        raise ConfigError(f"{folder}: {problem.strerror}. Name a folder that can be opened.") from None
    try:
        give_up = time.monotonic() + LOCK_S
        while not _locked(handle, folder):
            if time.monotonic() > give_up:
                raise ConfigError(f"{folder}: another process is writing there. Try again.")
            time.sleep(0.01)
        yield
    finally:
        os.close(handle)  # frees the lock; so does being killed


def _locked(handle: int, folder: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as problem:
        raise ConfigError(f"{folder}: cannot be locked ({problem.strerror}).") from None
    return True


def inside(path: Path) -> Path:
    """A path without links, to be written to.

    A link may lead to another place in the file's folder, but not out of it: whoever gives away a repository could
    point it at a file of the home folder, and what is written holds words of that repository.

    Raises:
        ConfigError: it leads out, or in a circle.
    """
    try:
        found = path.resolve(strict=False)
        if found.is_symlink():
            raise OSError(errno.ELOOP, "Too many links")
    except (OSError, RuntimeError):
        raise ConfigError(f"{path}: is a link to itself. Remove it.") from None
    if not found.is_relative_to(path.parent.resolve()):
        raise ConfigError(f"{path}: is a link out of its folder, and nothing is written there. Remove it.")
    return found


def append(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Add lines at the end of a file, all of them or none; on disk when this returns.

    Args:
        path: the file, made when it is missing; no link out of its folder.
        content: whole lines.
        mode: its rights when it is made; 0o600 also takes those of others away from one that is there.

    Raises:
        ConfigError: it cannot be written.
    """
    if not content:
        return
    path = inside(path)
    new = not path.exists()
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK | os.O_NOFOLLOW, mode)
        try:
            held = os.fstat(handle)
            size = held.st_size
            if mode == 0o600 and held.st_uid == os.geteuid() and held.st_mode & 0o077:
                os.fchmod(handle, held.st_mode & 0o700)  # the workflow tool itself makes it for everybody
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise ConfigError(f"{path}: is no file. Move it away.")
            if size and os.pread(handle, 1, size - 1) != b"\n":  # somebody was stopped in the middle of a line
                content = b"\n" + content
            try:
                _write(handle, content)
            except OSError:
                os.ftruncate(handle, size)  # half a line would spoil the next one
                if new:
                    path.unlink()
                raise
        finally:
            os.close(handle)
        if new:
            settle(path.parent)
    except OSError as problem:
        raise unwritable(path, problem) from None


def replace(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Put other bytes in the place of a file at once, with the file's rights; on disk when this returns.

    Whoever calls this is `alone` there. A link is replaced, not followed, see `inside`.

    Raises:
        ConfigError: it cannot be written; it is as it was.
    """
    part = path.with_name(path.name + ".part")
    try:
        if path.exists():
            mode = path.stat().st_mode & 0o777
        part.unlink(missing_ok=True)  # of somebody who was stopped; we are alone
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            _write(handle, content)
        except OSError:
            part.unlink()
            raise
        finally:
            os.close(handle)
        part.chmod(mode)
        part.replace(path)
        settle(path.parent)
    except OSError as problem:
        raise unwritable(path, problem) from None


def _write(handle: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.fsync(handle)


def settle(folder: Path) -> None:
    """Names are on disk, too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, problem: OSError) -> ConfigError:
    """What is said of a file that cannot be written."""
    return ConfigError(f"{path}: {problem.strerror}. Make it and its folder writable.")

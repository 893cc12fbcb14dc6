"""Writing files: the whole new content or the old one, and nothing left behind.

The content goes into a temporary file in the same folder, which is flushed to the disk and renamed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

try:
    import fcntl as _locks
except ImportError:  # Windows has other locks
    _locks = None  # type: ignore[assignment]

fcntl: Any = _locks

__all__ = ["remove_leftovers", "replace_file"]

_PREFIX = ".skuq-"  # short: names of files may have 255 bytes, whatever is added to them
_SUFFIX = ".tmp"
_OLD_SECONDS = 24 * 3600.0  # where locks do not work, no writer takes that long


def replace_file(
    path: Any,
    write: Callable[[BinaryIO], Any],
    check: Callable[[Path], Any] | None = None,
) -> None:
    """Write a file as a whole, or leave what was there before.

    A symbolic link is followed. A file that is replaced keeps its permissions, its group and, as
    far as the system lets us, its owner. Temporary files of killed writers in the same folder are
    removed.

    Parameters
    ----------
    path : str or path-like
        Where to.
    write : callable
        Gets the open temporary file and writes the content.
    check : callable, default=None
        Gets the path of the complete temporary file; if it raises, the old file stays.

    Raises
    ------
    OSError
        If the file cannot be written, or if `path` is no regular file (a folder, a device).
    """
    target = Path(os.path.realpath(path))
    before = _regular(target)
    remove_leftovers(target.parent)
    temporary, descriptor = _created(target.parent, before)
    try:
        with open(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(descriptor)
            if check is not None:
                check(temporary)
            if fcntl is None:  # Windows renames no open files
                file.close()
            os.replace(temporary, target)  # still locked: nobody takes it for a leftover
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of writers that were killed; those in use are locked."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # somebody else's, or just removed
            if time.time() - path.lstat().st_mtime > _OLD_SECONDS:
                path.unlink()
            elif fcntl is not None:
                _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if _locked(descriptor, wait=False):
            path.unlink()  # under the lock: who has just created it waits, and makes another
    finally:
        os.close(descriptor)


def _regular(target: Path) -> os.stat_result | None:
    """The status of what is to be replaced, None if there is nothing yet."""
    try:
        status = os.lstat(target)  # a link that is left here leads in a circle
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "expected the name of a file, got a folder", target)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, got a device or the like", target)
    return status


def _created(folder: Path, before: os.stat_result | None) -> tuple[Path, int]:
    """A new temporary file, locked, which at no time more people can read than the old one."""
    mode = 0o666 if before is None else stat.S_IMODE(before.st_mode) & 0o700
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}{_SUFFIX}"
        descriptor = os.open(path, flags, mode)
        if _locked(descriptor, wait=True) and not path.exists():
            os.close(descriptor)  # another writer took it for a leftover before it was locked
            continue
        if before is not None:
            _take_over(descriptor, before)
        return path, descriptor


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """Owner, group and permissions of the old file; a group that cannot be kept gets none."""
    if not hasattr(os, "fchown"):
        return
    mode, now = stat.S_IMODE(before.st_mode) & 0o777, os.fstat(descriptor)
    if now.st_uid != before.st_uid:
        with contextlib.suppress(OSError):
            os.fchown(descriptor, before.st_uid, -1)
    if now.st_gid != before.st_gid:
        try:
            os.fchown(descriptor, -1, before.st_gid)
        except OSError:
            mode &= ~0o070
    os.fchmod(descriptor, mode)


def _locked(descriptor: int, wait: bool) -> bool:
    """Lock an open file until it is closed or the process is gone; False if that fails."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True

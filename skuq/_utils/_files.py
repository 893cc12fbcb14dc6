"""Write files: a file has the old or the whole new content, and no temporary file stays.

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

_PREFIX = ".skuq-"  # short, since a name may have at most 255 bytes
_SUFFIX = ".tmp"
_OLD_SECONDS = 24 * 3600.0  # no writer takes that long, if locks do not work


def replace_file(
    path: Any,
    write: Callable[[BinaryIO], Any],
    check: Callable[[Path], Any] | None = None,
) -> None:
    """Write a whole file, or leave the old one.

    A symbolic link is followed. A file that is replaced keeps its permissions, its group and, as
    far as the system lets us, its owner. Temporary files of killed writers in the same folder are
    removed.

    Parameters
    ----------
    path : str or path-like
        The file to write.
    write : callable
        Writes the content to the open temporary file that it gets.
    check : callable, default=None
        Gets the path of the complete temporary file. If it raises, the old file stays.

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
            os.replace(temporary, target)  # still locked, so no other writer removes it
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed writers; files in use are locked."""
    for path in folder.glob(f"{_PREFIX}*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # a file of another user, or just removed
            if time.time() - path.lstat().st_mtime > _OLD_SECONDS:
                path.unlink()
            elif fcntl is not None:
                _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    try:
        if _locked(descriptor, wait=False):
            path.unlink()  # under the lock; a writer that just made it waits and makes another
    finally:
        os.close(descriptor)


def _regular(target: Path) -> os.stat_result | None:
    """Return the status of the file to replace; None if there is no file yet."""
    try:
        status = os.lstat(target)  # a remaining link is circular
    except FileNotFoundError:
        return None
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "expected the name of a file, got a folder", target)
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "expected a regular file, got a device or the like", target)
    return status


def _created(folder: Path, before: os.stat_result | None) -> tuple[Path, int]:
    """Make a locked temporary file, never readable for more users than the old file."""
    mode = 0o666 if before is None else stat.S_IMODE(before.st_mode) & 0o700
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        path = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}{_SUFFIX}"
        try:
            descriptor = os.open(path, flags, mode)
        except FileNotFoundError:  # names the folder, not a file that the user did not ask for
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder)) from None
        if _locked(descriptor, wait=True) and not path.exists():
            os.close(descriptor)  # another writer removed it before it was locked
            continue
        if before is not None:
            _take_over(descriptor, before)
        return path, descriptor


def _take_over(descriptor: int, before: os.stat_result) -> None:
    """Set owner, group and permissions of the old file; no permissions for another group."""
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
    """Lock an open file until it is closed or the process ends; return False on failure."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return False
    return True

"""The file: a zip of three uncompressed parts. Every byte is determined, or covered by a digest.

`write` makes the bytes around the parts only from the parts (fixed dates, zip64 throughout), so
`read` can make them again and compare. It refuses an archive with other names, other sizes, gaps,
comments, compression or a changed byte before it looks at the content. The parts are

* ``manifest.json``, at most `MOST_MANIFEST` bytes,
* ``tensors.safetensors``,
* ``sha256sums.txt``, the digests of both, as ``sha256sum --check`` reads them.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from skuq._utils._files import replace_file
from skuq.exceptions import PersistenceError

__all__ = ["MOST_MANIFEST", "Parts", "read", "write"]

MANIFEST, TENSORS, SUMS = NAMES = ("manifest.json", "tensors.safetensors", "sha256sums.txt")
MOST_MANIFEST = 16 * 2**20

_DATE = 0x21  # 1980-01-01, the first date of the zip format
_LOCAL = "<4s5HLLLHH"  # signature, version, flags, method, time, date, crc, sizes, lengths
_CENTRAL = "<4s6HLLLHHHHHLL"
_BIG = 0xFFFFFFFF  # the size is in the zip64 field
_END = b"PK\x05\x06"
_CENTRAL_SIZE = sum(struct.calcsize(_CENTRAL) + len(name) + 28 for name in NAMES)
_TAIL_SIZE = _CENTRAL_SIZE + 56 + 20 + 22


class Parts(NamedTuple):
    """The content of a file."""

    manifest: bytes
    tensors: bytes


class _Part(NamedTuple):
    name: str
    size: int
    crc: int
    offset: int

    @property
    def header(self) -> bytes:
        fixed = struct.pack(
            _LOCAL, b"PK\x03\x04", 45, 0, 0, 0, _DATE, self.crc, _BIG, _BIG, len(self.name), 20
        )
        return fixed + self.name.encode() + struct.pack("<HHQQ", 1, 16, self.size, self.size)

    @property
    def entry(self) -> bytes:
        lengths = len(self.name), 28, 0, 0, 0
        fixed = struct.pack(
            _CENTRAL, b"PK\x01\x02", 45, 45, 0, 0, 0, _DATE, self.crc, _BIG, _BIG, *lengths, 0, _BIG
        )
        extra = struct.pack("<HHQQQ", 1, 24, self.size, self.size, self.offset)
        return fixed + self.name.encode() + extra


def _header_size(name: str) -> int:
    return struct.calcsize(_LOCAL) + len(name) + 20


def _laid_out(sizes: Iterable[int], crcs: Iterable[int]) -> list[_Part]:
    """Lay out the parts, one directly after the other."""
    parts, offset = [], 0
    for name, size, crc in zip(NAMES, sizes, crcs):
        parts.append(_Part(name, size, crc, offset))
        offset += _header_size(name) + size
    return parts


def _tail(parts: list[_Part]) -> bytes:
    """Make the central directory of the zip, and its end records."""
    last = parts[-1]
    start, n = last.offset + _header_size(last.name) + last.size, len(parts)
    entries = b"".join(part.entry for part in parts)
    zip64 = struct.pack(
        "<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, n, n, len(entries), start
    ) + struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(entries), 1)
    return entries + zip64 + struct.pack("<4s4HLLH", _END, 0, 0, n, n, len(entries), _BIG, 0)


def _sums(parts: Parts) -> bytes:
    digests = (hashlib.sha256(content).hexdigest() for content in parts)
    return "".join(f"{digest}  {name}\n" for digest, name in zip(digests, NAMES)).encode()


def write(path: Any, parts: Parts, check: Callable[[Path], Any] | None = None) -> None:
    """Write a file completely or not at all: first under another name, in the same folder.

    Parameters
    ----------
    path : str or path-like
        The path of the file.
    parts : Parts
        The content.
    check : callable, default=None
        Gets the path of the complete file under its other name. If it raises an error, the old file
        stays.
    """
    if len(parts.manifest) > MOST_MANIFEST:
        raise PersistenceError(
            f"the values to save besides arrays take {len(parts.manifest)} bytes, more than "
            f"the {MOST_MANIFEST} that load accepts; are there very long lists among them (a "
            "history with an entry for each batch)?"
        )
    contents = (*parts, _sums(parts))
    laid_out = _laid_out(map(len, contents), map(zlib.crc32, contents))

    def written(file: BinaryIO) -> None:
        for part, content in zip(laid_out, contents):
            file.write(part.header)
            file.write(content)
        file.write(_tail(laid_out))

    replace_file(path, written, check)


def read(path: Any) -> Parts:
    """Read a file, and check that `write` could have written every byte of it.

    Raises
    ------
    PersistenceError
        If the file does not come from `write`, or is damaged.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        sizes = _declared_sizes(file, size)
        if sizes[0] > MOST_MANIFEST:
            raise PersistenceError(
                f"{os.fspath(path)!r} declares a manifest of {sizes[0]} bytes; at most "
                f"{MOST_MANIFEST} are accepted"
            )
        headers, contents = [], []
        for name, part_size in zip(NAMES, sizes):
            headers.append(file.read(_header_size(name)))
            contents.append(file.read(part_size))
        tail = file.read()
    parts = _laid_out(sizes, map(zlib.crc32, contents))
    for part, header in zip(parts, headers):
        if header != part.header:
            raise PersistenceError(
                f"the zip header or the checksum of {part.name} is not what skuq.save writes: the "
                "file is damaged or forged"
            )
    if tail != _tail(parts):
        raise PersistenceError(
            "the directory of the zip is not what skuq.save writes: the file is damaged or forged"
        )
    found = Parts(*contents[:2])
    for name, expected, got in zip(NAMES, _sums(found).splitlines(), contents[2].splitlines()):
        if expected != got:
            raise PersistenceError(f"the sha256 of {name} is not that in {SUMS}")
    return found


def _declared_sizes(file: Any, size: int) -> list[int]:
    """Read the sizes of the parts from the directory at the end, and compare with the file size."""
    beginning = file.read(512)
    if size > _TAIL_SIZE:
        file.seek(size - _TAIL_SIZE)
        tail = file.read(_TAIL_SIZE)
        file.seek(0)
        if tail.startswith(b"PK\x01\x02") and tail[-22:-18] == _END:
            sizes, start = [], 0
            for name in NAMES:
                start += struct.calcsize(_CENTRAL)
                if tail[start : start + len(name)] != name.encode():
                    break
                start += len(name)
                sizes.append(struct.unpack_from("<Q", tail, start + 4)[0])
                start += 28
            else:
                expected = sum(map(_header_size, NAMES)) + sum(sizes) + _TAIL_SIZE
                sums_size = sum(64 + 2 + len(name) + 1 for name in NAMES[:2])
                if expected == size and sizes[2] == sums_size:
                    return sizes
    raise PersistenceError(
        f"{file.name!r} is no file of skuq.save, or was cut short{_what_it_is(beginning)}: "
        f"expected a zip of exactly {', '.join(NAMES)}, stored, nothing before, between or after"
    )


def _what_it_is(beginning: bytes) -> str:
    if beginning.startswith(b"PK\x03\x04"):
        if b".pkl" in beginning or b"data.pkl" in beginning or b"byteorder" in beginning:
            return " (it looks like an archive of torch.save, which skuq never loads)"
        return " (it is some other zip)"
    if beginning[:1] == b"\x80" and beginning[1:2] in b"\x00\x01\x02\x03\x04\x05":
        return " (it looks like a pickle, which skuq never loads)"
    magic = (b"\x1f\x8b", b"x\x01", b"x^", b"x\x9c", b"x\xda", b"BZh", b"\xfd7zXZ", b"]\0\0")
    if beginning.startswith(magic):
        return " (it looks compressed, perhaps by joblib)"
    return ""

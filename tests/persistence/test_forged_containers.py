"""Damaged files and other zips: an error that names the problem, quickly."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import skuq
from skuq import PersistenceError
from skuq.persistence import _container
from tests.persistence.forging import NO_ONE_ELSE, file_of

pytest.importorskip("safetensors")


def flips(content, n, seed):
    random = np.random.default_rng(seed)
    for position in random.integers(len(content), size=n):
        flipped = bytearray(content)
        flipped[position] ^= random.integers(1, 256)
        yield position, bytes(flipped)


@pytest.mark.parametrize("n", [300, pytest.param(7000, marks=pytest.mark.slow)])
def test_a_flipped_byte(n, sound, folder, refused):
    content = file_of(sound["DeepEnsemble"], folder)
    for position, flipped in flips(content, n, seed=n):
        refused(flipped, "damaged or forged|sha256 of|no file of skuq.save")
        if position % 50 == 0:
            with pytest.raises(PersistenceError):
                skuq.inspect(folder / "forged.skuq")


def test_every_byte_around_the_parts(sound, folder, refused):
    """The directory, dates and versions of the zip included."""
    parts = sound["PointEstimate"]
    content = file_of(parts, folder)
    header = _container._header_size("manifest.json")
    tail = len(content) - _container._TAIL_SIZE
    for position in (*range(header), *range(tail, len(content))):
        flipped = bytearray(content)
        flipped[position] ^= 1 << position % 8
        refused(bytes(flipped))


@pytest.mark.parametrize("n", [100, pytest.param(1500, marks=pytest.mark.slow)])
def test_cut_short_or_lengthened(n, sound, folder, refused):
    content = file_of(sound["PointEstimate"], folder)
    for length in np.linspace(0, len(content) - 1, n).astype(int):
        refused(content[:length], "no file of skuq.save, or was cut short")
        refused(content[length:] if length else b"", "no file of skuq.save, or was cut short")
    refused(content + b"\0", "no file of skuq.save")
    refused(b"\0" + content, "no file of skuq.save")
    refused(content + content, "no file of skuq.save")


@given(st.binary(max_size=2000), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None, **NO_ONE_ELSE)
def test_any_bytes(sound, folder, refused, noise, where):
    refused(noise)
    content = file_of(sound["PointEstimate"], folder)
    where %= len(content)
    spliced = content[:where] + noise + content[where + len(noise) :]
    if spliced != content:
        refused(spliced)


def zipped(names, compression=zipfile.ZIP_STORED, comment=b""):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.comment = comment
        for name, content in names:
            archive.writestr(name, content)
    return buffer.getvalue()


def test_other_zips(sound, refused):
    manifest, tensors = sound["PointEstimate"]
    sums = _container._sums(sound["PointEstimate"])
    three = [("manifest.json", manifest), ("tensors.safetensors", tensors)]
    whole = [*three, ("sha256sums.txt", sums)]
    for names in (
        whole,  # right, but not to the byte what save writes
        three,
        whole[::-1],
        [*whole, ("../../evil", b"x")],
        [*whole, ("/etc/evil", b"x")],
        [("../manifest.json", manifest), *whole[1:]],
        [(f"{i}", b"") for i in range(2000)],
    ):
        refused(zipped(names), "some other zip")
    refused(zipped(whole, zipfile.ZIP_DEFLATED), "some other zip")
    refused(zipped(whole, comment=b"hello"), "some other zip")
    bomb = zipped([("manifest.json", b"0" * 10**8)], zipfile.ZIP_DEFLATED)
    refused(bomb, "some other zip")
    assert not Path("evil").exists() and not Path("/etc/evil").exists()


def test_a_zip_that_others_can_read(sound, folder):
    with zipfile.ZipFile(io.BytesIO(file_of(sound["MCDropout"], folder))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == list(_container.NAMES)
        assert archive.read("tensors.safetensors") == sound["MCDropout"].tensors

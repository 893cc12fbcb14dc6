"""Files are written as a whole or not at all, where a link points, with the old permissions."""

import functools
import os
import signal
import stat
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import skuq
from skuq._training._checkpoints import _read, _write
from skuq._utils import _files
from skuq._utils._files import remove_leftovers, replace_file
from skuq.posteriors import PointEstimate

posix = pytest.mark.skipif(os.name != "posix", reason="needs the permissions and locks of POSIX")


@functools.cache
def fitted():
    X = np.random.default_rng(0).normal(size=(20, 2))
    network = skuq.TorchRegressor(posterior=PointEstimate(), max_epochs=1, random_state=0)
    return network.fit(X, X[:, 0])


def save_skuq(path):
    pytest.importorskip("safetensors")
    skuq.save(fitted(), path)


def save_checkpoint(path):
    _write(path, {"a": 1})


def save_onnx(path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    skuq.export_onnx(fitted(), path)


def save_report(path):
    from skuq._report import Report

    Report({}, "title", "body").save(path)


WRITERS = {
    "bytes": lambda path: replace_file(path, lambda file: file.write(b"new")),
    "save": save_skuq,
    "checkpoint": save_checkpoint,
    "onnx": pytest.param(save_onnx, marks=pytest.mark.slow),
    "report": save_report,
}
every_writer = pytest.mark.parametrize("write", list(WRITERS.values()), ids=list(WRITERS))


def mode_of(path):
    return stat.S_IMODE(os.stat(path).st_mode)


@posix
@every_writer
def test_permissions_links_and_long_names(write, tmp_path):
    target = tmp_path / ("n" * 251 + ".npz")  # as long as names may be
    link = tmp_path / "link.npz"
    link.symlink_to(target.name)  # to what is not there yet
    before = os.umask(0o022)
    try:
        write(link)
        assert link.is_symlink() and mode_of(target) == 0o644
        new = target.read_bytes()
        for mode in (0o600, 0o640, 0o666):
            target.write_bytes(b"old")
            target.chmod(mode)
            write(link)
            assert link.is_symlink() and not target.is_symlink()
            assert mode_of(target) == mode
            assert len(target.read_bytes()) == len(new)
    finally:
        os.umask(before)
    assert {path.name for path in tmp_path.iterdir()} == {"link.npz", target.name}


@posix
def test_the_temporary_file_is_not_more_open_than_the_old_one(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    path.chmod(0o600)
    modes = []
    replace_file(
        path,
        lambda file: modes.append(mode_of(next(tmp_path.glob(".skuq-*.tmp")))),
        lambda temporary: modes.append(mode_of(temporary)),
    )
    assert modes == [0o600, 0o600]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["write", "check"])
def test_what_fails_leaves_the_old_file(error, where, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(_):
        raise error

    with pytest.raises(error):
        if where == "write":
            replace_file(path, fail)
        else:
            replace_file(path, lambda file: file.write(b"new"), fail)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


@posix
def test_what_is_no_regular_file(tmp_path):
    with pytest.raises(IsADirectoryError, match="got a folder"):
        replace_file(tmp_path, lambda file: None)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="expected a regular file"):
        replace_file(pipe, lambda file: None)
    circle = tmp_path / "circle"
    circle.symlink_to("circle")
    with pytest.raises(OSError, match=r"expected a regular file|symbolic"):
        replace_file(circle, lambda file: None)
    assert circle.is_symlink() and stat.S_ISFIFO(os.stat(pipe).st_mode)
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "nowhere" / "file", lambda file: None)


KILLED = """
import runpy, sys, time

replace_file = runpy.run_path(sys.argv[2])["replace_file"]  # skuq itself takes long to import

def write(file):
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    time.sleep(60)

replace_file(sys.argv[1], write)
"""


@posix
def test_leftovers_of_the_killed_are_removed_and_those_in_use_are_not(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "one"), _files.__file__],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"written\n"
        (left,) = tmp_path.iterdir()
        replace_file(tmp_path / "other", lambda file: file.write(b"new"))
        assert left.exists()
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert left.exists()
    replace_file(tmp_path / "other", lambda file: file.write(b"new"))
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_without_locks_old_leftovers_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("skuq._utils._files.fcntl", None)
    new, old = tmp_path / ".skuq-1-aa.tmp", tmp_path / ".skuq-2-bb.tmp"
    for path in (new, old):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    replace_file(tmp_path / "file", lambda file: file.write(b"new"))
    assert (tmp_path / "file").read_bytes() == b"new"
    assert new.exists() and not old.exists()


def test_writers_at_the_same_time(tmp_path):
    """Each of them writes a whole file, though all of them look for leftovers."""
    path, errors = tmp_path / "file.npz", []

    def write(number):
        try:
            for _ in range(20):
                _write(path, {"number": number})
                assert _read(path)["number"] in range(4)
                remove_leftovers(tmp_path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        replace_file(tmp_path / "nowhere" / "page.html", lambda file: file.write(b"x"))
    assert caught.value.filename == str((tmp_path / "nowhere").resolve())

"""Whatever a file holds, nothing of it runs, and little memory is taken."""

import builtins
import importlib
import pickle
import sys
import time
import warnings
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

import skuq
from skuq import PersistenceError, TorchClassifier
from skuq.calibration import TemperatureScaler
from skuq.persistence import _container
from skuq.posteriors import DeepEnsemble, MCDropout
from tests.networks import Plain
from tests.persistence.forging import DRAWS, entry, forged, put, safetensors_part, with_manifest

pytest.importorskip("safetensors")

# -- pickles ---------------------------------------------------------------------------------------


class Evil:
    ran = False

    def __reduce__(self):
        return setattr, (Evil, "ran", True)


def test_pickles_renamed(refused, folder, data):
    refused(pickle.dumps(Evil()), "looks like a pickle")
    refused(pickle.dumps(Evil(), protocol=0), "no file of skuq.save")
    torch.save(Evil(), folder / "evil.pt")
    refused((folder / "evil.pt").read_bytes(), "torch.save")
    torch.save(Plain(2, 2).state_dict(), folder / "weights.pt")
    refused((folder / "weights.pt").read_bytes(), "torch.save")
    torch.save(Evil(), folder / "evil.pt", _use_new_zipfile_serialization=False)
    refused((folder / "evil.pt").read_bytes(), "looks like a pickle")
    for compress in (0, 3, ("bz2", 3), ("xz", 3)):
        joblib.dump([Evil(), data[0]], folder / "evil.joblib", compress=compress)
        refused((folder / "evil.joblib").read_bytes(), "looks like a pickle|compressed")
    assert not Evil.ran
    pickle.loads(pickle.dumps(Evil()))
    assert Evil.ran  # it would have


def test_a_pickle_as_a_part(sound, refused):
    parts = sound["PointEstimate"]
    Evil.ran = False
    refused(parts._replace(manifest=pickle.dumps(Evil())), "no valid JSON")
    refused(parts._replace(tensors=pickle.dumps(Evil())), "header of tensors.safetensors")
    assert not Evil.ran


# -- memory, and what runs -------------------------------------------------------------------------


def peak_bytes(action):
    """By how much the memory of the process grows at its peak."""
    status, clear = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not clear.exists():
        pytest.skip("needs Linux's /proc")

    def read(name):
        line = next(line for line in status.read_text().splitlines() if line.startswith(name))
        return int(line.split()[1]) * 1024

    clear.write_text("5")
    before = read("VmRSS")
    action()
    return read("VmHWM") - before


def test_memory_is_measured():
    assert peak_bytes(lambda: bytearray(200 * 2**20)) > 150e6


@pytest.mark.parametrize(
    "change",
    [
        lambda parts: parts._replace(tensors=safetensors_part({"t0": entry([5 * 10**9], 4)}, b"4")),
        lambda parts: with_manifest(parts, b"[" * 15 * 10**6),
        lambda parts: with_manifest(parts, b"[" + b"[]," * 5 * 10**6 + b"0]"),
        lambda parts: with_manifest(parts, b'{"a":"' + b"x" * 15 * 10**6 + b'"}'),
        lambda parts: forged(parts, put("state", "_prefixed", "module__hidden_layer_sizes", 10**9)),
        lambda parts: forged(parts, put(*DRAWS, "n_draws", 10**9)),
        lambda parts: forged(parts, put(*DRAWS, "_masks", 0, "state", "shape", [10**9])),
    ],
    ids=["tensor", "deep", "wide", "long", "network", "draws", "masks"],
)
def test_memory(change, sound, folder):
    parts = change(sound["MCDropout"])
    _container.write(folder / "forged.skuq", parts)
    room = len(parts.manifest)  # the file itself has to be read

    def action():
        with pytest.raises(PersistenceError):
            skuq.load(folder / "forged.skuq")

    start = time.process_time()
    assert peak_bytes(action) < 100e6 + 2 * room
    assert time.process_time() - start < 1


def forbidden(name):
    def call(*args, **kwargs):
        raise AssertionError(f"load called {name}")

    return call


def test_nothing_runs(sound, folder, data, monkeypatch):
    """Of what makes code of data, load calls nothing; nor does it import anything."""
    X, y = data
    model = TorchClassifier(Plain, posterior=MCDropout(2), max_epochs=1, random_state=0)
    paths = [folder / "plain.skuq", folder / "scaled.skuq"]
    ensemble = model.set_params(posterior=DeepEnsemble(2)).fit(X, y)
    skuq.save(ensemble, paths[0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        skuq.save(TemperatureScaler(ensemble, cv=2).fit(X, y), paths[1])
    expected = [skuq.load(path, module=Plain).predict_proba(X) for path in paths]
    imported = builtins.__import__

    def known_only(name, *args, **kwargs):
        assert name in sys.modules, f"load imported {name}"
        return imported(name, *args, **kwargs)

    with monkeypatch.context() as patched:
        for room, names in (
            (pickle, ("Unpickler", "_Unpickler", "load", "loads")),
            (torch, ("load",)),
            (joblib, ("load",)),
            (builtins, ("eval", "exec", "compile")),
            (importlib, ("import_module",)),
        ):
            for name in names:
                patched.setattr(room, name, forbidden(name))
        patched.setattr(builtins, "__import__", known_only)
        loaded = [skuq.load(path, module=Plain) for path in paths]
        with pytest.raises(AssertionError, match=r"load called eval"):
            eval("1")
        for parts in sound.values():
            _container.write(folder / "whole.skuq", parts)
            skuq.load(folder / "whole.skuq")
    for model, proba in zip(loaded, expected):
        assert np.array_equal(model.predict_proba(X), proba)

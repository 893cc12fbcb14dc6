"""Faults that tests of checkpoints share."""

import os

import numpy as np
import pytest

from tests.training.killing import Faults, Killed, classifier


@pytest.fixture
def faults(monkeypatch):
    """Faults also before, within and after each file that is written."""
    replace, savez = os.replace, np.savez

    def replace_or_die(*args):
        Faults.here()
        replace(*args)
        Faults.here()

    def write_or_die(file, **arrays):
        file.write(b"PK half of a file")
        Faults.here()
        file.seek(0)
        savez(file, **arrays)

    monkeypatch.setattr("skuq._utils._files.os.replace", replace_or_die)
    monkeypatch.setattr("skuq._training._checkpoints.np.savez", write_or_die)
    monkeypatch.setattr(Faults, "count", 0)
    monkeypatch.setattr(Faults, "at", None)
    return Faults


@pytest.fixture
def begun(blobs, tmp_path, faults):
    """A folder with a fit that was killed, and what fits the same with other parameters."""
    X, y = blobs
    faults.at = 25
    with pytest.raises(Killed):
        classifier(checkpoint_dir=tmp_path).fit(X, y)
    faults.at = None
    return lambda **options: classifier(checkpoint_dir=tmp_path, **options)

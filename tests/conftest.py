"""Fixtures that every test may use."""

import os
import signal
from pathlib import Path

os.environ.setdefault("SCIPY_ARRAY_API", "1")  # before scipy is imported: no check is skipped
os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits, make_blobs

from tests.repeatable import Repeatable, fresh_entropy

__all__ = ["fresh_entropy"]

torch.set_num_threads(1)  # these networks are small: more threads only wait for each other

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # What a shell starts in the background ignores Ctrl-C, which some tests send to themselves.
    signal.signal(signal.SIGINT, signal.default_int_handler)

CUDA = pytest.param("cuda", marks=pytest.mark.gpu)


def pytest_configure(config):
    config.pluginmanager.register(Repeatable(), "repeatable")


def pytest_collection_modifyitems(items):
    # Processes that share the tests must give them the same names.
    unnamed = [item.nodeid for item in items if " at 0x" in item.nodeid]
    if unnamed:
        raise pytest.UsageError(f"addresses in the names of tests, give ids: {unnamed}")
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(params=["cpu", CUDA])
def device(request):
    """Every device that skuq is tested on."""
    return request.param


@pytest.fixture(scope="session")
def digits():
    X, y = load_digits(return_X_y=True)
    return X[:600].astype(np.float32) / 16, y[:600]


@pytest.fixture(scope="session")
def blobs():
    """Three classes of ten features, not quite apart."""
    X, y = make_blobs(n_samples=240, n_features=10, cluster_std=4.0, random_state=0)
    return X.astype(np.float32), y


@pytest.fixture(scope="session")
def diabetes():
    X, y = load_diabetes(return_X_y=True)
    return X * 20, y


@pytest.fixture
def outputs():
    """The folder of published classifier outputs; tests of it skip where it is missing."""
    default = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("SKUQ_DATA", default)) / "outputs"
    if not folder.is_dir():
        pytest.skip(f"no data in {folder}; set SKUQ_DATA")
    return folder


def global_generators():
    """The state of every global generator, to compare before and after."""
    import random

    return (
        torch.get_rng_state().numpy().tobytes(),
        np.random.get_state()[1].tobytes(),  # noqa: NPY002
        random.getstate(),
        torch.get_num_threads(),
    )


@pytest.fixture
def untouched_globals():
    """Fails a test that moves a global generator or torch's thread count."""
    before = global_generators()
    yield
    assert global_generators() == before

"""A damaged file of a checkpoint folder is refused by name, or what it says is whole."""

import numpy as np
import pytest
import torch

from skuq._training._checkpoints import _read, _write

STATE = {
    "finished": False,
    "module": {"state": {"weight": torch.arange(6.0).reshape(2, 3)}, "numbers": {"": {"n": 1}}},
    "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "groups": [{"lr": 0.1, "b": (1, 2)}]},
    "history": [{"epoch": 1, "loss": np.float64(0.5)}],
}


@pytest.fixture
def path(tmp_path):
    _write(tmp_path / "skuq-network-0.npz", STATE)
    return tmp_path / "skuq-network-0.npz"


def check(path, content):
    path.write_bytes(content)
    try:
        found = _read(path)
    except ValueError as error:
        assert "cannot be read as a checkpoint of skuq" in str(error)
        assert f"delete {path.parent} to begin anew" in str(error)
        return True
    assert repr(found) == repr(STATE)  # a date or the like was hit
    return False


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_flipped_bits(path):
    content, random = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for position in random.integers(len(content), size=1500):
        flipped = bytearray(content)
        flipped[position] ^= 1 << random.integers(8)
        refused += check(path, bytes(flipped))
    assert refused > 750


def test_cut_short(path):
    content = path.read_bytes()
    for length in np.linspace(0, len(content) - 1, 100).astype(int):
        assert check(path, content[:length])

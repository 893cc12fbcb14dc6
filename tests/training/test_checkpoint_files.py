"""What a checkpoint file holds: arrays and JSON, and by what code is known again."""

import functools
import json
from collections import Counter, OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from skuq._training import _identity
from skuq._training._checkpoints import _read, _write, storable
from tests.training.killing import Remembers


def test_round_trip(tmp_path):
    state = {
        "numbers": [1, -2.5, float("inf"), True, None, "text", 2**70],
        3: (np.float32(0.1), np.int64(7), np.bool_(True)),
        "dicts": {"o": OrderedDict(b=1, a=2), "c": Counter({3: 2}), "set": {1, 2}},
        "tensors": [
            torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T,
            torch.tensor(2.5, dtype=torch.float64),
            torch.zeros(0, 4),
            torch.tensor([True, False]),
            torch.Generator().manual_seed(3).get_state(),
        ],
        "arrays": [np.arange(6.0).reshape(2, 3).T, np.array("word"), np.zeros((0, 2))],
        ("tuple", 1): np.random.RandomState(0).get_state(),
    }
    _write(tmp_path / "file.npz", state)
    found = _read(tmp_path / "file.npz")
    assert repr(found) == repr(state)  # types, too
    assert [t.dtype for t in found["tensors"]] == [t.dtype for t in state["tensors"]]
    assert all(torch.equal(a, b) for a, b in zip(found["tensors"], state["tensors"]))
    assert all(np.array_equal(a, b) for a, b in zip(found["arrays"], state["arrays"]))


@pytest.mark.parametrize("value", [object(), print, np.array([None]), {1: [object()]}, 1j])
def test_what_is_not_stored(value):
    assert not storable(value)


def test_files_are_arrays_and_json(begun, tmp_path):
    with np.load(tmp_path / "skuq-network-0.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "biufcUS" for name in arrays)
        json.loads(arrays["json"].tobytes())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["skuq-network-0.npz", "skuq-run.npz"]


def made_by(width):
    return functools.partial(
        lambda n_features, n_outputs, w: nn.Linear(n_features, n_outputs), w=width
    )


def test_functions_are_known_by_name_and_code(blobs, tmp_path):
    describe = _identity.describe
    assert describe(made_by(3)) == describe(made_by(3)) != describe(made_by(4))
    assert describe(lambda x: x + 1) != describe(lambda x: x + 2)
    closed = lambda n: lambda x: x + n
    assert describe(closed(1)) == describe(closed(1)) != describe(closed(2))
    assert " at 0x" not in describe([made_by, Remembers(), nn.Linear, torch.optim.Adam, {1: print}])
    assert describe({"a", "b", "c"}) == describe({"c", "b", "a"})

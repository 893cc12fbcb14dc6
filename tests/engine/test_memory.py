"""Devices without memory: smaller chunks at prediction, an error that helps in training."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier, TorchRegressor
from skuq._engine._draws import Draws
from skuq._engine._engine import Engine
from skuq._networks._module import Numerics
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks


class Small(networks.ResidualNet):
    """A network on a device that has memory for few rows at a time."""

    most = 10**9
    error = torch.OutOfMemoryError

    def forward(self, x):
        if x.shape[-2] > self.most:
            raise self.error("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().forward(x)


@pytest.fixture
def room(monkeypatch):
    """Sets how many rows there is memory for."""
    return lambda most: monkeypatch.setattr(Small, "most", most)


POSTERIORS = [PointEstimate(), MCDropout(4), DeepEnsemble(2)]


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(0)
    return random.normal(size=(2500, 4)).astype(np.float32)


def fitted(posterior, X, kind=TorchClassifier):
    y = X[:200, 0] > 0 if kind is TorchClassifier else X[:200, 0]
    return kind(Small, posterior=posterior, max_epochs=1, random_state=0).fit(X[:200], y)


@pytest.mark.parametrize("posterior", POSTERIORS, ids=str)
@pytest.mark.parametrize("most", [900, 100, 1])
def test_prediction_goes_on_in_smaller_chunks(posterior, most, rows, room):
    X = rows if most > 1 else rows[:40]
    network = fitted(posterior, X)
    expected = network.predict_uncertainty(X, kind="all")
    before = network._engine.n_rows
    room(most)
    with pytest.warns(UserWarning, match=r"out of memory with \d+ rows at a time") as caught:
        found = network.predict_uncertainty(X, kind="all")
    assert len(caught) == 1
    assert most / 2 < network._engine.n_rows <= most < before
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, atol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = network.predict_uncertainty(X, kind="all")  # and later ones begin small
    assert all(np.array_equal(a, b) for a, b in zip(found, again))


def test_memory_that_is_lost_on_the_way(rows, room):
    """Only the rows that are still to come are evaluated again; what is aligned stays so."""
    network = fitted(MCDropout(4), rows)
    expected, seen = network.predict_proba(rows), 0
    index = np.arange(len(rows))

    def reduction(predictive, row):
        nonlocal seen
        seen += len(row)
        if seen > 1500:
            room(64)
        return predictive.probs.mean(0), row

    with pytest.warns(UserWarning, match="went on with 64"):
        proba, row = network._reduce(rows, reduction, index)
    assert np.array_equal(row, index)
    np.testing.assert_allclose(proba, expected, atol=1e-6)
    assert seen < 2500 + 2 * 1024


def test_memory_that_the_reduction_lacks(rows):
    network = fitted(MCDropout(4), rows, TorchRegressor)
    expected = network.predict(rows)

    def reduction(predictive):
        if predictive.mean.shape[1] > 100:
            raise MemoryError
        return predictive.mean.mean(0)

    with pytest.warns(UserWarning, match="out of memory"):
        found = network._reduce(rows, reduction)
    np.testing.assert_allclose(found[:, 0], expected, atol=1e-6)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
def test_not_even_one_row(error, rows, room, monkeypatch):
    network, used = fitted(MCDropout(4), rows), fitted(MCDropout(4), rows)
    used.predict(rows)  # the first prediction decides on the size of chunks
    room(0)
    monkeypatch.setattr(Small, "error", error)
    for one, tried in ((network, "a few rows"), (used, "a single row")):
        with pytest.raises(error, match="out of memory") as caught:
            one.predict(rows)
        assert any(f"4 draws on {tried}" in note for note in caught.value.__notes__)


def test_other_errors_are_the_module_s_own(rows, room, monkeypatch):
    network = fitted(MCDropout(4), rows)
    room(1000)
    monkeypatch.setattr(Small, "error", ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        network.predict(rows)
    assert network._engine.n_rows == 1024


def test_a_copy_and_a_pickle_stay_small(rows, room):
    network = fitted(PointEstimate(), rows)
    room(100)
    with pytest.warns(UserWarning, match="out of memory"):
        network.predict(rows)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        other.predict(rows)


class SmallInTraining(Small):
    def forward(self, x):
        return super().forward(x) if self.training else networks.ResidualNet.forward(self, x)


@pytest.mark.parametrize(
    ("posterior", "advice"),
    [
        (PointEstimate(), "step on 60 rows: try batch_size=30"),
        (DeepEnsemble(2, n_jobs=1), "step on 60 rows: try batch_size=30"),
        (DeepEnsemble(2), "2 networks at once on 60 rows: try batch_size=30, or n_jobs=1"),
    ],
    ids=str,
)
def test_training_says_which_batch_size_to_try(posterior, advice, rows, room):
    room(32)
    y = rows[:200, 0] > 0
    network = TorchClassifier(
        SmallInTraining, posterior=posterior, max_epochs=1, batch_size=60, random_state=0
    )
    with pytest.raises(torch.OutOfMemoryError, match=advice):
        network.fit(rows[:200], y)
    assert not hasattr(network, "n_iter_")
    network.set_params(batch_size=30).fit(rows[:200], y)


class Wide(nn.Module):
    """4 GiB for each row in training, and with all draws."""

    def __init__(self, n_features, n_outputs):
        super().__init__()
        self.first, self.dropout = nn.Linear(n_features, 1), nn.Dropout(0.1)
        self.last = nn.Linear(1, n_outputs)

    def forward(self, x):
        hidden = self.dropout(self.first(x))
        wide = hidden.expand(len(x), 2**26) + torch.zeros(2**26, device=x.device)
        return self.last(wide.mean(1, keepdim=True))


@pytest.mark.gpu
def test_a_gpu_without_memory():
    """A real one: of 2^26 floats for each row, a batch of 2048 would need half a terabyte."""
    X = np.random.default_rng(0).normal(size=(4096, 3)).astype(np.float32)
    y = X[:, 0] > 0
    network = TorchClassifier(Wide, posterior=MCDropout(8), max_epochs=1, random_state=0)
    with pytest.raises(torch.OutOfMemoryError, match="try batch_size=1024"):
        network.set_params(device="cuda", batch_size=2048).fit(X, y)
    network.set_params(batch_size=4).fit(X[:16], y[:16])
    expected = network.predict_proba(X[:64])
    network._engine.n_rows = 4096
    with pytest.warns(UserWarning, match="out of memory"):
        found = network.predict_proba(X[:64])
    np.testing.assert_allclose(found, expected, atol=1e-6)


class RowByRow(nn.Module):
    """More rows are more operations, not larger ones."""

    def __init__(self, by_row):
        super().__init__()
        self.layer = nn.Linear(2, 500).double()
        self.by_row = by_row

    def forward(self, x):
        wide = torch.stack([self.layer(row) for row in x]) if self.by_row else self.layer(x)
        return wide.sum(1, keepdim=True)


@pytest.mark.parametrize("by_row", [False, True])
def test_the_size_of_a_row(by_row):
    """500 numbers of float64, of all draws that are evaluated at once."""
    numerics = Numerics(torch.device("cpu"), "float64")
    module = RowByRow(by_row).eval()
    one = Engine(Draws(module), torch.zeros(5, 2).double(), numerics)
    assert one._bytes_per_row()[0] == 500 * 8
    weights = torch.randn(3, 500, 2, dtype=torch.float64)
    three = Engine(Draws(module, {"layer.weight": weights}), torch.ones(5, 2).double(), numerics)
    at_once = 3 if three.vectorized else 1
    assert three._bytes_per_row()[0] == at_once * 500 * 8
    assert three.vectorized is not by_row

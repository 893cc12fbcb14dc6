"""Modules that are seldom written: each works, or is refused with the reason and the way out."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchClassifier
from skuq.posteriors import DeepEnsemble, MCDropout, PointEstimate
from tests import networks


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 8)).astype(np.float32)
    return X, (X[:, 0] > 0).astype(int)


def fitted(module, data, posterior=None, **options):
    options = {"max_epochs": 1, "random_state": 0, **options}
    return TorchClassifier(module, posterior=posterior or PointEstimate(), **options).fit(*data)


class InPlace(networks.ResidualNet):
    def forward(self, x):
        x -= 1
        return super().forward(x)


class OutOfPlace(networks.ResidualNet):
    def forward(self, x):
        return super().forward(x - 1)


@pytest.mark.parametrize("posterior", [PointEstimate(), MCDropout(3), DeepEnsemble(2)], ids=str)
def test_a_forward_may_work_in_place(posterior, data):
    before = data[0].copy()
    one, other = (fitted(module, data, posterior) for module in (InPlace, OutOfPlace))
    for model in (one, other):
        model._engine.n_draws_at_once = 1  # several blocks of draws see the same rows
    np.testing.assert_allclose(one.predict_draws(before), other.predict_draws(before), atol=1e-6)
    rows = torch.as_tensor(before).clone()
    one.draws(rows)
    assert np.array_equal(rows.numpy(), before) and np.array_equal(data[0], before)


def lazy(n_outputs):
    return nn.Sequential(nn.LazyLinear(8), nn.LazyBatchNorm1d(), nn.LazyLinear(n_outputs))


def test_lazy_normalisation(data):
    assert fitted(lazy, data, DeepEnsemble(2)).module_[1].running_mean.shape == (8,)


class Embedded(nn.Module):
    def __init__(self, n_outputs):
        super().__init__()
        self.table, self.linear = nn.Embedding(10, 4, sparse=True), nn.Linear(32, n_outputs)

    def forward(self, x):
        return self.linear(self.table(x.long().clamp(0, 9)).flatten(1))


@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
# torch itself warns of what Adagrad does inside.
@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adagrad])
def test_sparse_gradients(optimizer, posterior, data):
    before = fitted(Embedded, data, max_epochs=0).module_.table.weight
    after = fitted(Embedded, data, posterior, optimizer=optimizer).module_.table.weight
    assert not torch.equal(before, after)
    with pytest.raises(ValueError, match="'table' of Embedded has sparse=True, and Adam takes no"):
        fitted(Embedded, data, posterior)


class Frozen(networks.Plain):
    def __init__(self, n_features, n_outputs):
        super().__init__(n_features, n_outputs)
        self.requires_grad_(False)


class Whole(networks.Plain):
    def forward(self, x):
        return super().forward(x).round().long()


class Detached(networks.Plain):
    def forward(self, x):
        return super().forward(x).detach()


class NoParameters(nn.Module):
    def forward(self, x):
        return x[:, :2]


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Frozen, "every parameter of Frozen is frozen"),
        (Whole, "no gradient reaches the parameters of Whole"),
        (Detached, "no gradient reaches the parameters of Detached"),
        (NoParameters, "NoParameters has no parameters"),
    ],
)
def test_what_cannot_be_trained_can_be_taken_as_it_is(module, reason, data):
    for posterior in (PointEstimate(), DeepEnsemble(2)):
        with pytest.raises(ValueError, match=f"{reason}.*max_epochs=0"):
            fitted(module, data, posterior)
    assert fitted(module, data, max_epochs=0).predict(data[0]).shape == (40,)


class Complex(networks.Plain):
    def forward(self, x):
        return torch.complex(super().forward(x), super().forward(x))


def scripted(n_features, n_outputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(nn.Sequential(nn.Linear(n_features, n_outputs)))


def traced(n_features, n_outputs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(nn.Linear(n_features, n_outputs), torch.zeros(3, n_features))


def parallel(n_features, n_outputs):
    return nn.Sequential(nn.DataParallel(nn.Linear(n_features, n_outputs)))


def on_meta(n_features, n_outputs):
    return nn.Linear(n_features, n_outputs, device="meta")


@pytest.mark.parametrize(
    ("module", "kind", "message"),
    [
        (scripted, TypeError, r"scripted or traced \(torch.jit\).*compile=True"),
        (traced, TypeError, r"scripted or traced \(torch.jit\).*compile=True"),
        (parallel, TypeError, "'0' of Sequential is a DataParallel.*pass the module inside"),
        (on_meta, ValueError, r"'weight' of Linear is on the meta device.*to_empty"),
        (Complex, ValueError, "returned complex outputs.*view_as_real"),
    ],
)
def test_what_cannot_be_used_is_refused(module, kind, message, data):
    for epochs in (0, 1):
        with pytest.raises(kind, match=message):
            fitted(module, data, max_epochs=epochs)


def test_images_without_an_axis_of_channels():
    X = np.random.default_rng(0).normal(size=(40, 8, 8)).astype(np.float32)
    with pytest.raises(RuntimeError, match="to have 1 channels") as raised:
        fitted(networks.ConvNet, (X, np.arange(40) % 2))
    (note,) = raised.value.__notes__
    assert "X, which has shape (n_samples, 8, 8)" in note and "give X[:, None]" in note

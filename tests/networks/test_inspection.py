"""What `fit` finds in a network, whatever the unit of its outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchRegressor
from skuq._networks._last_layer import InputOf
from skuq.likelihoods import Gaussian
from skuq.posteriors import DeepEnsemble, LastLayerLaplace, MCDropout, PointEstimate

UNITS = [1e-8, 1e-6, 1.0, 1e6]


class InUnits(nn.Module):
    """A network whose first output has the unit of y; a log-variance of this unit beside it."""

    def __init__(self, n_features, n_outputs, unit=1.0, fault=None):
        super().__init__()
        self.trunk, self.last = nn.Linear(n_features, 6), nn.Linear(6, n_outputs)
        self.norm = nn.BatchNorm1d(6, track_running_stats=False)
        self.fault = fault
        with torch.no_grad():
            self.last.weight[:1] *= unit
            self.last.bias[:1] *= unit
            self.last.bias[1:] += 2 * np.log(unit)

    def forward(self, x):
        z = self.trunk(x).tanh()
        if self.fault == "random":
            z = z + torch.rand_like(z)
        if self.fault == "batch":
            z = self.norm(z)
        return self.last(z)


def rows(unit):
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 3)).astype(np.float32)
    return X, unit * X[:, 0]


def regressor(heteroscedastic=False, unit=1.0, **options):
    likelihood = Gaussian(heteroscedastic, standardise=False, min_variance=1e-4 * unit**2)
    options = {"max_epochs": 0, "random_state": 0, **options}
    return TorchRegressor(InUnits, module__unit=unit, likelihood=likelihood, **options)


@pytest.mark.parametrize("heteroscedastic", [False, True])
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(
    ("fault", "why"), [("random", "draws random numbers"), ("batch", "other rows of its batch")]
)
def test_faults_are_found_in_any_unit(fault, why, unit, heteroscedastic):
    make = regressor(heteroscedastic, unit, module__fault=fault)
    with pytest.raises(ValueError, match=why):
        make.fit(*rows(unit))


@pytest.mark.parametrize("posterior", [PointEstimate(), LastLayerLaplace(), DeepEnsemble(2)])
@pytest.mark.parametrize("unit", UNITS)
def test_sound_networks_are_taken_in_any_unit(unit, posterior):
    X, y = rows(unit)
    fitted = regressor(True, unit, posterior=posterior).fit(X, y)
    with torch.no_grad():
        means = fitted.module_(torch.as_tensor(X))[:, 0].numpy()
    if isinstance(posterior, PointEstimate):
        np.testing.assert_allclose(fitted.predict(X), means, rtol=1e-4, atol=1e-4 * unit)


def test_outputs_that_are_all_zero():
    class Zero(nn.Linear):
        def __init__(self, n_features, n_outputs):
            super().__init__(n_features, n_outputs)
            nn.init.zeros_(self.weight)
            nn.init.zeros_(self.bias)

    X, y = rows(1.0)
    options = {"likelihood": Gaussian(False), "max_epochs": 1, "random_state": 0}
    for posterior in (PointEstimate(), LastLayerLaplace(), DeepEnsemble(2)):
        assert TorchRegressor(Zero, posterior=posterior, **options).fit(X, y).n_features_in_ == 3


class ByKeyword(nn.Module):
    """Calls its layers by keyword."""

    def __init__(self, n_features, n_outputs, by_keyword=True):
        super().__init__()
        self.trunk, self.last = nn.Linear(n_features, 6), nn.Linear(6, n_outputs)
        self.by_keyword = by_keyword

    def forward(self, x):
        if self.by_keyword:
            return self.last(input=self.trunk(input=x).tanh())
        return self.last(self.trunk(x).tanh())


@pytest.mark.parametrize(
    "posterior", [LastLayerLaplace(n_draws=6), MCDropout(6, 0.3, "last"), DeepEnsemble(2)], ids=str
)
def test_layers_that_are_called_by_keyword(posterior):
    X, y = rows(1.0)
    options = {"likelihood": Gaussian(False), "max_epochs": 2, "random_state": 0}
    by_keyword, plain = (
        TorchRegressor(ByKeyword, module__by_keyword=how, posterior=posterior, **options).fit(X, y)
        for how in (True, False)
    )
    np.testing.assert_allclose(by_keyword.predict_draws(X), plain.predict_draws(X), atol=1e-5)


def test_the_input_of_a_layer_that_is_called_by_keyword():
    network, x = ByKeyword(3, 1), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    expected = network.trunk(x).tanh()
    assert torch.equal(InputOf(network, "last")(x), expected)

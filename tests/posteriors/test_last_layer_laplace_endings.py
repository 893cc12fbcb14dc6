"""What follows the last layer: some rows show it, or a hook does it."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from skuq import TorchRegressor
from skuq.likelihoods import Gaussian
from skuq.posteriors import LastLayerLaplace
from tests.posteriors.laplace_networks import DOUBLE, Known

UNITS = [1e-8, 1.0]


class Ending(nn.Module):
    """A linear function of x, and what follows it."""

    def __init__(self, n_features, n_outputs, ending=None, unit=1.0, hook=None, pre_hook=None):
        super().__init__()
        self.last, self.ending = nn.Linear(n_features, n_outputs), ending
        with torch.no_grad():
            self.last.weight[:] = unit * torch.tensor([[2.0, 0.0, 0.0]])
            self.last.bias[:] = unit
        if hook:
            self.last.register_forward_hook(hook)
        if pre_hook:
            self.last.register_forward_pre_hook(pre_hook)

    def forward(self, x):
        out = self.last(x)
        return out if self.ending is None else self.ending(out)


def rows(unit=1.0, n_rows=60):
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    X[:3] *= 0.1  # the rows on which a network is tried
    return X, unit * (1 + 2 * X[:, 0] + 0.1 * X[:, 1])


def laplace(likelihood=None, **options):
    likelihood = likelihood or Gaussian(False, standardise=False)
    options = {"max_epochs": 0, "posterior": LastLayerLaplace(n_draws=6), **DOUBLE, **options}
    return TorchRegressor(Ending, likelihood=likelihood, **options)


@pytest.mark.filterwarnings("ignore:Ending ends in")
@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_a_clamp_that_some_rows_reach(precision, unit):
    X, y = rows(unit)
    bites = int((1 + 2 * X[:, 0] > 3).sum())
    assert 0 < bites < 30 and (1 + 2 * X[:3, 0] < 3).all()
    likelihood = Gaussian(False, standardise=False, min_variance=1e-6 * unit**2)
    make = laplace(likelihood, module__unit=unit, precision=precision)
    make.set_params(module__ending=lambda out: out.clamp(max=3 * unit))
    count = r"\d+" if precision == "bfloat16" else str(bites)  # small changes are rounding
    with pytest.raises(ValueError, match=f"'last', in some rows, but not in {count} of 60"):
        make.fit(X, y)


@pytest.mark.filterwarnings("ignore:Ending ends in")
@pytest.mark.parametrize("ending", [lambda out: out.clamp(-50, 50), nn.Hardtanh(-50, 50)])
def test_a_clamp_that_no_row_reaches_stays(ending):
    X, y = rows()
    clamped, plain = laplace(module__ending=ending).fit(X, y), laplace().fit(X, y)
    np.testing.assert_allclose(clamped.predict_draws(X), plain.predict_draws(X), rtol=1e-12)
    assert clamped.likelihood_.noise_variance_[0] == plain.likelihood_.noise_variance_[0]


@pytest.mark.filterwarnings("ignore:Ending ends in")
def test_rows_of_early_stopping_count_too():
    X, y = rows()
    X[-1], y[-1] = [30, 0, 0], 61
    posterior = LastLayerLaplace(prior_precision="validation", n_draws=4)
    make = laplace(posterior=posterior, module__ending=lambda out: out.clamp(-20, 20))
    make.set_params(early_stopping=True, max_epochs=1, lr=1e-9, validation_fraction=0.5)
    with pytest.raises(ValueError, match="but not in 1 of "):
        make.fit(X, y)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("ending", [lambda out: -7 * out, torch.relu, torch.tanh])
@pytest.mark.filterwarnings("ignore:Ending ends in")
def test_what_follows_is_seen_in_any_unit(ending, unit):
    X, y = rows(unit)
    if ending is torch.tanh and unit < 1:
        pytest.skip("tanh is the identity of small numbers")
    make = laplace(Known(), module__unit=unit, module__ending=ending, max_epochs=3)
    with pytest.raises(ValueError, match=r"something follows its last nn\.Linear, 'last'"):
        make.fit(X, y)


def test_a_hook_that_changes_the_output_is_named():
    make = laplace(module__hook=lambda layer, args, out: 3 * out, max_epochs=3)
    with pytest.raises(ValueError, match="'last', which has a forward hook"):
        make.fit(*rows())


def test_a_hook_that_only_looks_is_taken():
    X, y = rows()
    looked = laplace(module__hook=lambda layer, args, out: None).fit(X, y)
    np.testing.assert_array_equal(looked.predict_draws(X), laplace().fit(X, y).predict_draws(X))


def test_a_hook_that_changes_the_input_counts():
    """φ is what the layer gets: outputs are W φ, for the draws, too."""
    X, y = rows()
    hooked = laplace(module__pre_hook=lambda layer, args: (2 * args[0],)).fit(X, y)
    plain = laplace().fit(2 * X, y)
    np.testing.assert_allclose(hooked.predict_draws(X), plain.predict_draws(2 * X), rtol=1e-9)


def pruned(layer):
    prune.l1_unstructured(layer, "weight", amount=0.3)


@pytest.mark.parametrize(
    "change",
    [
        nn.utils.parametrizations.weight_norm,
        nn.utils.parametrizations.spectral_norm,
        pruned,
    ],
)
def test_a_layer_whose_weight_is_computed(change):
    def make(n_features, n_outputs):
        layer = nn.Linear(n_features, n_outputs)
        change(layer)
        return nn.Sequential(nn.Linear(n_features, n_features), layer)

    regressor = TorchRegressor(make, posterior=LastLayerLaplace(), likelihood=Known())
    with pytest.raises(ValueError, match=r"last nn\.Linear, '1', is reparametrized"):
        regressor.fit(*rows())

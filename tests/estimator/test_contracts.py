"""Posteriors and likelihoods of users return what they must, or an error says what is wrong."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_iris

from skuq import TorchClassifier, TorchRegressor
from skuq.likelihoods import Likelihood
from skuq.posteriors import DeepEnsemble, Draws, PointEstimate, Posterior

QUICK = {"max_epochs": 2, "module__hidden_layer_sizes": (8,), "random_state": 0}


class Returning(Posterior):
    """Returns what `make` makes of the network and its last bias."""

    def __init__(self, make):
        self.make = make

    def fit(self, problem):
        (network,) = problem.train()
        name, bias = list(network.named_parameters())[-1]
        return self.make(network, name, bias.detach())


def two(network, name, bias):
    return Draws(network, {name: bias.expand(4, 3), "1.bias": torch.zeros(5, 8)})


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda network, name, bias: network, TypeError, r"MLP, expected .*Draws\(network"),
        (lambda network, name, bias: None, TypeError, "NoneType"),
        (lambda n, name, bias: Draws(n, {"nope": torch.zeros(3, 4)}), ValueError, ".*'nope'"),
        (lambda n, name, bias: Draws(n, {name: bias}), ValueError, r".*shape \(3,\), expected"),
        (lambda n, name, bias: Draws(n, {name: torch.zeros(20, 1)}), ValueError, r".*\(20, 1\)"),
        (two, ValueError, ".*'1.bias'"),
    ],
)
def test_draws_must_fit_their_module(make, error, message):
    X, y = load_iris(return_X_y=True)
    with pytest.raises(error, match=rf"Returning\.fit returned {message}"):
        TorchClassifier(posterior=Returning(make), **QUICK).fit(X, y)


class Squared(Likelihood):
    """The squared error, reduced by a function."""

    task = "regression"

    def __init__(self, reduce):
        self.reduce = reduce

    def fit(self, y, sample_weight=None, n_classes=None, seed=0):
        self.n_outputs_ = y.shape[1]
        return self

    def explain_outputs(self):
        return "means"

    def loss(self, output, target):
        return self.reduce((output - target) ** 2)

    def predictive(self, output):
        return torch.distributions.Normal(output, torch.ones_like(output), validate_args=False)


@pytest.mark.parametrize(
    ("reduce", "got"),
    [(lambda e: e.mean(), r"\(\)"), (lambda e: e, r"\(3, 1\)"), (lambda e: 1.0, "float")],
)
@pytest.mark.parametrize("posterior", [PointEstimate(), DeepEnsemble(2)], ids=str)
def test_a_loss_is_one_number_for_each_row(reduce, got, posterior):
    """A mean or a column would ignore the weights of rows without an error."""
    X, y = np.zeros((20, 1)), np.repeat([1.0, -1.0], 10)
    model = TorchRegressor(likelihood=Squared(reduce), posterior=posterior, **QUICK)
    with pytest.raises(ValueError, match=rf"Squared\.loss returned {got} for 3 rows, .*sum\(-1\)"):
        model.fit(X, y, sample_weight=np.repeat([9.0, 1.0], 10))


def test_a_right_loss_is_weighted():
    X, y = np.zeros((20, 1)), np.repeat([1.0, -1.0], 10)
    options = {**QUICK, "max_epochs": 300, "lr": 0.01, "module__dropout": 0.0}
    likelihood = Squared(lambda e: e.sum(-1))
    model = TorchRegressor(likelihood=likelihood, posterior=PointEstimate(), **options)
    model.fit(X, y, sample_weight=np.repeat([9.0, 1.0], 10))
    assert model.predict(X[:1])[0] == pytest.approx(0.8, abs=0.01)

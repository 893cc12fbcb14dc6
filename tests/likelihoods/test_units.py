"""The units in which a network works: standardised by y, those of y, or given ones."""

import numpy as np
import pytest
import torch
from torch import nn

from skuq import TorchRegressor
from skuq.likelihoods import Gaussian, Laplace, MixtureOfGaussians, Poisson, Quantile, StudentT
from skuq.posteriors import PointEstimate
from tests.networks import Plain

Y = np.random.default_rng(0).normal(50.0, 7.0, size=(30, 2))
LIKELIHOODS = [Gaussian(), Laplace(), StudentT(), MixtureOfGaussians(2), Quantile()]


def moments(likelihood, output):
    predictive = likelihood.predictive(output)
    return torch.stack([predictive.mean, predictive.variance])


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_a_pair_is_what_would_be_learnt(likelihood):
    learnt = type(likelihood)(**likelihood.get_params()).fit(Y)
    pair = (Y.mean(0), Y.std(0))
    given = type(likelihood)(**likelihood.get_params() | {"standardise": pair}).fit(Y + 3)
    output = torch.randn(4, given.n_outputs_, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(moments(given, output), moments(learnt, output))
    np.testing.assert_allclose(given.encode(Y), (Y - pair[0]) / pair[1])
    np.testing.assert_allclose(given.decode(given.encode(Y)), Y)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_the_units_of_y_itself(likelihood):
    """Location 0 and scale 1, whatever y is; and what squashes a location is left alone."""
    own = type(likelihood)(**likelihood.get_params() | {"standardise": False}).fit(Y)
    assert (own.location_ == 0).all() and (own.scale_ == 1).all()
    assert np.array_equal(own.encode(Y), Y)
    assert "location" not in own.links() and own.links().count("free") >= 2
    pair = type(likelihood)(**likelihood.get_params() | {"standardise": (0, 1.0)}).fit(Y)
    assert pair.links() == likelihood.fit(Y).links() and "location" in pair.links()
    output = torch.ones(4, own.n_outputs_).double()
    torch.testing.assert_close(moments(own, output), moments(pair, output))


def test_gaussian_and_poisson_outputs_are_read_as_they_are():
    gaussian = Gaussian(standardise=False).fit(Y[:, :1])
    normal = gaussian.predictive(torch.tensor([[3.0, np.log(4.0)]]).double())
    assert float(normal.mean) == 3.0 and float(normal.variance) == pytest.approx(
        4 + 1e-6 * Y[:, 0].var(), rel=1e-9
    )
    counts = Poisson(standardise=False).fit(np.array([[2.0], [6.0]]))
    rate = counts.predictive(torch.tensor([[np.log(5.0)]])).mean
    assert float(rate) == pytest.approx(5.0, rel=1e-5)
    assert float(Poisson().fit(np.array([[2.0], [6.0]])).scale_[0]) == 4.0


class Mean(nn.Module):
    """Half of the first feature, in the units of y."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.tensor([[0.5, 0.0, 0.0]]))
            self.head.bias.fill_(100.0)

    def forward(self, x):
        return self.head(x)


@pytest.mark.parametrize("likelihood", [Gaussian, Laplace])
def test_one_noise_for_all_rows(likelihood):
    """In units of y it is the mean squared (absolute) residual."""
    X = np.random.default_rng(1).normal(size=(200, 3))
    y = 100 + 0.5 * X[:, 0] + np.random.default_rng(2).normal(0, 20, size=200)
    fitted = TorchRegressor(
        Mean, likelihood=likelihood(heteroscedastic=False, standardise=False),
        posterior=PointEstimate(), max_epochs=0, precision="float64",
    ).fit(X, y)  # fmt: skip
    residual = y - (100 + 0.5 * X[:, 0])
    np.testing.assert_allclose(fitted.predict(X), y - residual, rtol=1e-12)
    power = 2 if likelihood is Gaussian else 1
    noise = fitted.likelihood_.noise_variance_ if power == 2 else fitted.likelihood_.noise_scale_
    np.testing.assert_allclose(noise, np.mean(np.abs(residual) ** power), rtol=1e-6)


def test_an_ending_of_short_range_may_suit_targets_as_they_are():
    """Positive targets and a softplus; standardised ones get a warning."""

    class Positive(Plain):
        def forward(self, x):
            return nn.functional.softplus(super().forward(x))

    X, y = np.random.default_rng(1).normal(size=(40, 3)), np.full(40, 2.0) + np.arange(40)
    options = {"posterior": PointEstimate(), "max_epochs": 1, "random_state": 0}
    own = Gaussian(heteroscedastic=False, standardise=False)
    TorchRegressor(Positive, likelihood=own, **options).fit(X, y)  # warnings are errors
    with pytest.warns(UserWarning, match="ends in softplus"):
        TorchRegressor(
            Positive, likelihood=Gaussian(heteroscedastic=False), **options
        ).fit(X, y)  # fmt: skip


@pytest.mark.parametrize(
    "pair", [(1.0,), (0.0, 0.0), (0.0, -1.0), (np.nan, 1.0), ("a", 1), (np.eye(2), 1.0), [1, 2, 3]]
)
def test_pairs_that_are_none(pair):
    with pytest.raises(ValueError, match="standardise must be True, False or a pair"):
        Gaussian(standardise=pair).validate()


def test_units_of_other_targets():
    with pytest.raises(ValueError, match=r"values of shape \(3,\); expected numbers, or arrays"):
        Gaussian(standardise=(np.zeros(3), 1.0)).fit(Y)
    with pytest.raises(ValueError, match="'standardise' parameter of Gaussian"):
        Gaussian(standardise="no").validate()
    with pytest.raises(ValueError, match="'standardise' parameter of Poisson"):
        Poisson(standardise=(0, 1)).validate()


def test_how_large_outputs_are():
    """The spread of targets where the network is to give them; else 1."""
    spread = Y.std(0)
    assert (Gaussian().fit(Y).output_units() == 1).all()
    own = {"standardise": False}
    np.testing.assert_allclose(Gaussian(**own).fit(Y).output_units(), [*spread, 1, 1])
    half = Laplace(heteroscedastic=False, standardise=(0.0, 2.0)).fit(Y)
    np.testing.assert_allclose(half.output_units(), spread / 2)
    found = Quantile(q=(0.1, 0.9), **own).fit(Y).output_units()
    np.testing.assert_allclose(found, np.repeat(spread, 2))
    found = MixtureOfGaussians(2, **own).fit(Y).output_units()
    np.testing.assert_allclose(found, [1, 1, 1, 1, *np.repeat(spread, 2), 1, 1, 1, 1])
    assert Poisson(**own).fit(Y).output_units().tolist() == [1, 1]
    weighted = StudentT(**own).fit(Y, sample_weight=np.arange(30.0)).output_units()[0]
    mean = np.average(Y[:, 0], weights=np.arange(30))
    variance = np.average((Y[:, 0] - mean) ** 2, weights=np.arange(30))
    assert weighted == pytest.approx(variance**0.5)

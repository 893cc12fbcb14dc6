"""What every posterior owes, and that a new one needs no change elsewhere."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skuq import TorchClassifier, TorchRegressor
from skuq._engine._draws import Draws
from skuq.posteriors import Posterior
from tests.test_common import all_posteriors


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_parameters_are_never_changed(posterior, blobs):
    before = repr(posterior), dict(vars(posterior))
    classifier = TorchClassifier(posterior=posterior, max_epochs=2).fit(*blobs)
    assert (repr(posterior), vars(posterior)) == before
    assert classifier.posterior_ is not posterior
    assert clone(posterior).get_params() == posterior.get_params()


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_decomposition_bounds(posterior, blobs):
    X, y = blobs
    classifier = TorchClassifier(posterior=posterior, max_epochs=5, random_state=0).fit(X, y)
    total, aleatoric, epistemic = classifier.predict_uncertainty(X, kind="all")
    n_draws, _, n_classes = classifier.predict_draws(X).shape
    np.testing.assert_allclose(total, aleatoric + epistemic, atol=1e-12)
    assert (epistemic >= 0).all()
    assert (epistemic <= min(np.log(n_draws), np.log(n_classes)) + 1e-9).all()
    assert (total <= np.log(n_classes) + 1e-9).all()
    np.testing.assert_allclose(
        classifier.predict_proba(X), classifier.predict_draws(X).mean(0), atol=1e-12
    )


@pytest.mark.parametrize("posterior", all_posteriors(), ids=str)
def test_partial_fit_goes_on_or_says_that_it_does_not(posterior, blobs):
    X, y = blobs
    classifier = TorchClassifier(posterior=posterior, random_state=0)
    assert hasattr(classifier, "partial_fit") == posterior.goes_on
    if posterior.goes_on:
        assert classifier.partial_fit(X, y).n_iter_ == 1
        return
    with pytest.raises(ValueError, match="partial_fit does not support posterior="):
        classifier.partial_fit(X, y)


class Jittered(Posterior):
    """A posterior of a third party: normal noise on the last bias."""

    def __init__(self, n_draws=6, scale=0.5):
        self.n_draws = n_draws
        self.scale = scale

    def fit(self, problem):
        (network,) = problem.train()
        name, bias = list(network.named_parameters())[-1]
        noise = torch.randn(
            (self.n_draws, *bias.shape),
            generator=torch.Generator().manual_seed(0),
            dtype=bias.dtype,
        )
        return Draws(network, {name: bias.detach() + self.scale * noise})


def test_a_new_posterior_is_one_class(blobs, diabetes):
    X, y = blobs
    classifier = TorchClassifier(posterior=Jittered(), max_epochs=3, random_state=0).fit(X, y)
    assert classifier.predict_draws(X).shape == (6, len(X), 3)
    assert classifier.predict_uncertainty(X, kind="epistemic").min() > 0
    X, y = diabetes
    regressor = TorchRegressor(
        posterior=Jittered(n_draws=2000, scale=0.1), max_epochs=3, random_state=0
    ).fit(X, y)
    epistemic = regressor.predict_uncertainty(X, kind="epistemic")
    expected = (0.1 * regressor.likelihood_.scale_[0]) ** 2
    np.testing.assert_allclose(epistemic, expected, rtol=0.2)
